//! What happens to sessions, told where it is noticed.

use super::Sessions;
use crate::{
    client::{SessionEvent, SessionEvents, SessionRef},
    record::Key,
};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// What happens to the sessions of this namespace from now on, as far as this process has a part in it; see
    /// [`SessionRing::session_events`](crate::SessionRing::session_events).
    pub fn events(&self) -> SessionEvents {
        self.ring.listen_to_sessions(Some(self.namespace.clone()))
    }

    /// Tells of a session, if anybody listens.
    pub(super) fn emit(&self, key: &Key, event: impl FnOnce(SessionRef) -> SessionEvent) {
        if self.ring.sessions_are_heard() {
            let session = SessionRef::new(self.namespace.clone(), self.ring.node_of(key), *key);
            self.ring.tell_of_session(event(session));
        }
    }

    /// The session is there, as this process has just seen.
    pub(super) fn lives(&self, key: &Key) {
        if self.ring.sessions_are_heard() {
            self.ring.session_lives(*key);
        }
    }

    /// There is no session and no log-out. If there was one the last time, it has expired.
    pub(super) fn is_absent(&self, key: &Key) {
        if self.ring.sessions_are_heard() && self.ring.session_is_gone(key) {
            self.emit(key, SessionEvent::Expired);
        }
    }

    /// The session was logged out: that it is absent one day is no news.
    pub(super) fn is_logged_out(&self, key: &Key) {
        if self.ring.sessions_are_heard() {
            self.ring.session_is_gone(key);
        }
    }
}
