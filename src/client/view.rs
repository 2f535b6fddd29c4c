//! What a client believes of the ring at one moment.

use tokio::time::Instant;

use crate::{
    node::{Node, Request},
    protocol::{Place, Scope, Send, Sinces},
    record::Key,
    ring::{NodeId, NodeIndex},
    topology::Document,
};

/// A document, and the handles of its nodes in the order of its members. Immutable, swapped whole.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) document: Document,
    pub(crate) nodes: Vec<Node>,
    /// How often handles were replaced while the document stayed the same.
    pub(crate) renewals: u64,
}

impl View {
    /// Since when the records of this key are valid, at its owner and at its source.
    pub(crate) fn sinces(&self, key: &Key) -> Sinces {
        let tenure = self.document.tenure(key.token());
        Sinces::new(tenure.since, tenure.source.map(|source| source.since))
    }

    /// The node that `send` means, and the request for it. Only for a step that was decided under this very view.
    pub(crate) fn route(&self, key: Key, send: Send, deadline: Instant) -> (usize, Request) {
        let tenure = self.document.tenure(key.token());
        let (node, since) = match (send.place, tenure.source) {
            (Place::Source, Some(source)) => (source.node, source.since),
            _ => (tenure.owner, tenure.since),
        };
        let (fence, scope) = (self.document.fence(), Scope::new(since, send.mode));
        (node.get(), Request { key, command: send.command, fence, scope, deadline })
    }

    /// The node that owns the token of this key.
    pub(crate) fn owner(&self, key: &Key) -> &NodeId {
        self.id(self.document.tenure(key.token()).owner)
    }

    pub(crate) fn id(&self, node: NodeIndex) -> &NodeId {
        self.nodes[node.get()].id()
    }
}
