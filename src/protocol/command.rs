use bytes::Bytes;

use crate::{
    record::{CodecId, Header, Kind, Millis, Version},
    topology::Epoch,
};

/// One operation on one record. A node executes it atomically, by its own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Give the stored bytes.
    Read,
    /// Give header and remaining lifetime, without the payload.
    Inspect,
    /// Store a session.
    Write(Write),
    /// Slide the idle deadline of a live session to now + this many milliseconds, at most to its absolute one.
    Touch(Millis),
    /// Log out: put a tombstone in the place of the record.
    Delete(Delete),
}

/// Stores a session, under a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Write {
    /// What must hold.
    pub condition: Condition,
    /// Idle lifetime from now.
    pub idle: Millis,
    /// Absolute lifetime from now; used for a new session only, an existing one keeps its deadline.
    pub absolute: Millis,
    /// Codec of the payload.
    pub codec: CodecId,
    /// Schema version of the payload.
    pub schema: u16,
    /// Epoch under which the write was routed.
    pub stamp: Epoch,
    /// Random number of this write. A record that holds it has had this very write, and no other since: so
    /// a repeated or late copy of the write changes nothing.
    pub operation: u64,
    /// The encoded session.
    pub payload: Bytes,
}

/// What must hold for a [`Write`] to happen. A tombstone refuses every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// There is no record.
    Absent,
    /// There is a live session.
    Live,
    /// There is a live session of this version.
    Version(Version),
    /// There is a live session or no record.
    AbsentOrLive,
}

/// Puts a tombstone in the place of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delete {
    /// How long the tombstone outlives the record's remaining lifetime.
    pub floor: Millis,
    /// The absolute lifetime of the store, for what has none of its own.
    pub absolute: Millis,
    /// Ids of this store may be upserted: leave a tombstone even where no record is, and keep it until the
    /// session's absolute deadline.
    pub upsertable: bool,
    /// Epoch under which the log-out was routed.
    pub stamp: Epoch,
    /// Random number of this log-out.
    pub operation: u64,
}

impl Write {
    /// The header of the record that this write makes.
    pub fn header(&self, version: Version, max_deadline: Millis) -> Header {
        Header {
            kind: Kind::Live,
            pending: false,
            codec: self.codec,
            schema: self.schema,
            seal: 0,
            stamp: self.stamp,
            operation: self.operation,
            version,
            max_deadline,
        }
    }
}

impl Delete {
    /// The header of the tombstone.
    pub fn header(&self, version: Version, max_deadline: Millis) -> Header {
        Header {
            kind: Kind::Tombstone,
            pending: false,
            codec: CodecId::new(0),
            schema: 0,
            seal: 0,
            stamp: self.stamp,
            operation: self.operation,
            version,
            max_deadline,
        }
    }
}

impl Command {
    /// Whether a copy that arrives twice, or late, changes nothing that the first did not. Every command but a
    /// blind write: its late copy could bury a newer write of somebody else.
    pub fn is_idempotent(&self) -> bool {
        match self {
            Command::Read | Command::Inspect | Command::Touch(_) | Command::Delete(_) => true,
            Command::Write(write) => match write.condition {
                Condition::Absent | Condition::Version(_) => true,
                Condition::Live | Condition::AbsentOrLive => false,
            },
        }
    }

    /// Whether the command changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Read | Command::Inspect)
    }
}

/// What a node answers to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// To a read: the stored bytes.
    Record(Vec<u8>),
    /// To an inspection: a record is there, and has this many milliseconds left.
    Inspected(Header, Millis),
    /// The write, touch or log-out happened, now or by an earlier copy; the record has this version.
    Applied(Version),
    /// There is no record.
    Absent,
    /// There is a tombstone.
    Deleted,
    /// A session is there already.
    Exists,
    /// The session has another version; these are its bytes.
    Conflict(Vec<u8>),
    /// A string is there that the operation cannot work on; these are its first bytes.
    Unexpected(Vec<u8>),
    /// The key holds a Redis type that is not a string.
    WrongType,
}
