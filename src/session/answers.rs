//! From outcomes to answers.

use std::{borrow::Cow, time::Duration};

use super::{Sessions, UPDATE_ATTEMPTS};
use crate::{
    client::SessionEvent,
    error::{Error, ErrorKind, Result},
    protocol::Outcome,
    record::{Header, Key, Kind, OVERHEAD, Record, RecordError, Version, names_fields},
    telemetry,
};

impl<T: Send + Sync + 'static> Sessions<T> {
    pub(super) fn read(&self, key: &Key, outcome: Outcome) -> Result<Option<T>> {
        self.or_reset(self.read_as(key, outcome, |_, _, value| value))
    }

    /// What `make` makes of a live session: of its header, its payload and its value.
    pub(super) fn read_as<R>(
        &self,
        key: &Key,
        outcome: Outcome,
        make: impl FnOnce(&Header, &[u8], T) -> R,
    ) -> Result<Option<R>> {
        let bytes = match outcome {
            Outcome::Record(bytes) => bytes,
            Outcome::Absent => {
                self.is_absent(key);
                return Ok(None);
            }
            outcome => return Err(self.unexpected(key, outcome)),
        };
        let record = Record::decode(&bytes).map_err(|error| self.not_a_record(key, error))?;
        if record.header.kind == Kind::Tombstone {
            self.is_logged_out(key);
            return Ok(None);
        }
        self.lives(key);
        let payload = self.payload(key, &record)?;
        let value = self.decode(key, &record.header, &payload)?;
        Ok(Some(make(&record.header, &payload, value)))
    }

    fn payload<'a>(&self, key: &Key, record: &Record<'a>) -> Result<Cow<'a, [u8]>> {
        let overhead = if record.header.seal == 0 { 0 } else { OVERHEAD };
        let (size, limit) = (record.payload.len().saturating_sub(overhead), self.options.max_bytes);
        if size > limit {
            let message = format!(
                "the stored session has {size} bytes, this application reads at most {limit}; raise max_bytes ({key:?})"
            );
            return Err(self.unreadable(key, ErrorKind::TooLarge, message));
        }
        self.opened(key, record)
    }

    fn decode(&self, key: &Key, header: &Header, payload: &[u8]) -> Result<T> {
        let options = &*self.options;
        let (id, stored) = (header.codec, header.schema);
        if stored > options.schema && !names_fields(id) {
            return Err(self.newer_schema(key, header));
        }
        let decoded = if stored < options.schema {
            let Some(upgraded) = options.upgrades.read(stored, id, payload) else {
                let what = format!(
                    "the session has version {stored} of its type, and upgrades() does not say how that becomes {}",
                    options.schema
                );
                return Err(self.corrupt(key, what));
            };
            upgraded
        } else {
            let own = std::iter::once(&options.codec).chain(&options.older).find(|codec| codec.id() == id);
            let codec = own.map(|codec| &**codec).or_else(|| (options.built_in)(id));
            let Some(codec) = codec else {
                return Err(
                    self.corrupt(key, format!("the session is encoded as {id}; name it with also_read"))
                );
            };
            codec.decode(payload)
        };
        decoded.map_err(|error| {
            if stored > options.schema {
                return self.newer_schema(key, header);
            }
            let size = payload.len();
            let message = format!(
                "the stored session ({size} bytes of {id}) does not decode as the type asked for: {error}"
            );
            self.corrupt(key, message)
        })
    }

    fn newer_schema(&self, key: &Key, header: &Header) -> Error {
        let message = format!(
            "the session has version {} of its type, in {}, and does not decode as version {}; upgrade this \
             application ({key:?})",
            header.schema, header.codec, self.options.schema
        );
        self.unreadable(key, ErrorKind::UpgradeRequired, message)
    }

    pub(super) fn expect_applied(&self, key: &Key, outcome: Outcome) -> Result<Version> {
        match outcome {
            Outcome::Applied(version) => {
                self.lives(key);
                Ok(version)
            }
            Outcome::Absent => {
                self.is_absent(key);
                Err(self.not_found(key))
            }
            Outcome::Deleted => {
                self.is_logged_out(key);
                Err(self.deleted(key))
            }
            Outcome::Exists => Err(self.error(
                key,
                ErrorKind::Exists,
                "a session with this id is there already; use set".into(),
            )),
            Outcome::Conflict(_) => Err(self.conflict(key)),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    pub(super) fn expect_created(&self, key: &Key, outcome: Outcome) -> Result<()> {
        self.expect_applied(key, outcome)?;
        self.emit(key, SessionEvent::Created);
        Ok(())
    }

    pub(super) fn expect_deleted(&self, key: &Key, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Applied(_) => {
                self.is_logged_out(key);
                self.emit(key, SessionEvent::Deleted);
                Ok(())
            }
            Outcome::Absent => {
                self.is_absent(key);
                Ok(())
            }
            Outcome::Deleted => Ok(()),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    pub(super) fn expect_inspected(&self, key: &Key, outcome: Outcome) -> Result<Option<Duration>> {
        match outcome {
            Outcome::Inspected(_, remaining) => {
                self.lives(key);
                Ok(Some(Duration::from_millis(remaining)))
            }
            Outcome::Absent => {
                self.is_absent(key);
                Ok(None)
            }
            Outcome::Deleted => {
                self.is_logged_out(key);
                Ok(None)
            }
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    pub(super) fn not_found(&self, key: &Key) -> Error {
        let message = "no such session: it expired, or never was; nothing was changed";
        self.error(key, ErrorKind::NotFound, message.into())
    }

    pub(super) fn deleted(&self, key: &Key) -> Error {
        let message = "the session was logged out, and that is final; nothing was changed";
        self.error(key, ErrorKind::Deleted, message.into())
    }

    pub(super) fn conflict(&self, key: &Key) -> Error {
        let message = format!(
            "others changed the session each time before this update could (up to {UPDATE_ATTEMPTS} attempts or the \
             request timeout); nothing was changed; try again later, or change it from fewer places"
        );
        self.error(key, ErrorKind::Conflict, message)
    }

    /// What stands under the key is no session.
    pub(super) fn unexpected(&self, key: &Key, outcome: Outcome) -> Error {
        match outcome {
            Outcome::WrongType => self.corrupt(key, "another Redis type than a string is stored".into()),
            Outcome::Unexpected(first) => match Header::decode(&first) {
                Err(error) => self.not_a_record(key, error),
                Ok(_) => self.corrupt(key, "the session has reached the last version that there is".into()),
            },
            outcome => self.corrupt(key, format!("the node answered what was not asked: {outcome:?}")),
        }
    }

    pub(super) fn not_a_record(&self, key: &Key, error: RecordError) -> Error {
        match error {
            RecordError::NewerFormat(_) => {
                let message = format!("{error}; upgrade this application ({key:?})");
                self.unreadable(key, ErrorKind::UpgradeRequired, message)
            }
            error => self.corrupt(key, error.to_string()),
        }
    }

    pub(super) fn corrupt(&self, key: &Key, what: String) -> Error {
        self.emit(key, SessionEvent::Corrupt);
        let message = format!("{what}; nothing was changed; delete ends the session ({key:?})");
        self.unreadable(key, ErrorKind::Corrupt, message)
    }

    /// A replaced id does not say by which.
    pub(super) fn astray(&self, key: &Key) -> Error {
        self.emit(key, SessionEvent::Corrupt);
        let message = format!(
            "the id was replaced, and what says by which one is damaged; nothing was changed; the session ends under its \
             new id, or when it expires ({key:?})"
        );
        self.unreadable(key, ErrorKind::Corrupt, message)
    }

    fn unreadable(&self, key: &Key, kind: ErrorKind, message: String) -> Error {
        telemetry::unreadable(self.ring.name(), &self.namespace, &self.ring.node_of(key), kind);
        self.error(key, kind, message)
    }

    pub(super) fn error(&self, key: &Key, kind: ErrorKind, message: String) -> Error {
        Error::at(kind, &self.ring.node_of(key), message)
    }
}
