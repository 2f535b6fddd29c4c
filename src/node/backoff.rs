//! How long to wait before a connection is tried again.

use std::time::Duration;

use crate::entropy;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause after this many failed attempts: doubles with every one; half of it is random, so that a thousand processes do not return in step.
pub(super) fn pause(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
    whole / 2 + whole.mul_f64(entropy::fraction() / 2.0)
}

/// This long, up to a quarter more or less, so that many processes do not act in step.
pub(crate) fn about(interval: Duration) -> Duration {
    interval.mul_f64(0.75 + 0.5 * entropy::fraction())
}

/// So many connections in a row may end before they were of any use until there is a pause: a server that restarts, or a
/// network that is being mended, ends a few.
const PATIENCE: u32 = 32;

/// Counts connections that open well and end before anything was answered on them, as behind a proxy that accepts and then
/// thinks better of it.
#[derive(Debug, Default)]
pub(super) struct Restlessness(u32);

impl Restlessness {
    /// A connection has ended, and was useful or was not: how long to wait before the next.
    pub(super) fn ended(&mut self, useful: bool) -> Duration {
        self.0 = if useful { 0 } else { self.0 + 1 };
        self.0.checked_sub(PATIENCE).map_or(Duration::ZERO, pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_never_in_step() {
        for attempt in 0..100 {
            let whole = (FIRST_PAUSE * 2u32.pow(attempt.min(10))).min(LONGEST_PAUSE);
            let pauses: Vec<Duration> = (0..20).map(|_| pause(attempt)).collect();
            assert!(pauses.iter().all(|&pause| pause >= whole / 2 && pause <= whole), "{pauses:?}");
            assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn connections_of_no_use_are_opened_less_often() {
        let mut restlessness = Restlessness::default();
        for _ in 1..PATIENCE {
            assert_eq!(restlessness.ended(false), Duration::ZERO);
        }
        assert!(restlessness.ended(false) >= FIRST_PAUSE / 2);
        let later = (0..100).map(|_| restlessness.ended(false)).last().unwrap();
        assert!(later >= LONGEST_PAUSE / 2);
        assert_eq!(restlessness.ended(true), Duration::ZERO);
        assert_eq!(restlessness.ended(false), Duration::ZERO);
    }
}
