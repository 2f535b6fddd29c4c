//! What can be wrong with a document, or with a change of it.

use super::{Epoch, PROTOCOL_VERSION, document::MAX_DOCUMENT_BYTES, document::MAX_DOCUMENT_TOKENS};
use crate::ring::{NodeId, RingError};

/// Why there is no such document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A newer protocol, whose layout is unknown here.
    #[error(
        "the ring speaks protocol {0}, this version of sessionring speaks {PROTOCOL_VERSION}; upgrade it"
    )]
    NewerProtocol(u8),
    /// A newer layout of the document, or a newer placement, under the same protocol.
    #[error(
        "the ring's document has {what} {version}, which this version of sessionring does not know; upgrade it"
    )]
    Newer {
        /// What is newer.
        what: &'static str,
        /// Its version.
        version: u16,
    },
    /// Bytes that no version of sessionring wrote.
    #[error("the stored document is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The document would not fit.
    #[error(
        "the ring's document would have {bytes} bytes, and {MAX_DOCUMENT_BYTES} are allowed; use fewer vnodes, smaller weights, or a balanced ring"
    )]
    TooLarge {
        /// How many it would have.
        bytes: usize,
    },
    /// A hashed ring with more tokens than a document may describe.
    #[error(
        "the ring has {tokens} virtual nodes, and its document may describe {MAX_DOCUMENT_TOKENS}; use fewer vnodes or smaller weights"
    )]
    TooManyTokens {
        /// The sum of `vnodes × weight` over all members.
        tokens: u128,
    },
    /// An epoch that a record's stamp cannot hold.
    #[error("epoch {0} does not exist; epochs are 1 to 2^48 - 1")]
    Epoch(Epoch),
    /// The members given are not those of the ring given.
    #[error(
        "node {node} is not the same in the ring and in the list of its members; give both from one list"
    )]
    Members {
        /// The first that differs.
        node: NodeId,
    },
    /// An address that no document may hold.
    #[error(
        "the address of node {node} cannot stand in the ring's document: it must have 1 to 1024 bytes, no control characters, and no user or password"
    )]
    Address {
        /// The node. Its address may hold a password, so it is not repeated.
        node: NodeId,
    },
    /// The members make no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Why a document cannot be followed by the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No member has this name.
    #[error("node {node} does not belong to the ring; its members are listed in the ring's document")]
    UnknownNode {
        /// The name.
        node: NodeId,
    },
    /// A member has this name already.
    #[error(
        "node {node} belongs to the ring already; choose another name, or remove it and settle before it is added again"
    )]
    NodeExists {
        /// The name.
        node: NodeId,
    },
    /// One change says two things about a node.
    #[error("node {node} is named twice in one change; say once what shall become of it")]
    NamedTwice {
        /// The name.
        node: NodeId,
    },
    /// Nobody would own anything.
    #[error("no node with a positive weight would be left; add one, or raise a weight, in the same change")]
    NoWeightLeft,
    /// A node without which nobody would own anything.
    #[error(
        "node {node} is the last one with a positive weight and cannot be forgotten; add a node or raise a weight first"
    )]
    LastNode {
        /// The name.
        node: NodeId,
    },
    /// Membership changes from a stable document only.
    #[error("sessions of an earlier change are still moving; let them settle (or forget a dead node) first")]
    Migrating,
    /// A stable document needs no settling.
    #[error("nothing is moving, so there is nothing to settle")]
    NothingToSettle,
    /// The next document would be the same.
    #[error("the ring is like this already; nothing changes")]
    NothingChanges,
    /// The next document cannot be.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<RingError> for ChangeError {
    fn from(error: RingError) -> ChangeError {
        ChangeError::Document(DocumentError::Ring(error))
    }
}
