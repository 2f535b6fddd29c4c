use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::node::Credentials;

/// Where a server is, and who we are there.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    pub(super) place: Place,
    db: i64,
    credentials: Option<Credentials>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `rediss://`
    Tls(String, u16),
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl RedisAddress {
    pub(crate) fn parse(text: &str) -> Result<RedisAddress, String> {
        // The driver does not do TLS here, so it must not see that it is asked for.
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
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
        Ok(RedisAddress { place, db: login.db(), credentials })
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
        }
    }

    /// Who we are there, if the address says so.
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// What a fresh connection begins with.
    pub(super) fn login(&self, credentials: Option<&Credentials>) -> RedisConnectionInfo {
        // Whatever the address asks for: answers are read as RESP2 writes them.
        let login = RedisConnectionInfo::default().set_db(self.db).set_protocol(ProtocolVersion::RESP2);
        let login = login.set_lib_name("sessionring", env!("CARGO_PKG_VERSION"));
        let Some(credentials) = credentials else { return login };
        let login = login.set_password(credentials.secret());
        match credentials.user() {
            Some(user) => login.set_username(user),
            None => login,
        }
    }

    /// Whether both are the same server, whatever the database.
    pub(crate) fn is_same_server(&self, other: &RedisAddress) -> bool {
        self.place == other.place
    }

    /// Whether what is sent there is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.place, Place::Tls(..))
    }

    /// Whether what is sent there can be read on the network.
    pub(crate) fn is_plaintext(&self) -> bool {
        matches!(self.place, Place::Tcp(..))
    }
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
        match &self.place {
            Place::Tls(host, port) | Place::Tcp(host, port) if host.contains(':') => {
                write!(f, "[{host}]:{port}")?;
            }
            Place::Tls(host, port) | Place::Tcp(host, port) => write!(f, "{host}:{port}")?,
            #[cfg(unix)]
            Place::Unix(path) => write!(f, "{}", path.display())?,
        }
        match self.db {
            0 => Ok(()),
            db => write!(f, "/{db}"),
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}
