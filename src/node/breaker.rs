//! Whether a node is asked at all.
//!
//! ```text
//!            nobody answered, or nobody let us in
//!   closed ───────────────────────────────────────► open: requests fail at once, with how long that has been so
//!      ▲                                              │ a pause, longer every time
//!      └──── a fresh connection was greeted and ◄─────┘
//!            admitted (half-open: the attempt itself)
//! ```
//!
//! It decides who waits, never who owns: the ring is the same whatever state this is in.

use std::time::Duration;

use tokio::time::Instant;

use super::backoff::pause;
use crate::error::Error;

/// A node that greets and then answers nothing is let back in less and less often, the first time at once: one pause of a
/// server is no outage.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Down>,
    /// Attempts to connect that have failed since the last one that did not.
    attempts: u32,
    /// Connections on which nobody answered, since the last answer to a request.
    silences: u32,
}

/// Since when a node is of no use, and why.
#[derive(Debug, Clone)]
pub(super) struct Down {
    pub(super) since: Instant,
    pub(super) error: Error,
}

impl Breaker {
    /// What requests are refused with, if they are.
    pub(super) fn open(&self) -> Option<&Down> {
        self.open.as_ref()
    }

    /// An attempt to connect has failed: how long to wait before the next.
    pub(super) fn failed(&mut self, now: Instant, error: Error) -> Duration {
        self.trip(now, error);
        self.attempts = self.attempts.saturating_add(1);
        pause(self.attempts - 1)
    }

    /// Nobody answered on an open connection until nobody waited for it any more: how long to wait before another one is
    /// opened.
    pub(super) fn silent(&mut self, now: Instant, error: Error) -> Duration {
        self.trip(now, error);
        self.silences = self.silences.saturating_add(1);
        self.silences.checked_sub(2).map_or(Duration::ZERO, pause)
    }

    /// A fresh connection may carry requests.
    pub(super) fn connected(&mut self) {
        (self.open, self.attempts) = (None, 0);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.silences = 0;
    }

    fn trip(&mut self, now: Instant, error: Error) {
        let since = self.open.as_ref().map_or(now, |down| down.since);
        self.open = Some(Down { since, error });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn error() -> Error {
        Error::new(ErrorKind::Unavailable, "down")
    }

    #[test]
    fn a_node_that_pauses_once_is_tried_at_once_and_one_that_only_greets_is_not() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.silent(now, error()), Duration::ZERO);
        breaker.connected();
        breaker.answered();
        assert_eq!(breaker.silent(now, error()), Duration::ZERO);
        breaker.connected();
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let pause = breaker.silent(now, error());
            assert!(pause > Duration::ZERO);
            longest = longest.max(pause);
            // That it lets us in says nothing, as long as it answers nothing.
            breaker.connected();
        }
        assert!(longest >= Duration::from_secs(1));
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Failed,
        Silent,
        Connected,
        Answered,
    }

    proptest! {
        #[test]
        fn it_is_open_from_the_first_failure_to_the_next_connection(
            events in prop::collection::vec((prop_oneof![
                Just(Event::Failed), Just(Event::Silent), Just(Event::Connected), Just(Event::Answered),
            ], 0_u64..5_000), 0..200)
        ) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            let mut since = None;
            for (event, passed) in events {
                now += Duration::from_millis(passed);
                let pause = match event {
                    Event::Failed => breaker.failed(now, error()),
                    Event::Silent => breaker.silent(now, error()),
                    Event::Connected => { breaker.connected(); Duration::ZERO }
                    Event::Answered => { breaker.answered(); Duration::ZERO }
                };
                // However long it was down, it is tried again within seconds.
                prop_assert!(pause <= Duration::from_secs(2));
                since = match event {
                    Event::Failed | Event::Silent => since.or(Some(now)),
                    Event::Connected => None,
                    Event::Answered => since,
                };
                prop_assert_eq!(breaker.open().map(|down| down.since), since);
            }
        }
    }
}
