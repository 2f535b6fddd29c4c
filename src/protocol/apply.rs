//! The meaning of every command.
//!
//! This is the specification of `src/node/redis/batch.lua`, and the code of the in-memory node. A property
//! test runs both on the same sequences and compares every answer.

use bytes::Bytes;

use super::{Command, Condition, Delete, Forward, Install, Mode, Outcome, Scope, Write};
use crate::{
    record::{Header, Kind, Millis, Record, Version},
    topology::Epoch,
};

/// What a node holds under one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Stored {
    /// The record.
    pub bytes: Bytes,
    /// The record is gone when the node's clock is past this.
    pub expires: Millis,
}

/// What a command does to the record of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    None,
    /// This record takes the place of whatever was there.
    Put(Stored),
    /// The record stays and expires at another time.
    Expire(Millis),
    /// The record goes, and nothing takes its place.
    Remove,
}

const NOTHING: Effect = Effect::None;

/// Executes `command` on what is stored (never an expired record) at the node's time `now`. What it writes is of the
/// epoch `stamp`.
pub fn apply(
    stored: Option<&Stored>,
    now: Millis,
    command: &Command,
    stamp: Epoch,
    scope: Scope,
) -> (Outcome, Effect) {
    let found = Found::look(stored, scope.since);
    match command {
        Command::Read => match stored {
            Some(stored) => (Outcome::Record(stored.bytes.clone()), NOTHING),
            None => (Outcome::Absent, NOTHING),
        },
        Command::Recheck => match found {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone(_, stored) if forwards(stored, now) => (ended(stored, now), NOTHING),
            Found::Tombstone(_, stored) | Found::Live(_, stored) => {
                (Outcome::Record(stored.bytes.clone()), NOTHING)
            }
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
        Command::Inspect => match found {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone(_, stored) => (ended(stored, now), NOTHING),
            Found::Live(header, stored) => {
                (Outcome::Inspected(header.into(), stored.expires.saturating_sub(now)), NOTHING)
            }
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
        Command::Write(write) => apply_write(found, now, write, stamp, scope.mode),
        Command::Touch(idle) => match found {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone(_, stored) => (ended(stored, now), NOTHING),
            Found::Live(header, _) if waits(header, scope.mode) => (Outcome::Pending, NOTHING),
            Found::Live(header, stored) if header.version >= LAST_VERSION => (unexpected(stored), NOTHING),
            Found::Live(header, _) if header.max_deadline < now => (Outcome::Absent, NOTHING),
            Found::Live(header, stored) => {
                let end = now + idle;
                let end = if scope.mode == Mode::Settled { end } else { end.max(stored.expires) };
                (Outcome::Applied(header.version), Effect::Expire(end.min(header.max_deadline)))
            }
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
        Command::Delete(delete) => apply_delete(found, now, delete, stamp, scope.mode),
        Command::Forward(forward) => apply_forward(found, now, forward, stamp, scope.mode),
        Command::Visit | Command::Fetch => match found {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Live(header, _) if header.max_deadline < now => (Outcome::Absent, NOTHING),
            Found::Tombstone(_, stored) if *command == Command::Visit && forwards(stored, now) => {
                (ended(stored, now), NOTHING)
            }
            Found::Tombstone(_, stored) | Found::Live(_, stored) => {
                let (record, deadline) = (stored.bytes.clone(), stored.expires);
                let left = deadline.saturating_sub(now);
                let outcome = match command {
                    Command::Visit => Outcome::Visited { record, deadline, left },
                    _ => Outcome::Fetched { record, deadline },
                };
                (outcome, NOTHING)
            }
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
        Command::Install(install) => apply_install(found, now, install, stamp),
        Command::Release => match found {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone(..) => (Outcome::Deleted, NOTHING),
            Found::Live(header, _) => (Outcome::Applied(header.version), Effect::Remove),
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
        // Not even the stamp matters. What is no record is not ours to delete.
        Command::Erase => match Found::look(stored, Epoch::new(0)) {
            Found::Absent => (Outcome::Absent, NOTHING),
            Found::Tombstone(..) | Found::Live(..) => (Outcome::Applied(0), Effect::Remove),
            Found::Unexpected(stored) => (unexpected(stored), NOTHING),
        },
    }
}

fn apply_write(found: Found<'_>, now: Millis, write: &Write, stamp: Epoch, mode: Mode) -> (Outcome, Effect) {
    let mut end = now + write.idle;
    let (version, max_deadline) = match found {
        Found::Absent if mode == Mode::Unchecked => return (Outcome::Absent, NOTHING),
        Found::Absent => match write.condition {
            Condition::Absent | Condition::AbsentOrLive => (now, now + write.absolute),
            Condition::Successor { version, max_deadline } if max_deadline >= now => (version, max_deadline),
            Condition::Successor { .. } | Condition::Live | Condition::Version(_) => {
                return (Outcome::Absent, NOTHING);
            }
        },
        // An id that is used up creates nothing, wherever its session is now.
        Found::Tombstone(..) if write.condition.creates() => return (Outcome::Deleted, NOTHING),
        Found::Tombstone(_, stored) => return (ended(stored, now), NOTHING),
        Found::Unexpected(stored) => return (unexpected(stored), NOTHING),
        Found::Live(header, _) if waits(header, mode) => return (Outcome::Pending, NOTHING),
        Found::Live(header, stored) if header.version >= LAST_VERSION => {
            return (unexpected(stored), NOTHING);
        }
        // This very write was here before, and nobody else since.
        Found::Live(header, _) if header.operation == write.operation => {
            return (Outcome::Applied(header.version), NOTHING);
        }
        Found::Live(header, _) if header.max_deadline < now => return (Outcome::Absent, NOTHING),
        Found::Live(header, stored) => match write.condition {
            Condition::Absent | Condition::Successor { .. } => return (Outcome::Exists, NOTHING),
            Condition::Version(expected) if expected != header.version => {
                return (Outcome::Conflict(stored.bytes.clone()), NOTHING);
            }
            _ => {
                if mode != Mode::Settled {
                    end = end.max(stored.expires);
                }
                (header.version + 1, header.max_deadline)
            }
        },
    };
    let header = write.header(version, max_deadline, stamp);
    (Outcome::Applied(version), put(header, &write.payload, end.min(max_deadline)))
}

/// A log-out must succeed on whatever is there: garbage is buried like a session, but not before the source was asked,
/// whose session would come back when the tombstone of the garbage goes.
fn apply_delete(
    found: Found<'_>,
    now: Millis,
    delete: &Delete,
    stamp: Epoch,
    mode: Mode,
) -> (Outcome, Effect) {
    let (version, max_deadline, expires) = match found {
        Found::Absent | Found::Unexpected(_) if mode == Mode::Unchecked => return (Outcome::Absent, NOTHING),
        Found::Absent if !delete.upsertable => return (Outcome::Absent, NOTHING),
        Found::Tombstone(_, stored) => return (ended(stored, now), NOTHING),
        Found::Live(header, _) if waits(header, mode) => return (Outcome::Pending, NOTHING),
        Found::Live(header, stored) if header.version < LAST_VERSION => {
            (header.version + 1, header.max_deadline, stored.expires)
        }
        Found::Live(_, stored) | Found::Unexpected(stored) => (now, now + delete.absolute, stored.expires),
        Found::Absent => (now, now + delete.absolute, now),
    };
    let mut expires = expires.max(now) + delete.floor;
    if delete.upsertable {
        expires = expires.max(max_deadline + delete.floor);
    }
    (Outcome::Applied(version), put(delete.header(version, max_deadline, stamp), &[], expires))
}

fn apply_forward(
    found: Found<'_>,
    now: Millis,
    forward: &Forward,
    stamp: Epoch,
    mode: Mode,
) -> (Outcome, Effect) {
    let (header, stored) = match found {
        Found::Absent => return (Outcome::Absent, NOTHING),
        // This very operation was here before.
        Found::Tombstone(header, _) if header.forward && header.operation == forward.operation => {
            return (Outcome::Applied(header.version), NOTHING);
        }
        Found::Tombstone(_, stored) => return (ended(stored, now), NOTHING),
        Found::Unexpected(stored) => return (unexpected(stored), NOTHING),
        Found::Live(header, _) if waits(header, mode) => return (Outcome::Pending, NOTHING),
        Found::Live(header, stored) if header.version >= LAST_VERSION => {
            return (unexpected(stored), NOTHING);
        }
        Found::Live(header, _) if header.max_deadline < now => return (Outcome::Absent, NOTHING),
        Found::Live(header, stored) if header.version != forward.expected => {
            return (Outcome::Conflict(stored.bytes.clone()), NOTHING);
        }
        Found::Live(header, stored) => (header, stored),
    };
    let version = header.version + 1;
    let [_, _, until @ ..] = (now + forward.grace).to_be_bytes();
    let payload = [&until, &forward.successor[..]].concat();
    let expires = stored.expires.max(now) + forward.floor;
    (Outcome::Applied(version), put(forward.header(version, header.max_deadline, stamp), &payload, expires))
}

/// Never overwrites a record. Garbage has to give way only to a log-out, which must succeed on whatever is there.
fn apply_install(found: Found<'_>, now: Millis, install: &Install, stamp: Epoch) -> (Outcome, Effect) {
    match found {
        Found::Tombstone(..) | Found::Live(..) => (Outcome::Exists, NOTHING),
        Found::Unexpected(stored) if !install.for_logout => (unexpected(stored), NOTHING),
        // It has expired, maybe long ago.
        Found::Absent | Found::Unexpected(_) if install.deadline < now => (Outcome::Absent, NOTHING),
        Found::Absent | Found::Unexpected(_) => {
            let header = install.header(stamp);
            (Outcome::Applied(header.version), put(header, &install.payload, install.deadline))
        }
    }
}

fn put(header: Header, payload: &[u8], expires: Millis) -> Effect {
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    Effect::Put(Stored { bytes: bytes.into(), expires })
}

/// Whether the session of this tombstone goes on under another id, and this one is still good for it.
fn forwards(stored: &Stored, now: Millis) -> bool {
    let record = Record::decode(&stored.bytes).ok();
    record.and_then(|record| record.forward()).is_some_and(|(until, _)| now < until)
}

/// What a tombstone answers who asks for its session.
fn ended(stored: &Stored, now: Millis) -> Outcome {
    if forwards(stored, now) { Outcome::Forwarded(stored.bytes.clone()) } else { Outcome::Deleted }
}

fn unexpected(stored: &Stored) -> Outcome {
    Outcome::Unexpected(Bytes::copy_from_slice(&stored.bytes[..stored.bytes.len().min(Header::LEN)]))
}

/// Whether nobody may change the record before it is released at the source.
fn waits(header: Header, mode: Mode) -> bool {
    header.pending && mode == Mode::Unchecked
}

/// What stands under a key.
enum Found<'a> {
    /// Nothing, or a leftover of an earlier tenure.
    Absent,
    Tombstone(Header, &'a Stored),
    Live(Header, &'a Stored),
    /// No record.
    Unexpected(&'a Stored),
}

/// One short of 2^53: a write adds one, and a script's numbers are exact up to 2^53.
const LAST_VERSION: Version = (1 << 53) - 1;

impl Found<'_> {
    fn look(stored: Option<&Stored>, since: Epoch) -> Found<'_> {
        let Some(stored) = stored else { return Found::Absent };
        // An empty string cannot be told from an absent key by the script, and no record is empty.
        if stored.bytes.is_empty() {
            return Found::Absent;
        }
        match Header::decode(&stored.bytes) {
            Ok(header) if header.stamp < since => Found::Absent,
            Ok(header) => match header.kind {
                Kind::Live => Found::Live(header, stored),
                Kind::Tombstone => Found::Tombstone(header, stored),
            },
            Err(_) => Found::Unexpected(stored),
        }
    }
}
