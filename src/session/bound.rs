//! One of a principal's sessions, as those see it who have no id of it.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::Sessions;
use crate::{
    error::{Error, Result},
    record::{Entry, Key, Keyspace, Millis, SessionId},
};

/// Names a session to its principal, for as long as it lives, whatever its id. It is no secret: nobody can read a session
/// with it, and only [`end`](Sessions::end) takes it, together with the principal. As text it is 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionHandle(pub(super) u64);

impl fmt::Display for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionHandle({self})")
    }
}

impl FromStr for SessionHandle {
    type Err = Error;

    fn from_str(text: &str) -> Result<SessionHandle> {
        let plain =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| plain);
        number.map(SessionHandle).ok_or_else(|| {
            Error::configuration("the handle of a session has 16 hexadecimal digits, in small letters")
        })
    }
}

/// A live session of a principal: what [`Sessions::sessions_of`] finds.
pub struct BoundSession<T> {
    pub(super) handle: SessionHandle,
    pub(super) begun: Millis,
    value: Result<T>,
    remaining: Duration,
    key: Key,
    keyspace: Arc<Keyspace>,
}

impl<T: Send + Sync + 'static> BoundSession<T> {
    pub(super) fn new(
        sessions: &Sessions<T>,
        entry: &Entry,
        key: Key,
        value: Result<T>,
        left: Millis,
    ) -> BoundSession<T> {
        BoundSession {
            handle: SessionHandle(entry.login),
            begun: entry.begun,
            value,
            remaining: Duration::from_millis(left),
            key,
            keyspace: sessions.keyspace.clone(),
        }
    }
}

impl<T> BoundSession<T> {
    /// By which [`Sessions::end`] ends it.
    pub fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// What it holds, or why it cannot be read.
    ///
    /// # Errors
    /// [`is_corrupt`](Error::is_corrupt), [`is_too_large`](Error::is_too_large),
    /// [`is_upgrade_required`](Error::is_upgrade_required).
    pub fn value(&self) -> Result<&T, &Error> {
        self.value.as_ref()
    }

    /// The same, to keep.
    ///
    /// # Errors
    /// Those of [`value`](BoundSession::value).
    pub fn into_value(self) -> Result<T> {
        self.value
    }

    /// How long it will live if nobody touches it; zero where that cannot be read.
    pub fn remaining(&self) -> Duration {
        self.remaining
    }

    /// When it was bound, by the clock of its node.
    pub fn since(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.begun)
    }

    /// Whether this is its id: "this device". One that was [replaced](Sessions::rotate) is not.
    pub fn is(&self, id: &SessionId) -> bool {
        self.keyspace.key(id) == self.key
    }
}

/// Shows no value: sessions hold what does not belong into a log.
impl<T> fmt::Debug for BoundSession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundSession")
            .field("handle", &self.handle)
            .field("since", &self.since())
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_one_text() {
        let handle = SessionHandle(0x0102_0304_0506_0a0b);
        assert_eq!(handle.to_string(), "0102030405060a0b");
        assert_eq!("0102030405060a0b".parse::<SessionHandle>().unwrap(), handle);
        for wrong in [
            "",
            "0102030405060a0",
            "0102030405060A0B",
            "+102030405060a0b",
            "0102030405060a0b0",
            "é02030405060a0b",
        ] {
            assert!(wrong.parse::<SessionHandle>().unwrap_err().is_configuration());
        }
    }
}
