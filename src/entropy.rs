//! Random numbers: ballots, incarnations, numbers of writes, pauses; and the secrets of ids that take the place of others.
//! All of them come from the operating system, but in tests that are to be repeated.

use crate::error::Error;

/// A random number.
///
/// In a test that has called [`seed`] it is the next one of that sequence, so that a run can be repeated.
pub(crate) fn u64() -> Result<u64, Error> {
    #[cfg(test)]
    if let Some(number) = seeded::next() {
        return Ok(number);
    }
    getrandom::u64()
        .map_err(|error| Error::configuration(format!("the operating system gave no random bytes: {error}")))
}

/// Bytes that nobody can guess.
pub(crate) fn secret() -> Result<[u8; 16], Error> {
    let (mut bytes, halves) = ([0; 16], [u64()?, u64()?]);
    bytes.chunks_mut(8).zip(halves).for_each(|(part, half)| part.copy_from_slice(&half.to_be_bytes()));
    Ok(bytes)
}

/// A random number from 0 to 1. Where the operating system has none, the middle.
pub(crate) fn fraction() -> f64 {
    u64().map_or(0.5, |number| number as f64 / u64::MAX as f64)
}

#[cfg(test)]
pub(crate) use seeded::seed;

#[cfg(test)]
mod seeded {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From here on, random numbers of this thread are a function of `seed`; `None` ends that.
    pub(crate) fn seed(seed: Option<u64>) {
        STATE.set(seed);
    }

    /// SplitMix64.
    pub(super) fn next() -> Option<u64> {
        let state = STATE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(Some(state));
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_seeded_sequence_repeats() {
        let three = || [(); 3].map(|()| super::u64().unwrap());
        super::seed(Some(0));
        let first = three();
        // The published sequence of SplitMix64 for the seed 0.
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        super::seed(Some(0));
        assert_eq!(three(), first);
        super::seed(None);
        assert_ne!(three(), first);
    }
}
