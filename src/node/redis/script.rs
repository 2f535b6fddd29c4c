//! `batch.lua`: what goes into it and what comes out.

use redis::Value;

use super::failure;
use crate::{
    node::Answer,
    protocol::{Command, Condition, Mode, Outcome, Scope},
    record::{Header, Millis, Version},
    ring::NodeId,
    topology::Epoch,
};

pub(super) const SOURCE: &str = include_str!("batch.lua");

/// As in the script: a payload of this length goes behind a whole header.
const LONG: usize = 2048;

/// What to do with one record, as the script unpacks it: how (1), mode (1), since (6), a (6), b (6), version (8), head
/// (22).
pub(super) type Instruction = [u8; 50];

/// The instruction and the payload for `command` in a batch of the epoch `stamp`.
pub(super) fn encode(command: &Command, stamp: Epoch, scope: Scope) -> (Instruction, &[u8]) {
    let no_head = [0; Header::CLIENT_LEN];
    let mut payload = &[][..];
    let (how, a, b, version, head) = match command {
        // Reads, visits and fetches go by themselves; as part of a script, a recheck says as much.
        Command::Read | Command::Visit | Command::Fetch | Command::Recheck => (b'r', 0, 0, 0, no_head),
        Command::Inspect => (b'i', 0, 0, 0, no_head),
        Command::Touch(idle) => (b't', *idle, 0, 0, no_head),
        Command::Delete(delete) => {
            let how = if delete.upsertable { b'D' } else { b'd' };
            let head = delete.header(0, 0, stamp).encode_client_part();
            (how, delete.floor, delete.absolute, 0, head)
        }
        Command::Write(write) => {
            let (how, absolute, version) = match write.condition {
                Condition::Absent => (b'c', write.absolute, 0),
                Condition::Live => (b's', write.absolute, 0),
                Condition::AbsentOrLive => (b'u', write.absolute, 0),
                Condition::Version(version) => (b'v', write.absolute, version),
                Condition::Successor { version, max_deadline } => (b'n', max_deadline, version),
            };
            payload = &write.payload;
            let head = write.header(0, 0, stamp).encode_client_part();
            (how, write.idle, absolute, version, head)
        }
        Command::Install(install) => {
            let how = if install.for_logout { b'M' } else { b'm' };
            let header = install.header(stamp);
            payload = &install.payload;
            (how, install.deadline, header.max_deadline, header.version, header.encode_client_part())
        }
        Command::Forward(forward) => {
            payload = &forward.successor;
            let head = forward.header(0, 0, stamp).encode_client_part();
            (b'f', forward.floor, forward.grace, forward.expected, head)
        }
        Command::Release => (b'l', 0, 0, 0, no_head),
        Command::Erase => (b'e', 0, 0, 0, no_head),
    };
    let mode = match scope.mode {
        Mode::Settled => b's',
        Mode::Unchecked => b'u',
        Mode::Checked => b'c',
    };
    let mut bytes = [how; 50];
    bytes[1] = mode;
    bytes[2..8].copy_from_slice(&scope.since.get().to_be_bytes()[2..]);
    bytes[8..14].copy_from_slice(&a.to_be_bytes()[2..]);
    bytes[14..20].copy_from_slice(&b.to_be_bytes()[2..]);
    bytes[20..28].copy_from_slice(&version.to_be_bytes());
    bytes[28..].copy_from_slice(&head);
    (bytes, payload)
}

/// The header in front of the payload, where that is long: as it is to be stored, but for what the server fills in.
pub(super) fn header_of_long(command: &Command, stamp: Epoch) -> Option<[u8; Header::LEN]> {
    let (header, payload) = match command {
        Command::Write(write) => (write.header(0, 0, stamp), &write.payload),
        Command::Install(install) => (install.header(stamp), &install.payload),
        _ => return None,
    };
    (payload.len() >= LONG - Header::LEN).then(|| header.encode())
}

/// The answer for one operation; `None` for what the script never says.
pub(super) fn decode(id: &NodeId, value: Value) -> Option<Answer> {
    Some(Ok(match value {
        Value::Int(0) => Outcome::Absent,
        Value::Int(-1) => Outcome::Deleted,
        Value::Int(-2) => Outcome::Exists,
        Value::Int(-3) => Outcome::Pending,
        Value::Int(-4) => Outcome::Applied(0),
        Value::Int(version @ 1..) => Outcome::Applied(version as Version),
        Value::Array(parts) => return decode_parts(id, parts),
        _ => return None,
    }))
}

/// What the server said, if it refused one operation because it is a replica.
pub(super) fn read_only(value: &Value) -> Option<String> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(3), Value::BulkString(text)] = &parts[..] else { return None };
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| text.contains("READONLY"))
}

fn decode_parts(id: &NodeId, parts: Vec<Value>) -> Option<Answer> {
    let mut parts = parts.into_iter();
    Some(match (parts.next()?, parts.next()?, parts.next()) {
        (Value::Int(1), Value::BulkString(record), None) => Ok(Outcome::Conflict(record)),
        (Value::Int(2), Value::BulkString(header), Some(Value::Int(left))) => match Header::decode(&header) {
            Ok(decoded) => Ok(Outcome::Inspected(decoded.into(), left.max(0) as Millis)),
            Err(_) => Ok(Outcome::Unexpected(header)),
        },
        (Value::Int(3), Value::BulkString(text), None) => {
            failure::of_operation(id, &String::from_utf8_lossy(&text))
        }
        (Value::Int(4), Value::BulkString(first), None) => Ok(Outcome::Unexpected(first)),
        (Value::Int(5), Value::BulkString(record), None) => Ok(Outcome::Record(record)),
        (Value::Int(6), Value::BulkString(record), None) => Ok(Outcome::Forwarded(record)),
        _ => return None,
    })
}
