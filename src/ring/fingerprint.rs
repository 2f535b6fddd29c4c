//! Proof that two processes hold the same ring.

use std::fmt;

use crate::ring::hash::{PLACEMENT_VERSION, hash};
use crate::ring::{Member, Placement};

/// A digest of everything that decides who owns what: placement version, kind and parameter, members with
/// their weights, and the owner of each arc if the ring is balanced.
///
/// Two rings with equal fingerprints are the same, but for a chance of 2^-64; it is no defence against someone
/// who builds a collision on purpose. `docs/placement.md` gives the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// A fingerprint as it was stored.
    #[must_use]
    pub const fn new(fingerprint: u64) -> Fingerprint {
        Fingerprint(fingerprint)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The hash of the canonical encoding. `arcs` is empty for a hashed ring: its members tell all.
    pub(super) fn of(placement: Placement, members: &[Member], arcs: &[u16]) -> Fingerprint {
        let (kind, parameter) = match placement {
            Placement::Hashed { vnodes } => (1_u8, vnodes),
            Placement::Balanced { arc_bits } => (2, arc_bits),
        };
        let mut bytes = Vec::with_capacity(32 + members.len() * 24 + arcs.len() * 2);
        bytes.extend_from_slice(b"sessionring ring");
        bytes.extend_from_slice(&PLACEMENT_VERSION.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&parameter.to_le_bytes());
        // Checked: at most 65,535 members, and names of at most 64 bytes.
        bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
        for member in members {
            let name = member.id().as_str();
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&member.weight().get().to_le_bytes());
        }
        for owner in arcs {
            bytes.extend_from_slice(&owner.to_le_bytes());
        }
        Fingerprint(hash(&bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
