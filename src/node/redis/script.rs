//! `batch.lua`: what goes into it and what comes out.

use redis::Value;

use super::failure;
use crate::{
    node::Answer,
    protocol::{Command, Condition, Outcome},
    record::{Header, Millis, Version},
    ring::NodeId,
};

pub(super) const SOURCE: &str = include_str!("batch.lua");

/// What to do with one record, as the script unpacks it: how (1), a (6), b (6), version (8), head (22).
pub(super) type Instruction = [u8; 43];

/// The instruction and the payload for `command`.
pub(super) fn encode(command: &Command) -> (Instruction, &[u8]) {
    let head = [0; Header::CLIENT_LEN];
    match command {
        // Reads go by MGET; as part of a script, an inspection says as much.
        Command::Read | Command::Inspect => (instruction(b'i', 0, 0, 0, head), &[]),
        Command::Touch(idle) => (instruction(b't', *idle, 0, 0, head), &[]),
        Command::Delete(delete) => {
            let how = if delete.upsertable { b'D' } else { b'd' };
            let head = delete.header(0, 0).encode_client_part();
            (instruction(how, delete.floor, delete.absolute, 0, head), &[])
        }
        Command::Write(write) => {
            let (how, version) = match write.condition {
                Condition::Absent => (b'c', 0),
                Condition::Live => (b's', 0),
                Condition::AbsentOrLive => (b'u', 0),
                Condition::Version(version) => (b'v', version),
            };
            let head = write.header(0, 0).encode_client_part();
            (instruction(how, write.idle, write.absolute, version, head), &write.payload)
        }
    }
}

fn instruction(
    how: u8,
    a: Millis,
    b: Millis,
    version: Version,
    head: [u8; Header::CLIENT_LEN],
) -> Instruction {
    let mut bytes = [how; 43];
    bytes[1..7].copy_from_slice(&a.to_be_bytes()[2..]);
    bytes[7..13].copy_from_slice(&b.to_be_bytes()[2..]);
    bytes[13..21].copy_from_slice(&version.to_be_bytes());
    bytes[21..].copy_from_slice(&head);
    bytes
}

/// The answer for one operation; `None` for what the script never says.
pub(super) fn decode(id: &NodeId, value: Value) -> Option<Answer> {
    Some(Ok(match value {
        Value::Int(0) => Outcome::Absent,
        Value::Int(-1) => Outcome::Deleted,
        Value::Int(-2) => Outcome::Exists,
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
            Ok(decoded) => Ok(Outcome::Inspected(decoded, left.max(0) as Millis)),
            Err(_) => Ok(Outcome::Unexpected(header)),
        },
        (Value::Int(3), Value::BulkString(text), None) => {
            failure::of_operation(id, &String::from_utf8_lossy(&text))
        }
        (Value::Int(4), Value::BulkString(first), None) => Ok(Outcome::Unexpected(first)),
        _ => return None,
    })
}
