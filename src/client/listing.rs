//! Goes over all nodes and finds the sessions of a namespace.
//!
//! **Each once, and none is missed that was there all the time**, whatever moves meanwhile:
//!
//! - A session moves from a source to its owner, and is on one of them at every moment. So nodes that gain sessions are
//!   listed after those that lose some: what had left before the source was listed is found at its owner.
//! - What is found is read by the rules of the ring, the owner first, so that tombstones and leftovers are told from
//!   sessions; and everything that was listed is remembered, so that nothing is listed again.
//! - A node that is listed obeys the topology under which it is, from the first key to the last. When another one is decided,
//!   all nodes are listed anew under that, and what was listed already is left out.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    Keeper, Limiter,
    running::{Running, Then},
    view::View,
};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Address, ControlNode, Limits, Refusal, Request},
    protocol::{Command, Outcome},
    record::{Header, Key, Kind, Millis},
    ring::NodeId,
    topology::Fence,
};

/// Keys looked at with one SCAN where requests are not to feel it, and where that does not matter.
const SCAN_GENTLY: usize = 64;
const SCAN: usize = 1_000;
/// Keys that a node's share of sessions is judged by.
const SAMPLE: usize = 1_000;
/// How often a node is begun with, when its connection ends meanwhile, and how often what could not be read is asked for.
const ATTEMPTS: usize = 3;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How long reading what one SCAN has found may take.
const STEP: Duration = Duration::from_secs(5);
/// Keys kept because they could not be read; more, and the node is given up.
const MOST_ASIDE: usize = 1 << 16;
/// Pages that wait for whoever reads them.
const PAGES: usize = 2;

/// A namespace to be listed, at some pace.
#[derive(Clone)]
pub(crate) struct Lister {
    keeper: Arc<Keeper>,
    prefix: Vec<u8>,
    /// Keys per second that a node is asked to look at.
    rate: Option<u32>,
    known: Arc<Mutex<Known>>,
}

/// What was listed so far.
#[derive(Default)]
struct Known {
    /// The digests of the keys, which make a session what it is.
    listed: HashSet<[u8; 16]>,
    /// The nodes that were not listed to their end, and the topology under which all others were.
    failed: BTreeSet<NodeId>,
    done: Option<Fence>,
}

/// A session that was found.
pub(crate) struct Listed {
    pub(crate) key: Key,
    pub(crate) record: Bytes,
    pub(crate) left: Millis,
}

/// Sessions that were found on one node.
pub(crate) type Found = (NodeId, Vec<Listed>);

/// Why a node was not listed to its end.
enum Stop {
    /// It may go better if the node is begun with again.
    Failed(Error),
    /// All its keys were seen, and not all could be read.
    Unread(Error),
    /// There is another topology.
    Superseded,
    /// The ring was closed.
    Closed,
    /// Nobody reads what is found.
    Unwanted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Lister {
    pub(crate) fn new(keeper: Arc<Keeper>, prefix: &[u8], rate: Option<u32>) -> Lister {
        Lister { keeper, prefix: prefix.to_vec(), rate, known: Arc::default() }
    }

    /// At another pace from the next start on.
    pub(crate) fn set_rate(&mut self, rate: Option<u32>) {
        self.rate = rate;
    }

    /// The nodes of the ring as it is now.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.keeper.document().members().iter().map(|member| member.id.clone()).collect()
    }

    /// Whether some node was not listed to its end.
    pub(crate) fn is_incomplete(&self) -> bool {
        !self.known.lock().failed.is_empty()
    }

    /// Begins to list, or goes on with the nodes that had failed. It ends when nobody receives any more.
    pub(crate) fn start(&self) -> mpsc::Receiver<Result<Found>> {
        let (pages, receiver) = mpsc::channel(PAGES);
        let lister = self.clone();
        tokio::spawn(async move {
            let unread = pages.clone();
            tokio::select! {
                () = lister.run(pages) => {}
                // At once, also while a node is waited for.
                () = unread.closed() => {}
            }
        });
        receiver
    }

    async fn run(&self, pages: mpsc::Sender<Result<Found>>) {
        loop {
            match Pass::new(self, &pages).run().await {
                Err(Stop::Superseded) => {}
                Err(Stop::Closed) => {
                    let error =
                        Error::new(ErrorKind::Closed, "the ring was closed while its sessions were listed");
                    return drop(pages.send(Err(error)).await);
                }
                _ => return,
            }
        }
    }

    /// About how many sessions each node has, judged by a sample of its keys.
    pub(crate) async fn estimate(&self) -> Vec<(NodeId, Result<u64>)> {
        let (pages, _unused) = mpsc::channel(1);
        let pass = Pass::new(self, &pages);
        let nodes = 0..pass.view.nodes.len();
        join_all(nodes.map(async |node| (pass.id(node).clone(), pass.estimate(node).await))).await
    }
}

/// All nodes, under one topology.
struct Pass<'a> {
    lister: &'a Lister,
    pages: &'a mpsc::Sender<Result<Found>>,
    /// With handles of its own, so that no request waits behind what is listed.
    view: View,
}

/// What was read of some keys.
#[derive(Default)]
struct Seen {
    sessions: Vec<Listed>,
    /// What could not be read, and why.
    left: Vec<Key>,
    cause: Option<Error>,
}

impl<'a> Pass<'a> {
    fn new(lister: &'a Lister, pages: &'a mpsc::Sender<Result<Found>>) -> Pass<'a> {
        let (keeper, document) = (&lister.keeper, lister.keeper.document());
        let limits = Limits { read_batch: SCAN_GENTLY, ..keeper.limits().clone() };
        let nodes = document.members().iter().map(|member| keeper.handle(member, &limits)).collect();
        Pass { lister, pages, view: View { document, nodes, renewals: 0 } }
    }

    /// Lists what is to be listed. An error of one node is told, and stops no other.
    async fn run(&self) -> Result<(), Stop> {
        let flows = self.view.document.flows();
        let flows: Vec<(usize, usize)> = flows.iter().map(|(from, to, _)| (from.get(), to.get())).collect();
        let gains = |node: usize| flows.iter().any(|&(_, to)| to == node);
        let loses = |node: usize| flows.iter().any(|&(from, _)| from == node);
        let wanted = self.wanted(&flows);
        let rounds: [Vec<usize>; 2] = [
            wanted.iter().copied().filter(|&node| loses(node) || !gains(node)).collect(),
            wanted.iter().copied().filter(|&node| gains(node)).collect(),
        ];
        for round in rounds {
            for ended in join_all(round.into_iter().map(|node| self.end_with(node))).await {
                ended?;
            }
        }
        self.lister.known.lock().done = Some(self.view.document.fence());
        Ok(())
    }

    /// All nodes; or, if all but some were listed under this topology, those, and whoever gains sessions from them.
    fn wanted(&self, flows: &[(usize, usize)]) -> Vec<usize> {
        let mut known = self.lister.known.lock();
        let failed = std::mem::take(&mut known.failed);
        let all = known.done != Some(self.view.document.fence());
        let wanted = |node: usize| {
            let lost_by = |&(from, to): &(usize, usize)| to == node && failed.contains(self.id(from));
            all || failed.contains(self.id(node)) || flows.iter().any(lost_by)
        };
        (0..self.view.nodes.len()).filter(|&node| wanted(node)).collect()
    }

    async fn end_with(&self, node: usize) -> Result<(), Stop> {
        match self.list(node).await {
            Err(Stop::Failed(error) | Stop::Unread(error)) => {
                self.lister.known.lock().failed.insert(self.id(node).clone());
                let error = match error.node() {
                    Some(at) if at == self.id(node) => error,
                    _ => Error::at(error.kind(), self.id(node), error.to_string()),
                };
                self.pages.send(Err(error)).await.map_err(|_| Stop::Unwanted)
            }
            ended => ended,
        }
    }

    /// A node whose connection ends meanwhile is begun with again: where it was, only that connection knew.
    async fn list(&self, node: usize) -> Result<(), Stop> {
        let mut attempts = 1;
        loop {
            match self.list_once(node).await {
                Err(Stop::Failed(error)) if attempts < ATTEMPTS && error.is_unavailable() => {
                    attempts += 1;
                    sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    async fn list_once(&self, node: usize) -> Result<(), Stop> {
        self.check()?;
        let Lister { keeper, prefix, rate, .. } = self.lister;
        let member = &self.view.document.members()[node];
        let control = keeper.directory().control_alone(&member.id, &member.address)?;
        let greeting = control.greet().await?;
        keeper.believes(&self.view.document, member, greeting.process)?;
        self.agree(node, &control).await?;
        let limiter = Limiter::new(*rate);
        let scan = at_once(*rate);
        let (mut cursor, mut aside, mut cause) = (0, Vec::new(), None);
        loop {
            limiter.take(scan).await;
            let found = control.scan(greeting.connection, prefix, cursor, scan).await?;
            let Some((next, keys)) = found else { return Err(Stop::Failed(self.interrupted(node))) };
            let seen = self.read(self.of(node, keys)).await;
            self.hand_over(node, seen.sessions).await?;
            aside.extend(seen.left);
            cause = seen.cause.or(cause);
            self.check()?;
            if aside.len() > MOST_ASIDE {
                break;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        for _ in 1..ATTEMPTS {
            if aside.is_empty() || cursor != 0 {
                break;
            }
            sleep(PAUSE).await;
            let mut again = Vec::new();
            for keys in aside.chunks(SCAN) {
                let seen = self.read(self.of(node, keys.to_vec())).await;
                self.hand_over(node, seen.sessions).await?;
                again.extend(seen.left);
                cause = seen.cause.or(cause);
                self.check()?;
            }
            aside = again;
        }
        if !aside.is_empty() {
            return Err(Stop::Unread(cause.unwrap_or_else(|| self.interrupted(node))));
        }
        // Only what obeyed this topology up to here has given nothing away under another.
        let still = control.greet().await?.connection == greeting.connection;
        if !self.agree(node, &control).await? || !still {
            return Err(Stop::Failed(self.interrupted(node)));
        }
        Ok(())
    }

    /// About how many sessions the node has: SCAN gives keys in the order of their hashes, which is a fair sample.
    async fn estimate(&self, node: usize) -> Result<u64> {
        let Lister { keeper, prefix, .. } = self.lister;
        let member = &self.view.document.members()[node];
        let control = keeper.directory().control_alone(&member.id, &member.address)?;
        let connection = control.greet().await?.connection;
        let all = control.count().await?;
        // In memory keys stand in their order, and a part of them says nothing of the others.
        let in_memory = matches!(Address::parse(&member.address), Ok(Address::Memory(_)));
        let sample = if in_memory { usize::MAX } else { SAMPLE };
        let found = control.scan(connection, prefix, 0, sample).await?;
        let Some((cursor, keys)) = found else { return Err(self.interrupted(node)) };
        let Seen { sessions, cause, .. } = self.read(self.of(node, keys)).await;
        match cause {
            Some(error) => Err(error),
            None if cursor == 0 => Ok(sessions.len() as u64),
            None => Ok((sessions.len() as f64 * all as f64 / SAMPLE as f64).round() as u64),
        }
    }

    /// Those of the keys that the node may hold a session under which was not listed yet.
    fn of(&self, node: usize, mut keys: Vec<Key>) -> Vec<Key> {
        let known = self.lister.known.lock();
        keys.retain(|key| {
            let tenure = self.view.document.tenure(key.token());
            let holds =
                tenure.owner.get() == node || tenure.source.is_some_and(|source| source.node.get() == node);
            holds && !known.listed.contains(&digest(key))
        });
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Reads what stands under these keys, each by the steps that a request would take.
    async fn read(&self, keys: Vec<Key>) -> Seen {
        let (view, deadline) = (&self.view, Instant::now() + STEP);
        let mut running: Vec<Running> =
            keys.into_iter().map(|key| Running::new(key, Command::Visit)).collect();
        let (mut seen, mut refusals) = (Seen::default(), Vec::<Arc<Refusal>>::new());
        while !running.is_empty() {
            let mut groups: Vec<(Vec<Running>, Vec<Request>)> =
                view.nodes.iter().map(|_| Default::default()).collect();
            for mut one in running.drain(..) {
                match one.request(view, deadline) {
                    Ok((node, request)) => {
                        groups[node].0.push(one);
                        groups[node].1.push(request);
                    }
                    Err(error) => seen.leave(one.key(), error),
                }
            }
            let asked = view.nodes.iter().zip(groups).filter(|(_, (running, _))| !running.is_empty());
            let asked =
                asked.map(async |(node, (running, requests))| (running, node.submit_many(requests).await));
            for (asked, answers) in join_all(asked).await {
                for (mut one, answer) in asked.into_iter().zip(answers) {
                    match one.answered(answer) {
                        Then::Continue => running.push(one),
                        Then::Unsent(error) | Then::Done(Err(error)) => seen.leave(one.key(), error),
                        Then::Done(Ok(outcome)) => seen.sessions.extend(session(one.key(), outcome)),
                        Then::Settle(refusal) => {
                            seen.left.push(one.key());
                            refusals.push(refusal);
                        }
                    }
                }
            }
        }
        refusals.dedup_by(|a, b| a.node == b.node);
        for refusal in refusals {
            let fence = view.document.fence();
            if let Err(error) = self.lister.keeper.settle(&refusal, &fence, deadline).await {
                seen.cause = Some(error);
            }
        }
        seen
    }

    /// Gives the sessions to whoever reads, those that were not listed before.
    async fn hand_over(&self, node: usize, mut sessions: Vec<Listed>) -> Result<(), Stop> {
        {
            let mut known = self.lister.known.lock();
            sessions.retain(|session| known.listed.insert(digest(&session.key)));
        }
        if sessions.is_empty() {
            return Ok(());
        }
        self.pages.send(Ok((self.id(node).clone(), sessions))).await.map_err(|_| Stop::Unwanted)
    }

    /// Whether the node obeys this topology; if not, either side is brought up to date.
    async fn agree(&self, node: usize, control: &ControlNode) -> Result<bool, Stop> {
        let (standing, fence) = (control.look().await?, self.view.document.fence());
        if standing.obeys(&fence) {
            return Ok(true);
        }
        let refusal = Refusal { node: self.id(node).clone(), stored: standing.fence };
        self.lister.keeper.settle(&refusal, &fence, Instant::now() + STEP).await?;
        self.check()?;
        Ok(false)
    }

    fn check(&self) -> Result<(), Stop> {
        if self.lister.keeper.is_closed() {
            return Err(Stop::Closed);
        }
        let same = self.lister.keeper.view().document.fence() == self.view.document.fence();
        if same { Ok(()) } else { Err(Stop::Superseded) }
    }

    fn id(&self, node: usize) -> &NodeId {
        self.view.nodes[node].id()
    }

    fn interrupted(&self, node: usize) -> Error {
        let message =
            "the connection to it ended, or the ring changed, while its sessions were listed; list it again";
        Error::at(ErrorKind::Unavailable, self.id(node), message)
    }
}

impl Seen {
    fn leave(&mut self, key: Key, cause: Error) {
        self.left.push(key);
        self.cause = Some(cause);
    }
}

/// Keys to look at with one SCAN at this pace: those of some 20 ms, so that it goes evenly and not in crumbs.
fn at_once(rate: Option<u32>) -> usize {
    rate.map_or(SCAN, |rate| (rate as usize / 50).clamp(1, SCAN_GENTLY))
}

/// What was read, if it is a session: no tombstone, nothing that is no record.
fn session(key: Key, outcome: Outcome) -> Option<Listed> {
    let Outcome::Visited { record, left, .. } = outcome else { return None };
    let live = Header::decode(&record).is_ok_and(|header| header.kind == Kind::Live);
    live.then_some(Listed { key, record, left })
}

fn digest(key: &Key) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&key.as_bytes()[14..]);
    digest
}
