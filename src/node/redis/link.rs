//! The connection, and batches as commands.

use std::{pin::pin, sync::Arc};

use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};
use tokio::sync::watch;

use super::{failure, script};
use crate::{
    error::{Error, ErrorKind},
    node::{Batch, BatchReply, Failure, Link, Standing},
    protocol::Outcome,
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
        let values = match self.send(commands.iter().map(|packed| &packed.command)).await {
            Ok(values) => values,
            Err(failure) => return commands.iter().map(|_| BatchReply::Broken(failure.clone())).collect(),
        };
        let mut replies = Vec::with_capacity(values.len());
        for (packed, value) in commands.iter().zip(values) {
            replies.push(match value {
                // The server has forgotten the script: send it whole, which makes it known again.
                Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                    match self.send(std::iter::once(&with_source(&packed.command))).await {
                        Ok(mut values) => self.decode(packed, values.pop().unwrap_or(Value::Nil)),
                        Err(failure) => BatchReply::Broken(failure),
                    }
                }
                value => self.decode(packed, value),
            });
        }
        replies
    }

    async fn initialise(mut self, fence: Fence) -> Result<Standing, Error> {
        let (keys, bytes) = (self.shared.keys.clone(), fence.encode());
        let name = self.shared.id.as_str().as_bytes();
        let set = |key: &str, value: &[u8]| redis::cmd("SET").arg(key).arg(value).arg("NX").to_owned();
        let get = |key: &str| redis::cmd("GET").arg(key).to_owned();
        let commands = [set(&keys.node, name), set(&keys.fence, &bytes), get(&keys.node), get(&keys.fence)];
        let values = self.send(commands.iter()).await.map_err(Failure::into_error)?;
        let mut stored = Vec::with_capacity(values.len());
        for value in values {
            stored.push(match value {
                Value::ServerError(error) => return Err(failure::of_server(&self.shared.id, &error)),
                Value::BulkString(bytes) => Some(bytes),
                _ => None,
            });
        }
        let fence = stored.pop().flatten();
        let owner = stored.pop().flatten().map(|name| String::from_utf8_lossy(&name).into_owned());
        Ok(Standing { owner, fence })
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
            let mut command = Cmd::with_capacity(6 + 3 * requests, 160 + 73 * requests + payloads);
            command.arg("EVALSHA").arg(&self.shared.script_hash).arg(2 + requests);
            command.arg(&keys.fence).arg(&keys.seq);
            for waiting in batch.requests {
                command.arg(waiting.request.key.as_bytes());
            }
            command.arg(fence.as_slice());
            for waiting in batch.requests {
                let (instruction, payload) = script::encode(&waiting.request.command);
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
fn with_source(evalsha: &Cmd) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script::SOURCE);
    for arg in evalsha.args_iter().skip(2) {
        if let redis::Arg::Simple(bytes) = arg {
            command.arg(bytes);
        }
    }
    command
}
