//! Where a node is.

use super::redis::RedisAddress;
use crate::{entropy, error::Error};

/// A parsed node address. `Debug` shows no password.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// `memory:` is a node of its own; `memory:NAME` is shared by everyone in the process who names it.
    Memory(Option<String>),
    /// `redis://[user:password@]host[:port][/database]`, `rediss://` likewise, `unix:` and a path, or
    /// `redis+sentinel://[user:password@]host[:port],…/name[/database]`, `rediss+sentinel://` likewise.
    Redis(Box<RedisAddress>),
    /// `sim:NAME`: a server of the simulation.
    #[cfg(test)]
    Simulated(String),
}

impl Address {
    /// Reads an address. The error never repeats it, since it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Address, Error> {
        if let Some(name) = text.strip_prefix("memory:") {
            return Ok(Address::Memory((!name.is_empty()).then(|| name.to_owned())));
        }
        #[cfg(test)]
        if let Some(name) = text.strip_prefix("sim:") {
            return Ok(Address::Simulated(name.to_owned()));
        }
        RedisAddress::parse(text).map(|address| Address::Redis(Box::new(address))).map_err(|reason| {
            Error::configuration(format!(
                "the address does not parse: {reason}; write redis://[user:password@]host[:port][/database], \
                 rediss:// for TLS, redis+sentinel://host[:port],host[:port]/name, unix:/path/to/socket, or memory:"
            ))
        })
    }
}

impl Address {
    /// The address as a document may hold it: text that parses to the same place, without user and password. An
    /// in-memory node needs a name for that, see [`Address::named`].
    pub(crate) fn without_credentials(&self) -> String {
        match self {
            Address::Memory(name) => format!("memory:{}", name.as_deref().unwrap_or_default()),
            Address::Redis(address) => address.without_credentials(),
            #[cfg(test)]
            Address::Simulated(name) => format!("sim:{name}"),
        }
    }

    /// The same address; an in-memory node without a name gets one, so that a document can name it.
    pub(crate) fn named(self) -> Result<Address, Error> {
        Ok(match self {
            Address::Memory(None) => Address::Memory(Some(format!("{:016x}", entropy::u64()?))),
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_credentials_is_the_same_place() {
        for (address, public) in [
            ("redis://app:s%3Acret@[::1]:7000", "redis://[::1]:7000"),
            ("redis://:pw@10.0.0.1/3", "redis://10.0.0.1:6379/3"),
            ("valkey://Cache.internal", "redis://Cache.internal:6379"),
            ("rediss://app:s%3Acret@[::1]:7000/2", "rediss://[::1]:7000/2"),
            ("valkeys://cache.internal", "rediss://cache.internal:6379"),
            ("REDISS://cache.internal", "rediss://cache.internal:6379"),
            ("unix:/run/my%20redis%25.sock?user=u&pass=hunter2&db=2", "unix:/run/my%20redis%25.sock?db=2"),
            ("redis+unix:///run/redis.sock", "unix:/run/redis.sock"),
            (
                "redis+sentinel://h1,h2:7000,[::1]/my-primary",
                "redis+sentinel://h1:26379,h2:7000,[::1]:26379/my-primary",
            ),
            (
                "RedisS+Sentinel://app:s%3Acret@h1:1,h2:2/p_1.2/3?sentinel_user=w&sentinel_password=s%40cret",
                "rediss+sentinel://h1:1,h2:2/p_1.2/3",
            ),
            ("valkeys+sentinel://:pw@h/p", "rediss+sentinel://h:26379/p"),
            ("valkey+sentinel://h/p/", "redis+sentinel://h:26379/p"),
            ("memory:a", "memory:a"),
        ] {
            let parsed = Address::parse(address).unwrap();
            assert_eq!(parsed.without_credentials(), public);
            let again = Address::parse(public).unwrap();
            assert_eq!(again.without_credentials(), public);
            if let (Address::Redis(a), Address::Redis(b)) = (&parsed, &again) {
                assert!(a.is_same_server(b) && a.to_string() == b.to_string());
                assert!(b.credentials().is_none() && b.sentinel_credentials().is_none());
            }
        }
    }

    #[test]
    fn an_in_memory_node_gets_a_name_of_its_own() {
        let name = || Address::parse("memory:").unwrap().named().unwrap().without_credentials();
        let (one, other) = (name(), name());
        assert!(one.len() > "memory:".len() && one != other);
        let named = Address::parse("memory:a").unwrap().named().unwrap();
        assert_eq!(named.without_credentials(), "memory:a");
    }

    #[test]
    fn good_addresses() {
        for good in [
            "redis://127.0.0.1",
            "redis://127.0.0.1:7000/3",
            "redis://app:s%3Acret@[::1]:7000",
            "valkey://cache.internal",
            "rediss://cache.internal:6380",
            "unix:/run/redis.sock",
            "memory:",
            "memory:a",
        ] {
            Address::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn bad_addresses_are_refused_and_not_repeated() {
        for bad in [
            "",
            "127.0.0.1:6379",
            "http://127.0.0.1",
            "redis://",
            "redis://h:99999",
            "redis://h/zero",
            "redis://0.0.0.0",
            "redis://u:hunter2@h:x",
            "rediss://u:hunter2@h/#insecure",
            "rediss://u:hunter2@h/#other",
            "redis+sentinel://h1,h2",
            "redis+sentinel://h1,h2/",
            "redis+sentinel:///name",
            "redis+sentinel://h1,/name",
            "redis+sentinel://u:hunter2@h1,h2/no such name",
            "redis+sentinel://u:hunter2@h1,h2/name/zero",
            "redis+sentinel://u:hunter2@h1,h2/name/0/1",
            "redis+sentinel://u:hunter2@h1:x,h2/name",
            "redis+sentinel://u:hunter2@h1,u2:hunter2@h2/name",
            "redis+sentinel://h1,h2/name?sentinel_pass=hunter2",
            "redis+sentinel://h1,h2/name?sentinel_user=hunter2",
            "redis+sentinel://h1,h2/name?sentinel_password=hunter2@x",
            "rediss+sentinel://u:hunter2@h1,h2/name#insecure",
            "unix+sentinel:/run/redis.sock/name",
            "unix:/run/redis.sock?user=u?pass=hunter2&protocol=x",
            "unix:/run/redis.sock?protocol=x?pass=hunter2",
        ] {
            let error = Address::parse(bad).expect_err(bad);
            assert!(error.is_configuration());
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let address = Address::parse("redis://app:hunter2@127.0.0.1").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
