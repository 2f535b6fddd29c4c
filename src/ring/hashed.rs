//! Rings whose tokens come from the names of their nodes (Karger et al., STOC 1997; virtual nodes as in
//! Dynamo, SOSP 2007).

use crate::ring::hash::hash;
use crate::ring::lookup::Index;
use crate::ring::member::Member;
use crate::ring::sort::sort;
use crate::ring::{MAX_TOKENS, NodeId, RingError, Token};

/// The sorted tokens of a hashed ring, who owns each, and the index over them.
pub(super) struct Hashed {
    pub(super) vnodes: u32,
    /// Strictly ascending, never empty.
    pub(super) tokens: Vec<u64>,
    /// The owner of the token at the same place.
    pub(super) owners: Vec<u16>,
    index: Index,
}

impl Hashed {
    /// `vnodes × weight` tokens for each of the checked `members`.
    pub(super) fn build(members: &[Member], vnodes: u32) -> Result<Hashed, RingError> {
        if vnodes == 0 {
            return Err(RingError::NoVnodes);
        }
        // 65,535 × 2^64 at most: u128 cannot overflow, u64 could.
        let count = |member: &Member| u128::from(member.weight().get()) * u128::from(vnodes);
        let tokens = members.iter().map(count).sum::<u128>();
        if tokens > u128::from(MAX_TOKENS) {
            return Err(RingError::TooManyTokens { tokens });
        }

        let mut placed = Vec::with_capacity(tokens as usize);
        let mut owners = Vec::with_capacity(tokens as usize);
        for (owner, member) in members.iter().enumerate() {
            let mut name = VnodeName::of(member.id());
            // Below the limit of 2^26, so every index fits.
            placed.extend((0..count(member) as u32).map(|index| name.token(index)));
            owners.resize(placed.len(), owner as u16);
        }
        Ok(Hashed::arrange(vnodes, placed, owners))
    }

    /// Puts tokens and their owners in order.
    fn arrange(vnodes: u32, mut tokens: Vec<u64>, mut owners: Vec<u16>) -> Hashed {
        sort(&mut tokens, &mut owners);
        // Members are sorted, so among equal tokens the smaller name comes first, and it alone is kept.
        if tokens.windows(2).any(|two| two[0] == two[1]) {
            let mut placed: Vec<_> = tokens.into_iter().zip(owners).collect();
            placed.dedup_by_key(|(token, _)| *token);
            (tokens, owners) = placed.into_iter().unzip();
        }
        let index = Index::build(&tokens, &owners);
        Hashed { vnodes, tokens, owners, index }
    }

    /// Who owns `token`.
    #[inline]
    pub(super) fn owner(&self, token: Token) -> u16 {
        self.index.owner(token.get(), &self.tokens, &self.owners)
    }

    /// The place in `owners` of the virtual node that `token` belongs to.
    pub(super) fn place(&self, token: Token) -> usize {
        let place = self.tokens.partition_point(|&at| at < token.get());
        if place == self.tokens.len() { 0 } else { place }
    }
}

/// The bytes that a virtual node's token is the hash of: the name of its node, a zero byte, and its index as
/// four little-endian bytes. No name holds a zero byte, so no two virtual nodes have the same bytes.
struct VnodeName {
    bytes: [u8; NodeId::MAX_LEN + 5],
    len: usize,
}

impl VnodeName {
    fn of(node: &NodeId) -> VnodeName {
        let name = node.as_str().as_bytes();
        let mut bytes = [0; NodeId::MAX_LEN + 5];
        bytes[..name.len()].copy_from_slice(name);
        VnodeName { bytes, len: name.len() + 5 }
    }

    fn token(&mut self, index: u32) -> u64 {
        self.bytes[self.len - 4..self.len].copy_from_slice(&index.to_le_bytes());
        hash(&self.bytes[..self.len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two names are known whose tokens collide, so the rule is shown where it is applied.
    #[test]
    fn of_equal_tokens_the_smaller_name_wins() {
        let ring = Hashed::arrange(1, vec![9, 5, 9, 9], vec![2, 7, 1, 3]);
        assert_eq!((&ring.tokens[..], &ring.owners[..]), (&[5, 9][..], &[7, 1][..]));
        assert_eq!([5, 6, 9, 10].map(|token| ring.owner(Token::new(token))), [7, 1, 1, 7]);
    }
}
