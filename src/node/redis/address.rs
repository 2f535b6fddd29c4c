use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

/// Where a server is, and who we are there.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    pub(super) place: Place,
    pub(super) login: RedisConnectionInfo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl RedisAddress {
    pub(crate) fn parse(text: &str) -> Result<RedisAddress, String> {
        if ["rediss:", "valkeys:"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err("this version has no TLS, use a tunnel or a private network".into());
        }
        // The driver's own message may quote the address, which may hold a password in front of the host, or as
        // a parameter (unix:/path?pass=…).
        let info: ConnectionInfo = text.into_connection_info().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" - ").next().unwrap_or_default();
            if text.contains(['@', '?']) { "it is not a Redis URL".to_owned() } else { reason.to_owned() }
        })?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp(host.clone(), *port),
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err("this kind of address is not supported".into()),
        };
        // Whatever the address asks for: answers are read as RESP2 writes them.
        let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        Ok(RedisAddress { place, login: login.set_lib_name("sessionring", env!("CARGO_PKG_VERSION")) })
    }
}

impl RedisAddress {
    /// The address as text that parses to the same place, without user and password.
    pub(crate) fn without_credentials(&self) -> String {
        let db = self.login.db();
        match &self.place {
            Place::Tcp(host, port) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let db = if db == 0 { String::new() } else { format!("/{db}") };
                format!("redis://{host}:{port}{db}")
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let db = if db == 0 { String::new() } else { format!("?db={db}") };
                format!("unix:{}{db}", escaped(path))
            }
        }
    }

    /// Whether it says who we are there.
    pub(crate) fn has_credentials(&self) -> bool {
        self.login.username().is_some() || self.login.password().is_some()
    }

    /// The same place, as whom another address says.
    #[must_use]
    pub(crate) fn with_credentials_of(mut self, other: &RedisAddress) -> RedisAddress {
        if let Some(username) = other.login.username() {
            self.login = self.login.set_username(username);
        }
        if let Some(password) = other.login.password() {
            self.login = self.login.set_password(password);
        }
        self
    }

    /// User and password.
    #[cfg(test)]
    pub(crate) fn credentials(&self) -> String {
        let login = [self.login.username(), self.login.password()];
        login.map(Option::unwrap_or_default).join(":")
    }

    /// Whether both are the same server, whatever the database.
    pub(crate) fn is_same_server(&self, other: &RedisAddress) -> bool {
        self.place == other.place
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
            Place::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}")?,
            Place::Tcp(host, port) => write!(f, "{host}:{port}")?,
            #[cfg(unix)]
            Place::Unix(path) => write!(f, "{}", path.display())?,
        }
        match self.login.db() {
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
