//! The same code that a connection runs on what a server sends, over bytes that come from anywhere.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    RedisAddress, RedisTransport,
    answers::Answers,
    handshake::{self, Info},
    link::Packed,
    script::{self, Instruction},
};
use crate::{
    error::{Error, ErrorKind},
    node::{BatchReply, Clocks, Kind as BatchKind},
    protocol::{Command, Condition, Delete, Forward, Install, Mode, Scope, Write},
    record::{Header, Kind},
    ring::NodeId,
    topology::{Epoch, Fence, MetaKeys},
};

/// What the answer to a batch of `requests` operations means. `None`: no whole answer, or none that Redis gives.
pub(crate) fn batch_reply(
    id: &NodeId,
    answer: &[u8],
    fence: &Fence,
    kind: BatchKind,
    requests: usize,
) -> Option<BatchReply> {
    let value = Answers::whole(answer)?;
    let scopes = vec![Scope::new(Epoch::FIRST, Mode::Settled); requests];
    Packed { commands: 0..1, arguments: 0..0, fence: *fence, kind, scopes }.decode(id, value)
}

/// What the handshake makes of the answers to INFO and TIME, beside a node whose clock says `other`.
pub(crate) fn greeting(id: &NodeId, info: &[u8], time: &[u8], other: u64) -> Result<(), Error> {
    let clocks = Clocks::new(Duration::from_secs(2));
    let transport = RedisTransport {
        id: id.clone(),
        address: Box::new(RedisAddress::parse("redis://127.0.0.1").map_err(Error::configuration)?),
        access: Arc::default(),
        keys: Arc::new(MetaKeys::new("raw")),
        clocks: clocks.clone(),
        allow_eviction: false,
    };
    let garbage = || Error::at(ErrorKind::Configuration, id, "not an answer of Redis");
    let parse = |answer| Answers::whole(answer).ok_or_else(garbage);
    let info = handshake::text(parse(info)?).ok_or_else(garbage)?;
    transport.judge(&Info(&info))?;
    let time = handshake::milliseconds(parse(time)?).ok_or_else(garbage)?;
    let neighbour = NodeId::new("neighbour")?;
    clocks.admit(&neighbour, clocks.read(other, Instant::now()))?;
    clocks.admit(id, clocks.read(time, Instant::now()))?;
    clocks.check_all()
}

/// The instruction that stands for `command` in a script's call, and its payload.
pub(crate) fn instruction(command: &Command, stamp: Epoch, scope: Scope) -> (Instruction, &[u8]) {
    (script::encode(command, stamp, scope), command.payload())
}

/// The command that a script executes for these bytes, the epoch of what it writes (0 if nothing) and its scope: the
/// inverse of [`instruction`]. `None` for bytes that no command makes.
pub(crate) fn command(bytes: &Instruction, payload: Bytes) -> Option<(Command, Epoch, Scope)> {
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0, |n, &b| n << 8 | u64::from(b));
    let mode = match bytes[1] {
        b's' => Mode::Settled,
        b'u' => Mode::Unchecked,
        b'c' => Mode::Checked,
        _ => return None,
    };
    let scope = Scope::new(Epoch::new(number(2, 8)), mode);
    let (a, b, version) = (number(8, 14), number(14, 20), number(20, 28));
    let head = || {
        let mut header = [0; Header::LEN];
        header[..Header::CLIENT_LEN].copy_from_slice(&bytes[28..]);
        Header::decode(&header).ok()
    };
    let write = |condition| {
        let header = head().filter(|header| header.kind == Kind::Live)?;
        let write = Write {
            condition,
            idle: a,
            // A successor has a deadline instead.
            absolute: if bytes[0] == b'n' { 0 } else { b },
            codec: header.codec,
            schema: header.schema,
            seal: header.seal,
            operation: header.operation,
            payload: payload.clone(),
        };
        Some((Command::from(write), header.stamp))
    };
    let delete = |upsertable| {
        let header = head().filter(|header| header.kind == Kind::Tombstone)?;
        let delete = Delete { floor: a, absolute: b, upsertable, operation: header.operation };
        Some((Command::Delete(delete), header.stamp))
    };
    let forward = || {
        let header = head().filter(|header| header.forward)?;
        let Header { seal, operation, .. } = header;
        let successor = payload.clone();
        let forward = Forward { expected: version, grace: b, floor: a, seal, operation, successor };
        Some((Command::from(forward), header.stamp))
    };
    let install = |for_logout| {
        let header = Header { version, max_deadline: b, ..head()? };
        let install = Install { header, payload: payload.clone(), deadline: a, for_logout };
        Some((Command::from(install), header.stamp))
    };
    let unstamped = |command| Some((command, Epoch::new(0)));
    let (command, stamp) = match bytes[0] {
        b'r' => unstamped(Command::Recheck),
        b'i' => unstamped(Command::Inspect),
        b't' => unstamped(Command::Touch(a)),
        b'c' => write(Condition::Absent),
        b's' => write(Condition::Live),
        b'u' => write(Condition::AbsentOrLive),
        b'v' => write(Condition::Version(version)),
        b'n' => write(Condition::Successor { version, max_deadline: b }),
        b'f' => forward(),
        b'd' => delete(false),
        b'D' => delete(true),
        b'm' => install(false),
        b'M' => install(true),
        b'l' => unstamped(Command::Release),
        b'e' => unstamped(Command::Erase),
        _ => None,
    }?;
    // Every field that the command does not use is zero.
    (instruction(&command, stamp, scope) == (*bytes, &*payload)).then_some((command, stamp, scope))
}
