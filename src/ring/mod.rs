//! Placement: which node owns a token.
//!
//! The 64-bit hash space is a circle, and a [`Ring`] says for every [`Token`] on it which node owns it. A
//! ring is immutable, is computed from nothing but the list of its members (and, when it is balanced, the
//! ring before it), and gives the same answer in every process and in every release: placement is a wire
//! format. `docs/placement.md` specifies it byte by byte, and golden vectors in the tests hold it still.
//!
//! This includes:
//! - [`Token`], a position on the circle, the frozen hash that yields it, and [`TokenRange`],
//! - [`NodeId`], [`Weight`] and [`Member`], what a ring is made of,
//! - [`Ring`], built [hashed](Ring::hashed) or [balanced](Ring::balanced), and [`Placement`], which of the two,
//! - [`Preference`], the distinct nodes clockwise from a token,
//! - [`Share`], how much of the circle a node owns,
//! - [`Diff`], what moves between two rings,
//! - [`Fingerprint`], proof that two processes hold the same ring.
//!
//! Everything here is pure: no I/O, no clock, no random source, no map with an order of its own.

mod balanced;
mod circle;
mod diff;
mod error;
mod fingerprint;
#[cfg(test)]
mod golden;
mod hash;
mod hashed;
mod lookup;
mod member;
mod node_id;
mod preference;
mod share;
mod shuffle;
mod sort;
mod token;

pub use circle::{NodeIndex, Placement, Ranges, Ring, Shares};
pub use diff::{Diff, Flow, Move};
pub use error::RingError;
pub use fingerprint::Fingerprint;
pub use hash::PLACEMENT_VERSION;
pub use member::{Member, Weight};
pub use node_id::NodeId;
pub use preference::Preference;
pub use share::Share;
pub use token::{Token, TokenRange};

/// The most members a ring can have: 65,535, so that an index fits 16 bits with one value to spare.
pub const MAX_NODES: usize = u16::MAX as usize;

/// The most tokens a hashed ring can have, over all its members: 2^26 (1.7 GiB of memory while it is built).
pub const MAX_TOKENS: u64 = 1 << 26;

/// The finest division of a balanced ring: 2^20 arcs.
pub const MAX_ARC_BITS: u32 = 20;
