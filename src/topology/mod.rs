//! Who owns what, at one moment.
//!
//! - [`Epoch`]: the version number of a topology
//! - [`Fence`]: what every node stores, and every operation carries, so that two clients that see different
//!   topologies never work on the same node
//! - [`Topology`]: ring and fence, swapped whole
//! - [`MetaKeys`]: where a node keeps what is not a session
//!
//! The module is pure.

mod fence;
mod names;

use std::fmt;

pub use fence::{Fence, FenceError, PROTOCOL_VERSION, Verdict};
pub use names::MetaKeys;

use crate::ring::Ring;

/// The version number of a topology: 1 when the ring is founded, one more with every change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch in which a ring is founded.
    pub const FIRST: Epoch = Epoch(1);

    /// The epoch with this number. Records hold 48 bits of it.
    pub const fn new(number: u64) -> Epoch {
        Epoch(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Membership and ownership at one moment: immutable, swapped whole.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Which node owns a token.
    pub ring: Ring,
    /// What every operation under this topology carries.
    pub fence: Fence,
}

impl Topology {
    /// The topology of a ring called `name` as it is founded: a pure function of the member list, so that
    /// clients with the same list agree and clients with different lists refuse each other.
    pub fn founded(name: &str, ring: Ring) -> Topology {
        let fence = Fence::founded(name, ring.fingerprint());
        Topology { ring, fence }
    }
}
