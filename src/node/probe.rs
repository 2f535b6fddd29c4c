//! A look at an open connection, now and then.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep, timeout};

use super::{Link, Look, backoff::about};

/// Looks at a connection at intervals: a server may have been demoted, which reads do not notice, or a connection may lead
/// nowhere; and an application without traffic is to learn of a new topology, too.
pub(super) struct Probe {
    interval: Duration,
    limit: Duration,
    state: State,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Looking(Pin<Box<dyn Future<Output = Probed> + Send>>),
}

/// What was seen.
pub(super) enum Probed {
    /// The connection is as it should be, and this was seen.
    Well(Look),
    /// The connection is of no use.
    Unfit,
    /// Nothing was answered in time.
    Silent,
}

impl Probe {
    /// Looks about every `interval`, and waits no longer than `limit` for an answer.
    pub(super) fn new(interval: Duration, limit: Duration) -> Probe {
        Probe { interval, limit, state: State::Waiting(Box::pin(sleep(about(interval)))) }
    }

    pub(super) fn poll<L: Link>(&mut self, link: &L, context: &mut Context<'_>) -> Poll<Probed> {
        loop {
            match &mut self.state {
                State::Waiting(sleep) => {
                    if sleep.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let look = timeout(self.limit, link.clone().probe());
                    self.state = State::Looking(Box::pin(async move {
                        match look.await {
                            Ok(Ok(look)) => Probed::Well(look),
                            // Whoever connects again finds the same, and says it.
                            Ok(Err(_)) => Probed::Unfit,
                            Err(_) => Probed::Silent,
                        }
                    }));
                }
                State::Looking(looking) => {
                    let probed = looking.as_mut().poll(context);
                    if probed.is_ready() {
                        self.state = State::Waiting(Box::pin(sleep(about(self.interval))));
                    }
                    return probed;
                }
            }
        }
    }
}
