//! The fence: which topology a node obeys.

use std::fmt;

use super::Epoch;
use crate::ring::Token;

/// The protocol that this version of the crate speaks: commands, scripts and layouts.
pub const PROTOCOL_VERSION: u8 = 1;

/// What a node stores beside the records, and what every operation carries. A node executes an operation only
/// when both are the same, so the operations at one node run in the order of epochs.
///
/// 25 bytes, integers big-endian: protocol version (1), cluster (8), epoch (8), nonce (8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Version of the protocol that the ring speaks.
    pub protocol: u8,
    /// Which ring this is.
    pub cluster: u64,
    /// Version number of the topology.
    pub epoch: Epoch,
    /// Which of the topologies that might have had this number; at the founding, the ring's fingerprint.
    pub nonce: u64,
}

/// What a node's fence means for an operation that carries another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The same: go on.
    Accepted,
    /// The node has none: it is new, or has lost its memory.
    Uninitialised,
    /// The node has seen a newer topology than the operation.
    Stale(Epoch),
    /// The node has not seen the operation's topology yet.
    Behind(Epoch),
    /// The node belongs to another ring, or to this one with other members.
    Foreign(Fence),
    /// The ring speaks a newer protocol.
    UpgradeRequired(u8),
    /// What is stored is no fence.
    Corrupt,
}

/// Bytes that are no fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// A newer protocol, whose layout is unknown here.
    #[error("the ring speaks protocol {0}, this version of sessionring speaks {PROTOCOL_VERSION}")]
    NewerProtocol(u8),
    /// Neither this nor any protocol.
    #[error("{0} bytes are stored where the fence should be")]
    Corrupt(usize),
}

/// Which ring: the hash of its name.
pub(super) fn cluster(name: &str) -> u64 {
    Token::of(name.as_bytes()).get()
}

impl Fence {
    /// Bytes of an encoded fence.
    pub const LEN: usize = 25;

    /// The fence as stored and as sent.
    pub fn encode(&self) -> [u8; Fence::LEN] {
        let mut bytes = [self.protocol; Fence::LEN];
        bytes[1..9].copy_from_slice(&self.cluster.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.epoch.get().to_be_bytes());
        bytes[17..25].copy_from_slice(&self.nonce.to_be_bytes());
        bytes
    }

    /// Reads a stored fence.
    ///
    /// # Errors
    /// [`FenceError`].
    pub fn decode(bytes: &[u8]) -> Result<Fence, FenceError> {
        match bytes.first() {
            Some(&protocol) if protocol > PROTOCOL_VERSION => Err(FenceError::NewerProtocol(protocol)),
            Some(&protocol @ 1..) if bytes.len() == Fence::LEN => {
                let number = |at: usize| bytes[at..at + 8].iter().fold(0, |n, &b| n << 8 | u64::from(b));
                Ok(Fence { protocol, cluster: number(1), epoch: Epoch::new(number(9)), nonce: number(17) })
            }
            _ => Err(FenceError::Corrupt(bytes.len())),
        }
    }

    /// Whether it is one of the ring called `ring`.
    pub fn is_of(&self, ring: &str) -> bool {
        self.cluster == cluster(ring)
    }

    /// Whether a node that holds `stored` may be made to obey this fence: it is an older one of the same ring.
    pub fn succeeds(&self, stored: &[u8]) -> bool {
        Fence::decode(stored).is_ok_and(|stored| {
            stored.protocol <= self.protocol && stored.cluster == self.cluster && stored.epoch < self.epoch
        })
    }

    /// What it means that a node holds `stored` where an operation carries this fence.
    pub fn judge(&self, stored: Option<&[u8]>) -> Verdict {
        let Some(stored) = stored else { return Verdict::Uninitialised };
        match Fence::decode(stored) {
            Err(FenceError::NewerProtocol(protocol)) => Verdict::UpgradeRequired(protocol),
            Err(FenceError::Corrupt(_)) => Verdict::Corrupt,
            Ok(stored) if stored == *self => Verdict::Accepted,
            Ok(stored) if stored.cluster != self.cluster => Verdict::Foreign(stored),
            Ok(stored) if stored.epoch > self.epoch => Verdict::Stale(stored.epoch),
            Ok(stored) if stored.epoch < self.epoch => Verdict::Behind(stored.epoch),
            Ok(stored) => Verdict::Foreign(stored),
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of ring {:016x}, topology {:016x}", self.epoch, self.cluster, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Fence {
        Fence { protocol: 1, cluster: 0x0102, epoch: Epoch::new(7), nonce: 0x0304 }
    }

    #[test]
    fn golden_bytes() {
        let bytes = b"\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x03\x04";
        assert_eq!(fence().encode().as_slice(), bytes);
        assert_eq!(Fence::decode(bytes), Ok(fence()));
    }

    #[test]
    fn verdicts() {
        let mine = fence();
        let judge = |stored: Fence| mine.judge(Some(&stored.encode()));
        assert_eq!(judge(mine), Verdict::Accepted);
        assert_eq!(mine.judge(None), Verdict::Uninitialised);
        assert_eq!(judge(Fence { epoch: Epoch::new(8), ..mine }), Verdict::Stale(Epoch::new(8)));
        assert_eq!(judge(Fence { epoch: Epoch::new(6), ..mine }), Verdict::Behind(Epoch::new(6)));
        let other = Fence { nonce: 1, ..mine };
        assert_eq!(judge(other), Verdict::Foreign(other));
        let other = Fence { cluster: 1, epoch: Epoch::new(99), ..mine };
        assert_eq!(judge(other), Verdict::Foreign(other));
        assert_eq!(mine.judge(Some(b"\x02whatever comes")), Verdict::UpgradeRequired(2));
        for wrong in [&b""[..], b"\x01", b"\0\0\0", &[1; 26]] {
            assert_eq!(mine.judge(Some(wrong)), Verdict::Corrupt);
        }
    }
}
