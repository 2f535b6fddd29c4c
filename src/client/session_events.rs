//! What happens to sessions, told to whoever listens.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{record::Key, ring::NodeId};

/// So many events are kept for a listener that is slow.
const KEPT: usize = 1024;

/// Sessions that are remembered to have lived, in each of two generations.
const REMEMBERED: usize = 1 << 15;

/// Something that happened to a session, as far as this application had a part in it. Never names an id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A session began.
    Created(SessionRef),
    /// A session goes on under another id, and under this key: told of the old one.
    Rotated(SessionRef, Key),
    /// A session was logged out, here. (A log-out that had to be sent twice because its answer was lost may go untold.)
    Deleted(SessionRef),
    /// **Best effort.** A session that was here when this application last used it is gone, and nobody has logged it out. It
    /// has reached its deadline, or its node has lost it.
    Expired(SessionRef),
    /// A session was ended together with the others of its user.
    Revoked(SessionRef),
    /// What is stored cannot be read as a session; told with every attempt.
    Corrupt(SessionRef),
    /// The listener was so slow that so many events are gone.
    Missed(u64),
}

/// The session that something happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// The node that owns it.
    pub node: NodeId,
    /// Under which it is stored: see [`Sessions::key_of`](crate::Sessions::key_of).
    pub key: Key,
}

impl SessionEvent {
    /// The session it happened to.
    pub fn session(&self) -> Option<&SessionRef> {
        match self {
            SessionEvent::Created(session)
            | SessionEvent::Rotated(session, _)
            | SessionEvent::Deleted(session)
            | SessionEvent::Expired(session)
            | SessionEvent::Revoked(session)
            | SessionEvent::Corrupt(session) => Some(session),
            SessionEvent::Missed(_) => None,
        }
    }
}

impl SessionRef {
    pub(crate) fn new(namespace: Arc<str>, node: NodeId, key: Key) -> SessionRef {
        SessionRef { namespace, node, key }
    }
}

/// The events of sessions since [`session_events`](crate::SessionRing::session_events) or
/// [`events`](crate::Sessions::events) was called.
#[derive(Debug)]
pub struct SessionEvents {
    receiver: broadcast::Receiver<SessionEvent>,
    /// All if none.
    namespace: Option<Arc<str>>,
    _listener: Option<Listener>,
}

impl SessionEvents {
    /// Waits for the next event. `None`: the ring was closed, or is gone. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if self.is_for_us(&event) => return Some(event),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(SessionEvent::Missed(missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_for_us(&self, event: &SessionEvent) -> bool {
        let namespace = event.session().map(|session| &session.namespace);
        self.namespace.is_none() || namespace == self.namespace.as_ref()
    }
}

/// Tells events of sessions. Where nobody listens, that costs the load of one number.
#[derive(Debug)]
pub(super) struct Crier {
    listeners: Arc<AtomicUsize>,
    sender: Mutex<Option<broadcast::Sender<SessionEvent>>>,
    lived: Mutex<Lived>,
}

/// Counts one who listens.
#[derive(Debug)]
struct Listener(Arc<AtomicUsize>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The sessions that were seen alive lately: at least as many as one generation holds, at most two.
#[derive(Debug, Default)]
struct Lived {
    young: HashSet<Key>,
    old: HashSet<Key>,
}

impl Crier {
    pub(super) fn new() -> Crier {
        let sender = Mutex::new(Some(broadcast::channel(KEPT).0));
        Crier { listeners: Arc::default(), sender, lived: Mutex::default() }
    }

    pub(super) fn is_heard(&self) -> bool {
        self.listeners.load(Relaxed) > 0
    }

    pub(super) fn tell(&self, event: SessionEvent) {
        if let Some(sender) = &*self.sender.lock() {
            // It fails where nobody listens.
            let _ = sender.send(event);
        }
    }

    pub(super) fn listen(&self, namespace: Option<Arc<str>>) -> SessionEvents {
        match &*self.sender.lock() {
            Some(sender) => {
                if self.listeners.fetch_add(1, Relaxed) == 0 {
                    // What was seen while others listened is old.
                    mem::take(&mut *self.lived.lock());
                }
                let listener = Some(Listener(self.listeners.clone()));
                SessionEvents { receiver: sender.subscribe(), namespace, _listener: listener }
            }
            None => SessionEvents { receiver: broadcast::channel(1).1, namespace, _listener: None },
        }
    }

    /// Nothing more happens.
    pub(super) fn end(&self) {
        self.sender.lock().take();
    }

    /// The session was there.
    pub(super) fn lives(&self, key: Key) {
        let mut lived = self.lived.lock();
        if lived.young.len() == REMEMBERED {
            lived.old = mem::take(&mut lived.young);
        }
        lived.young.insert(key);
    }

    /// The session is not there: whether it was when it was last looked for.
    pub(super) fn is_gone(&self, key: &Key) -> bool {
        let mut lived = self.lived.lock();
        let (young, old) = (lived.young.remove(key), lived.old.remove(key));
        young || old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Keyspace, SessionId};

    fn event(namespace: &str) -> SessionEvent {
        let key = Keyspace::new("r", namespace).key(&SessionId::from_bytes([7; 24]));
        SessionEvent::Created(SessionRef::new(namespace.into(), "a".parse().unwrap(), key))
    }

    #[tokio::test]
    async fn who_is_slow_hears_how_much_was_missed_and_only_what_was_asked_for() {
        let crier = Crier::new();
        assert!(!crier.is_heard());
        let (mut all, mut ours) = (crier.listen(None), crier.listen(Some("ours".into())));
        assert!(crier.is_heard());
        crier.tell(event("others"));
        crier.tell(event("ours"));
        assert_eq!(&*all.next().await.unwrap().session().unwrap().namespace, "others");
        assert_eq!(&*ours.next().await.unwrap().session().unwrap().namespace, "ours");
        for _ in 0..KEPT + 2 {
            crier.tell(event("ours"));
        }
        // It had not read one before.
        assert!(matches!(all.next().await, Some(SessionEvent::Missed(3))));
        assert!(matches!(ours.next().await, Some(SessionEvent::Missed(2))));
        drop(all);
        assert!(crier.is_heard());
        crier.end();
        for _ in 0..KEPT {
            assert!(matches!(ours.next().await, Some(SessionEvent::Created(_))));
        }
        assert!(ours.next().await.is_none());
        drop(ours);
        assert!(!crier.is_heard());
        assert!(crier.listen(None).next().await.is_none());
        assert!(!crier.is_heard());
    }

    #[test]
    fn what_lived_is_remembered_within_bounds() {
        let crier = Crier::new();
        let keyspace = Keyspace::new("r", "n");
        let key = |i: u32| {
            let mut bytes = [0; 24];
            bytes[..4].copy_from_slice(&i.to_be_bytes());
            keyspace.key(&SessionId::from_bytes(bytes))
        };
        for i in 0..3 * REMEMBERED as u32 {
            crier.lives(key(i));
        }
        let known = |i| crier.is_gone(&key(i));
        assert!(
            !known(REMEMBERED as u32 - 1) && known(REMEMBERED as u32) && known(3 * REMEMBERED as u32 - 1)
        );
        assert!(!known(REMEMBERED as u32), "it is gone once");
    }
}
