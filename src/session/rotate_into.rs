//! A session goes on changed, under an id that the application has made.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Sessions, UPDATE_ATTEMPTS, give_way, no_id,
    rotate::{Departing, Departure},
};
use crate::{
    error::{Error, Result},
    protocol::{Command, Outcome},
    record::{Header, IdError, Key, Kind, SessionId},
};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// [`rotate_at_once`](Sessions::rotate_at_once) and [`update`](Sessions::update) in one step, also for
    /// [foreign](SessionId::foreign) ids: the session as `change` leaves it goes on under an id that `fresh` makes, and the old
    /// id is dead from the moment on in which the new one counts. Before that nothing has changed, after it everything; a
    /// log-out, or another write, that comes in between is not lost. Answers the new id, and what `change` answered the
    /// last time.
    ///
    /// Both closures may run several times. An id that `fresh` gives is used up, also where it was not taken; it must be as
    /// hard to guess as any.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::SessionId;
    ///
    /// let carts = ring.sessions::<Vec<String>>("cart");
    /// let old = SessionId::foreign("made by a framework")?;
    /// carts.create_with_id(&old, &vec!["book".into()]).await?;
    ///
    /// let fresh = || SessionId::foreign("made by it at the log-in");
    /// let (new, items) = carts.rotate_into(&old, fresh, |cart| { cart.push("tea".into()); cart.len() }).await?;
    /// assert_eq!(items, 2);
    /// assert_eq!(carts.get(&new).await?.unwrap(), ["book", "tea"]);
    /// assert!(carts.touch(&old).await.unwrap_err().is_deleted());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`rotate`](Sessions::rotate), except that foreign ids are fine, and those of [`update`](Sessions::update);
    /// and [`is_configuration`](crate::Error::is_configuration): `fresh` gave no id, or the session is
    /// [bound](Sessions::bind) to a principal, whose ids are made by the ring.
    pub async fn rotate_into<R, F, N>(
        &self,
        id: &SessionId,
        mut fresh: N,
        mut change: F,
    ) -> Result<(SessionId, R)>
    where
        F: FnMut(&mut T) -> R + Send,
        R: Send,
        N: FnMut() -> Result<SessionId, IdError> + Send,
    {
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut key = self.keyspace.key(id);
        for attempt in 0..UPDATE_ATTEMPTS {
            let (departing, answer) = self.departing_changed(key, &mut change).await?;
            key = departing.key;
            // The list of a principal must not fall short.
            if let Some(tag) = id.tag()
                && self.is_listed(tag, &key).await?
            {
                return Err(bound());
            }
            let new = fresh().map_err(no_id)?;
            if let Departure::Done = self.depart(departing, &self.keyspace.key(&new), Duration::ZERO).await? {
                return Ok((new, answer));
            }
            if Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&key))
    }

    /// The session that stands under this key, or goes on from there, as `change` leaves it.
    async fn departing_changed<R>(
        &self,
        key: Key,
        change: &mut (impl FnMut(&mut T) -> R + Send),
    ) -> Result<(Departing, R)> {
        let (key, outcome) = self.execute_at(key, |_| Ok(Command::Read)).await?;
        let header = match &outcome {
            Outcome::Record(bytes) => {
                Header::decode(bytes).map_err(|error| self.not_a_record(&key, error))?
            }
            Outcome::Absent => return Err(self.not_found(&key)),
            _ => return Err(self.unexpected(&key, outcome)),
        };
        if header.kind == Kind::Tombstone {
            return Err(self.deleted(&key));
        }
        let mut seen = self.see(&key, outcome)?.ok_or_else(|| self.not_found(&key))?;
        let answer = change(&mut seen.value);
        let (schema, payload) = self.encoded(&seen.value, seen.unknown.as_ref())?;
        let header = Header { codec: self.options.codec.id(), schema, ..header };
        Ok((Departing { key, header, payload }, answer))
    }
}

fn bound() -> Error {
    Error::configuration(
        "the session is bound to a principal, and its ids come from him; nothing was changed; use rotate"
            .to_owned(),
    )
}
