use std::{fmt, sync::Arc};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::sentinels::Sentinels;
use crate::node::Credentials;

/// Where a server is, and who we are there.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    pub(super) place: Place,
    db: i64,
    credentials: Option<Credentials>,
    /// What Sentinels call the server, if it was they who said where it is.
    primary: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `rediss://`
    Tls(String, u16),
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    /// Wherever the Sentinels say that it is just now.
    Named(Arc<Sentinels>),
}

impl RedisAddress {
    pub(crate) fn parse(text: &str) -> Result<RedisAddress, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        if let Some((scheme, "sentinel")) = scheme.to_ascii_lowercase().split_once('+') {
            return RedisAddress::parse_named(scheme, rest);
        }
        // The driver does not do TLS here, so it must not see that it is asked for.
        let encrypted = match scheme.to_ascii_lowercase().as_str() {
            "rediss" => Some(format!("redis:{rest}")),
            "valkeys" => Some(format!("valkey:{rest}")),
            _ => None,
        };
        if encrypted.is_some() && text.contains('#') {
            return Err("certificates are always verified; leave out what begins with #".into());
        }
        let text = encrypted.as_deref().unwrap_or(text);
        // The driver's own message may quote the address, which may hold a password in front of the host, or as
        // a parameter (unix:/path?pass=…).
        let info: ConnectionInfo = text.into_connection_info().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" - ").next().unwrap_or_default();
            if text.contains(['@', '?']) { "it is not a Redis URL".to_owned() } else { reason.to_owned() }
        })?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if encrypted.is_some() => Place::Tls(host.clone(), *port),
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err("this kind of address is not supported".into()),
        };
        let login = info.redis_settings();
        let credentials = login.password().map(|password| Credentials::of(login.username(), password));
        Ok(RedisAddress { place, db: login.db(), credentials, primary: None })
    }

    /// Who we are is written in front of the hosts, as in any other address; so the driver reads that, and each host.
    fn parse_named(scheme: &str, rest: &str) -> Result<RedisAddress, String> {
        let (sentinels, login, db) = Sentinels::parse(scheme, rest)?;
        let RedisAddress { db, credentials, .. } =
            RedisAddress::parse(&format!("{scheme}://{login}sentinel/{db}"))?;
        Ok(RedisAddress { place: Place::Named(Arc::new(sentinels)), db, credentials, primary: None })
    }

    /// The server that Sentinels have found for this address: the same database there, as this user.
    pub(super) fn found(&self, place: Place, name: &str, credentials: Option<Credentials>) -> RedisAddress {
        RedisAddress { place, db: self.db, credentials, primary: Some(name.into()) }
    }

    /// What Sentinels call the server, if it was they who said where it is.
    pub(super) fn primary(&self) -> Option<&str> {
        self.primary.as_deref()
    }

    /// The address as text that parses to the same place, without user and password.
    pub(crate) fn without_credentials(&self) -> String {
        let tcp = |scheme, host: &str, port| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let db = if self.db == 0 { String::new() } else { format!("/{}", self.db) };
            format!("{scheme}://{host}:{port}{db}")
        };
        match &self.place {
            Place::Tls(host, port) => tcp("rediss", host, port),
            Place::Tcp(host, port) => tcp("redis", host, port),
            #[cfg(unix)]
            Place::Unix(path) => {
                let db = if self.db == 0 { String::new() } else { format!("?db={}", self.db) };
                format!("unix:{}{db}", escaped(path))
            }
            Place::Named(sentinels) => {
                let db = if self.db == 0 { String::new() } else { format!("/{}", self.db) };
                format!("{}{db}", sentinels.address())
            }
        }
    }

    /// Who we are there, if the address says so.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// What a fresh connection begins with.
    pub(super) fn login(&self, credentials: Option<&Credentials>) -> Vec<Cmd> {
        login(self.db, credentials)
    }

    /// Whether both are the same server, whatever the database.
    pub(crate) fn is_same_server(&self, other: &RedisAddress) -> bool {
        match (&self.place, &other.place) {
            (Place::Named(one), Place::Named(other)) => one.is_same(other),
            (one, other) => one == other,
        }
    }

    /// Whether Sentinels know where it is.
    pub(crate) fn has_sentinels(&self) -> bool {
        matches!(self.place, Place::Named(_))
    }

    /// Who we are at the Sentinels that know where it is, if there are any and the address says so.
    pub(crate) fn sentinel_credentials(&self) -> Option<&Credentials> {
        match &self.place {
            Place::Named(sentinels) => sentinels.credentials(),
            _ => None,
        }
    }

    /// Whether what is sent there is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        match &self.place {
            Place::Tls(..) => true,
            Place::Named(sentinels) => sentinels.encrypted,
            _ => false,
        }
    }

    /// Whether what is sent there can be read on the network.
    pub(crate) fn is_plaintext(&self) -> bool {
        match &self.place {
            Place::Tcp(..) => true,
            Place::Named(sentinels) => !sentinels.encrypted,
            _ => false,
        }
    }
}

/// What a fresh connection begins with: another user, another database, and our name for `CLIENT LIST`.
pub(super) fn login(db: i64, credentials: Option<&Credentials>) -> Vec<Cmd> {
    let authentication = credentials.map(|credentials| {
        let mut command = redis::cmd("AUTH");
        command.arg(credentials.user()).arg(credentials.secret()).to_owned()
    });
    let selection = (db != 0).then(|| redis::cmd("SELECT").arg(db).to_owned());
    let name = [("LIB-NAME", "sessionring"), ("LIB-VER", env!("CARGO_PKG_VERSION"))]
        .map(|(what, value)| redis::cmd("CLIENT").arg("SETINFO").arg(what).arg(value).to_owned());
    authentication.into_iter().chain(selection).chain(name).collect()
}

/// A path as it stands in an address.
#[cfg(unix)]
fn escaped(path: &std::path::Path) -> String {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Without the password.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        self.primary.iter().try_for_each(|name| write!(f, " ({name})"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tls(host, port) | Place::Tcp(host, port) if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Place::Tls(host, port) | Place::Tcp(host, port) => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Named(sentinels) => write!(f, "{sentinels}"),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}
