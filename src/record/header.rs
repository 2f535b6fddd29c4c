//! The envelope around every session.

use std::fmt;

use super::CodecId;
use crate::topology::Epoch;

/// The layout of the envelope. A record whose first byte is greater was written by a newer crate.
pub const FORMAT_VERSION: u8 = 1;

/// Formats to come stay below the printable characters, so that text is never taken for a newer record.
const LAST_FORMAT: u8 = 31;

/// Milliseconds since 1970, UTC, by the clock of the node. Below 2^48 (the year 10889).
pub type Millis = u64;

/// Grows by at least one with every write of a session. A new session starts at the node's time in
/// milliseconds, so that no version is ever used twice, even after the record has expired. Below 2^53, so that
/// a script's floating-point numbers hold it exactly.
pub type Version = u64;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A session; the payload is its value.
    Live,
    /// A session that was logged out, or goes on under another id. Terminal: it beats every version. No payload, but
    /// for what a [forwarding](Header::forward) one says.
    Tombstone,
}

impl Kind {
    /// The byte that stands for it: its first letter, for people who read records with `redis-cli`.
    pub const fn code(self) -> u8 {
        match self {
            Kind::Live => b'L',
            Kind::Tombstone => b'T',
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Live, Kind::Tombstone].into_iter().find(|kind| kind.code() == code)
    }
}

/// The fixed part of a record: 35 bytes, integers big-endian.
///
/// | bytes | field | written by |
/// |---|---|---|
/// | 0 | format version | client |
/// | 1 | kind: `L`, `T` | client |
/// | 2 | flags: 1 = PENDING, 2 = FORWARD | client |
/// | 3 | codec | client |
/// | 4..6 | schema version of the value | client |
/// | 6..8 | sealing key, 0 = not sealed | client |
/// | 8..14 | stamp: epoch of the last write or install | client |
/// | 14..22 | operation id: which write this was | client |
/// | 22..29 | version | node |
/// | 29..35 | absolute deadline, ms since 1970 | node |
///
/// What the client knows stands together in front, what only the node knows follows, so that a node completes
/// a record by putting 13 bytes between two strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Header {
    /// What the record says.
    pub kind: Kind,
    /// A copy of another node's record that may still be live there, so nobody may change this one before it is
    /// released there. Means nothing on a tombstone, and nothing where no source is.
    pub pending: bool,
    /// The session goes on under another id; the payload says where, and until when this one is good for it. Only
    /// tombstones have it.
    pub forward: bool,
    /// How the payload is encoded.
    pub codec: CodecId,
    /// Version of the value's type, 0 where the application keeps none.
    pub schema: u16,
    /// The key that sealed the payload, 0 for none.
    pub seal: u16,
    /// The epoch under which the record was last written or installed.
    pub stamp: Epoch,
    /// Random number of the write that made the record: tells a repeated write from another one.
    pub operation: u64,
    /// Grows with every write.
    pub version: Version,
    /// Absolute lifetime: the session ends here, however often it is touched. Never extended.
    pub max_deadline: Millis,
}

/// Bytes under one of our keys that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A newer crate wrote it.
    #[error("the record has format {0}, this version of sessionring reads up to {FORMAT_VERSION}")]
    NewerFormat(u8),
    /// Shorter than a header.
    #[error("{0} bytes are stored, a record has at least 35")]
    Truncated(usize),
    /// The first byte is no format version, now or ever.
    #[error("the stored bytes do not begin like a record (with {0:#04x})")]
    Format(u8),
    /// Neither `L` nor `T`.
    #[error("the record has kind {0:#04x}, which does not exist")]
    Kind(u8),
    /// A flag that this format, or a record of this kind, does not have.
    #[error("the record has flags {0:#04x}, which a record of its kind does not have")]
    Flags(u8),
    /// Version or deadline beyond what a node can have written.
    #[error("the record's version is beyond 2^53")]
    Version,
}

const PENDING: u8 = 1;
const FORWARD: u8 = 2;

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 35;
    /// Bytes of the part that the client writes.
    pub const CLIENT_LEN: usize = 22;

    /// The header as stored.
    pub fn encode(&self) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        bytes[..Header::CLIENT_LEN].copy_from_slice(&self.encode_client_part());
        bytes[22..29].copy_from_slice(&self.version.to_be_bytes()[1..]);
        bytes[29..35].copy_from_slice(&low_48_bits(self.max_deadline));
        bytes
    }

    /// The part of the header that the client writes.
    pub fn encode_client_part(&self) -> [u8; Header::CLIENT_LEN] {
        let mut bytes = [0; Header::CLIENT_LEN];
        bytes[0] = FORMAT_VERSION;
        bytes[1] = self.kind.code();
        bytes[2] = if self.pending { PENDING } else { 0 } | if self.forward { FORWARD } else { 0 };
        bytes[3] = self.codec.get();
        bytes[4..6].copy_from_slice(&self.schema.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.seal.to_be_bytes());
        bytes[8..14].copy_from_slice(&low_48_bits(self.stamp.get()));
        bytes[14..22].copy_from_slice(&self.operation.to_be_bytes());
        bytes
    }

    /// Reads the header of stored bytes, which may go on with a payload.
    ///
    /// # Errors
    /// [`RecordError`]; `NewerFormat` is found before anything else is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Header, RecordError> {
        match bytes.first() {
            Some(&FORMAT_VERSION) => {}
            Some(&format) if (FORMAT_VERSION..=LAST_FORMAT).contains(&format) => {
                return Err(RecordError::NewerFormat(format));
            }
            Some(&other) => return Err(RecordError::Format(other)),
            None => return Err(RecordError::Truncated(0)),
        }
        let Some(bytes) = bytes.first_chunk::<{ Header::LEN }>() else {
            return Err(RecordError::Truncated(bytes.len()));
        };
        let kind = Kind::from_code(bytes[1]).ok_or(RecordError::Kind(bytes[1]))?;
        let (pending, forward) = match (bytes[2], kind) {
            (0, _) => (false, false),
            (PENDING, _) => (true, false),
            (FORWARD, Kind::Tombstone) => (false, true),
            (flags, _) => return Err(RecordError::Flags(flags)),
        };
        let header = Header {
            kind,
            pending,
            forward,
            codec: CodecId::new(bytes[3]),
            schema: big_endian(&bytes[4..6]) as u16,
            seal: big_endian(&bytes[6..8]) as u16,
            stamp: Epoch::new(big_endian(&bytes[8..14])),
            operation: big_endian(&bytes[14..22]),
            version: big_endian(&bytes[22..29]),
            max_deadline: big_endian(&bytes[29..35]),
        };
        if header.version >= 1 << 53 {
            return Err(RecordError::Version);
        }
        Ok(header)
    }
}

/// A stored record, taken apart.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// The envelope.
    pub header: Header,
    /// The encoded session. Of a tombstone nothing, or where the session goes on.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes stored bytes apart.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let header = Header::decode(bytes)?;
        Ok(Record { header, payload: &bytes[Header::LEN..] })
    }
}

impl<'a> Record<'a> {
    /// Of a tombstone that forwards: until when its id is good for the session, and what says where that goes on.
    pub(crate) fn forward(&self) -> Option<(Millis, &'a [u8])> {
        let (until, successor) = self.payload.split_first_chunk::<6>().filter(|_| self.header.forward)?;
        Some((big_endian(until), successor))
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("header", &self.header)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn low_48_bits(n: u64) -> [u8; 6] {
    let [_, _, low @ ..] = n.to_be_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Live,
            pending: false,
            forward: false,
            codec: CodecId::BINCODE,
            schema: 0x0102,
            seal: 0x0304,
            stamp: Epoch::new(0x0506),
            operation: 0x1112_1314_1516_1718,
            version: 1_700_000_000_000,
            max_deadline: 1_800_000_000_000,
        }
    }

    #[test]
    fn golden_bytes() {
        let mut expected = b"\x01L\x00\x01\x01\x02\x03\x04\x00\x00\x00\x00\x05\x06".to_vec();
        expected.extend(b"\x11\x12\x13\x14\x15\x16\x17\x18");
        expected.extend(b"\x00\x01\x8b\xcf\xe5\x68\x00\x01\xa3\x18\x5c\x50\x00");
        assert_eq!(header().encode().as_slice(), expected);
        assert_eq!(Header::decode(&expected), Ok(header()));
    }

    #[test]
    fn golden_bytes_of_a_forward() {
        let forward =
            Header { kind: Kind::Tombstone, forward: true, codec: CodecId::new(0), schema: 0, ..header() };
        let mut bytes = b"\x01T\x02\x00\x00\x00\x03\x04\x00\x00\x00\x00\x05\x06".to_vec();
        bytes.extend(&header().encode()[14..]);
        assert_eq!(forward.encode().as_slice(), bytes);
        assert_eq!(Header::decode(&bytes), Ok(forward));
        bytes.extend(b"\x01\x8b\xcf\xe5\x68\x07where it goes on");
        let record = Record::decode(&bytes).unwrap();
        assert_eq!(record.forward(), Some((1_700_000_000_007, &b"where it goes on"[..])));
        for short in Header::LEN..Header::LEN + 6 {
            assert_eq!(Record::decode(&bytes[..short]).unwrap().forward(), None);
        }
        bytes[2] = 0;
        assert_eq!(Record::decode(&bytes).unwrap().forward(), None);
        for (kind, flags) in [(b'L', 2), (b'L', 3), (b'T', 3), (b'T', 4)] {
            bytes[1..3].copy_from_slice(&[kind, flags]);
            assert_eq!(Header::decode(&bytes), Err(RecordError::Flags(flags)));
        }
    }

    #[test]
    fn every_truncation_and_wrong_byte_is_an_error_or_another_header() {
        let bytes = header().encode();
        for len in 0..Header::LEN {
            assert_eq!(Header::decode(&bytes[..len]), Err(RecordError::Truncated(len)));
        }
        for at in 0..Header::LEN {
            for bit in 0..8 {
                let mut wrong = bytes;
                wrong[at] ^= 1 << bit;
                assert_ne!(Header::decode(&wrong), Ok(header()), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_garbage() {
        assert_eq!(Header::decode(&[2]), Err(RecordError::NewerFormat(2)));
        assert_eq!(Header::decode(&[0; 99]), Err(RecordError::Format(0)));
        assert_eq!(Header::decode(b" text"), Err(RecordError::Format(b' ')));
    }
}
