use std::sync::Arc;

use bytes::Bytes;

use crate::{
    record::{CodecId, Header, Kind, Millis, RecordError, Version},
    topology::Epoch,
};

/// One operation on one record. A node executes it atomically, by its own clock, under a [`Scope`](super::Scope).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// Give the stored bytes, whatever they are: who reads looks at the stamp.
    Read,
    /// Give the record, and only a valid one: a closer look than `Read`, which also tells a key of another type.
    Recheck,
    /// Give header and remaining lifetime, without the payload.
    Inspect,
    /// Give the record, and only a valid one, and how long it lives if nobody slides it.
    Visit,
    /// Store a session.
    Write(Arc<Write>),
    /// Slide the idle deadline of a live session to now + this many milliseconds, at most to its absolute one.
    Touch(Millis),
    /// Log out: put a tombstone in the place of the record.
    Delete(Delete),
    /// End a session under this id, which goes on under another one.
    Forward(Arc<Forward>),
    /// Give the record and its deadline, to be copied to another node.
    Fetch,
    /// Put a copy of another node's record.
    Install(Arc<Install>),
    /// Delete the live record: another node has it. A tombstone stays.
    Release,
    /// Delete the record, valid or not: its token belongs to another node for good.
    Erase,
}

impl From<Write> for Command {
    fn from(write: Write) -> Command {
        Command::Write(Arc::new(write))
    }
}

impl From<Forward> for Command {
    fn from(forward: Forward) -> Command {
        Command::Forward(Arc::new(forward))
    }
}

impl From<Install> for Command {
    fn from(install: Install) -> Command {
        Command::Install(Arc::new(install))
    }
}

/// Stores a session, under a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// The key that sealed the payload, 0 for none.
    pub seal: u16,
    /// Random number of this write. A record that holds it has had this very write, and no other since: so
    /// a repeated or late copy of the write changes nothing.
    pub operation: u64,
    /// The encoded session.
    pub payload: Bytes,
}

/// What must hold for a [`Write`] to happen. A tombstone refuses every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// There is no record. The new session goes on where another one is about to end.
    Successor {
        /// The version that it has: that of the other one, whose content it has, too.
        version: Version,
        /// When it ends at the latest. Past that it is not stored any more.
        max_deadline: Millis,
    },
}

/// Puts a tombstone in the place of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Delete {
    /// How long the tombstone outlives the record's remaining lifetime.
    pub floor: Millis,
    /// The absolute lifetime of the store, for what has none of its own.
    pub absolute: Millis,
    /// Ids of this store may be upserted: leave a tombstone even where no record is, and keep it until the
    /// session's absolute deadline.
    pub upsertable: bool,
    /// Random number of this log-out.
    pub operation: u64,
}

/// Puts a tombstone that forwards in the place of a live session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Forward {
    /// The version that the session must have: the successor was made of it.
    pub expected: Version,
    /// How long the node tells those who ask where the session goes on.
    pub grace: Millis,
    /// How long the tombstone outlives the record's remaining lifetime.
    pub floor: Millis,
    /// The key that sealed the successor, 0 for none.
    pub seal: u16,
    /// Random number of this operation.
    pub operation: u64,
    /// Where the session goes on. No node looks at it.
    pub successor: Bytes,
}

/// A record on its way to another node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Install {
    /// The header that was fetched.
    pub header: Header,
    /// The encoded session; of a tombstone nothing, or where the session goes on.
    pub payload: Bytes,
    /// When the record expires where it came from. A copy that comes later is not put.
    pub deadline: Millis,
    /// The copy is made for a log-out: then it passes a node that is out of memory, and takes the place of garbage.
    pub for_logout: bool,
}

impl Install {
    /// The copy of a fetched record.
    ///
    /// # Errors
    /// The bytes are no record.
    pub fn new(record: Bytes, deadline: Millis, for_logout: bool) -> Result<Install, RecordError> {
        let header = Header::decode(&record)?;
        let payload = record.slice(Header::LEN..);
        Ok(Install { header, payload, deadline, for_logout })
    }

    /// The header of the copy: it is of this epoch, and says of a live record that the source may hold it still.
    pub fn header(&self, stamp: Epoch) -> Header {
        Header { stamp, pending: self.header.kind == Kind::Live, ..self.header }
    }
}

impl Write {
    /// The header of the record that this write makes.
    pub fn header(&self, version: Version, max_deadline: Millis, stamp: Epoch) -> Header {
        Header {
            kind: Kind::Live,
            pending: false,
            forward: false,
            codec: self.codec,
            schema: self.schema,
            seal: self.seal,
            stamp,
            operation: self.operation,
            version,
            max_deadline,
        }
    }
}

impl Delete {
    /// The header of the tombstone.
    pub fn header(&self, version: Version, max_deadline: Millis, stamp: Epoch) -> Header {
        Header {
            kind: Kind::Tombstone,
            pending: false,
            forward: false,
            codec: CodecId::new(0),
            schema: 0,
            seal: 0,
            stamp,
            operation: self.operation,
            version,
            max_deadline,
        }
    }
}

impl Forward {
    /// The header of the tombstone.
    pub fn header(&self, version: Version, max_deadline: Millis, stamp: Epoch) -> Header {
        Header {
            kind: Kind::Tombstone,
            pending: false,
            forward: true,
            codec: CodecId::new(0),
            schema: 0,
            seal: self.seal,
            stamp,
            operation: self.operation,
            version,
            max_deadline,
        }
    }
}

impl Condition {
    /// Whether it asks that nothing be there, be it a tombstone that forwards.
    pub fn creates(self) -> bool {
        matches!(self, Condition::Absent | Condition::Successor { .. })
    }
}

impl Command {
    /// The bytes that it carries to the node: what is to be stored behind a header, or in a tombstone that forwards.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Command::Write(write) => &write.payload,
            Command::Install(install) => &install.payload,
            Command::Forward(forward) => &forward.successor,
            _ => &[],
        }
    }

    /// Whether a copy that arrives twice, or late, changes nothing that the first did not. Every command but a
    /// blind write: its late copy could bury a newer write of somebody else.
    pub fn is_idempotent(&self) -> bool {
        match self {
            Command::Write(write) => match write.condition {
                Condition::Absent | Condition::Successor { .. } | Condition::Version(_) => true,
                Condition::Live | Condition::AbsentOrLive => false,
            },
            _ => true,
        }
    }

    /// Whether the command changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Read | Command::Recheck | Command::Inspect | Command::Visit | Command::Fetch)
    }
}

/// What a node answers to a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// To a read: the stored bytes. To a recheck: the valid record.
    Record(Bytes),
    /// To an inspection: a record is there, and has this many milliseconds left.
    Inspected(Box<Header>, Millis),
    /// To a visit: the valid record, live or a tombstone.
    Visited {
        /// The record.
        record: Bytes,
        /// It expires when the node's clock is past this.
        deadline: Millis,
        /// How far that is away.
        left: Millis,
    },
    /// To a fetch: the valid record, live or a tombstone.
    Fetched {
        /// The record.
        record: Bytes,
        /// It expires when the node's clock is past this.
        deadline: Millis,
    },
    /// It happened, now or by an earlier copy; the record has, or had, this version.
    Applied(Version),
    /// There is no record. To an install: its deadline has passed.
    Absent,
    /// There is a tombstone.
    Deleted,
    /// The session goes on under another id; this is the tombstone that says where.
    Forwarded(Bytes),
    /// A session is there already; to an install, a record.
    Exists,
    /// The session has another version; these are its bytes.
    Conflict(Bytes),
    /// The record was copied from another node, which may hold a live copy still: nothing was changed.
    Pending,
    /// A string is there that the operation cannot work on; these are its first bytes.
    Unexpected(Bytes),
    /// The key holds a Redis type that is not a string.
    WrongType,
}

impl Outcome {
    /// The record that the answer brings, if it brings one.
    pub fn record(&self) -> Option<&[u8]> {
        match self {
            Outcome::Record(record)
            | Outcome::Conflict(record)
            | Outcome::Visited { record, .. }
            | Outcome::Fetched { record, .. } => Some(record),
            _ => None,
        }
    }
}
