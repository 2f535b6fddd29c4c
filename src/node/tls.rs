//! How nodes prove who they are, and how we do.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::error::{Error, ErrorKind, Result};

/// Which certificates are believed, and the one that we show. Cheap to clone; `Debug` shows no key.
///
/// The certificate must be valid now, come from an authority that is trusted here, and name the host of the address (as
/// DNS name or IP address in subjectAltName). There is no way to switch that off. TLS 1.2 and 1.3.
///
/// ```
/// # use sessionring::{SessionRing, Tls};
/// # fn configure(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<(), sessionring::Error> {
/// // An authority of one's own, and mutual TLS: what is in redis.conf as tls-ca-cert-file, and what it has signed.
/// let tls = Tls::private_ca(ca)?.client_certificate(certificate, key)?;
/// let builder = SessionRing::builder().node("a", "rediss://cache-a.internal:6379").tls(tls);
/// # Ok(())
/// # }
/// let error = Tls::private_ca("no certificate").unwrap_err();
/// assert!(error.is_configuration());
/// assert_eq!(error.to_string(), "the PEM text of the authority holds no certificate");
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
#[derive(Clone)]
pub struct Tls {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Believes the authorities that the operating system trusts, as they are now.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): the system has none.
    pub fn system_roots() -> Result<Tls> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A system may carry certificates that nobody can read any more; the others count.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(Error::configuration(format!(
                "the system has no certificates of authorities{why}: install them (the package is often called \
                 ca-certificates), or name an authority with Tls::private_ca"
            )));
        }
        Tls::believing(roots)
    }

    /// Believes only these authorities: one or more certificates as PEM text.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): it is no PEM text of certificates.
    pub fn private_ca(pem: impl AsRef<[u8]>) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the authority", pem.as_ref())? {
            roots.add(certificate).map_err(|error| unfit("a certificate of the authority", error))?;
        }
        Tls::believing(roots)
    }

    /// Shows this certificate to the servers (mutual TLS): a chain, our own first, and its key, both as PEM text.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): it is no PEM text of certificates and of a key, or the key is that of
    /// another certificate.
    pub fn client_certificate(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Tls> {
        let chain = certificates("the client certificate", chain.as_ref())?;
        // What the parser says of a key might repeat a part of it.
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|_| Error::configuration("the PEM text of the client key holds no private key"))?;
        let config = builder(&self.roots)?.with_client_auth_cert(chain, key);
        let config = config.map_err(|error| unfit("the client certificate, or its key,", error))?;
        Ok(Tls { config: finished(config), ..self })
    }

    fn believing(roots: RootCertStore) -> Result<Tls> {
        let roots = Arc::new(roots);
        let config = finished(builder(&roots)?.with_no_client_auth());
        Ok(Tls { roots, config })
    }

    /// Makes a connection to `host` safe.
    pub(crate) async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.roots.len())
            .field("client_certificate", &self.config.client_auth_cert_resolver.has_certs())
            .finish()
    }
}

type Builder =
    tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::client::WantsClientCert>;

/// With a cryptography of our own choice: the process may have none, or two.
fn builder(roots: &Arc<RootCertStore>) -> Result<Builder> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = versions.with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| unfit("the list of TLS versions", error))?;
    Ok(versions.with_root_certificates(roots.clone()))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    // There is one long connection to each node; another one is to look at the certificate anew.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let parsed = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let parsed = parsed
        .map_err(|error| Error::configuration(format!("the PEM text of {what} does not parse: {error}")))?;
    if parsed.is_empty() {
        return Err(Error::configuration(format!("the PEM text of {what} holds no certificate")));
    }
    Ok(parsed)
}

fn unfit(what: &str, error: TlsError) -> Error {
    Error::with_source(ErrorKind::Configuration, format!("{what} cannot be used: {error}"), error)
}

/// What a failed connection means, if it failed for a reason that will not mend itself.
pub(crate) fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let error = error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<TlsError>()?;
    Some(match error {
        TlsError::InvalidCertificate(error) => explain_certificate(error),
        TlsError::AlertReceived(alert) => return explain_alert(*alert),
        TlsError::InvalidMessage(_) => {
            "what answers does not speak TLS; check the port, or write redis:// if it may be plaintext".into()
        }
        TlsError::PeerIncompatible(why) => format!("the server speaks no TLS that is still safe ({why:?})"),
        _ => return None,
    })
}

fn explain_certificate(error: &CertificateError) -> String {
    use CertificateError as Certificate;
    match error {
        // A bad signature: an authority of the same name, with another key.
        Certificate::UnknownIssuer | Certificate::BadSignature => {
            "its certificate comes from an authority that is not trusted here; name it with Tls::private_ca"
                .into()
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "its certificate has expired; renew it (or set the clock of this machine)".into()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "its certificate is not valid yet; set the clock of this machine, or wait".into()
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => format!(
            "its certificate is not for this host: the name or IP address that the address has must stand in its \
             subjectAltName ({error})"
        ),
        error => format!("its certificate is not valid ({error})"),
    }
}

/// What the server does not like about us.
fn explain_alert(alert: AlertDescription) -> Option<String> {
    use AlertDescription as Alert;
    match alert {
        // TLS 1.3 has a word for it, 1.2 has not.
        Alert::CertificateRequired => {
            Some("the server wants a client certificate; give it one with Tls::client_certificate".into())
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::DecryptError
        | Alert::AccessDenied
        | Alert::HandshakeFailure => Some(format!(
            "the server does not accept our client certificate, or misses one (it says {alert:?}); see its log, \
             and Tls::client_certificate"
        )),
        Alert::ProtocolVersion | Alert::InsufficientSecurity | Alert::UnrecognisedName => {
            Some(format!("the server does not want to speak with us (it says {alert:?}); see its log"))
        }
        _ => None,
    }
}
