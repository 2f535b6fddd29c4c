//! What travels together, from the queue to the answers.
//!
//! A [`Lane`] is a queue of requests of one kind. A [`Flight`] carries a [`Cargo`]: what the lanes have loaded, cut into
//! batches, all sent in one go.

use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, timeout_at};

use super::{
    Batch, BatchReply, Failure, Kind, Limits, Link, Refusal,
    queue::{Lanes, Waiting},
};
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    topology::Epoch,
};

#[derive(Default)]
pub(super) struct Lane {
    pub(super) waiting: VecDeque<Waiting>,
    /// No deadline in `waiting` is earlier.
    pub(super) earliest: Option<Instant>,
    /// Bytes of a record, on average over the last flights that brought some: how much an answer will be is known only
    /// afterwards.
    typical: usize,
}

/// A flight under way.
pub(super) struct Flight {
    connection: u64,
    flying: Pin<Box<dyn Future<Output = Landed> + Send>>,
}

/// What one flight carries. The requests of a batch are of one kind, and were routed under one topology.
#[derive(Default)]
pub(super) struct Cargo {
    pub(super) requests: Vec<Waiting>,
    batches: Vec<Range<usize>>,
    pub(super) weight: usize,
    brought: Lanes<Brought>,
    /// Requests that a node with another topology refused.
    refused: usize,
}

/// Records that came back, and their bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Brought {
    records: usize,
    bytes: usize,
}

/// What came of a flight.
pub(super) struct Landed {
    /// Whether the connection can still be used.
    pub(super) fit: Result<(), Unfit>,
    /// What never left, because the connection was gone already: it goes with the next one.
    pub(super) kept: Vec<Waiting>,
    /// How many requests it carried.
    pub(super) carried: usize,
    /// How many of them a node with another topology refused.
    pub(super) refused: usize,
    /// What each lane got.
    pub(super) brought: Lanes<Brought>,
}

/// Why a connection can be used no longer.
pub(super) enum Unfit {
    /// Nothing was answered before the last deadline.
    Silent(Error),
    /// It has ended, or what came over it was not to be believed.
    Broken,
}

impl Lane {
    /// Adds what one flight may carry of what waits here. What was routed under another topology than the first waits for
    /// the next flight.
    pub(super) fn load(&mut self, cargo: &mut Cargo, limits: &Limits) {
        let Some(first) = self.waiting.front() else { return };
        let (fence, kind) = (first.request.fence, first.request.kind());
        let (most, most_bytes, typical) = match kind {
            Kind::Script => (limits.script_batch, limits.script_bytes, 0),
            _ => (limits.read_batch, limits.read_bytes, self.typical),
        };
        let first = cargo.requests.len();
        let (mut batches, mut batch, mut bytes) = (1, first..first, 0);
        for Waiting { request, .. } in self.waiting.iter().take_while(|next| next.request.fence == fence) {
            let carries = request.weight() + typical;
            if batch.len() == most || (!batch.is_empty() && bytes + carries > most_bytes) {
                if batches == limits.flight_batches {
                    break;
                }
                batches += 1;
                let next = batch.end..batch.end;
                cargo.batches.push(std::mem::replace(&mut batch, next));
                bytes = 0;
            }
            batch.end += 1;
            bytes += carries;
            cargo.weight += request.weight();
        }
        let loaded = batch.end - first;
        cargo.batches.push(batch);
        if first == 0 && loaded == self.waiting.len() {
            cargo.requests = Vec::from(std::mem::take(&mut self.waiting));
        } else {
            cargo.requests.extend(self.waiting.drain(..loaded));
        }
        if self.waiting.is_empty() {
            self.earliest = None;
        }
    }

    /// A flight has brought this.
    pub(super) fn got(&mut self, brought: Brought) {
        if let Brought { records: records @ 1.., bytes } = brought {
            let mean = bytes / records;
            // Up at once, since a flight that is too large costs more than some that are too small.
            self.typical = mean.max((3 * self.typical + mean) / 4);
        }
    }
}

impl Flight {
    /// A flight on this connection.
    pub(super) fn new(connection: u64, flying: impl Future<Output = Landed> + Send + 'static) -> Flight {
        Flight { connection, flying: Box::pin(flying) }
    }

    /// Waits for it to land; says on which connection it was.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(u64, Landed)> {
        self.flying.as_mut().poll(context).map(|landed| (self.connection, landed))
    }
}

impl Cargo {
    /// The topology under which its first requests were routed.
    pub(super) fn epoch(&self) -> Epoch {
        self.requests[0].request.fence.epoch
    }

    /// What its batches are called, and how many requests there are in each.
    pub(super) fn batches(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.batches.iter().map(|batch| {
            let lane = if self.kind(batch) == Kind::Script { "scripts" } else { "reads" };
            (lane, batch.len())
        })
    }

    fn kind(&self, batch: &Range<usize>) -> Kind {
        self.requests[batch.start].request.kind()
    }

    /// Sends the batches and gives every request its answer, unless the connection is gone already.
    pub(super) async fn fly<L: Link>(mut self, id: NodeId, link: L) -> Landed {
        let carried = self.requests.len();
        let fit = match self.exchange(&id, &link).await {
            Ok(replies) => match replies.first() {
                Some(BatchReply::Closed(_)) => {
                    self.requests.retain(|waiting| !waiting.is_answered());
                    let (fit, kept) = (Err(Unfit::Broken), self.requests);
                    return Landed { fit, kept, carried, refused: 0, brought: Lanes::default() };
                }
                _ => self.hand_out_all(&id, replies).map_err(|_| Unfit::Broken),
            },
            Err(error) => Err(Unfit::Silent(error)),
        };
        Landed { fit, kept: Vec::new(), carried, refused: self.refused, brought: self.brought }
    }

    /// Sends the batches. A request whose deadline passes meanwhile is lost; when all are, so is the connection.
    async fn exchange<L: Link>(&mut self, id: &NodeId, link: &L) -> Result<Vec<BatchReply>, Error> {
        let parcel = {
            let batches = self.batches.iter().map(|batch| {
                let requests = &self.requests[batch.clone()];
                Batch { kind: self.kind(batch), fence: &requests[0].request.fence, requests }
            });
            link.pack(&batches.collect::<Vec<_>>())
        };
        let mut replies = pin!(link.clone().exchange(parcel));
        loop {
            let open = self.requests.iter().filter(|waiting| !waiting.is_answered());
            let Some(next) = open.map(|waiting| waiting.request.deadline).min() else {
                return Err(overdue(id));
            };
            if let Ok(replies) = timeout_at(next, &mut replies).await {
                return Ok(replies);
            }
            let lost = Failure::Lost(overdue(id));
            self.requests.iter_mut().for_each(|waiting| waiting.fail_if_past(next, &lost));
        }
    }

    /// Gives the requests of each batch the answers of that batch, also when another one broke the connection: what
    /// the node executed is not unsent because of that. Requests without an answer go down with the connection.
    fn hand_out_all(&mut self, id: &NodeId, replies: Vec<BatchReply>) -> Result<(), Error> {
        let mut fit = Ok(());
        for (batch, reply) in std::mem::take(&mut self.batches).into_iter().zip(replies) {
            let handed = self.hand_out(id, batch, reply);
            fit = fit.and(handed);
        }
        if let Err(error) = &fit {
            // Only what the node refused is still open.
            let failure = Failure::Unsent(error.clone());
            self.requests.iter_mut().for_each(|waiting| waiting.answer(Err(failure.clone())));
        }
        fit
    }

    /// Gives the requests of one batch their answers. An error says that the connection is of no use.
    fn hand_out(&mut self, id: &NodeId, batch: Range<usize>, reply: BatchReply) -> Result<(), Error> {
        let count = batch.len();
        let all = |failure: Failure| vec![Err(failure); count];
        let (answers, fit) = match reply {
            BatchReply::Refused(stored) => {
                self.refused += count;
                let refusal = Refusal { node: id.clone(), stored };
                (all(Failure::Refused(Arc::new(refusal))), Ok(()))
            }
            BatchReply::Failed(failure) => (all(failure), Ok(())),
            BatchReply::Broken(failure) => (all(failure.clone()), Err(failure.into_error())),
            BatchReply::Closed(error) => (all(Failure::Unsent(error.clone())), Err(error)),
            BatchReply::Done(answers) => (answers, Ok(())),
            BatchReply::Last(answers, error) => (answers, Err(error)),
        };
        let kind = self.kind(&batch);
        let brought = self.brought.of(kind);
        for (waiting, answer) in self.requests[batch].iter_mut().zip(answers) {
            if let Ok(outcome) = &answer
                && let Some(record) = outcome.record()
            {
                *brought = Brought { records: brought.records + 1, bytes: brought.bytes + record.len() };
            }
            waiting.answer(answer);
        }
        fit
    }
}

fn overdue(id: &NodeId) -> Error {
    Error::at(ErrorKind::Unavailable, id, "the node did not answer before the deadline")
}
