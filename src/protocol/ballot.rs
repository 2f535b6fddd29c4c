//! Numbers of attempts to decide something.

/// The number of one attempt of one proposer. Later rounds win; within a round the proposer's own number does.
///
/// A proposer never uses a ballot for two documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Goes up with every attempt.
    pub round: u64,
    /// Random, so that no two proposers share a ballot.
    pub proposer: u64,
}

impl Ballot {
    /// Bytes of an encoded ballot.
    pub const LEN: usize = 16;

    /// The ballot as stored and as sent: compared byte by byte it has the same order.
    pub fn encode(self) -> [u8; Ballot::LEN] {
        (u128::from(self.round) << 64 | u128::from(self.proposer)).to_be_bytes()
    }

    /// Reads a stored ballot. `None` unless there are [`LEN`](Ballot::LEN) bytes.
    pub fn decode(bytes: &[u8]) -> Option<Ballot> {
        let number = u128::from_be_bytes(bytes.try_into().ok()?);
        Some(Ballot { round: (number >> 64) as u64, proposer: number as u64 })
    }

    /// The ballot of `proposer` that goes beyond this one. It stays the same at the end of all numbers, where nobody
    /// gets to by counting.
    #[must_use]
    pub fn beyond(self, proposer: u64) -> Ballot {
        Ballot { round: self.round.saturating_add(1), proposer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_in_the_order_of_ballots() {
        let ballot = Ballot { round: 0x0102, proposer: 0xfffe };
        assert_eq!(ballot.encode(), *b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\xff\xfe");
        assert_eq!(Ballot::decode(&ballot.encode()), Some(ballot));
        assert_eq!(Ballot::decode(&[0; 15]), None);
        let numbers = [0, 1, 255, 256, 1 << 53, (1 << 53) + 1, u64::MAX];
        let ballots = || numbers.iter().flat_map(|&round| numbers.map(|proposer| Ballot { round, proposer }));
        for a in ballots() {
            for b in ballots() {
                assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
            }
        }
        assert!(ballot.beyond(0) > ballot);
    }
}
