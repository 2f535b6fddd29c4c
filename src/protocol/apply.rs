//! The meaning of every command.
//!
//! This is the specification of `src/node/redis/batch.lua`, and the code of the in-memory node. A property
//! test runs both on the same sequences and compares every answer.

use super::{Command, Condition, Delete, Outcome, Write};
use crate::record::{Header, Kind, Millis, Version};

/// What a node holds under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The record.
    pub bytes: Vec<u8>,
    /// The record is gone when the node's clock is past this.
    pub expires: Millis,
}

/// What a command does to the record of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    None,
    /// This record takes the place of whatever was there.
    Put(Stored),
    /// The record stays and expires at another time.
    Expire(Millis),
}

const NOTHING: Effect = Effect::None;

/// Executes `command` on what is stored (never an expired record) at the node's time `now`.
pub fn apply(stored: Option<&Stored>, now: Millis, command: &Command) -> (Outcome, Effect) {
    match command {
        Command::Read => match stored {
            Some(stored) => (Outcome::Record(stored.bytes.clone()), NOTHING),
            None => (Outcome::Absent, NOTHING),
        },
        Command::Inspect => match Found::look(stored) {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone => (Outcome::Deleted, NOTHING),
            Found::Live(header, stored) => {
                (Outcome::Inspected(header, stored.expires.saturating_sub(now)), NOTHING)
            }
            Found::Unexpected(first) => (Outcome::Unexpected(first), NOTHING),
        },
        Command::Write(write) => apply_write(Found::look(stored), now, write),
        Command::Touch(idle) => match Found::look(stored) {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone => (Outcome::Deleted, NOTHING),
            Found::Live(header, _) if header.max_deadline < now => (Outcome::Absent, NOTHING),
            Found::Live(header, _) => {
                let deadline = header.max_deadline.min(now + idle);
                (Outcome::Applied(header.version), Effect::Expire(deadline))
            }
            Found::Unexpected(first) => (Outcome::Unexpected(first), NOTHING),
        },
        Command::Delete(delete) => apply_delete(stored, now, delete),
    }
}

fn apply_write(found: Found<'_>, now: Millis, write: &Write) -> (Outcome, Effect) {
    let (version, max_deadline) = match found {
        Found::Absent => match write.condition {
            Condition::Absent | Condition::AbsentOrLive => (now, now + write.absolute),
            Condition::Live | Condition::Version(_) => return (Outcome::Absent, NOTHING),
        },
        Found::Tombstone => return (Outcome::Deleted, NOTHING),
        Found::Unexpected(first) => return (Outcome::Unexpected(first), NOTHING),
        // This very write was here before, and nobody else since.
        Found::Live(header, _) if header.operation == write.operation => {
            return (Outcome::Applied(header.version), NOTHING);
        }
        Found::Live(header, _) if header.max_deadline < now => return (Outcome::Absent, NOTHING),
        Found::Live(header, stored) => match write.condition {
            Condition::Absent => return (Outcome::Exists, NOTHING),
            Condition::Version(expected) if expected != header.version => {
                return (Outcome::Conflict(stored.bytes.clone()), NOTHING);
            }
            _ => (header.version + 1, header.max_deadline),
        },
    };
    let mut bytes = write.header(version, max_deadline).encode().to_vec();
    bytes.extend_from_slice(&write.payload);
    let expires = max_deadline.min(now + write.idle);
    (Outcome::Applied(version), Effect::Put(Stored { bytes, expires }))
}

/// A log-out must succeed on whatever is there: garbage is buried like a session.
fn apply_delete(stored: Option<&Stored>, now: Millis, delete: &Delete) -> (Outcome, Effect) {
    let (version, max_deadline) = match Found::look(stored) {
        Found::Absent if !delete.upsertable => return (Outcome::Absent, NOTHING),
        Found::Tombstone => return (Outcome::Deleted, NOTHING),
        Found::Live(header, _) => (header.version + 1, header.max_deadline),
        Found::Absent | Found::Unexpected(_) => (now, now + delete.absolute),
    };
    let remaining = stored.map_or(0, |stored| stored.expires.saturating_sub(now));
    let mut expires = now + remaining + delete.floor;
    if delete.upsertable {
        expires = expires.max(max_deadline + delete.floor);
    }
    let bytes = delete.header(version, max_deadline).encode().to_vec();
    (Outcome::Applied(version), Effect::Put(Stored { bytes, expires }))
}

/// What stands under a key, as a write sees it.
enum Found<'a> {
    Absent,
    Tombstone,
    Live(Header, &'a Stored),
    Unexpected(Vec<u8>),
}

/// One short of 2^53: a write adds one, and a script's numbers are exact up to 2^53.
const LAST_VERSION: Version = (1 << 53) - 1;

impl Found<'_> {
    fn look(stored: Option<&Stored>) -> Found<'_> {
        let Some(stored) = stored else { return Found::Absent };
        // An empty string cannot be told from an absent key by the script, and no record is empty.
        if stored.bytes.is_empty() {
            return Found::Absent;
        }
        match Header::decode(&stored.bytes) {
            Ok(header) if header.kind == Kind::Tombstone && !header.pending => Found::Tombstone,
            Ok(header) if header.kind == Kind::Live && !header.pending && header.version < LAST_VERSION => {
                Found::Live(header, stored)
            }
            _ => Found::Unexpected(stored.bytes[..stored.bytes.len().min(Header::LEN)].to_vec()),
        }
    }
}
