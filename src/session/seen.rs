//! What is read in order to be written back: it keeps what the reader does not know.

use super::{Options, Sessions};
use crate::{
    error::Result,
    protocol::{Command, Condition, Outcome},
    record::{Header, Key, Unknown, Version, names_fields, same},
};

/// A session, and what of the stored one has to survive its being written back.
pub(super) struct Seen<T> {
    pub(super) value: T,
    pub(super) version: Version,
    pub(super) unknown: Option<Unknown>,
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Reads what will be written back. `None`: there is no session, or one that was logged out.
    pub(super) fn see(&self, key: &Key, outcome: Outcome) -> Result<Option<Seen<T>>> {
        let seen = self.read_as(key, outcome, |header, payload, value| Seen {
            unknown: self.options.unknown(header, payload, &value),
            version: header.version,
            value,
        });
        self.or_reset(seen)
    }

    /// The write that puts back what was seen, as it is now, if nobody else has written meanwhile.
    pub(super) fn write_back(&self, key: &Key, seen: &Seen<T>) -> Result<Command> {
        self.write_keeping(key, Condition::Version(seen.version), &seen.value, seen.unknown.as_ref())
    }
}

impl<T: 'static> Options<T> {
    /// What is stored beyond `value`. Nothing is kept of an older version, which has become this one, nor where the codec is
    /// another than the one that will write.
    fn unknown(&self, header: &Header, payload: &[u8], value: &T) -> Option<Unknown> {
        if header.schema < self.schema || header.codec != self.codec.id() || !names_fields(header.codec) {
            return None;
        }
        let known = self.codec.encode(value).ok()?;
        let all_is_known = known == payload && header.schema == self.schema;
        (!all_is_known).then(|| Unknown::new(header.codec, header.schema, payload.to_vec(), known))
    }

    /// Version and payload of what is written, with what is unknown put back. `None` where it would be read as something
    /// else then, or not at all: a type that takes a field under two names (`#[serde(alias)]`) knows the old one, too, and
    /// does not take both.
    pub(super) fn keep(&self, unknown: &Unknown, written: &[u8]) -> Option<(u16, Vec<u8>)> {
        let whole = unknown.put_back(written.to_vec());
        let read = self.codec.encode(&self.codec.decode(&whole).ok()?).ok()?;
        same(self.codec.id(), &read, written).then_some((unknown.schema(), whole))
    }
}
