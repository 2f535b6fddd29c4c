//! `batch.lua`: what goes into it and what comes out.

use super::{answers::Value, failure};
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

/// What to do with one record: how (1), mode (1), since (6), a (6), b (6); and, of its own, version (8), head (22).
pub(super) type Instruction = [u8; 50];

/// So many bytes of an instruction are sent once for all that follow each other and have them in common.
const COMMON: usize = 20;
/// In front of it stands how many they are.
const COUNT: usize = 4;

/// The instructions of a batch, as the script takes them: what those that follow each other have in common, and what each has of
/// its own.
#[derive(Debug)]
pub(super) struct Instructions {
    pub(super) runs: Vec<u8>,
    pub(super) own: Vec<u8>,
}

impl Instructions {
    pub(super) fn of(instructions: impl ExactSizeIterator<Item = Instruction>) -> Instructions {
        let mut runs: Vec<u8> = Vec::with_capacity(COUNT + COMMON);
        let mut own = Vec::with_capacity(instructions.len() * (size_of::<Instruction>() - COMMON));
        let mut count = 0_u32;
        for instruction in instructions {
            let (common, rest) = instruction.split_at(COMMON);
            own.extend_from_slice(rest);
            if runs.ends_with(common) {
                count += 1;
            } else {
                count = 1;
                runs.extend_from_slice(&[0; COUNT]);
                runs.extend_from_slice(common);
            }
            let at = runs.len() - COMMON - COUNT;
            runs[at..at + COUNT].copy_from_slice(&count.to_be_bytes());
        }
        Instructions { runs, own }
    }
}

/// The instruction for `command` in a batch of the epoch `stamp`.
pub(super) fn encode(command: &Command, stamp: Epoch, scope: Scope) -> Instruction {
    let no_head = [0; Header::CLIENT_LEN];
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
            let head = write.header(0, 0, stamp).encode_client_part();
            (how, write.idle, absolute, version, head)
        }
        Command::Install(install) => {
            let how = if install.for_logout { b'M' } else { b'm' };
            let header = install.header(stamp);
            (how, install.deadline, header.max_deadline, header.version, header.encode_client_part())
        }
        Command::Forward(forward) => {
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
    bytes
}

/// The header in front of the payload, where that is long: as it is to be stored, but for what the server fills in.
pub(super) fn header_of_long(command: &Command, stamp: Epoch) -> Option<[u8; Header::LEN]> {
    if command.payload().len() < LONG - Header::LEN {
        return None;
    }
    match command {
        Command::Write(write) => Some(write.header(0, 0, stamp).encode()),
        Command::Install(install) => Some(install.header(stamp).encode()),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn every_operation_finds_its_instruction(
            operations in vec((0..3_u8, any::<Instruction>()), 0..40),
        ) {
            let instructions = operations.into_iter().map(|(common, mut instruction)| {
                instruction[..COMMON].fill(common);
                instruction
            });
            let instructions: Vec<Instruction> = instructions.collect();
            let Instructions { runs, own } = Instructions::of(instructions.iter().copied());
            let commons = runs.chunks(COUNT + COMMON).flat_map(|run| {
                let (count, common) = run.split_first_chunk::<COUNT>().unwrap();
                std::iter::repeat_n(common, u32::from_be_bytes(*count) as usize)
            });
            let found: Vec<_> = commons.zip(own.chunks(size_of::<Instruction>() - COMMON)).map(|(common, own)| [common, own].concat()).collect();
            prop_assert_eq!(&found, &instructions.iter().map(|each| each.to_vec()).collect::<Vec<_>>());
            let commons = runs.chunks(COUNT + COMMON).map(|run| &run[COUNT..]).collect::<Vec<_>>();
            prop_assert!(commons.windows(2).all(|two| two[0] != two[1]), "runs are as long as can be");
        }
    }
}
