//! Certificates that a test makes for itself.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::{Error, Identity, Result};

/// Issues certificates; lives as long as the test.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// An authority of its own, which nobody else trusts.
    ///
    /// # Errors
    /// [`Error::Certificate`]: the system has no random numbers.
    pub fn new() -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sessionring testkit");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(Error::certificate)?;
        CertifiedIssuer::self_signed(params, key).map(Authority).map_err(Error::certificate)
    }

    /// What clients and servers have to trust.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and IP addresses, for servers and clients alike.
    ///
    /// # Errors
    /// [`Error::Certificate`]: a name that is none.
    pub fn issue(&self, names: &[&str]) -> Result<Identity> {
        self.issue_with(names, |_| {})
    }

    /// The same, valid only in the year 2020.
    ///
    /// # Errors
    /// Those of [`issue`](Authority::issue).
    pub fn issue_expired(&self, names: &[&str]) -> Result<Identity> {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(Error::certificate)?;
        // So that a server which trusts two authorities of one name takes the right one.
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().map_err(Error::certificate)?;
        let certificate = params.signed_by(&key, &self.0).map_err(Error::certificate)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
