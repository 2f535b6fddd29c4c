//! A session in hand: loaded, changed, and saved if nobody else wrote meanwhile.

use std::{
    error::Error as StdError,
    fmt,
    ops::{Deref, DerefMut},
};

use tokio::time::Instant;

use super::{Sessions, UPDATE_ATTEMPTS, give_way, seen::Seen};
use crate::{
    error::{Error, ErrorKind, Result},
    protocol::{Command, Outcome},
    record::{Key, SessionId, Version},
};

/// A session as it was loaded: its value, and what is needed to save it without burying what others wrote meanwhile.
///
/// Reads and changes go to the value inside. Nothing is stored before [`Sessions::save`].
pub struct Session<T> {
    id: SessionId,
    pub(super) seen: Seen<T>,
}

impl<T> Session<T> {
    /// A session in hand again, from what [`Sessions::load`] gave: for a middleware that has to let go of it between load
    /// and save. Fields that are stored and unknown to `T` are not kept by its save, unless that meets a conflict.
    pub fn from_parts(id: SessionId, version: Version, value: T) -> Session<T> {
        Session { id, seen: Seen { value, version, unknown: None } }
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Grows with every write of the session, whoever makes it. A version is never used twice for one id.
    pub fn version(&self) -> Version {
        self.seen.version
    }

    /// The value alone.
    pub fn into_value(self) -> T {
        self.seen.value
    }
}

impl<T> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.seen.value
    }
}

impl<T> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.seen.value
    }
}

/// Shows no value: sessions hold what does not belong into a log.
impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("version", &self.seen.version)
            .finish_non_exhaustive()
    }
}

/// Why a session was not saved. Becomes an [`Error`] by `?`.
#[expect(clippy::exhaustive_enums, reason = "either others were faster, or something failed")]
pub enum SaveError<T> {
    /// Others have written the session since it was loaded: this is what is there now. Nothing was changed.
    Conflict(Box<Session<T>>),
    /// Anything else.
    Failed(Error),
}

impl<T> From<Error> for SaveError<T> {
    fn from(error: Error) -> SaveError<T> {
        SaveError::Failed(error)
    }
}

impl<T> From<SaveError<T>> for Error {
    fn from(error: SaveError<T>) -> Error {
        match error {
            SaveError::Conflict(_) => Error::new(
                ErrorKind::Conflict,
                "others changed the session since it was loaded; nothing was changed; load it again, or merge",
            ),
            SaveError::Failed(error) => error,
        }
    }
}

impl<T> fmt::Display for SaveError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveError::Conflict(there) => {
                write!(
                    f,
                    "others changed the session since it was loaded: it has version {}",
                    there.seen.version
                )
            }
            SaveError::Failed(error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for SaveError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveError::Conflict(there) => f.debug_tuple("Conflict").field(there).finish(),
            SaveError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<T> StdError for SaveError<T> {}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Reads a session in order to [save](Sessions::save) it later: in a middleware that loads before a request is
    /// handled and saves after it. Where the change is at hand, [`update`](Sessions::update) is simpler.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::SaveError;
    ///
    /// let carts = ring.sessions::<Vec<String>>("cart");
    /// let id = carts.create(&vec![]).await?;
    ///
    /// let mut mine = carts.load(&id).await?.expect("a session");
    /// let mut other = carts.load(&id).await?.expect("a session");
    /// mine.push("book".into());
    /// other.push("tea".into());
    /// carts.save(&mut other).await?;
    /// match carts.save(&mut mine).await {
    ///     Err(SaveError::Conflict(there)) => assert_eq!(**there, ["tea"]),
    ///     other => panic!("{other:?}"),
    /// }
    /// carts.save_or_merge(&mut mine, |mine, theirs| theirs.extend_from_slice(mine)).await?;
    /// assert_eq!(*mine, ["tea", "book"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`get`](Sessions::get).
    pub async fn load(&self, id: &SessionId) -> Result<Option<Session<T>>> {
        match self.execute(id, |_| Ok(Command::Read)).await {
            Ok((key, outcome)) => self.in_hand(id, &key, outcome),
            Err(error) => self.or_reset(Err(error)),
        }
    }

    /// Writes a loaded session back if nobody else has written since, and slides its idle deadline. Then it can be changed
    /// and saved again.
    ///
    /// # Errors
    /// [`SaveError::Conflict`], with what is there now; and those of [`set`](Sessions::set) except
    /// [`is_exists`](Error::is_exists). [`is_indeterminate`](Error::is_indeterminate) is rarer than with `set`: a save
    /// that was lost is sent again.
    pub async fn save(&self, session: &mut Session<T>) -> Result<(), SaveError<T>> {
        let (key, outcome) = self.execute(&session.id, |key| self.write_back(key, &session.seen)).await?;
        self.expect_saved(session, &key, outcome)
    }

    /// Saves a loaded session; where others have written meanwhile, `merge` puts what is in hand (first) into what is there
    /// (second), which is saved instead, and so on until nobody is faster. Then `session` is what was saved. After an error
    /// it is as it was before.
    ///
    /// `merge` may run several times, each time with the session as it was given.
    ///
    /// # Errors
    /// Those of [`save`](Sessions::save), and [`is_conflict`](Error::is_conflict): others were faster 256 times, or until the
    /// request timeout.
    pub async fn save_or_merge<F>(&self, session: &mut Session<T>, mut merge: F) -> Result<()>
    where
        F: FnMut(&T, &mut T) + Send,
    {
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut there = match self.save(session).await {
            Err(SaveError::Conflict(there)) => there,
            saved => return Ok(saved?),
        };
        for attempt in 0..UPDATE_ATTEMPTS {
            merge(&session.seen.value, &mut there.seen.value);
            match self.save(&mut there).await {
                Ok(()) => {
                    *session = *there;
                    return Ok(());
                }
                Err(SaveError::Conflict(newer)) => there = newer,
                Err(SaveError::Failed(error)) => return Err(error),
            }
            if Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&self.keyspace.key(&session.id)))
    }

    pub(super) fn save_command(&self, session: &Session<T>) -> Result<(Key, Command)> {
        let key = self.keyspace.key(&session.id);
        Ok((key, self.write_back(&key, &session.seen)?))
    }

    pub(super) fn expect_saved(
        &self,
        session: &mut Session<T>,
        key: &Key,
        outcome: Outcome,
    ) -> Result<(), SaveError<T>> {
        match outcome {
            Outcome::Conflict(record) => {
                let there = self.in_hand(&session.id, key, Outcome::Record(record))?;
                let there = there.ok_or_else(|| self.not_found(key))?;
                Err(SaveError::Conflict(Box::new(there)))
            }
            outcome => {
                session.seen.version = self.expect_applied(key, outcome)?;
                Ok(())
            }
        }
    }

    pub(super) fn in_hand(&self, id: &SessionId, key: &Key, outcome: Outcome) -> Result<Option<Session<T>>> {
        let seen = self.see(key, outcome)?;
        Ok(seen.map(|seen| Session { id: id.clone(), seen }))
    }
}
