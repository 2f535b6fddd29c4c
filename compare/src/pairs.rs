//! Interleaving: both sides of a comparison in one run, so that what else the machine does hits both alike.

use std::time::Duration;

use crate::{Result, statistics::Spread};

/// How long a comparison takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    /// Rounds of each side that count. Each side has one more first, to warm up.
    pub(crate) rounds: usize,
    /// The length of one side's round.
    pub(crate) round: Duration,
}

impl Series {
    /// For the goal table alone.
    pub(crate) const QUICK: Series = Series { rounds: 15, round: Duration::from_millis(250) };
    /// For the goal table in the full run.
    pub(crate) const FULL: Series = Series { rounds: 15, round: Duration::from_millis(400) };

    /// For the many rows of the further tables: at most seven rounds, and shorter ones.
    pub(crate) fn of_tables(self) -> Series {
        Series { rounds: self.rounds.min(7), round: self.round / 2 }
    }
}

/// Who has a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

/// What both sides did in one round.
#[derive(Debug, Clone)]
pub(crate) struct Pair<T> {
    pub(crate) ours: T,
    pub(crate) theirs: T,
}

/// Lets both sides do a turn per round, in alternating order (A B, B A, A B, …): whatever drifts favours neither.
/// The first round warms up and does not count.
pub(crate) fn interleave<T>(rounds: usize, mut turn: impl FnMut(Side) -> Result<T>) -> Result<Vec<Pair<T>>> {
    turn(Side::Ours)?;
    turn(Side::Theirs)?;
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            let ours = turn(Side::Ours)?;
            Pair { ours, theirs: turn(Side::Theirs)? }
        } else {
            let theirs = turn(Side::Theirs)?;
            Pair { ours: turn(Side::Ours)?, theirs }
        });
    }
    Ok(pairs)
}

/// The median of the rounds' own ratios, ours to theirs. It is not the ratio of the medians, which would compare
/// rounds that were not neighbours.
pub(crate) fn ratio<T>(pairs: &[Pair<T>], of: impl Fn(&T) -> f64) -> Result<Spread> {
    let ratios = pairs.iter().map(|pair| of(&pair.ours) / of(&pair.theirs));
    Spread::of(ratios.filter(|ratio| ratio.is_finite())).ok_or_else(|| "no round gave a ratio".into())
}

/// The median of one side.
pub(crate) fn median<T>(pairs: &[Pair<T>], side: Side, of: impl Fn(&T) -> f64) -> f64 {
    let values = pairs.iter().map(|pair| {
        of(match side {
            Side::Ours => &pair.ours,
            Side::Theirs => &pair.theirs,
        })
    });
    Spread::of(values).map_or(0.0, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_alternate() {
        let mut turns = String::new();
        let pairs = interleave(3, |side| {
            turns.push(if side == Side::Ours { 'A' } else { 'B' });
            Ok(turns.len())
        })
        .unwrap();
        assert_eq!(turns, "ABABBAAB");
        let turns: Vec<_> = pairs.iter().map(|pair| (pair.ours, pair.theirs)).collect();
        assert_eq!(turns, [(3, 4), (6, 5), (7, 8)]);
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios() {
        let pair = |ours, theirs| Pair { ours, theirs };
        // Twice as fast in every pair, while the machine was ten times slower in the last.
        let pairs = [pair(20.0, 10.0), pair(40.0, 20.0), pair(4.0, 1.0)];
        let spread = ratio(&pairs, |value| *value).unwrap();
        assert_eq!(spread, Spread { median: 2.0, least: 2.0, most: 4.0 });
        assert_eq!(median(&pairs, Side::Theirs, |value| *value), 10.0);
        assert!(ratio(&[pair(1.0, 0.0)], |value| *value).is_err());
    }

    #[test]
    fn an_error_ends_it() {
        assert!(interleave(3, |_| Err::<(), _>("no".into())).is_err());
    }
}
