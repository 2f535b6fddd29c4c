//! What happens to a ring, told to whoever listens.

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{error::Error, ring::NodeId, topology::Epoch};

/// So many events are kept for a listener that is slow; of older ones he hears how many he has missed.
const KEPT: usize = 256;

/// Something that happened to a ring, as far as this application noticed. Names nodes, never sessions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Requests go to the node again, or for the first time.
    NodeUp {
        /// Which one.
        node: NodeId,
    },
    /// Requests for the node's sessions fail at once, until it is up again. Its sessions stay where they are.
    NodeDown {
        /// Which one.
        node: NodeId,
        /// Why.
        error: Error,
    },
    /// The application has taken over another topology.
    TopologyChanged {
        /// Its number.
        epoch: Epoch,
        /// Whether sessions are moving under it.
        resizing: bool,
    },
    /// The listener was so slow that so many events are gone: what he believes may be old, and
    /// [`health`](crate::SessionRing::health) says how things are now.
    Missed(u64),
}

/// The events of a ring since [`SessionRing::events`](crate::SessionRing::events) was called.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// Waits for the next event. `None`: the ring was closed, or is gone. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Tells events. Where nobody listens, that is all.
#[derive(Debug)]
pub(super) struct Herald(Mutex<Option<broadcast::Sender<Event>>>);

impl Herald {
    pub(super) fn new() -> Herald {
        Herald(Mutex::new(Some(broadcast::channel(KEPT).0)))
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(sender) = &*self.0.lock() {
            // It fails where nobody listens.
            let _ = sender.send(event);
        }
    }

    pub(super) fn listen(&self) -> Events {
        match &*self.0.lock() {
            Some(sender) => Events(sender.subscribe()),
            None => Events(broadcast::channel(1).1),
        }
    }

    /// Nothing more happens.
    pub(super) fn end(&self) {
        self.0.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_slow_hears_how_much_was_missed_and_everybody_hears_the_end() {
        let herald = Herald::new();
        let mut events = herald.listen();
        for epoch in 1..=KEPT as u64 + 3 {
            herald.tell(Event::TopologyChanged { epoch: Epoch::new(epoch), resizing: false });
        }
        assert!(matches!(events.next().await, Some(Event::Missed(3))));
        let next = events.next().await;
        assert!(
            matches!(next, Some(Event::TopologyChanged { epoch, .. }) if epoch == Epoch::new(4)),
            "{next:?}"
        );
        let mut fresh = herald.listen();
        herald.end();
        assert!(fresh.next().await.is_none());
        assert!(herald.listen().next().await.is_none());
        for _ in 5..=KEPT + 3 {
            assert!(matches!(events.next().await, Some(Event::TopologyChanged { .. })));
        }
        assert!(events.next().await.is_none());
    }
}
