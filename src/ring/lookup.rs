//! The index that makes a lookup in a hashed ring one read of memory.
//!
//! The circle is cut into 2^bits equal buckets by the top bits of the hash, two to four times as many as there
//! are tokens. Hashed tokens are uniform, so nearly all buckets hold none or one, and then the bucket's slot
//! answers alone: it keeps the owner up to the token, the owner beyond it, and where between them to cut. Only
//! a bucket with more tokens, or a hash that agrees with the cut in all the bits that the slot has room for,
//! goes on to the tokens themselves.

/// The finest index: 2^22 slots, 32 MiB. Beyond about four million tokens buckets fill up instead.
const MAX_BITS: u32 = 22;

/// In place of an owner: the bucket holds several tokens. No member has this index, see `MAX_NODES`.
const SEVERAL: u16 = u16::MAX;

/// What a bucket knows. Eight bytes, so that none straddles a cache line.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The 32 bits of the bucket's only token below those that chose the bucket; in a bucket with several
    /// tokens, the place of the first.
    cut: u32,
    /// Owner of the hashes up to the cut, or `SEVERAL`.
    before: u16,
    /// Owner of the hashes beyond the cut; in a bucket with several tokens, of the first.
    after: u16,
}

impl Slot {
    /// Until it is known who comes next.
    const EMPTY: Slot = Slot { cut: 0, before: SEVERAL, after: SEVERAL };
}

/// One slot for each bucket.
pub(super) struct Index {
    bits: u32,
    slots: Vec<Slot>,
}

impl Index {
    /// The index over `tokens`, which are strictly ascending and not empty, and their `owners`.
    pub(super) fn build(tokens: &[u64], owners: &[u16]) -> Index {
        // A quarter to half a token per bucket: one bucket in forty to one in eleven has several. Measured,
        // fewer buckets cost more in wrong predictions, and more buckets as much in cache misses as they save.
        let bits = (tokens.len().next_power_of_two().ilog2() + 1).min(MAX_BITS);
        let owner = |place: usize| if place < owners.len() { owners[place] } else { owners[0] };
        let bucket = |place: usize| tokens.get(place).map(|token| token >> (64 - bits));

        let mut slots = vec![Slot::EMPTY; 1 << bits];
        let mut first = 0;
        while let Some(this) = bucket(first) {
            let mut end = first + 1;
            while bucket(end) == Some(this) {
                end += 1;
            }
            slots[this as usize] = if end == first + 1 {
                Slot { cut: below(tokens[first], bits), before: owner(first), after: owner(end) }
            } else {
                // At most 2^26 tokens: a place fits.
                Slot { cut: first as u32, before: SEVERAL, after: owner(first) }
            };
            first = end;
        }
        // Buckets without a token belong to the next one. From the last to the first, and without a branch, which would be
        // mispredicted for every token.
        let mut next = owners[0];
        for slot in slots.iter_mut().rev() {
            let is_empty = *slot == Slot::EMPTY;
            slot.before = if is_empty { next } else { slot.before };
            slot.after = if is_empty { next } else { slot.after };
            next = if slot.before == SEVERAL { slot.after } else { slot.before };
        }
        Index { bits, slots }
    }

    /// The owner of the first of `tokens` at or after `hash`, wrapping.
    #[inline]
    pub(super) fn owner(&self, hash: u64, tokens: &[u64], owners: &[u16]) -> u16 {
        let slot = self.slots[(hash >> (64 - self.bits)) as usize];
        let rest = below(hash, self.bits);
        if slot.before == SEVERAL || rest == slot.cut {
            return step(slot, hash, tokens, owners);
        }
        // Chosen by a shift: for a random hash a branch would be mispredicted half the time.
        let owners = u32::from(slot.before) | u32::from(slot.after) << 16;
        (owners >> (u32::from(rest > slot.cut) * 16)) as u16
    }
}

/// The 32 bits of `hash` below its top `bits`.
#[inline]
fn below(hash: u64, bits: u32) -> u32 {
    ((hash << bits) >> 32) as u32
}

/// The rest of the way for a hash that `slot` alone cannot place.
#[inline(never)]
fn step(slot: Slot, hash: u64, tokens: &[u64], owners: &[u16]) -> u16 {
    let place = if slot.before == SEVERAL {
        let first = slot.cut as usize;
        first + tokens[first..].iter().take_while(|&&token| token < hash).count()
    } else {
        tokens.partition_point(|&token| token < hash)
    };
    owners[if place < owners.len() { place } else { 0 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(hash: u64, tokens: &[u64], owners: &[u16]) -> u16 {
        tokens.iter().position(|&token| token >= hash).map_or(owners[0], |place| owners[place])
    }

    /// Every token, its neighbours, and both ends of the circle.
    fn check(tokens: &[u64]) {
        let owners: Vec<u16> = (0..tokens.len() as u16).collect();
        let index = Index::build(tokens, &owners);
        let around = tokens.iter().flat_map(|&t| [t.wrapping_sub(1), t, t.wrapping_add(1)]);
        for hash in around.chain([0, 1, u64::MAX - 1, u64::MAX, 1 << 63, (1 << 63) - 1]) {
            assert_eq!(
                index.owner(hash, tokens, &owners),
                by_definition(hash, tokens, &owners),
                "{hash:x} of {tokens:x?}"
            );
        }
    }

    #[test]
    fn every_shape_of_bucket_agrees_with_the_definition() {
        check(&[0]);
        check(&[u64::MAX]);
        check(&[0, u64::MAX]);
        check(&[1 << 63]);
        check(&[(1 << 63) - 1, 1 << 63, (1 << 63) + 1]);
        // All in one bucket, and several buckets empty after it.
        check(&(0..40).map(|i| (1 << 60) + i).collect::<Vec<_>>());
        // All in the last bucket: the walk wraps.
        check(&(0..40).map(|i| u64::MAX - 80 + i).collect::<Vec<_>>());
        // Tokens that differ from hashes around them only below the 32 bits of the cut.
        check(&(0..64).map(|i| (i << 58) + 5).collect::<Vec<_>>());
    }
}
