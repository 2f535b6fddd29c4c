//! The connection, and batches as commands.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};
use tokio::sync::watch;

use super::{control, failure, script};
use crate::{
    error::{Error, ErrorKind},
    node::{Batch, BatchReply, Failure, Link, Survey, Surveyed},
    protocol::{Control, ControlReply, Outcome, Standing},
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

/// The end of a connection that requests go into; its driver is with the dispatcher.
#[derive(Clone)]
pub(crate) struct RedisLink {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: MultiplexedConnection,
}

pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) place: String,
    pub(super) keys: Arc<MetaKeys>,
    pub(super) script_hash: String,
    pub(super) control_hash: String,
    /// The highest count of write batches that was answered.
    pub(super) seq: AtomicU64,
    /// The sender is never used, only dropped: an error is the sign that the connection is gone.
    pub(super) closed: watch::Receiver<()>,
}

/// One command for each batch.
pub(crate) struct Parcel {
    commands: Vec<Packed>,
}

pub(super) struct Packed {
    pub(super) command: Cmd,
    pub(super) fence: [u8; Fence::LEN],
    pub(super) reads: bool,
    pub(super) requests: usize,
}

impl Link for RedisLink {
    type Parcel = Parcel;

    fn pack(&self, batches: &[Batch<'_>]) -> Parcel {
        Parcel { commands: batches.iter().map(|batch| self.pack_one(batch)).collect() }
    }

    async fn exchange(mut self, parcel: Parcel) -> Vec<BatchReply> {
        let commands = parcel.commands;
        if self.shared.closed.has_changed().is_err() {
            let error = Error::at(ErrorKind::Unavailable, &self.shared.id, "the connection was closed");
            return commands.iter().map(|_| BatchReply::Closed(error.clone())).collect();
        }
        let counted = self.shared.seq.load(Relaxed);
        let values = match self.send(commands.iter().map(|packed| &packed.command)).await {
            Ok(values) => values,
            Err(failure) => return commands.iter().map(|_| BatchReply::Broken(failure.clone())).collect(),
        };
        let mut replies = Vec::with_capacity(values.len());
        for (packed, value) in commands.iter().zip(values) {
            replies.push(match value {
                // The server has forgotten the script: send it whole, which makes it known again.
                Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                    match self.send(std::iter::once(&with_source(&packed.command, script::SOURCE))).await {
                        Ok(mut values) => self.decode(packed, values.pop().unwrap_or(Value::Nil)),
                        Err(failure) => BatchReply::Broken(failure),
                    }
                }
                value => match self.rolled_back(packed, &value, counted) {
                    Some(error) => BatchReply::Broken(Failure::Lost(error)),
                    None => self.decode(packed, value),
                },
            });
        }
        replies
    }

    async fn control(mut self, control: Control) -> Result<ControlReply, Failure> {
        self.execute_control(&control).await
    }

    async fn survey(mut self, survey: Survey) -> Result<Surveyed, Failure> {
        self.execute_survey(&survey).await
    }

    async fn probe(mut self) -> Result<Option<Vec<u8>>, Error> {
        let commands = [redis::cmd("ROLE"), redis::cmd("GET").arg(&self.shared.keys.fence).to_owned()];
        let mut values = self.send(commands.iter()).await.map_err(Failure::into_error)?.into_iter();
        if let Some(Value::Array(role)) = values.next()
            && !matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
        {
            return Err(failure::read_only(&self.shared.id, "READONLY it has become a replica"));
        }
        match values.next() {
            Some(Value::BulkString(fence)) => Ok(Some(fence)),
            Some(Value::Nil) => Ok(None),
            Some(Value::ServerError(error)) => Err(failure::of_server(&self.shared.id, &error)),
            _ => Err(self.garbage()),
        }
    }
}

impl RedisLink {
    fn pack_one(&self, batch: &Batch<'_>) -> Packed {
        let fence = batch.fence.encode();
        let keys = &self.shared.keys;
        let requests = batch.requests.len();
        let command = if batch.reads {
            let mut command = Cmd::with_capacity(3 + requests, 8 + 96 + 30 * requests);
            command.arg("MGET").arg(&keys.fence).arg(&keys.seq);
            for waiting in batch.requests {
                command.arg(waiting.request.key.as_bytes());
            }
            command
        } else {
            let payloads: usize = batch.requests.iter().map(|waiting| waiting.request.weight()).sum();
            let mut command = Cmd::with_capacity(6 + 3 * requests, 160 + 80 * requests + payloads);
            command.arg("EVALSHA").arg(&self.shared.script_hash).arg(2 + requests);
            command.arg(&keys.fence).arg(&keys.seq);
            for waiting in batch.requests {
                command.arg(waiting.request.key.as_bytes());
            }
            command.arg(fence.as_slice());
            for waiting in batch.requests {
                let (instruction, payload) =
                    script::encode(&waiting.request.command, batch.fence.epoch, waiting.request.scope);
                command.arg(instruction.as_slice()).arg(payload);
            }
            command
        };
        Packed { command, fence, reads: batch.reads, requests }
    }

    /// Sends commands in one go. An error means that the connection is of no use any more.
    pub(super) async fn send<'a>(
        &mut self,
        mut commands: impl ExactSizeIterator<Item = &'a Cmd>,
    ) -> Result<Vec<Value>, Failure> {
        let (id, place) = (&self.shared.id, &self.shared.place);
        let connection = &mut self.connection;
        let mut sent = pin!(async {
            if commands.len() == 1
                && let Some(command) = commands.next()
            {
                connection.send_packed_command(command).await.map(|value| vec![value])
            } else {
                let count = commands.len();
                let mut pipeline = Pipeline::with_capacity(count);
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                connection.send_packed_commands(&pipeline, 0, count).await
            }
        });
        // A command that comes to the driver just as it ends may never be answered, not even with an error. What the
        // driver did answer, it answered before it was gone.
        let mut closed = self.shared.closed.clone();
        let sent = tokio::select! {
            biased;
            sent = &mut sent => sent,
            _ = closed.changed() => tokio::select! {
                biased;
                sent = &mut sent => sent,
                () = std::future::ready(()) => {
                    let message = format!("the connection to {place} was closed");
                    return Err(Failure::Lost(Error::at(ErrorKind::Unavailable, id, message)));
                }
            },
        };
        sent.map_err(|error| Failure::Lost(failure::of_connection(id, place, &error)))
    }

    /// Whether the node counts fewer batches of writes than it did before this one was sent: then it went back in time
    /// without ending the connection, and has to be looked at anew.
    fn rolled_back(&self, packed: &Packed, value: &Value, counted: u64) -> Option<Error> {
        let seq = packed.seq(value)?;
        self.shared.seq.fetch_max(seq, Relaxed);
        (seq < counted).then(|| {
            let message =
                format!("it went back in time: it counts {seq} batches of writes, and had counted {counted}");
            Error::at(ErrorKind::Unavailable, &self.shared.id, message)
        })
    }

    fn decode(&self, packed: &Packed, value: Value) -> BatchReply {
        let decoded = packed.decode(&self.shared.id, value);
        decoded.unwrap_or_else(|| BatchReply::Broken(Failure::Lost(self.garbage())))
    }

    pub(super) fn garbage(&self) -> Error {
        let message =
            format!("{} gave an answer that Redis does not give; check the address", self.shared.place);
        Error::at(ErrorKind::Configuration, &self.shared.id, message)
    }
}

impl Packed {
    /// How many batches of writes the node has counted, if the answer says so.
    fn seq(&self, value: &Value) -> Option<u64> {
        let Value::Array(values) = value else { return None };
        match &values[..] {
            [Value::BulkString(fence), seq, ..] if self.reads && *fence == self.fence => match seq {
                Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
                _ => Some(0),
            },
            // Zero: this batch wrote nothing.
            [Value::Int(seq @ 1..), ..] if !self.reads => Some(*seq as u64),
            _ => None,
        }
    }

    /// What the answer to the command means; `None` for what Redis never answers to it.
    pub(super) fn decode(&self, id: &NodeId, value: Value) -> Option<BatchReply> {
        let answers = match value {
            Value::ServerError(error) => return Some(failure::of_batch(id, &error)),
            Value::Nil if !self.reads => return Some(BatchReply::Refused(None)),
            Value::BulkString(stored) if !self.reads => return Some(BatchReply::Refused(Some(stored))),
            Value::Array(values) if self.reads && values.len() == self.requests + 2 => {
                let mut values = values.into_iter();
                match values.next() {
                    Some(Value::BulkString(stored)) if stored == self.fence => {}
                    Some(Value::BulkString(stored)) => return Some(BatchReply::Refused(Some(stored))),
                    _ => return Some(BatchReply::Refused(None)),
                }
                let records = values.skip(1).map(|value| match value {
                    Value::Nil => Some(Ok(Outcome::Absent)),
                    Value::BulkString(record) => Some(Ok(Outcome::Record(record))),
                    _ => None,
                });
                records.collect::<Option<Vec<_>>>()
            }
            Value::Array(values) if !self.reads && values.len() == self.requests + 1 => {
                // The server has become a replica: its reads are no longer to be trusted either.
                let demoted =
                    values.iter().find_map(script::read_only).map(|text| failure::read_only(id, &text));
                let answers = values.into_iter().skip(1).map(|value| script::decode(id, value)).collect();
                match (answers, demoted) {
                    (Some(answers), Some(error)) => return Some(BatchReply::Last(answers, error)),
                    (answers, _) => answers,
                }
            }
            _ => None,
        };
        answers.map(BatchReply::Done)
    }
}

/// The same call with the script's text in the place of its hash.
pub(super) fn with_source(evalsha: &Cmd, source: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(source);
    for arg in evalsha.args_iter().skip(2) {
        if let redis::Arg::Simple(bytes) = arg {
            command.arg(bytes);
        }
    }
    command
}
