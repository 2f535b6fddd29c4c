//! Where a node is.

use super::redis::RedisAddress;
use crate::error::Error;

/// A parsed node address. `Debug` shows no password.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// `memory:` is a node of its own; `memory:NAME` is shared by everyone in the process who names it.
    Memory(Option<String>),
    /// `redis://[user:password@]host[:port][/database]`, or `unix:` and a path.
    Redis(Box<RedisAddress>),
}

impl Address {
    /// Reads an address. The error never repeats it, since it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Address, Error> {
        if let Some(name) = text.strip_prefix("memory:") {
            return Ok(Address::Memory((!name.is_empty()).then(|| name.to_owned())));
        }
        RedisAddress::parse(text).map(|address| Address::Redis(Box::new(address))).map_err(|reason| {
            Error::configuration(format!(
                "the address does not parse: {reason}; write redis://[user:password@]host[:port][/database], \
                 unix:/path/to/socket, or memory:"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses() {
        for good in [
            "redis://127.0.0.1",
            "redis://127.0.0.1:7000/3",
            "redis://app:s%3Acret@[::1]:7000",
            "valkey://cache.internal",
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
