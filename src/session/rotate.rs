//! A new id for a session that goes on.
//!
//! The session is created once more under the new key, and then the old record becomes a tombstone that says where it went.
//! That second step is the one that counts: it happens only if the old record is what was copied, so no write is lost, and a
//! log-out that was faster is final. Before it nobody knows the new id; a process that dies in between leaves a copy that
//! nobody has an id for, and that ends with its idle time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use tokio::time::Instant;

use super::{
    Sessions, UPDATE_ATTEMPTS, commands::TOMBSTONE_FLOOR, give_way, id_under, lifetime::milliseconds,
};
use crate::{
    client::SessionEvent,
    error::{Error, Result},
    protocol::{Command, Condition, Forward, Outcome, Write},
    record::{Header, Key, Kind, Millis, Record, SessionId},
};

/// A live session as it is about to go on elsewhere.
pub(super) struct Departing {
    pub(super) key: Key,
    pub(super) header: Header,
    pub(super) payload: Bytes,
}

/// What came of a departure.
pub(super) enum Departure {
    Done,
    /// Somebody changed the session, or replaced its id. It is as he left it.
    Overtaken,
    /// Nothing may be created there any more. The session is as it was.
    Refused,
}

/// Options of rotation.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// How long an id works on after [`rotate`](Sessions::rotate) has replaced it: 5 seconds unless set, so that requests
    /// which were sent with the old cookie find their session. The node's clock decides. At most 15 minutes; more is cut.
    /// Zero: not at all.
    #[must_use]
    pub fn rotation_grace(self, grace: Duration) -> Sessions<T> {
        self.with(|options| options.rotation_grace = grace.min(TOMBSTONE_FLOOR))
    }
}

/// Rotation.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// Gives a session a wholly new id, on the same node, and slides its idle deadline. Its absolute deadline stays. The old
    /// id works on for the [grace](Sessions::rotation_grace), for everything: what is done through it is done to the session,
    /// a log-out, too. Then it is dead, for good, like one that was logged out: a log-out through it finds nothing to end.
    ///
    /// This is for **renewing** the id of a session every now and then. At a log-in nothing may be left of the id from
    /// before, which somebody else may have planted: use [`bind`](Sessions::bind) or
    /// [`rotate_at_once`](Sessions::rotate_at_once). Requests of one user run at the same time: let one of them rotate, for
    /// instance the one whose [`update`](Sessions::update) noted the time of the renewal in the session. When two do, both
    /// new ids work, but that of the first only for the grace.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let carts = ring.sessions::<Vec<String>>("cart");
    /// let old = carts.create(&vec!["book".into()]).await?;
    /// let new = carts.rotate(&old).await?;
    /// assert_eq!(carts.get(&new).await?.unwrap(), ["book"]);
    /// assert!(carts.exists(&old).await?, "for five seconds");
    ///
    /// let newer = carts.rotate_at_once(&new).await?;
    /// assert!(carts.get(&new).await?.is_none());
    /// assert!(carts.exists(&newer).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_deleted`](Error::is_deleted): also where a log-out was faster.
    /// [`is_configuration`](Error::is_configuration): a [foreign](SessionId::foreign) id is the application's own.
    /// [`is_conflict`](Error::is_conflict): others changed the session each time.
    /// [`is_unavailable`](Error::is_unavailable), [`is_full`](Error::is_full), [`is_corrupt`](Error::is_corrupt),
    /// [`is_upgrade_required`](Error::is_upgrade_required): nothing was changed.
    ///
    /// [`is_indeterminate`](Error::is_indeterminate): the old id may have been replaced by one that nobody knows. It works
    /// for the grace at least: rotate once more. Without a grace the user may have to log in again. The same holds when the
    /// future is dropped before it has answered.
    pub async fn rotate(&self, id: &SessionId) -> Result<SessionId> {
        self.rotate_within(id, self.options.rotation_grace).await
    }

    /// [`rotate`](Sessions::rotate) without grace: once this has answered, the old id is dead, and every id before it.
    ///
    /// # Errors
    /// Those of [`rotate`](Sessions::rotate).
    pub async fn rotate_at_once(&self, id: &SessionId) -> Result<SessionId> {
        self.rotate_within(id, Duration::ZERO).await
    }

    async fn rotate_within(&self, id: &SessionId, grace: Duration) -> Result<SessionId> {
        let Some(tag) = id.tag() else { return Err(foreign("rotate")) };
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut key = self.keyspace.key(id);
        for attempt in 0..UPDATE_ATTEMPTS {
            let (departing, mut listed) = join(self.departing(key), self.listed(tag)).await;
            let departing = departing?;
            if departing.key != key {
                // It may have been listed under this key only now.
                key = departing.key;
                listed = self.listed(tag).await;
            }
            let fresh = id_under(tag)?;
            let to = self.keyspace.key(&fresh);
            self.enlist_successor(tag, listed?, &key, &to).await?;
            if let Departure::Done = self.depart(departing, &to, grace).await? {
                return Ok(fresh);
            }
            if Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&key))
    }

    /// The session that stands under this key, or goes on from there.
    pub(super) async fn departing(&self, key: Key) -> Result<Departing> {
        let (key, outcome) = self.execute_at(key, |_| Ok(Command::Read)).await?;
        let bytes = match outcome {
            Outcome::Record(bytes) => bytes,
            Outcome::Absent => return Err(self.not_found(&key)),
            outcome => return Err(self.unexpected(&key, outcome)),
        };
        let record = Record::decode(&bytes).map_err(|error| self.not_a_record(&key, error))?;
        if record.header.kind == Kind::Tombstone {
            return Err(self.deleted(&key));
        }
        let payload = Bytes::from(self.opened(&key, &record)?.into_owned());
        Ok(Departing { key, header: record.header, payload })
    }

    /// Lets the session go on under another key.
    pub(super) async fn depart(&self, from: Departing, to: &Key, grace: Duration) -> Result<Departure> {
        if !self.arrive(&from, to).await? {
            return Ok(Departure::Refused);
        }
        let forwarded = self.ring.execute(from.key, self.forward_command(&from, to, grace)?).await;
        let error = match forwarded {
            Ok(Outcome::Applied(_)) => {
                self.is_logged_out(&from.key);
                self.lives(to);
                self.emit(&from.key, |session| SessionEvent::Rotated(session, *to));
                return Ok(Departure::Done);
            }
            // It may be the session by now.
            Err(error) if error.is_indeterminate() => return Err(error),
            Ok(Outcome::Conflict(_) | Outcome::Forwarded(_)) => None,
            Ok(Outcome::Deleted) => Some(self.deleted(&from.key)),
            Ok(Outcome::Absent) => Some(self.not_found(&from.key)),
            Ok(outcome) => Some(self.unexpected(&from.key, outcome)),
            Err(error) => Some(error),
        };
        // Nobody has an id for it: if this fails, too, it ends by itself.
        let _ = self.ring.execute(*to, self.end_command()).await;
        error.map_or(Ok(Departure::Overtaken), Err)
    }

    /// Puts the copy. `false`: this key is used up.
    async fn arrive(&self, from: &Departing, to: &Key) -> Result<bool> {
        let Header { version, max_deadline, codec, schema, .. } = from.header;
        let write = Write {
            condition: Condition::Successor { version, max_deadline },
            idle: self.options.lifetime.idle_ms(),
            absolute: 0,
            codec,
            schema,
            seal: 0,
            operation: self.ring.next_operation(),
            payload: from.payload.clone(),
        };
        let command = Command::from(self.sealed(to, write)?);
        match self.ring.execute(*to, command).await? {
            Outcome::Applied(_) => Ok(true),
            Outcome::Exists | Outcome::Deleted => Ok(false),
            Outcome::Absent => Err(self.not_found(to)),
            outcome => Err(self.unexpected(to, outcome)),
        }
    }

    fn forward_command(&self, from: &Departing, to: &Key, grace: Duration) -> Result<Command> {
        let forward = Forward {
            expected: from.header.version,
            grace: milliseconds(grace),
            floor: self.tombstone_floor(),
            seal: 0,
            operation: self.ring.next_operation(),
            successor: Bytes::copy_from_slice(to.place()),
        };
        self.sealed_forward(&from.key, forward).map(Command::from)
    }

    /// How long a log-out is remembered beyond the session.
    pub(super) fn tombstone_floor(&self) -> Millis {
        milliseconds(TOMBSTONE_FLOOR + self.ring.max_clock_skew())
    }
}

pub(super) fn foreign(what: &str) -> Error {
    Error::configuration(format!(
        "a foreign id is the application's own: {what} cannot replace it; nothing was changed; create a session under a new \
         id, and delete this one"
    ))
}
