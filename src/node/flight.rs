//! What travels together, from the queue to the answers.
//!
//! A [`Lane`] is a queue with at most one flight under way. A flight carries a [`Cargo`]: requests that were routed under
//! one topology, cut into batches, all sent in one go.

use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, timeout_at};

use super::{Batch, BatchReply, Failure, Kind, Link, Refusal, queue::Waiting};
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    topology::{Epoch, Fence},
};

#[derive(Default)]
pub(super) struct Lane {
    pub(super) waiting: VecDeque<Waiting>,
    /// No deadline in `waiting` is earlier.
    pub(super) earliest: Option<Instant>,
    pub(super) flight: Option<Flight>,
    /// Bytes of a record, on average over the last flights that brought some: how much an answer will be is known only
    /// afterwards.
    typical: usize,
}

/// A flight under way.
pub(super) struct Flight {
    connection: u64,
    flying: Pin<Box<dyn Future<Output = Landed> + Send>>,
}

/// What one flight carries: requests of one fence and one kind, cut into batches.
pub(super) struct Cargo {
    fence: Fence,
    kind: Kind,
    pub(super) requests: Vec<Waiting>,
    batches: Vec<Range<usize>>,
    pub(super) weight: usize,
    brought: (usize, usize),
    /// Requests that a node with another topology refused.
    refused: usize,
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
    /// Records that came back, and their bytes.
    brought: (usize, usize),
}

/// Why a connection can be used no longer.
pub(super) enum Unfit {
    /// Nothing was answered before the last deadline.
    Silent(Error),
    /// It has ended, or what came over it was not to be believed.
    Broken,
}

impl Lane {
    /// Takes from the queue what one flight may carry. The requests of a flight were all routed under one
    /// topology, and are of one kind; others wait for the next flight.
    pub(super) fn load(&mut self, most: usize, most_bytes: usize, most_batches: usize) -> Cargo {
        let fence = self.waiting[0].request.fence;
        let kind = self.waiting[0].request.kind();
        let (mut batches, mut weight) = (Vec::new(), 0);
        let (mut batch, mut bytes) = (0..0, 0);
        let fits = |next: &&Waiting| next.request.fence == fence && next.request.kind() == kind;
        for Waiting { request, .. } in self.waiting.iter().take_while(fits) {
            let carries = request.weight() + if kind == Kind::Script { 0 } else { self.typical };
            if batch.len() == most || (!batch.is_empty() && bytes + carries > most_bytes) {
                if batches.len() + 1 == most_batches {
                    break;
                }
                let next = batch.end..batch.end;
                batches.push(std::mem::replace(&mut batch, next));
                bytes = 0;
            }
            batch.end += 1;
            bytes += carries;
            weight += request.weight();
        }
        let requests = if batch.end == self.waiting.len() {
            Vec::from(std::mem::take(&mut self.waiting))
        } else {
            self.waiting.drain(..batch.end).collect()
        };
        batches.push(batch);
        if self.waiting.is_empty() {
            self.earliest = None;
        }
        Cargo { fence, kind, requests, batches, weight, brought: (0, 0), refused: 0 }
    }

    /// Waits for the flight, if there is one, to land; says on which connection it was.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(u64, Landed)> {
        let Some(Flight { connection, flying }) = &mut self.flight else { return Poll::Pending };
        let Poll::Ready(landed) = flying.as_mut().poll(context) else { return Poll::Pending };
        let connection = *connection;
        self.flight = None;
        if let (records @ 1.., bytes) = landed.brought {
            let mean = bytes / records;
            // Up at once, since a flight that is too large costs more than some that are too small.
            self.typical = mean.max((3 * self.typical + mean) / 4);
        }
        Poll::Ready((connection, landed))
    }

    /// Begins a flight on this connection.
    pub(super) fn depart(&mut self, connection: u64, flight: impl Future<Output = Landed> + Send + 'static) {
        self.flight = Some(Flight { connection, flying: Box::pin(flight) });
    }
}

impl Cargo {
    /// The topology under which its requests were routed.
    pub(super) fn epoch(&self) -> Epoch {
        self.fence.epoch
    }

    /// The lane it goes by.
    pub(super) fn lane(&self) -> &'static str {
        if self.kind == Kind::Script { "scripts" } else { "reads" }
    }

    /// How many requests there are in each of its batches.
    pub(super) fn batches(&self) -> impl Iterator<Item = usize> {
        self.batches.iter().map(Range::len)
    }

    /// Sends the batches and gives every request its answer, unless the connection is gone already.
    pub(super) async fn fly<L: Link>(mut self, id: NodeId, link: L) -> Landed {
        let (batches, carried) = (self.batches.clone(), self.requests.len());
        let fit = match self.exchange(&id, &link, &batches).await {
            Ok(replies) => match replies.first() {
                Some(BatchReply::Closed(_)) => {
                    self.requests.retain(|waiting| !waiting.is_answered());
                    let (fit, kept) = (Err(Unfit::Broken), self.requests);
                    return Landed { fit, kept, carried, refused: 0, brought: (0, 0) };
                }
                _ => {
                    let handed = self.hand_out_all(&id, batches.into_iter().zip(replies));
                    handed.map_err(|_| Unfit::Broken)
                }
            },
            Err(error) => Err(Unfit::Silent(error)),
        };
        Landed { fit, kept: Vec::new(), carried, refused: self.refused, brought: self.brought }
    }

    /// Sends the batches. A request whose deadline passes meanwhile is lost; when all are, so is the connection.
    async fn exchange<L: Link>(
        &mut self,
        id: &NodeId,
        link: &L,
        batches: &[Range<usize>],
    ) -> Result<Vec<BatchReply>, Error> {
        let parcel = {
            let (kind, fence) = (self.kind, &self.fence);
            let packed =
                batches.iter().map(|batch| Batch { kind, fence, requests: &self.requests[batch.clone()] });
            link.pack(&packed.collect::<Vec<_>>())
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
    fn hand_out_all(
        &mut self,
        id: &NodeId,
        replies: impl IntoIterator<Item = (Range<usize>, BatchReply)>,
    ) -> Result<(), Error> {
        let mut fit = Ok(());
        for (batch, reply) in replies {
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
        for (waiting, answer) in self.requests[batch].iter_mut().zip(answers) {
            if let Ok(outcome) = &answer
                && let Some(record) = outcome.record()
            {
                self.brought = (self.brought.0 + 1, self.brought.1 + record.len());
            }
            waiting.answer(answer);
        }
        fit
    }
}

fn overdue(id: &NodeId) -> Error {
    Error::at(ErrorKind::Unavailable, id, "the node did not answer before the deadline")
}
