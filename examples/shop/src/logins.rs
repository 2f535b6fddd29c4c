//! Who is logged in where.
//!
//! A log-in is a session of its own, of the kind that sessionring *binds* to a user: so there is a list of them ("my devices"), one of
//! them or all can be ended from anywhere, and that holds at the next click. The framework's session only carries the id
//! of the log-in, in one of its entries; no browser ever sees that id, and none can hand one in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sessionring::{
    BoundSession, Lifetime, SessionHandle, SessionId, SessionRing, Sessions, record::MessagePack,
};

use crate::users::{self, User};

/// Another namespace than the framework's sessions have.
pub(crate) const LOGINS: &str = "login";

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    user: u32,
    /// As it calls itself.
    pub(crate) browser: String,
}

/// Whether somebody who has logged in still is.
pub(crate) enum Presence {
    Here(&'static User),
    Ended(Ended),
}

/// How a log-in ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// Somebody ended it: the user, from another device.
    ByHand,
    /// He was away for too long, or logged in for too long.
    ByTime,
}

#[derive(Clone)]
pub(crate) struct Logins(Sessions<Device>);

impl Logins {
    /// A log-in lasts for two hours without a click, and for twelve in any case.
    pub(crate) fn new(ring: &SessionRing) -> sessionring::Result<Logins> {
        let lifetime = Lifetime::new(2 * HOUR, 12 * HOUR)?;
        Ok(Logins(ring.sessions(LOGINS).codec(MessagePack).lifetime(lifetime)))
    }

    pub(crate) async fn begin(&self, user: &User, browser: &str) -> sessionring::Result<SessionId> {
        let device = Device { user: user.number, browser: browser.to_owned() };
        self.0.create_for(principal(user.number), &device).await
    }

    /// At every click: one round trip, which also slides the two hours. A node that is down is an error, and nobody is logged out by
    /// it.
    pub(crate) async fn visit(&self, id: &SessionId) -> sessionring::Result<Presence> {
        if let Some(device) = self.0.visit(id).await? {
            // A user who was deleted is logged in nowhere.
            let user = users::by_number(device.user);
            return Ok(user.map_or(Presence::Ended(Ended::ByHand), Presence::Here));
        }
        // A log-out leaves a note at the node, time does not.
        match self.0.touch(id).await {
            Err(error) if error.is_deleted() => Ok(Presence::Ended(Ended::ByHand)),
            Err(error) if error.is_not_found() => Ok(Presence::Ended(Ended::ByTime)),
            Err(error) => Err(error),
            Ok(()) => Ok(Presence::Ended(Ended::ByTime)),
        }
    }

    pub(crate) async fn end(&self, id: &SessionId) -> sessionring::Result<()> {
        self.0.delete(id).await
    }

    /// The user's devices, those that logged in last first.
    pub(crate) async fn of(&self, principal: &str) -> sessionring::Result<Vec<BoundSession<Device>>> {
        self.0.sessions_of(principal).await
    }

    pub(crate) async fn end_one(&self, principal: &str, device: SessionHandle) -> sessionring::Result<bool> {
        self.0.end(principal, device).await
    }

    pub(crate) async fn end_all(&self, principal: &str) -> sessionring::Result<usize> {
        self.0.revoke_all(principal).await
    }
}

/// By this the ring knows a user.
pub(crate) fn principal(user: u32) -> String {
    format!("user {user}")
}
