//! From calls to commands.

use std::time::Duration;

use bytes::Bytes;

use super::Sessions;
use crate::{
    error::{Error, ErrorKind, Result},
    protocol::{Command, Condition, Delete, Outcome, Write},
    record::{Header, Key, Kind, SessionId, Unknown},
};

/// How long a log-out is remembered beyond the session's remaining idle time: longer than any request can be
/// under way.
pub(super) const TOMBSTONE_FLOOR: Duration = Duration::from_secs(15 * 60);

impl<T: Send + Sync + 'static> Sessions<T> {
    pub(super) fn write(&self, key: &Key, condition: Condition, value: &T) -> Result<Command> {
        self.write_keeping(key, condition, value, None)
    }

    /// A write that keeps what is stored and `unknown`.
    pub(super) fn write_keeping(
        &self,
        key: &Key,
        condition: Condition,
        value: &T,
        unknown: Option<&Unknown>,
    ) -> Result<Command> {
        let options = &*self.options;
        let (schema, payload) = self.encoded(value, unknown)?;
        let write = Write {
            condition,
            idle: options.lifetime.idle_ms(),
            absolute: options.lifetime.absolute_ms(),
            codec: options.codec.id(),
            schema,
            seal: 0,
            operation: self.ring.next_operation(),
            payload,
        };
        self.sealed(key, write).map(Command::from)
    }

    /// Schema and payload of what is written.
    pub(super) fn encoded(&self, value: &T, unknown: Option<&Unknown>) -> Result<(u16, Bytes)> {
        let options = &*self.options;
        let payload = options.codec.encode(value).map_err(|error| {
            let message = format!("the session does not encode as {}: {error}", options.codec.id());
            Error::with_source(ErrorKind::Encode, message, error)
        })?;
        let kept = unknown.and_then(|unknown| options.keep(unknown, &payload));
        let (schema, payload) = kept.unwrap_or((options.schema, payload));
        if payload.len() > options.max_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the encoded session has {} bytes, the limit is {}; nothing was changed; store less, or raise \
                     max_bytes",
                    payload.len(),
                    options.max_bytes
                ),
            ));
        }
        Ok((schema, Bytes::from(payload)))
    }

    pub(super) fn set_condition(&self, id: &SessionId) -> Condition {
        if self.upserts(id) { Condition::AbsentOrLive } else { Condition::Live }
    }

    fn upserts(&self, id: &SessionId) -> bool {
        self.options.upsert_foreign && id.is_foreign()
    }

    pub(super) fn touch_command(&self) -> Command {
        Command::Touch(self.options.lifetime.idle_ms())
    }

    pub(super) fn delete_command(&self, id: &SessionId) -> Command {
        Command::Delete(self.log_out(self.upserts(id)))
    }

    /// The log-out of a session whose key is at hand.
    pub(super) fn end_command(&self) -> Command {
        Command::Delete(self.log_out(false))
    }

    fn log_out(&self, upsertable: bool) -> Delete {
        Delete {
            floor: self.tombstone_floor(),
            absolute: self.options.lifetime.absolute_ms(),
            upsertable,
            operation: self.ring.next_operation(),
        }
    }

    /// The write that replaces what was seen by what `change` makes of it.
    pub(super) fn change<R>(
        &self,
        key: &Key,
        seen: Outcome,
        change: &mut (impl FnMut(&mut T) -> R + Send),
    ) -> Result<(Command, R)> {
        let deleted = matches!(&seen, Outcome::Record(bytes)
            if Header::decode(bytes).is_ok_and(|header| header.kind == Kind::Tombstone));
        let Some(mut seen) = self.see(key, seen)? else {
            return Err(if deleted { self.deleted(key) } else { self.not_found(key) });
        };
        let answer = change(&mut seen.value);
        Ok((self.write_back(key, &seen)?, answer))
    }
}
