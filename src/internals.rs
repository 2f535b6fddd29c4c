//! Entrances for the fuzz targets, for the tests of the byte formats, and for tests that let processes die. **Not part of the API**: whatever stands
//! here may change or go in any release.

use bytes::Bytes;

use crate::{
    error::Error,
    node::{Address, BatchReply, Failure, Kind, raw},
    protocol::{Command, Condition, Delete, Forward, Outcome, Scope, Stored, Write},
    record::{CodecId, Millis, Version, join, split},
    resize::steps::hook as hook_step,
    ring::NodeId,
    topology::{Epoch, Fence},
};

pub use crate::resize::steps::Step;

/// Calls this at every step of every resize that this process drives, from now on; only the first call counts. For tests
/// that let a process die there.
pub fn on_step(hook: fn(Step)) {
    hook_step(hook);
}

/// Bytes of the instruction that stands for one operation in a script's call.
pub const INSTRUCTION_LEN: usize = 50;

/// How the library shows an address to people, in messages and with `Debug`.
///
/// # Errors
/// The address does not parse.
pub fn address(text: &str) -> Result<[String; 2], Error> {
    let address = Address::parse(text)?;
    let shown = match &address {
        Address::Memory(name) => name.clone().unwrap_or_default(),
        Address::Redis(redis) => redis.to_string(),
        #[cfg(test)]
        Address::Simulated(name) => name.clone(),
    };
    Ok([shown, format!("{address:?}")])
}

/// What an answer to a batch means.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// One answer for each operation.
    Done(Vec<Result<Outcome, Error>>),
    /// The node holds another fence.
    Refused(Option<Vec<u8>>),
    /// An error for the batch as a whole.
    Failed(Error),
    /// No whole answer, or one that Redis does not give.
    Garbage,
}

/// Kinds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Batch {
    /// MGET.
    Reads,
    /// TIME, MGET, PTTL of each, GET: an array of their answers.
    Fetches,
    /// The script.
    Script,
}

/// Decodes the answer of a server, in RESP, to a batch of this many requests.
///
/// # Panics
/// Never, whatever the bytes are: that is what it is for.
pub fn server_reply(answer: &[u8], fence: &Fence, batch: Batch, requests: usize) -> Reply {
    let kind = match batch {
        Batch::Reads => Kind::Read,
        Batch::Fetches => Kind::Fetch,
        Batch::Script => Kind::Script,
    };
    match raw::batch_reply(&node(), answer, fence, kind, requests) {
        None => Reply::Garbage,
        Some(BatchReply::Done(answers) | BatchReply::Last(answers, _)) => {
            Reply::Done(answers.into_iter().map(|answer| answer.map_err(Failure::into_error)).collect())
        }
        Some(BatchReply::Refused(stored)) => Reply::Refused(stored),
        Some(BatchReply::Failed(failure) | BatchReply::Broken(failure)) => {
            Reply::Failed(failure.into_error())
        }
        Some(BatchReply::Closed(error)) => Reply::Failed(error),
    }
}

/// Judges a server by its answers to INFO and TIME, in RESP, beside a node whose clock says `other`.
///
/// # Errors
/// The server is not fit to hold sessions.
pub fn greeting(info: &[u8], time: &[u8], other: Millis) -> Result<(), Error> {
    raw::greeting(&node(), info, time, other)
}

/// The instruction and the payload of a command in a batch of this epoch, as a script's call carries them.
pub fn instruction(command: &Command, stamp: Epoch, scope: Scope) -> ([u8; INSTRUCTION_LEN], &[u8]) {
    raw::instruction(command, stamp, scope)
}

/// The command that a script executes for an instruction and a payload, with its epoch and scope, if any command
/// makes them.
pub fn command(instruction: &[u8; INSTRUCTION_LEN], payload: Bytes) -> Option<(Command, Epoch, Scope)> {
    raw::command(instruction, payload)
}

/// A payload taken apart by the names of its fields and put together again; `None` where it has none.
pub fn rejoined(codec: CodecId, payload: &[u8]) -> Option<Vec<u8>> {
    let fields = split(codec, payload)?;
    join(codec, &fields.into_iter().map(|(name, value)| (name, value.to_vec())).collect())
}

/// A write of JSON.
pub fn write(
    condition: Condition,
    idle: Millis,
    absolute: Millis,
    operation: u64,
    payload: Bytes,
) -> Command {
    let codec = CodecId::JSON;
    Command::from(Write { condition, idle, absolute, codec, schema: 0, seal: 0, operation, payload })
}

/// A log-out.
pub fn delete(floor: Millis, absolute: Millis, upsertable: bool, operation: u64) -> Command {
    Command::Delete(Delete { floor, absolute, upsertable, operation })
}

/// The end of a session that goes on under another id.
pub fn forward(expected: Version, grace: Millis, floor: Millis, operation: u64, successor: Bytes) -> Command {
    Command::from(Forward { expected, grace, floor, seal: 0, operation, successor })
}

/// What a node holds under one key.
pub fn stored(bytes: Vec<u8>, expires: Millis) -> Stored {
    Stored { bytes: bytes.into(), expires }
}

fn node() -> NodeId {
    "fuzzed".parse().unwrap_or_else(|_| unreachable!("a good name"))
}
