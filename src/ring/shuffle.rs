//! The frozen pseudo-random order.

/// Where every sequence starts, frozen with placement version 1: the ASCII bytes `arcorder`, big-endian.
const SEED: u64 = u64::from_be_bytes(*b"arcorder");

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014), with the
/// constants of Vigna's reference implementation.
///
/// It decides nothing but an order, so statistical quality is all that is asked of it; and it is eight lines,
/// so that another language can reproduce a ring.
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    /// The frozen sequence, from its start.
    pub(super) const fn frozen() -> SplitMix64 {
        SplitMix64(SEED)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`: the high half of a 128-bit product (Lemire). Its bias, `bound` / 2^64, is far
    /// below anything an order could show.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Fisher–Yates in Durstenfeld's form, from the last place down to the second.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first outputs for the seed 1234567.
        let mut random = SplitMix64(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn the_order_is_frozen() {
        let mut items: Vec<u8> = (0..16).collect();
        SplitMix64::frozen().shuffle(&mut items);
        assert_eq!(items, [15, 10, 5, 14, 1, 9, 13, 4, 6, 2, 3, 12, 11, 8, 0, 7]);
    }
}
