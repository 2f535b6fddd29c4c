//! Which tenure a token is under: the part of the document that every request reads.

use super::document::Tenure;
use crate::ring::{Token, TokenRange};

/// The finest index over ranges: 2^20 buckets, 4 MiB.
const MAX_BUCKET_BITS: u32 = 20;

/// A stretch of the circle under one tenure, up to and with its last token; it begins where the one before ends.
pub(super) type Run<T = Tenure> = (u64, T);

/// Every token's index into the table of tenures.
///
/// Nearly all rings have few enough tenures for two bytes, which halves what a lookup has to bring into the cache.
pub(super) enum Territory {
    /// Equal arcs; arc i is the tokens whose top bits are i.
    Arcs16 { bits: u32, indexes: Box<[u16]> },
    /// The same with more than 2^16 tenures.
    Arcs32 { bits: u32, indexes: Box<[u32]> },
    /// Ranges of any size.
    Ranges(Ranges),
}

/// Ranges, and an index that leaves a lookup one or two of them to look at.
pub(super) struct Ranges {
    /// The last token of each: strictly ascending, the last one is the last on the circle.
    ends: Box<[u64]>,
    /// By range.
    indexes: Box<[u32]>,
    /// By bucket, the tokens with the same top bits: the first range that ends in it or beyond. And one more for
    /// the end of the last bucket.
    first: Box<[u32]>,
    bits: u32,
}

impl Territory {
    /// 2^`bits` arcs, given as runs that end where arcs end and cover the circle.
    pub(super) fn arcs(bits: u32, runs: &[Run<u32>], tenures: usize) -> Territory {
        let mut place = 0;
        let arcs = (0..1_u64 << bits).map(|arc| {
            let end = arc << (64 - bits) | u64::MAX >> bits;
            while runs[place].0 < end {
                place += 1;
            }
            runs[place].1
        });
        if tenures <= 1 << 16 {
            Territory::Arcs16 { bits, indexes: arcs.map(|index| index as u16).collect() }
        } else {
            Territory::Arcs32 { bits, indexes: arcs.collect() }
        }
    }

    /// Ranges, as runs that cover the circle; neighbours under the same tenure become one.
    pub(super) fn ranges(runs: &[Run<u32>]) -> Territory {
        let mut joined: Vec<Run<u32>> = Vec::with_capacity(runs.len());
        for &(end, index) in runs {
            match joined.last_mut().filter(|last| last.1 == index) {
                Some(last) => last.0 = end,
                None => joined.push((end, index)),
            }
        }
        let (ends, indexes): (Vec<u64>, Vec<u32>) = joined.into_iter().unzip();
        // Two to four buckets for each range.
        let bits = (ends.len().next_power_of_two().ilog2() + 1).min(MAX_BUCKET_BITS);
        let mut place = 0;
        let mut first: Vec<u32> = (0..1_u64 << bits)
            .map(|bucket| {
                while ends[place] < bucket << (64 - bits) {
                    place += 1;
                }
                place as u32
            })
            .collect();
        first.push(ends.len() as u32 - 1);
        Territory::Ranges(Ranges { ends: ends.into(), indexes: indexes.into(), first: first.into(), bits })
    }

    /// The index of the tenure that `token` is under.
    #[inline]
    pub(super) fn index(&self, token: Token) -> usize {
        match self {
            Territory::Arcs16 { bits, indexes } => {
                usize::from(indexes[(token.get() >> (64 - bits)) as usize])
            }
            Territory::Arcs32 { bits, indexes } => indexes[(token.get() >> (64 - bits)) as usize] as usize,
            Territory::Ranges(ranges) => ranges.indexes[ranges.place(token.get())] as usize,
        }
    }

    /// How many arcs or ranges there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Territory::Arcs16 { indexes, .. } => indexes.len(),
            Territory::Arcs32 { indexes, .. } => indexes.len(),
            Territory::Ranges(ranges) => ranges.ends.len(),
        }
    }

    /// The last token of the arc or range at `place`, and the index of its tenure.
    pub(super) fn run(&self, place: usize) -> Run<u32> {
        let end = |bits: u32| (place as u64) << (64 - bits) | u64::MAX >> bits;
        match self {
            Territory::Arcs16 { bits, indexes } => (end(*bits), u32::from(indexes[place])),
            Territory::Arcs32 { bits, indexes } => (end(*bits), indexes[place]),
            Territory::Ranges(ranges) => (ranges.ends[place], ranges.indexes[place]),
        }
    }
}

impl Ranges {
    /// The range that holds `token`.
    #[inline]
    fn place(&self, token: u64) -> usize {
        let bucket = (token >> (64 - self.bits)) as usize;
        let (from, to) = (self.first[bucket] as usize, self.first[bucket + 1] as usize);
        // Whatever of the bucket lies beyond the ranges that end in it belongs to the next one, `to`.
        from + self.ends[from..to].partition_point(|&end| end < token)
    }
}

/// The circle in order, each arc or range with its tenure. Made by [`Document::tenures`](super::Document::tenures).
#[derive(Clone)]
pub struct Tenures<'a> {
    territory: &'a Territory,
    table: &'a [Tenure],
    place: usize,
    start: u64,
}

impl<'a> Tenures<'a> {
    pub(super) fn of(territory: &'a Territory, table: &'a [Tenure]) -> Tenures<'a> {
        Tenures { territory, table, place: 0, start: 0 }
    }
}

impl Iterator for Tenures<'_> {
    type Item = (TokenRange, Tenure);

    fn next(&mut self) -> Option<Self::Item> {
        if self.place == self.territory.len() {
            return None;
        }
        let (end, index) = self.territory.run(self.place);
        let range = TokenRange::new(Token::new(self.start), Token::new(end))?;
        self.place += 1;
        // Past the last range nobody asks for the start.
        self.start = end.wrapping_add(1);
        Some((range, self.table[index as usize]))
    }
}

impl std::fmt::Debug for Tenures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenures").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(runs: &[Run<u32>], token: u64) -> usize {
        runs.iter().find(|run| run.0 >= token).unwrap().1 as usize
    }

    fn check(ends: &[u64]) {
        let runs: Vec<_> =
            ends.iter().chain([&u64::MAX]).zip(0..).map(|(&end, index)| (end, index)).collect();
        let territory = Territory::ranges(&runs);
        let around = runs.iter().flat_map(|&(end, _)| [end.wrapping_sub(1), end, end.wrapping_add(1)]);
        for token in around.chain([0, 1, 1 << 63, (1 << 63) - 1, u64::MAX]) {
            assert_eq!(
                territory.index(Token::new(token)),
                by_definition(&runs, token),
                "{token:x} of {runs:x?}"
            );
        }
    }

    #[test]
    fn every_shape_of_bucket_agrees_with_the_definition() {
        check(&[]);
        check(&[0]);
        check(&[u64::MAX - 1]);
        check(&[0, 1, u64::MAX - 1]);
        check(&[(1 << 63) - 1, 1 << 63, (1 << 63) + 1]);
        check(&(0..40).map(|i| (1 << 60) + i).collect::<Vec<_>>());
        check(&(0..40).map(|i| u64::MAX - 80 + i).collect::<Vec<_>>());
        check(&(0..64).map(|i| (i << 58) + 5).collect::<Vec<_>>());
        // Ends that are the ends of buckets.
        check(&(1..32).map(|i| (i << 58) - 1).collect::<Vec<_>>());
    }

    #[test]
    fn neighbours_under_one_tenure_are_one_range() {
        let territory = Territory::ranges(&[(3, 0), (9, 0), (10, 1), (20, 1), (u64::MAX, 0)]);
        assert_eq!(territory.len(), 3);
        assert_eq!([0, 9, 10, 20, 21].map(|token| territory.index(Token::new(token))), [0, 0, 1, 1, 0]);
    }

    #[test]
    fn wide_arcs_are_looked_up_like_narrow_ones() {
        let runs: Vec<_> = (0..16_u64).map(|arc| (arc << 60 | u64::MAX >> 4, 15 - arc as u32)).collect();
        for tenures in [16, 1 << 17] {
            let territory = Territory::arcs(4, &runs, tenures);
            assert_eq!(matches!(territory, Territory::Arcs32 { .. }), tenures > 16);
            for arc in 0..16_u64 {
                for token in [arc << 60, arc << 60 | u64::MAX >> 4] {
                    assert_eq!(territory.index(Token::new(token)), 15 - arc as usize);
                }
            }
        }
    }
}
