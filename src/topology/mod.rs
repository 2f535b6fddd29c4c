//! Who owns what, at one moment.
//!
//! - [`Epoch`]: the version number of a topology
//! - [`Fence`]: what every node stores, and every operation carries, so that two clients that see different
//!   topologies never work on the same node
//! - [`Document`]: members, ring, and who is responsible for each token since when; [`Change`] makes the next one
//! - [`MetaKeys`]: where a node keeps what is not a session
//!
//! The module is pure.

mod change;
mod document;
mod encoding;
mod error;
mod fence;
mod names;
mod territory;

use std::fmt;

pub use change::{Change, Edit};
pub use document::{
    Cost, Document, DocumentMember, MAX_DOCUMENT_BYTES, MAX_DOCUMENT_TOKENS, Policy, Source, Tenure,
};
pub use error::{ChangeError, DocumentError};
pub use fence::{Fence, FenceError, PROTOCOL_VERSION, Verdict};
pub use names::MetaKeys;
pub use territory::Tenures;

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

    /// The epoch after this one.
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }

    /// Whether a document may have it: epochs begin with 1, and records hold 48 bits of them.
    const fn is_valid(self) -> bool {
        1 <= self.0 && self.0 < 1 << 48
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
