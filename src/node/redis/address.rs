use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

/// Where a server is, and who we are there.
#[derive(Clone)]
pub(crate) struct RedisAddress {
    pub(super) place: Place,
    pub(super) login: RedisConnectionInfo,
}

#[derive(Debug, Clone)]
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
