//! Sentinels, and the name under which they watch a primary, as an address says them.

use std::fmt;

use super::address::{Place, RedisAddress};
use crate::node::Credentials;

/// Where Sentinels are, what they call the primary, and who we are to them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sentinels {
    pub(super) hosts: Vec<Host>,
    pub(super) name: String,
    /// Both the Sentinels and the servers are reached over TLS.
    pub(super) encrypted: bool,
    credentials: Option<Credentials>,
}

/// Where one of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// Where a Sentinel listens unless something else is said.
const PORT: u16 = 26379;

impl Sentinels {
    /// Reads what follows the scheme: `//[login@]host[:port],…/name[/db][?sentinel_user=…&sentinel_password=…]`. Beside the
    /// Sentinels it answers who we are at the primary, as it stands there, and the database.
    pub(super) fn parse<'a>(scheme: &str, text: &'a str) -> Result<(Sentinels, &'a str, &'a str), String> {
        if !matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys") {
            return Err(
                "a primary that Sentinels watch is reached by redis+sentinel:// or rediss+sentinel://".into(),
            );
        }
        let text = text.strip_prefix("//").ok_or("two slashes are missing in front of the Sentinels")?;
        if text.contains('#') {
            return Err("certificates are always verified; leave out what begins with #".into());
        }
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (authority, path) = text.split_once('/').unwrap_or((text, ""));
        let (login, hosts) = authority.split_at(authority.find('@').map_or(0, |at| at + 1));
        let (name, db) = path.split_once('/').unwrap_or((path, ""));
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(is_fit) {
            return Err(
                "after the Sentinels stands the name of the primary (letters, digits, . _ and -), as in \
                        redis+sentinel://host1,host2/name"
                    .into(),
            );
        }
        let hosts = hosts.split(',').map(sentinel).collect::<Result<Vec<_>, _>>()?;
        let encrypted = matches!(scheme, "rediss" | "valkeys");
        let credentials = credentials(query)?;
        Ok((Sentinels { hosts, name: name.to_owned(), encrypted, credentials }, login, db))
    }

    /// As a document may hold it, but for the database.
    pub(super) fn address(&self) -> String {
        let scheme = if self.encrypted { "rediss" } else { "redis" };
        format!("{scheme}+sentinel://{}/{}", self.list(","), self.name)
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Whether both are the same primary, as far as addresses say.
    pub(super) fn is_same(&self, other: &Sentinels) -> bool {
        self.name == other.name && self.hosts.iter().any(|host| other.hosts.contains(host))
    }

    /// Where a primary is that the Sentinels say is at this host and port.
    pub(super) fn place(&self, host: String, port: u16) -> Place {
        if self.encrypted { Place::Tls(host, port) } else { Place::Tcp(host, port) }
    }

    fn list(&self, between: &str) -> String {
        self.hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(between)
    }
}

/// One Sentinel, read by the driver like any other host.
fn sentinel(host: &str) -> Result<Host, String> {
    let has_port = host.rsplit(']').next().unwrap_or(host).contains(':');
    let port = if has_port { String::new() } else { format!(":{PORT}") };
    if host.is_empty() || host.contains('@') {
        return Err("Sentinels are host[:port], with commas between them".into());
    }
    match RedisAddress::parse(&format!("redis://{host}{port}"))?.place {
        Place::Tcp(name, port) => Ok(Host { name, port }),
        _ => Err("Sentinels are host[:port], with commas between them".into()),
    }
}

/// Who we are to the Sentinels.
fn credentials(query: &str) -> Result<Option<Credentials>, String> {
    let (mut user, mut password) = ("", None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if value.contains(['@', '/', ':', '[', ']', '=']) {
            return Err("user and password of the Sentinels are percent-encoded (%40 for @)".into());
        }
        match key {
            "sentinel_user" => user = value,
            "sentinel_password" => password = Some(value),
            _ => return Err("the only parameters are sentinel_user and sentinel_password".into()),
        }
    }
    match password {
        None if user.is_empty() => Ok(None),
        None => Err("there is a sentinel_user and no sentinel_password".into()),
        // Read by the driver as in front of any host.
        Some(password) => {
            let address = RedisAddress::parse(&format!("redis://{user}:{password}@sentinel"))?;
            Ok(address.credentials().cloned())
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Sentinels {})", self.name, self.list(", "))
    }
}

/// Without the password.
impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sentinels({self})")
    }
}
