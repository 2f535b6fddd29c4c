//! Who decides which document comes next, and where it is found.
//!
//! - [`TopologyStore`]: the two questions, for those who want to answer them by other means
//! - `NodeStore`: the default; the nodes themselves decide, by single-decree Paxos for each epoch, and each keeps the
//!   document that it obeys
//!   - `decision`: carries a `protocol::Proposal` to the nodes and back
//!   - `founding`: the first document, and the first after all nodes have lost their memories
//!   - `raising`: makes nodes obey what was decided, in the order that revives nothing
//!   - `readmission`: nodes that came back, nodes that are gone, nodes that join

mod decision;
mod founding;
mod node_store;
mod raising;
mod readmission;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::Pin};

pub(crate) use self::{
    founding::Enlisted,
    node_store::NodeStore,
    raising::{Raised, Stand},
    readmission::{Held, of_change},
};
pub use crate::topology::{Document, DocumentMember};
use crate::{
    error::{Error, Result},
    ring::NodeId,
};

/// What the methods of a [`TopologyStore`] return: a future in a box, so that stores of all kinds are one type.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Decides which document comes next, once for each epoch, and finds the newest.
///
/// The default asks the nodes themselves and needs no other service. An application that has a consistent store anyway
/// (etcd, Consul, a table in PostgreSQL) may decide there. Whatever decides, the nodes still hold the fence that the
/// operations are checked against, so a store that is slow or down stops changes of the ring, and nothing else.
///
/// # What an implementor guarantees
///
/// - **One document for each epoch, for ever.** Of all calls of [`propose`](TopologyStore::propose) for documents of
///   one epoch, in all processes, however they overlap, fail or time out, one document is decided, and every call that
///   answers names that one. A plain write does not do; a compare-and-set of a consistent store does.
/// - **What is decided stays decided**, over restarts and failovers of the store: its answers may not go back in time.
/// - **[`load`](TopologyStore::load) answers a decided document**, never one that is only proposed, and never an older
///   one than `known`. It may miss a decision that was made a moment ago.
/// - A call that may or may not have decided something answers
///   [`is_indeterminate`](crate::Error::is_indeterminate): the caller loads again.
///
/// # Example
///
/// A store on top of anything with a compare-and-set, here a map in memory:
///
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
/// use sessionring::store::{Decision, Document, Loaded, StoreFuture, TopologyStore};
///
/// #[derive(Default)]
/// struct Table(Mutex<BTreeMap<u64, Vec<u8>>>);
///
/// impl TopologyStore for Table {
///     fn load<'a>(&'a self, known: Option<&'a Document>) -> StoreFuture<'a, Loaded> {
///         Box::pin(async move {
///             let table = self.0.lock().unwrap();
///             let newest = table.last_key_value().map(|(_, bytes)| Document::decode(bytes).unwrap());
///             let known = known.filter(|known| newest.as_ref().is_none_or(|n| n.epoch() < known.epoch()));
///             Ok(Loaded::of(known.cloned().or(newest)))
///         })
///     }
///
///     fn propose<'a>(&'a self, _base: &'a Document, next: Document) -> StoreFuture<'a, Decision> {
///         Box::pin(async move {
///             // INSERT … ON CONFLICT DO NOTHING, then SELECT: the first one wins, and everybody sees it.
///             let mut table = self.0.lock().unwrap();
///             let decided = table.entry(next.epoch().get()).or_insert_with(|| next.encode().to_vec());
///             let decided = Document::decode(decided).unwrap();
///             Ok(if decided == next { Decision::Own } else { Decision::Other(decided) })
///         })
///     }
/// }
/// ```
pub trait TopologyStore: Send + Sync + 'static {
    /// The newest document that can be found, not older than `known`.
    ///
    /// # Errors
    /// [`is_upgrade_required`](crate::Error::is_upgrade_required): the ring is written by a newer version of the crate.
    /// [`is_configuration`](crate::Error::is_configuration): what was found belongs to another ring or contradicts
    /// itself. A node that cannot be asked is no error; it is listed.
    fn load<'a>(&'a self, known: Option<&'a Document>) -> StoreFuture<'a, Loaded>;

    /// Has `next` decided as the document that follows `base`, or finds out which other one was.
    ///
    /// # Errors
    /// [`is_unavailable`](crate::Error::is_unavailable): nothing was decided.
    /// [`is_indeterminate`](crate::Error::is_indeterminate): something may have been; load again.
    fn propose<'a>(&'a self, base: &'a Document, next: Document) -> StoreFuture<'a, Decision>;
}

/// What [`TopologyStore::load`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The newest document; `None` if there is no ring yet.
    pub document: Option<Document>,
    /// Nodes that hold nothing of the ring: they are new, or have lost their memories.
    pub blank: Vec<NodeId>,
    /// Nodes that could not be asked, or that hold something that is not this ring's.
    pub unreachable: Vec<(NodeId, Error)>,
}

impl Loaded {
    /// A document, and nothing said of nodes: for a store that asks none.
    #[must_use]
    pub fn of(document: Option<Document>) -> Loaded {
        Loaded { document, blank: Vec::new(), unreachable: Vec::new() }
    }
}

/// What came of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The document that was proposed.
    Own,
    /// This one, which somebody else proposed; or a later one, so that nobody knows any more which it was.
    Other(Document),
}

impl Decision {
    /// The document that was decided, where `proposed` was proposed.
    #[must_use]
    pub fn or(self, proposed: &Document) -> Document {
        match self {
            Decision::Own => proposed.clone(),
            Decision::Other(document) => document,
        }
    }
}
