//! Moves the sessions of one source: one full pass over its keys.
//!
//! A pass is worth something only as a whole: it began after the source's fence was raised, on one connection to one
//! process, under one document, and everything that it found was handled. Anything else is begun again.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{FusedFuture, join_all, maybe_done, pending},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep};

use super::{
    progress::Reporter,
    steps::{Step, reached},
};
use crate::{
    client::{Keeper, Limiter},
    error::{Error, Result},
    node::{ControlNode, Failure, Greeting, Node, Refusal, Request},
    protocol::{Place, Scope, Send, Transfer, TransferStep},
    record::Key,
    ring::{NodeId, NodeIndex},
    topology::Document,
};

/// Keys asked for with one SCAN.
const SCAN: usize = 1_000;
/// The same where requests are not to feel it: a SCAN holds the server for as long as it runs.
const SCAN_GENTLY: usize = 64;
/// Keys that move together.
const CHUNK: usize = 512;
/// Chunks of one source under way at once.
const CHUNKS: usize = 8;
/// Keys set aside because their target does not take them; more, and the pass begins again later.
const MOST_ASIDE: usize = 1 << 18;
/// How long one step of a chunk may take.
const STEP: Duration = Duration::from_secs(5);
/// Between two attempts at what does not go on.
const PAUSE: Duration = Duration::from_millis(200);

/// Keys to ask for with one SCAN, at this pace.
pub(super) fn scanned_at_once(limiter: &Limiter) -> usize {
    if limiter.is_limited() { SCAN_GENTLY } else { SCAN }
}

/// Carries out one document.
pub(super) struct Mover {
    pub(super) keeper: Arc<Keeper>,
    pub(super) document: Document,
    /// Handles of its own, so that no request waits behind what moves; in the order of the members.
    pub(super) nodes: Vec<Node>,
    pub(super) limiter: Limiter,
    pub(super) reporter: Arc<Reporter>,
}

/// How a pass ended.
pub(super) enum Pass {
    /// Everything was handled, and this connection has seen no other process since the pass began.
    Complete(Box<Witness>),
    /// There is a newer document, or the ring was closed.
    Superseded,
}

/// Can say whether the source is still the process that was passed over.
pub(super) struct Witness {
    source: NodeId,
    control: ControlNode,
    connection: u64,
}

impl Witness {
    /// Whether the source has been the same process all the time.
    pub(super) async fn testifies(&self) -> bool {
        let still = |greeting: Greeting| greeting.connection == self.connection;
        self.control.look().await.is_ok() && self.control.greet().await.is_ok_and(still)
    }

    pub(super) fn source(&self) -> &NodeId {
        &self.source
    }
}

impl Mover {
    /// Passes over `source` until everything on it that is to go elsewhere has gone, or there is a newer document.
    pub(super) async fn drain(&self, source: NodeIndex) -> Pass {
        let id = &self.document.members()[source.get()].id;
        loop {
            match self.pass(source).await {
                Ok(pass) => {
                    self.reporter.goes_on(id);
                    return pass;
                }
                Err(error) => {
                    self.reporter.stuck(id, &error);
                    sleep(PAUSE).await;
                }
            }
            if self.is_superseded() {
                return Pass::Superseded;
            }
        }
    }

    async fn pass(&self, source: NodeIndex) -> Result<Pass> {
        let member = &self.document.members()[source.get()];
        let control = self.keeper.directory().control_alone(&member.id, &member.address)?;
        let greeting = control.greet().await?;
        self.keeper.believes(&self.document, member, greeting.process)?;
        self.keeper.bring_up(&member.id, &self.document).await?;
        // The targets as well: a source that falls back to an old fence is then found out by a client that asks them,
        // before it works on what has been fetched.
        for target in self.document.partners(source) {
            self.keeper.bring_up(&self.document.members()[target.get()].id, &self.document).await?;
        }
        reached(Step::SourceFenced);
        let fence = self.document.fence();
        let standing = control.look().await?;
        if !standing.obeys(&fence) {
            let refusal = Refusal { node: member.id.clone(), stored: standing.fence };
            self.keeper.settle(&refusal, &fence, Instant::now() + STEP).await?;
            if self.is_superseded() {
                return Ok(Pass::Superseded);
            }
            return Err(interrupted(&member.id));
        }
        let keys = control.count().await?;
        self.reporter.pass(&member.id, keys, self.moving_share(source));

        let mut fleet = Fleet::new(&self.reporter, &member.id);
        let (prefix, scan) = (self.keeper.directory().prefix(), scanned_at_once(&self.limiter));
        let list = |cursor| control.scan(greeting.connection, &prefix, cursor, scan);
        let mut listing = Box::pin(maybe_done(list(0)));
        loop {
            fleet.meanwhile(&mut listing).await;
            let Some(Some((cursor, keys))) = listing.as_mut().take_output().transpose()? else {
                return Err(interrupted(&member.id));
            };
            if self.is_superseded() {
                return Ok(Pass::Superseded);
            }
            // What comes next is listed while this moves.
            listing.set(maybe_done(list(cursor)));
            self.reporter.seen(&member.id, keys.len());
            let leaves = |key: &Key| self.source_of(key) == Some(source);
            let keys: Vec<Key> = keys.into_iter().filter(leaves).collect();
            for chunk in keys.chunks(self.limiter.burst(CHUNK)) {
                fleet.meanwhile(self.limiter.take(chunk.len())).await;
                fleet.land(CHUNKS - 1, listing.as_mut()).await;
                if self.is_superseded() {
                    return Ok(Pass::Superseded);
                }
                fleet.depart(self.transfer(chunk.to_vec()));
                reached(Step::ChunkSent);
            }
            if cursor == 0 {
                break;
            }
        }
        fleet.land(0, listing.as_mut()).await;
        drop(listing);
        if let Some(error) = fleet.incomplete {
            return Err(error);
        }
        // What a target did not take is offered again until it does.
        while !fleet.aside.is_empty() {
            sleep(PAUSE).await;
            for chunk in std::mem::take(&mut fleet.aside).chunks(self.limiter.burst(CHUNK)) {
                if self.is_superseded() {
                    return Ok(Pass::Superseded);
                }
                self.limiter.take(chunk.len()).await;
                fleet.depart(self.transfer(chunk.to_vec()));
                fleet.land(0, pin!(pending::<()>())).await;
            }
        }
        let witness =
            Box::new(Witness { source: member.id.clone(), control, connection: greeting.connection });
        if !witness.testifies().await {
            return Err(interrupted(&member.id));
        }
        Ok(Pass::Complete(witness))
    }

    /// Whether there is a newer document, or nobody here to carry this one out.
    pub(super) fn is_superseded(&self) -> bool {
        self.keeper.is_closed() || self.keeper.view().document.fence() != self.document.fence()
    }

    fn source_of(&self, key: &Key) -> Option<NodeIndex> {
        self.document.tenure(key.token()).source.map(|source| source.node)
    }

    /// Which part of what `source` holds is to go.
    fn moving_share(&self, source: NodeIndex) -> f64 {
        let flows = self.document.flows();
        let goes: f64 =
            flows.iter().filter(|(from, ..)| *from == source).map(|(.., share)| share.as_f64()).sum();
        let comes: f64 =
            flows.iter().filter(|(_, to, _)| *to == source).map(|(.., share)| share.as_f64()).sum();
        let owned = self.document.ring().share(&self.document.members()[source.get()].id);
        let stays = owned.map_or(0.0, |share| share.as_f64()) - comes;
        if goes + stays > 0.0 { goes / (goes + stays) } else { 0.0 }
    }

    /// Moves these keys, each by the steps of its [`Transfer`], all of a step together. Answers what could not be moved.
    async fn transfer(&self, keys: Vec<Key>) -> Landed {
        let begin = |key| {
            let mut transfer = Transfer::new();
            let send = transfer.start();
            (key, transfer, send)
        };
        let mut moving: Vec<(Key, Transfer, Send)> = keys.into_iter().map(begin).collect();
        let mut left = Vec::new();
        let mut cause = None;
        let (mut moved, mut bytes) = (0, 0);
        while !moving.is_empty() {
            let groups = self.route(moving.drain(..));
            bytes += groups.iter().flat_map(|group| &group.requests).map(Request::weight).sum::<usize>();
            let answered = join_all(
                groups
                    .into_iter()
                    .map(|group| async move { (group.keys, group.node.submit_many(group.requests).await) }),
            );
            let mut refusals = Vec::new();
            for (keys, answers) in answered.await {
                for ((key, mut transfer), answer) in keys.into_iter().zip(answers) {
                    let step = match answer {
                        Ok(outcome) => transfer.answered(outcome),
                        Err(Failure::Lost(error)) => {
                            cause = Some(error);
                            transfer.lost()
                        }
                        Err(Failure::Unsent(error)) => {
                            cause = Some(error);
                            TransferStep::Failed
                        }
                        Err(Failure::Refused(refusal)) => {
                            if refusals.iter().all(|other: &Arc<Refusal>| other.node != refusal.node) {
                                refusals.push(refusal);
                            }
                            TransferStep::Failed
                        }
                    };
                    match step {
                        TransferStep::Send(send) => moving.push((key, transfer, send)),
                        TransferStep::Done(done) => moved += usize::from(done.moved),
                        TransferStep::Failed => left.push(key),
                    }
                }
            }
            for refusal in refusals {
                let fence = self.document.fence();
                if let Err(error) = self.keeper.settle(&refusal, &fence, Instant::now() + STEP).await {
                    cause = Some(error);
                }
            }
            reached(Step::Answered);
        }
        self.reporter.moved(moved, bytes);
        let cause = cause.filter(|_| !left.is_empty());
        (left, cause)
    }

    /// What is to be sent next, one group per node.
    fn route(&self, moving: impl Iterator<Item = (Key, Transfer, Send)>) -> Vec<Group<'_>> {
        let group = |node| Group { node, keys: Vec::new(), requests: Vec::new() };
        let mut groups: Vec<Group<'_>> = self.nodes.iter().map(group).collect();
        let (fence, deadline) = (self.document.fence(), Instant::now() + STEP);
        for (key, transfer, send) in moving {
            let tenure = self.document.tenure(key.token());
            // Only keys whose token moves were taken up.
            let Some(source) = tenure.source else { continue };
            let (node, since) = match send.place {
                Place::Source => (source.node, source.since),
                _ => (tenure.owner, tenure.since),
            };
            let group = &mut groups[node.get()];
            group.keys.push((key, transfer));
            let scope = Scope::new(since, send.mode);
            group.requests.push(Request { key, command: send.command, fence, scope, deadline });
        }
        groups.retain(|group| !group.keys.is_empty());
        groups
    }
}

/// Steps that go to one node together.
struct Group<'a> {
    node: &'a Node,
    keys: Vec<(Key, Transfer)>,
    requests: Vec<Request>,
}

/// What came of a chunk: the keys that could not be moved, and why.
type Landed = (Vec<Key>, Option<Error>);

/// The chunks under way, and what is to be tried again.
struct Fleet<'a, F> {
    flying: FuturesUnordered<F>,
    /// Keys whose target does not take them now.
    aside: Vec<Key>,
    /// There are more of them than are kept, for this reason: another pass has to find them.
    incomplete: Option<Error>,
    reporter: &'a Reporter,
    source: &'a NodeId,
}

impl<'a, F: Future<Output = Landed>> Fleet<'a, F> {
    fn new(reporter: &'a Reporter, source: &'a NodeId) -> Fleet<'a, F> {
        Fleet { flying: FuturesUnordered::new(), aside: Vec::new(), incomplete: None, reporter, source }
    }

    fn depart(&mut self, chunk: F) {
        self.flying.push(chunk);
    }

    /// Waits for `work` while the chunks go on.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(landed) = self.flying.next(), if !self.flying.is_empty() => self.landed(landed),
                done = &mut work => return done,
            }
        }
    }

    /// Waits until no more than so many chunks are under way; `beside` goes on meanwhile.
    async fn land(&mut self, most: usize, mut beside: Pin<&mut impl FusedFuture>) {
        while self.flying.len() > most {
            tokio::select! {
                biased;
                Some(landed) = self.flying.next() => self.landed(landed),
                _ = &mut beside, if !beside.is_terminated() => {}
            }
        }
    }

    fn landed(&mut self, (keys, cause): Landed) {
        match cause {
            Some(error) => {
                self.reporter.stuck(self.source, &error);
                if self.aside.len() + keys.len() > MOST_ASIDE {
                    self.incomplete = Some(error);
                    return;
                }
            }
            None if keys.is_empty() => self.reporter.goes_on(self.source),
            None => {}
        }
        self.aside.extend(keys);
    }
}

fn interrupted(source: &NodeId) -> Error {
    Error::at(
        crate::error::ErrorKind::Unavailable,
        source,
        "the connection to it ended while its keys were listed; the pass begins anew",
    )
}
