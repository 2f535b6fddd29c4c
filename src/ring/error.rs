//! What can be wrong with a ring.

use crate::ring::{MAX_ARC_BITS, MAX_NODES, MAX_TOKENS, NodeId};

/// Why a ring cannot be built. No ring is changed by it: rings are immutable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The list of members is empty.
    #[error("a ring needs at least one node; add one")]
    NoMembers,

    /// Every member has weight 0, so nobody could own anything.
    #[error("every node has weight 0; give at least one node a positive weight")]
    NoWeight,

    /// Two members have the same name.
    #[error("node {node} is listed twice; give every node a name of its own")]
    DuplicateNode {
        /// The name.
        node: NodeId,
    },

    /// A name is not 1 to 64 bytes of printable ASCII without space.
    #[error("bad node name {name:?}; use 1 to {} printable ASCII characters without spaces", NodeId::MAX_LEN)]
    BadName {
        /// The name, cut after 64 characters.
        name: String,
    },

    /// More members than a ring can have.
    #[error("{nodes} nodes are too many for one ring; use at most {MAX_NODES}")]
    TooManyNodes {
        /// How many were given.
        nodes: usize,
    },

    /// A hashed ring was asked for with no virtual node per unit of weight.
    #[error("a hashed ring needs at least 1 virtual node per unit of weight; 160 is usual")]
    NoVnodes,

    /// A hashed ring would have more tokens than it may.
    #[error(
        "{tokens} virtual nodes are too many; lower the weights or vnodes until their products sum to at most {MAX_TOKENS}"
    )]
    TooManyTokens {
        /// The sum of `vnodes × weight` over all members.
        tokens: u128,
    },

    /// A member with a positive weight would own less than one of 2^20 arcs.
    #[error(
        "the weight of node {node} is less than a 2^{MAX_ARC_BITS}th of all weights; raise it, or set it to 0 to drain the node"
    )]
    TooUneven {
        /// The member.
        node: NodeId,
    },

    /// The members of a stored ring are not in the order that their indexes refer to.
    #[error(
        "the members of a stored ring must be sorted by name, and {node} is out of order; the stored ring is damaged"
    )]
    Unsorted {
        /// The first member that is out of order.
        node: NodeId,
    },

    /// A stored ring is divided more finely or more coarsely than a ring can be.
    #[error(
        "a stored ring has 2^{arc_bits} arcs; 2^1 to 2^{MAX_ARC_BITS} are possible, so the stored ring is damaged or newer than this release"
    )]
    ArcBits {
        /// The exponent given.
        arc_bits: u32,
    },

    /// A stored ring does not have one owner for each arc.
    #[error("a stored ring has {found} owners for {expected} arcs; the stored ring is damaged")]
    ArcCount {
        /// How many arcs there are.
        expected: usize,
        /// How many owners were given.
        found: usize,
    },

    /// The owner of an arc in a stored ring is no member, or one of weight 0.
    #[error(
        "arc {arc} of a stored ring belongs to member {owner}, who is not there or has weight 0; the stored ring is damaged"
    )]
    ArcOwner {
        /// The index of the arc.
        arc: usize,
        /// The index of the owner.
        owner: u16,
    },
}
