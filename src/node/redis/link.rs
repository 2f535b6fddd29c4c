//! The connection, and batches as commands.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redis::{Cmd, Pipeline};
use tokio::time::Instant;

use super::{
    answers::Value,
    bounded::Allowance,
    commands::{Bundle, Commands},
    control, failure,
    handshake::{self, Info},
    script::{self, Instructions},
    snapshot,
    wire::Wire,
};
use crate::{
    error::{Error, ErrorKind},
    node::{Batch, BatchReply, Clocks, Failure, Kind, Link, Look, Survey, Surveyed, queue::Waiting},
    protocol::{Control, ControlReply, Outcome, Scope, Standing},
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

/// The end of a connection that requests go into; what moves its bytes is with the dispatcher.
#[derive(Clone)]
pub(crate) struct RedisLink {
    pub(super) shared: Arc<Shared>,
    pub(super) wire: Wire,
}

pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) place: String,
    pub(super) keys: Arc<MetaKeys>,
    pub(super) clocks: Clocks,
    pub(super) allow_eviction: bool,
    pub(super) script_hash: String,
    pub(super) control_hash: String,
    /// The highest count of write batches that was answered.
    pub(super) seq: AtomicU64,
    /// What the answers may amount to.
    pub(super) allowance: Allowance,
}

/// Batches as commands.
pub(crate) struct Parcel {
    batches: Vec<Packed>,
    commands: Bundle,
}

/// How to read the answers to a batch.
pub(super) struct Packed {
    /// Its commands among those of the parcel; more than one for visits and fetches.
    pub(super) commands: Range<usize>,
    /// Where in the bytes of the parcel the arguments of a script are, behind its hash.
    pub(super) arguments: Range<usize>,
    pub(super) fence: Fence,
    pub(super) kind: Kind,
    /// One for each request.
    pub(super) scopes: Vec<Scope>,
}

impl Link for RedisLink {
    type Parcel = Parcel;

    fn pack(&self, batches: &[Batch<'_>]) -> Parcel {
        let mut commands = Commands::with_capacity(batches.iter().map(room).sum());
        let batches = batches.iter().map(|batch| self.pack_one(batch, &mut commands)).collect();
        Parcel { batches, commands: commands.packed() }
    }

    async fn exchange(self, parcel: Parcel) -> Vec<BatchReply> {
        let Parcel { batches, commands } = parcel;
        if self.wire.is_closed() {
            let error = Error::at(ErrorKind::Unavailable, &self.shared.id, "the connection was closed");
            return batches.iter().map(|_| BatchReply::Closed(error.clone())).collect();
        }
        let counted = self.shared.seq.load(Relaxed);
        let mut values = match self.send_packed(commands.clone()).await {
            Ok(values) => values.into_iter(),
            Err(failure) => return batches.iter().map(|_| BatchReply::Broken(failure.clone())).collect(),
        };
        let mut replies = Vec::with_capacity(batches.len());
        for packed in &batches {
            let mut answers = values.by_ref().take(packed.commands.len());
            let value = match packed.kind {
                Kind::Visit | Kind::Fetch => Value::Array(answers.collect()),
                _ => answers.next().unwrap_or(Value::Nil),
            };
            replies.push(match value {
                // The server has forgotten the script: send it whole, which makes it known again.
                Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                    match self.send_packed(packed.with_source(&commands)).await {
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

    async fn control(self, control: Control) -> Result<ControlReply, Failure> {
        self.execute_control(&control).await
    }

    async fn survey(self, survey: Survey) -> Result<Surveyed, Failure> {
        self.execute_survey(&survey).await
    }

    async fn probe(self) -> Result<Look, Error> {
        let id = self.shared.id.clone();
        let asked = Instant::now();
        let commands = pipeline([
            redis::cmd("ROLE"),
            redis::cmd("INFO").arg("memory").to_owned(),
            redis::cmd("TIME"),
            redis::cmd("GET").arg(&self.shared.keys.fence).to_owned(),
        ]);
        let mut values = self.send(&commands).await.map_err(Failure::into_error)?.into_iter();
        let role = values.next();
        let mut next = || match values.next() {
            Some(Value::ServerError(error)) => Err(failure::of_server(&id, &error)),
            Some(value) => Ok(value),
            None => Err(self.garbage()),
        };
        let info = handshake::text(next()?).ok_or_else(|| self.garbage())?;
        let time = handshake::milliseconds(next()?).ok_or_else(|| self.garbage())?;
        let fence = match next()? {
            Value::BulkString(fence) => Some(fence.into()),
            Value::Nil => None,
            _ => return Err(self.garbage()),
        };
        if let Some(Value::Array(role)) = role
            && !matches!(role.first(), Some(Value::BulkString(name)) if name == &b"master"[..])
        {
            return Err(failure::read_only(&id, "READONLY it has become a replica"));
        }
        // It may have been changed since the handshake.
        handshake::check_eviction(&id, &self.shared.place, &Info(&info), self.shared.allow_eviction)?;
        Ok(Look { fence, reading: self.shared.clocks.read(time, asked) })
    }
}

impl RedisLink {
    fn pack_one(&self, batch: &Batch<'_>, commands: &mut Commands) -> Packed {
        let (keys, requests) = (&self.shared.keys, batch.requests);
        let (start, mut arguments) = (commands.len(), 0..0);
        match batch.kind {
            Kind::Read => {
                commands.command(3 + requests.len()).arg("MGET").arg(&keys.fence).arg(&keys.seq);
                for waiting in requests {
                    commands.arg(waiting.request.key.as_bytes());
                }
            }
            Kind::Visit | Kind::Fetch => snapshot::pack(keys, requests, commands),
            Kind::Script => {
                commands.command(2 + arguments_of(requests.len()));
                commands.arg("EVALSHA").arg(&self.shared.script_hash);
                arguments.start = commands.written();
                commands.number(2 + requests.len()).arg(&keys.fence).arg(&keys.seq);
                for waiting in requests {
                    commands.arg(waiting.request.key.as_bytes());
                }
                let stamp = batch.fence.epoch;
                let Instructions { runs, own } =
                    Instructions::of(requests.iter().map(|Waiting { request, .. }| {
                        script::encode(&request.command, stamp, request.scope)
                    }));
                commands.arg(batch.fence.encode()).arg(runs).arg(own);
                for waiting in requests {
                    let command = &waiting.request.command;
                    let header = script::header_of_long(command, stamp);
                    let header = header.as_ref().map_or(&[][..], |header| header);
                    commands.arg_of_two(header, command.payload());
                }
                arguments.end = commands.written();
            }
        }
        let scopes = requests.iter().map(|waiting| waiting.request.scope).collect();
        Packed { commands: start..commands.len(), arguments, fence: *batch.fence, kind: batch.kind, scopes }
    }

    /// Sends commands in one go. An error means that the connection is of no use any more.
    pub(super) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        self.send_packed(commands.into()).await
    }

    async fn send_packed(&self, commands: Bundle) -> Result<Vec<Value>, Failure> {
        self.shared.allowance.renew();
        let sent = self.wire.call(commands).await;
        let Shared { id, place, .. } = &*self.shared;
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
        failure::of_garbage(&self.shared.id, &self.shared.place)
    }
}

/// The arguments of a script for so many operations, behind its hash.
fn arguments_of(operations: usize) -> usize {
    6 + 2 * operations
}

/// About how many bytes a batch takes, rather more than fewer.
fn room(batch: &Batch<'_>) -> usize {
    let payloads: usize = batch.requests.iter().map(|waiting| waiting.request.weight()).sum();
    let each = match batch.kind {
        Kind::Read => 37,
        Kind::Visit | Kind::Fetch => 37 + 51,
        Kind::Script => 37 + 30 + 11,
    };
    256 + each * batch.requests.len() + payloads
}

impl Packed {
    /// Its script again, with the text in the place of the hash.
    fn with_source(&self, parcel: &Bundle) -> Bundle {
        let count = arguments_of(self.scopes.len());
        let mut whole = Commands::with_capacity(script::SOURCE.len() + self.arguments.len() + 64);
        whole.command(2 + count).arg("EVAL").arg(script::SOURCE);
        whole.args(count, &parcel.bytes[self.arguments.clone()]);
        whole.packed()
    }

    /// How many batches of writes the node has counted, if the answer says so.
    fn seq(&self, value: &Value) -> Option<u64> {
        let Value::Array(values) = value else { return None };
        match &values[..] {
            [Value::BulkString(fence), seq, ..]
                if self.kind == Kind::Read && fence[..] == self.fence.encode() =>
            {
                match seq {
                    Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
                    _ => Some(0),
                }
            }
            // Zero: this batch wrote nothing.
            [Value::Int(seq @ 1..), ..] if self.kind == Kind::Script => Some(*seq as u64),
            _ => None,
        }
    }

    /// What the answer to the command means; `None` for what Redis never answers to it.
    pub(super) fn decode(&self, id: &NodeId, value: Value) -> Option<BatchReply> {
        let reads = match self.kind {
            Kind::Visit | Kind::Fetch => match value {
                Value::Array(answers) => return snapshot::decode(id, self, answers),
                _ => return None,
            },
            kind => kind == Kind::Read,
        };
        let requests = self.scopes.len();
        let answers = match value {
            Value::ServerError(error) => return Some(failure::of_batch(id, &error)),
            Value::Nil if !reads => return Some(BatchReply::Refused(None)),
            Value::BulkString(stored) if !reads => return Some(BatchReply::Refused(Some(stored.into()))),
            Value::Array(values) if reads && values.len() == requests + 2 => {
                let mut values = values.into_iter();
                match values.next() {
                    Some(Value::BulkString(stored)) if stored[..] == self.fence.encode() => {}
                    Some(Value::BulkString(stored)) => return Some(BatchReply::Refused(Some(stored.into()))),
                    _ => return Some(BatchReply::Refused(None)),
                }
                let records = values.skip(1).map(|value| match value {
                    Value::Nil => Some(Ok(Outcome::Absent)),
                    Value::BulkString(record) => Some(Ok(Outcome::Record(record))),
                    _ => None,
                });
                records.collect::<Option<Vec<_>>>()
            }
            Value::Array(values) if !reads && values.len() == requests + 1 => {
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

/// Commands that are sent in one go.
pub(super) fn pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
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
