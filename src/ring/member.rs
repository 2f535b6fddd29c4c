//! What a ring is made of.

use std::fmt;

use crate::ring::{MAX_NODES, NodeId, RingError};

/// How much a node should own, relative to the other members of its ring.
///
/// 1 unless said otherwise. A node of weight 0 owns nothing but still belongs to the ring: it is being drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// A member that owns nothing.
    pub const ZERO: Weight = Weight(0);
    /// The default.
    pub const ONE: Weight = Weight(1);

    /// This weight.
    #[must_use]
    pub const fn new(weight: u32) -> Weight {
        Weight(weight)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight::ONE
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One node of a ring and its weight.
///
/// ```
/// use sessionring::ring::{Member, NodeId, Weight};
///
/// let big = Member::new(NodeId::new("big")?, Weight::new(4));
/// let plain = Member::from(NodeId::new("plain")?);
/// assert_eq!((big.weight().get(), plain.weight()), (4, Weight::ONE));
/// # Ok::<(), sessionring::ring::RingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    id: NodeId,
    weight: Weight,
}

impl Member {
    /// A node with this weight.
    #[must_use]
    pub const fn new(id: NodeId, weight: Weight) -> Member {
        Member { id, weight }
    }

    /// The name of the node.
    #[must_use]
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The weight of the node.
    #[must_use]
    pub const fn weight(&self) -> Weight {
        self.weight
    }
}

/// A node of weight 1.
impl From<NodeId> for Member {
    fn from(id: NodeId) -> Member {
        Member::new(id, Weight::default())
    }
}

/// Members that passed the checks every ring makes: sorted by name, no name twice, at most [`MAX_NODES`],
/// and not all of weight 0.
pub(super) fn checked(members: impl IntoIterator<Item = Member>) -> Result<Vec<Member>, RingError> {
    let mut members: Vec<Member> = members.into_iter().collect();
    if members.is_empty() {
        return Err(RingError::NoMembers);
    }
    if members.len() > MAX_NODES {
        return Err(RingError::TooManyNodes { nodes: members.len() });
    }
    members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(RingError::DuplicateNode { node: pair[0].id.clone() });
    }
    if total_weight(&members) == 0 {
        return Err(RingError::NoWeight);
    }
    Ok(members)
}

/// The sum of the weights: below 2^48, since there are at most 2^16 of them.
pub(super) fn total_weight(members: &[Member]) -> u64 {
    members.iter().map(|member| u64::from(member.weight.0)).sum()
}
