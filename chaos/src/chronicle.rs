//! The documents of a run, as they came: so it is known which nodes had to do with a session, and when.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use sessionring::{
    ring::{NodeId, Token},
    topology::{Change, Document, MetaKeys},
};
use sessionring_testkit::Client;

use crate::{
    cluster::{Cluster, Node, lock},
    history::{Nanos, now},
};

/// Between two looks. Resizes take longer, so that none begins and ends unseen.
const PAUSE: Duration = Duration::from_millis(10);
/// A document may have been in force for so long before it was seen.
const UNSEEN: Nanos = 250_000_000;

/// Every document that was seen, by epoch, with the time at which it certainly was decided.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    documents: BTreeMap<u64, (Document, Nanos)>,
    /// Epochs of which there were two documents: the ring was split.
    pub(crate) split: Vec<u64>,
    /// What each node obeyed when it was looked at last.
    standing: BTreeMap<String, (Nanos, Vec<u8>)>,
    /// Which document was seen where first, for people.
    pub(crate) sightings: Vec<(Nanos, String)>,
}

/// What became of the resizes of a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resized {
    /// Resizes that came to their ends, by what they began with.
    pub added: usize,
    /// As above.
    pub removed: usize,
    /// As above.
    pub reweighted: usize,
    /// Those that evened out the shares after a node was forgotten.
    pub evened: usize,
    /// Documents in which a node was taken back with another memory, or another process.
    pub readmitted: usize,
    /// Documents in which a node was forgotten.
    pub forgotten: usize,
    /// The last epoch.
    pub epoch: u64,
    /// Epochs whose documents nobody saw.
    pub unseen: usize,
}

impl Resized {
    /// All that came to their ends.
    pub fn finished(&self) -> usize {
        self.added + self.removed + self.reweighted + self.evened
    }
}

impl Chronicle {
    pub(crate) fn newest(&self) -> Option<&Document> {
        self.documents.last_key_value().map(|(_, (document, _))| document)
    }

    fn note(&mut self, document: Document, at: Nanos, place: &str) {
        let epoch = document.epoch().get();
        let members: Vec<String> = document
            .members()
            .iter()
            .map(|member| {
                let leaving = if member.leaving { "-" } else { "" };
                format!("{}{leaving}*{}:{:04x}", member.id, member.weight.get(), member.incarnation & 0xFFFF)
            })
            .collect();
        let state = if document.is_migrating() { "migrating" } else { "stable" };
        let nonce = document.fence().nonce & 0xFFFF;
        let sighting = format!("epoch {epoch} ({nonce:04x}) at {place}, {state}: {}", members.join(" "));
        self.sightings.push((at, sighting));
        if self.documents.get(&epoch).is_some_and(|(known, _)| known.fence() != document.fence()) {
            self.split.push(epoch);
        }
        // Whatever has a successor was decided before that.
        let later = self.documents.range(epoch..).map(|(_, (_, seen))| *seen).min();
        self.documents.entry(epoch).or_insert((document, later.unwrap_or(at).min(at)));
    }

    /// Whether the node was seen to obey the newest document at some time after this.
    pub(crate) fn is_up_to_date(&self, node: &str, after: Nanos) -> bool {
        let newest = self.newest().map(|document| document.fence().encode());
        let stands = |(at, fence): &(Nanos, Vec<u8>)| {
            *at > after && newest.as_ref().is_some_and(|newest| newest[..] == fence[..])
        };
        self.standing.get(node).is_some_and(stands)
    }

    /// Whether this node owned the token, or was its source, at some time between these two. What it held before it was
    /// either is nothing to the ring, and so is what it holds after it was.
    pub(crate) fn concerns(&self, token: Token, node: &str, from: Nanos, until: Nanos) -> bool {
        let mut all = self.documents.values().peekable();
        while let Some((document, seen)) = all.next() {
            let over = all.peek().map_or(Nanos::MAX, |(_, next)| *next);
            if seen.saturating_sub(UNSEEN) > until || over < from {
                continue;
            }
            let tenure = document.tenure(token);
            let name = |index| document.ring().node(index).as_str();
            if name(tenure.owner) == node || tenure.source.is_some_and(|source| name(source.node) == node) {
                return true;
            }
        }
        false
    }

    /// The owner of a token at that time.
    pub(crate) fn owner(&self, token: Token, at: Nanos) -> Option<&NodeId> {
        let document = self.documents.values().rev().find(|(_, seen)| *seen <= at);
        let (document, _) = document.or_else(|| self.documents.values().next())?;
        Some(document.ring().node(document.tenure(token).owner))
    }

    pub(crate) fn resized(&self) -> Resized {
        let mut resized = Resized::default();
        let mut begun: fn(&mut Resized) -> &mut usize = |resized| &mut resized.evened;
        let documents: Vec<&Document> = self.documents.values().map(|(document, _)| document).collect();
        for pair in documents.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if before.epoch().next() != after.epoch() {
                resized.unseen += (after.epoch().get() - before.epoch().get() - 1) as usize;
                continue;
            }
            let has = |document: &Document, id| document.member(id).is_some();
            if before.next(&Change::Settle).is_ok_and(|settled| settled.fence() == after.fence()) {
                *begun(&mut resized) += 1;
            } else if before.members().iter().any(|member| !has(after, &member.id)) {
                resized.forgotten += 1;
                if !before.is_migrating() {
                    begun = |resized| &mut resized.evened;
                }
            } else if before.is_migrating() || !after.is_migrating() {
                resized.readmitted += 1;
            } else if after.members().iter().any(|member| !has(before, &member.id)) {
                begun = |resized| &mut resized.added;
            } else if after.members().iter().any(|member| member.leaving) {
                begun = |resized| &mut resized.removed;
            } else {
                begun = |resized| &mut resized.reweighted;
            }
        }
        resized.epoch = self.newest().map_or(0, |document| document.epoch().get());
        resized
    }
}

/// Looks at the fences of all nodes again and again, until told to stop.
pub(crate) fn follow(cluster: &Cluster, stop: &AtomicBool) {
    let keys = MetaKeys::new("chaos");
    let mut ways: Vec<Option<(SocketAddr, Client)>> = cluster.nodes.iter().map(|_| None).collect();
    let mut known: Vec<Vec<u8>> = Vec::new();
    while !stop.load(Relaxed) {
        for (node, way) in cluster.nodes.iter().zip(&mut ways) {
            let Some(client) = reach(node, way) else { continue };
            let asked = now();
            let Some(fence) = get(client, &keys.fence) else {
                *way = None;
                continue;
            };
            let stands = (asked, fence.clone().unwrap_or_default());
            lock(&cluster.chronicle).standing.insert(node.name.clone(), stands);
            let Some(fence) = fence.filter(|fence| !known.contains(fence)) else { continue };
            let Some(Some(bytes)) = get(client, &keys.document) else { continue };
            let Ok(document) = Document::decode(&bytes) else { continue };
            if document.fence().encode()[..] == fence[..] {
                lock(&cluster.chronicle).note(document, now(), &node.name);
                known.push(fence);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// A connection to the server that is the node now; `None` if a fault has its hands on it.
fn reach<'a>(node: &Node, way: &'a mut Option<(SocketAddr, Client)>) -> Option<&'a mut Client> {
    let address = node.server.try_lock().ok()?.socket_address();
    if way.as_ref().is_none_or(|(connected, _)| *connected != address) {
        let client = Client::connect(address).ok()?;
        client.set_timeout(Some(Duration::from_millis(200))).ok()?;
        *way = Some((address, client));
    }
    way.as_mut().map(|(_, client)| client)
}

/// What is stored under a key; the outer `None` if the server does not answer.
fn get(client: &mut Client, key: &str) -> Option<Option<Vec<u8>>> {
    let reply = client.command(&["GET", key]).ok()?;
    Some(reply.bytes().map(<[u8]>::to_vec))
}
