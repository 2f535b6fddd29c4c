//! From outcomes to answers.

use std::time::Duration;

use super::{Sessions, UPDATE_ATTEMPTS};
use crate::{
    error::{Error, ErrorKind, Result},
    protocol::Outcome,
    record::{Header, Key, Kind, OVERHEAD, Record, RecordError, Version},
};

impl<T: Send + Sync + 'static> Sessions<T> {
    pub(super) fn read(&self, key: &Key, outcome: Outcome) -> Result<Option<(T, Version)>> {
        let bytes = match outcome {
            Outcome::Record(bytes) => bytes,
            Outcome::Absent => return Ok(None),
            outcome => return Err(self.unexpected(key, outcome)),
        };
        let record = Record::decode(&bytes).map_err(|error| self.not_a_record(key, error))?;
        match record.header.kind {
            Kind::Tombstone => Ok(None),
            Kind::Live => Ok(Some((self.decode(key, &record)?, record.header.version))),
        }
    }

    fn decode(&self, key: &Key, record: &Record<'_>) -> Result<T> {
        let options = &*self.options;
        let overhead = if record.header.seal == 0 { 0 } else { OVERHEAD };
        let (size, limit) = (record.payload.len().saturating_sub(overhead), options.max_bytes);
        if size > limit {
            let message = format!(
                "the stored session has {size} bytes, this application reads at most {limit}; raise max_bytes ({key:?})"
            );
            return Err(Error::at(ErrorKind::TooLarge, &self.ring.node_of(key), message));
        }
        let payload = self.opened(key, record)?;
        let id = record.header.codec;
        let own = std::iter::once(&options.codec).chain(&options.older).find(|codec| codec.id() == id);
        let codec = own.map(|codec| &**codec).or_else(|| (options.built_in)(id));
        let Some(codec) = codec else {
            return Err(self.corrupt(key, format!("the session is encoded as {id}; name it with also_read")));
        };
        codec.decode(&payload).map_err(|error| {
            let message = format!(
                "the stored session ({size} bytes of {id}) does not decode as the type asked for: {error}"
            );
            self.corrupt(key, message)
        })
    }

    pub(super) fn expect_applied(&self, key: &Key, outcome: Outcome) -> Result<Version> {
        match outcome {
            Outcome::Applied(version) => Ok(version),
            Outcome::Absent => Err(self.not_found(key)),
            Outcome::Deleted => Err(self.deleted(key)),
            Outcome::Exists => Err(self.error(
                key,
                ErrorKind::Exists,
                "a session with this id is there already; use set".into(),
            )),
            Outcome::Conflict(_) => Err(self.conflict(key)),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    pub(super) fn expect_deleted(&self, key: &Key, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Applied(_) | Outcome::Absent | Outcome::Deleted => Ok(()),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    pub(super) fn expect_inspected(&self, key: &Key, outcome: Outcome) -> Result<Option<Duration>> {
        match outcome {
            Outcome::Inspected(_, remaining) => Ok(Some(Duration::from_millis(remaining))),
            Outcome::Absent | Outcome::Deleted => Ok(None),
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
    fn unexpected(&self, key: &Key, outcome: Outcome) -> Error {
        match outcome {
            Outcome::WrongType => self.corrupt(key, "another Redis type than a string is stored".into()),
            Outcome::Unexpected(first) => match Header::decode(&first) {
                Err(error) => self.not_a_record(key, error),
                Ok(_) => self.corrupt(key, "the session has reached the last version that there is".into()),
            },
            outcome => self.corrupt(key, format!("the node answered what was not asked: {outcome:?}")),
        }
    }

    fn not_a_record(&self, key: &Key, error: RecordError) -> Error {
        match error {
            RecordError::NewerFormat(_) => {
                let message = format!("{error}; upgrade this application ({key:?})");
                self.error(key, ErrorKind::UpgradeRequired, message)
            }
            error => self.corrupt(key, error.to_string()),
        }
    }

    pub(super) fn corrupt(&self, key: &Key, what: String) -> Error {
        let message = format!("{what}; nothing was changed; delete ends the session ({key:?})");
        self.error(key, ErrorKind::Corrupt, message)
    }

    pub(super) fn error(&self, key: &Key, kind: ErrorKind, message: String) -> Error {
        Error::at(kind, &self.ring.node_of(key), message)
    }
}
