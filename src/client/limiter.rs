//! How fast something may go over the sessions of a node.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Hands out a number of sessions per second, evenly.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Time per session; none for no limit.
    pace: Option<Duration>,
    /// When what was handed out is used up.
    next: Mutex<Instant>,
}

impl Limiter {
    /// So many sessions per second, or as many as will go.
    pub(crate) fn new(rate: Option<u32>) -> Limiter {
        let pace = rate.map(|rate| Duration::from_secs(1) / rate.max(1));
        Limiter { pace, next: Mutex::new(Instant::now()) }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.pace.is_some()
    }

    /// How many sessions, `most` at most, are to be taken at once so that they go evenly: those of a few milliseconds.
    pub(crate) fn burst(&self, most: usize) -> usize {
        let Some(pace) = self.pace.filter(|pace| !pace.is_zero()) else { return most };
        let share = Duration::from_millis(2).as_nanos() / pace.as_nanos();
        usize::try_from(share).unwrap_or(most).clamp(1, most)
    }

    /// Waits until it is the turn of so many sessions.
    pub(crate) async fn take(&self, sessions: usize) {
        let Some(pace) = self.pace else { return };
        let turn = {
            let mut next = self.next.lock();
            // Time in which nothing went is not made up for.
            let turn = (*next).max(Instant::now());
            *next = turn + pace * sessions as u32;
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn as_many_as_asked_for_and_no_more() {
        let limiter = Limiter::new(Some(1_000));
        let start = Instant::now();
        for _ in 0..50 {
            limiter.take(100).await;
        }
        // The last hundred have only begun.
        assert_eq!(start.elapsed().as_millis(), 4_900);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        limiter.take(100).await;
        limiter.take(100).await;
        assert_eq!(start.elapsed().as_millis(), 100);
        assert_eq!((limiter.burst(256), Limiter::new(Some(1)).burst(256)), (2, 1));
        let unlimited = Limiter::new(None);
        assert_eq!(unlimited.burst(256), 256);
        unlimited.take(usize::MAX).await;
        assert_eq!(start.elapsed().as_millis(), 100);
    }
}
