//! The sessions of a namespace, listed and counted.

use std::{fmt, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Sessions;
use crate::{
    client::{Found, Listed, Lister},
    error::{Error, Result},
    protocol::Outcome,
    record::{Key, SessionId},
    ring::NodeId,
    telemetry,
};

/// Keys per second that each node looks at unless something else is asked for.
const DEFAULT_RATE: u32 = 5_000;

/// A listing under way: see [`Sessions::list`]. Dropping it ends it.
pub struct Listing<V = ()> {
    lister: Lister,
    /// From the first page asked for.
    pages: Option<mpsc::Receiver<Result<Found>>>,
    value: Box<Value<V>>,
}

/// What is made of a record besides.
type Value<V> = dyn Fn(&Key, &Bytes) -> V + Send + Sync;

/// Some sessions of one node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Page<V = ()> {
    /// Where they were found. While a session moves this may be the node that it leaves.
    pub node: NodeId,
    /// The sessions, in no order; at least one.
    pub sessions: Vec<ListedSession<V>>,
}

/// A session that was listed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListedSession<V = ()> {
    /// Under which it is stored: digests, from which nobody makes an id. [`Sessions::key_of`] is the one of an id in hand.
    pub key: Key,
    /// How long it will live if nobody uses it.
    pub remaining: Duration,
    /// Bytes of the stored record, its envelope of 35 included.
    pub bytes: usize,
    /// What was asked for besides.
    pub value: V,
}

/// How many sessions each node has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Count {
    /// One for each node of the ring, in the order of their names.
    pub nodes: Vec<NodeCount>,
}

/// How many sessions one node has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeCount {
    /// Which one.
    pub node: NodeId,
    /// Sessions that were found there.
    pub sessions: u64,
    /// Why there may be more.
    pub error: Option<Error>,
}

impl Count {
    /// The sessions of all nodes.
    pub fn total(&self) -> u64 {
        self.nodes.iter().map(|node| node.sessions).sum()
    }

    /// Whether no node has failed.
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.error.is_none())
    }

    /// Tells whoever watches from outside, of the nodes that were counted to the end.
    fn report(&self, ring: &str, namespace: &str) {
        for node in self.nodes.iter().filter(|node| node.error.is_none()) {
            telemetry::counted(ring, namespace, &node.node, node.sessions);
        }
    }

    fn of(&mut self, node: &NodeId) -> &mut NodeCount {
        let at = self.nodes.binary_search_by(|count| count.node.cmp(node)).unwrap_or_else(|at| {
            self.nodes.insert(at, NodeCount { node: node.clone(), sessions: 0, error: None });
            at
        });
        &mut self.nodes[at]
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Lists the live sessions of the namespace, page by page, all nodes at once: for an operator's page or a nightly sweep, as
    /// it goes over all keys of the nodes (SCAN), 5,000 a second on each unless [set otherwise](Listing::rate), over
    /// connections of its own.
    ///
    /// Every session that lives from the beginning to the end is listed once, also while a resize is under way; one that
    /// begins or ends meanwhile is listed or not; log-outs, and what a node still holds from an earlier time, never. What was
    /// listed is remembered until the listing is dropped, in some 20 to 40 bytes per session.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let logins = ring.sessions::<u64>("login");
    /// let id = logins.create(&7).await?;
    ///
    /// let mut listing = logins.list();
    /// while let Some(page) = listing.next().await {
    ///     let page = page?;
    ///     for session in page.sessions {
    ///         println!("{} on {}: {} bytes, ends in {:?}", session.key, page.node, session.bytes, session.remaining);
    ///         assert_eq!(session.key, logins.key_of(&id));
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self) -> Listing {
        self.listing(|_, _| ())
    }

    /// The same with what the sessions hold, each as [`get`](Sessions::get) would read it: an error where it would be one.
    pub fn list_with_values(&self) -> Listing<Result<T>> {
        let sessions = self.clone();
        self.listing(move |key, record| {
            let read = sessions.read_as(key, Outcome::Record(record.clone()), |_, _, value| value)?;
            read.ok_or_else(|| sessions.not_found(key))
        })
    }

    /// How many live sessions each node has, by a [listing](Sessions::list) of its own, which may take long:
    /// `sessions.list().rate(…).count()` at another pace. Nothing is decoded.
    pub async fn count(&self) -> Count {
        let count = self.list().count().await;
        count.report(self.ring.name(), &self.namespace);
        count
    }

    /// About how many live sessions each node has: from the number of its keys, and what part of a thousand of them are live
    /// sessions of this namespace. Three round trips; within some per cent where a node has many of them and nothing else in
    /// its database, and coarse where they are few among many others.
    pub async fn estimate(&self) -> Count {
        let mut count = Count { nodes: Vec::new() };
        for (node, estimated) in self.ring.lister(&self.keyspace, None).estimate().await {
            let of = count.of(&node);
            match estimated {
                Ok(sessions) => of.sessions = sessions,
                Err(error) => of.error = Some(error),
            }
        }
        count.report(self.ring.name(), &self.namespace);
        count
    }

    /// Under which key the session of this id is stored: what listings and events call it. The key says nothing about the
    /// id, and belongs into a log rather than an id.
    pub fn key_of(&self, id: &SessionId) -> Key {
        self.keyspace.key(id)
    }

    fn listing<V>(&self, value: impl Fn(&Key, &Bytes) -> V + Send + Sync + 'static) -> Listing<V> {
        let lister = self.ring.lister(&self.keyspace, Some(DEFAULT_RATE));
        Listing { lister, pages: None, value: Box::new(value) }
    }
}

impl<V> Listing<V> {
    /// So many keys a second are looked at on each node, at most; those of other namespaces, and of others, are among them.
    /// Before the first page.
    #[must_use]
    pub fn rate(mut self, keys_per_second: u32) -> Listing<V> {
        self.lister.set_rate(Some(keys_per_second));
        self
    }

    /// As fast as the nodes go, and requests feel it. Before the first page.
    #[must_use]
    pub fn unthrottled(mut self) -> Listing<V> {
        self.lister.set_rate(None);
        self
    }

    /// The next page; `None` at the end. Dropping the future loses no page. Who is slow to ask makes the nodes wait, not
    /// the other way round.
    ///
    /// # Errors
    /// That of a node which does not answer, once: its sessions are not all listed, those of the others are. A node whose
    /// connection ends is begun with again before that. [`Error::node`] says which one, and [`retry`](Listing::retry)
    /// lists it later. [`is_closed`](Error::is_closed): the ring was closed, and this is the end.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn next(&mut self) -> Option<Result<Page<V>>> {
        let pages = self.pages.get_or_insert_with(|| self.lister.start());
        let found = pages.recv().await?;
        Some(found.map(|(node, sessions)| {
            let listed = |Listed { key, record, left }: Listed| ListedSession {
                key,
                remaining: Duration::from_millis(left),
                bytes: record.len(),
                value: (self.value)(&key, &record),
            };
            Page { node, sessions: sessions.into_iter().map(listed).collect() }
        }))
    }

    /// After the end: whether some node had failed. Then the next pages are of those nodes, and hold what was not listed yet.
    pub fn retry(&mut self) -> bool {
        let ended = self.pages.as_ref().is_some_and(|pages| pages.is_closed() && pages.is_empty());
        let again = ended && self.lister.is_incomplete();
        if again {
            self.pages = None;
        }
        again
    }

    /// Goes on to the end and counts. What was read before is not counted.
    pub async fn count(mut self) -> Count {
        let mut count = Count { nodes: Vec::new() };
        for node in self.lister.nodes() {
            count.of(&node);
        }
        while let Some(page) = self.next().await {
            match page {
                Ok(page) => count.of(&page.node).sessions += page.sessions.len() as u64,
                Err(error) => match error.node().cloned() {
                    Some(node) => count.of(&node).error = Some(error),
                    None => count.nodes.iter_mut().for_each(|node| node.error = Some(error.clone())),
                },
            }
        }
        count
    }
}

impl<V> fmt::Debug for Listing<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("begun", &self.pages.is_some()).finish_non_exhaustive()
    }
}
