//! What an application calls.
//!
//! - [`Sessions`]: typed sessions of one namespace
//! - [`Lifetime`]: idle and absolute
//! - [`Session`]: one in hand, to be saved later
//! - `many`: the same operations for many sessions at once
//! - `visit`: reading that slides
//! - [`Listing`]: all sessions of a namespace
//! - `events`: what happens to sessions, told
//! - `principals`: all sessions of one user
//! - [`BoundSession`]: one of them
//! - `rotate`: another id for a session
//! - `rotate_into`: the same into an id of the application's, with a change
//! - `follow`: from an id to where its session is
//! - `commands`: from calls to commands
//! - `answers`: from outcomes to answers
//! - `seen`: what is read in order to be written back
//! - [`OnCorrupt`]: what becomes of sessions that cannot be read
//! - `sealing`: between codec and record

mod answers;
mod bound;
mod commands;
mod corrupt;
mod events;
mod follow;
mod lifetime;
mod listing;
mod loaded;
mod many;
mod principals;
mod rotate;
mod rotate_into;
mod sealing;
mod seen;
mod visit;

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use self::sealing::Sealing;
pub use self::{
    bound::{BoundSession, SessionHandle},
    corrupt::OnCorrupt,
    lifetime::Lifetime,
    listing::{Count, ListedSession, Listing, NodeCount, Page},
    loaded::{SaveError, Session},
};
use crate::{
    client::SessionRing,
    entropy,
    error::{Error, ErrorKind, Result},
    protocol::{Command, Condition, Outcome},
    record::{
        Bincode, Codec, CodecId, IdError, Key, Keyspace, Principals, SessionData, SessionId, Upgrades,
        Version, built_in,
    },
};

/// Other writers may be faster this often before an update gives up.
const UPDATE_ATTEMPTS: u32 = 256;

/// Sessions of type `T` in one namespace. Cheap to clone.
///
/// Every operation is one round trip to the node that owns the session ([`update`](Sessions::update) is two, and so is
/// a read that finds nothing: it is looked at again before it is believed). Writes are atomic there and carry a version; **a log-out is final**: whatever is in flight, no later write brings the session back.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use sessionring::{Lifetime, SessionRing, record::MessagePack};
///
/// #[derive(Serialize, Deserialize)]
/// struct Login { user: u64, cart: Vec<String> }
///
/// let ring = SessionRing::builder().node("a", "memory:").connect().await?;
/// let logins = ring
///     .sessions::<Login>("login")
///     .lifetime(Lifetime::new(Duration::from_secs(30 * 60), Duration::from_secs(8 * 3600))?)
///     .codec(MessagePack);
///
/// let id = logins.create(&Login { user: 7, cart: vec![] }).await?;
/// let items = logins.update(&id, |login| { login.cart.push("book".into()); login.cart.len() }).await?;
/// assert_eq!(items, 1);
/// logins.touch(&id).await?;
/// logins.delete(&id).await?;
/// assert!(logins.get(&id).await?.is_none());
/// assert!(logins.touch(&id).await.unwrap_err().is_deleted());
/// # Ok(())
/// # }
/// ```
pub struct Sessions<T: 'static> {
    ring: SessionRing,
    namespace: Arc<str>,
    keyspace: Arc<Keyspace>,
    principals: Arc<Principals>,
    options: Arc<Options<T>>,
}

struct Options<T: 'static> {
    lifetime: Lifetime,
    codec: Arc<dyn Codec<T>>,
    /// Read, not written.
    older: Vec<Arc<dyn Codec<T>>>,
    built_in: fn(CodecId) -> Option<&'static dyn Codec<T>>,
    max_bytes: usize,
    /// The version of `T`.
    schema: u16,
    upgrades: Upgrades<T>,
    on_corrupt: OnCorrupt,
    sealing: Option<Sealing>,
    upsert_foreign: bool,
    slide_after: f64,
    rotation_grace: Duration,
}

impl SessionRing {
    /// The sessions of type `T` in `namespace`. Namespaces keep sessions of different kinds apart: an id of one
    /// is unknown in the other. Cheap; options are set on what is returned.
    pub fn sessions<T>(&self, namespace: &str) -> Sessions<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Sessions {
            namespace: namespace.into(),
            keyspace: Arc::new(self.keyspace(namespace)),
            principals: Arc::new(self.principals(namespace)),
            ring: self.clone(),
            options: Arc::new(Options {
                lifetime: Lifetime::default(),
                codec: Arc::new(Bincode),
                older: Vec::new(),
                built_in: built_in::<T>,
                max_bytes: 64 << 10,
                schema: 0,
                upgrades: Upgrades::none(),
                on_corrupt: OnCorrupt::Fail,
                sealing: None,
                upsert_foreign: false,
                slide_after: 0.1,
                rotation_grace: Duration::from_secs(5),
            }),
        }
    }
}

impl SessionRing {
    /// The sessions in `namespace` of a type that has versions: [`SessionData`] says what they are good for.
    pub fn versioned_sessions<T: SessionData>(&self, namespace: &str) -> Sessions<T> {
        self.sessions(namespace).with(|options| {
            options.schema = T::VERSION;
            options.upgrades = T::upgrades();
        })
    }
}

/// Options. They belong to this handle and its clones; records carry what reading them needs.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// How long sessions live: [`Lifetime::default`] unless set. The idle part holds from the next write or touch
    /// of a session, the absolute part for sessions created from now on; [`Lifetime`] says what that means for those that live.
    #[must_use]
    pub fn lifetime(self, lifetime: Lifetime) -> Sessions<T> {
        self.with(|options| options.lifetime = lifetime)
    }

    /// How sessions are encoded from now on: [`Bincode`] unless set. Sessions that are encoded otherwise are
    /// still read: those of this crate's codecs always, those of your own codecs after
    /// [`also_read`](Sessions::also_read).
    #[must_use]
    pub fn codec(self, codec: impl Codec<T>) -> Sessions<T> {
        self.with(|options| options.codec = Arc::new(codec))
    }

    /// Reads sessions of this codec too, without writing it.
    #[must_use]
    pub fn also_read(self, codec: impl Codec<T>) -> Sessions<T> {
        self.with(|options| options.older.push(Arc::new(codec)))
    }

    /// The most bytes an encoded session may have, read or written: 65,536 unless set. Every read carries them
    /// over the network, and one node holds them all; what is large belongs into a database, its key into the
    /// session.
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> Sessions<T> {
        self.with(|options| options.max_bytes = bytes)
    }

    /// Lets [`set`](Sessions::set) create a session under a [foreign](SessionId::foreign) id that has none.
    ///
    /// Then a late `set` could bring a session back when its log-out is forgotten, so log-outs of foreign ids are
    /// remembered until the session's **absolute** deadline. That costs memory: at 100 log-outs a second and
    /// 30 days, tens of gigabytes per node. Generated ids are not affected.
    #[must_use]
    pub fn upsert_foreign(self, allow: bool) -> Sessions<T> {
        self.with(|options| options.upsert_foreign = allow)
    }

    fn with(mut self, change: impl FnOnce(&mut Options<T>)) -> Sessions<T> {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Creates a session under a fresh id.
    ///
    /// # Errors
    /// [`is_too_large`](Error::is_too_large), [`is_full`](Error::is_full),
    /// [`is_unavailable`](Error::is_unavailable), [`is_indeterminate`](Error::is_indeterminate): a session may be
    /// there, but nobody knows its id.
    pub async fn create(&self, value: &T) -> Result<SessionId> {
        let id = new_id()?;
        self.create_with_id(&id, value).await?;
        Ok(id)
    }

    /// Creates a session under this id, which must be new.
    ///
    /// # Errors
    /// Those of [`create`](Sessions::create), and [`is_exists`](Error::is_exists),
    /// [`is_deleted`](Error::is_deleted): the id was logged out and is used up.
    pub async fn create_with_id(&self, id: &SessionId, value: &T) -> Result<()> {
        let (key, outcome) = self.execute(id, |key| self.write(key, Condition::Absent, value)).await?;
        self.expect_created(&key, outcome)
    }

    /// Reads a session. `None`: it was logged out, expired, or never was.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): its node is down, and whether it exists is unknown.
    /// [`is_corrupt`](Error::is_corrupt), [`is_too_large`](Error::is_too_large),
    /// [`is_upgrade_required`](Error::is_upgrade_required): something is there that this application cannot read.
    pub async fn get(&self, id: &SessionId) -> Result<Option<T>> {
        let read = self.execute(id, |_| Ok(Command::Read)).await;
        self.or_reset(read.and_then(|(key, outcome)| self.read(&key, outcome)))
    }

    /// Replaces a live session, whoever wrote it last, and slides its idle deadline. It never brings a session
    /// back: to change what is there, [`update`](Sessions::update) and [`save`](Sessions::save) are
    /// safe against concurrent writers.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_deleted`](Error::is_deleted),
    /// [`is_too_large`](Error::is_too_large), [`is_full`](Error::is_full),
    /// [`is_unavailable`](Error::is_unavailable), [`is_corrupt`](Error::is_corrupt), and
    /// [`is_indeterminate`](Error::is_indeterminate): sent, but no answer came. It is not sent again, since that
    /// could bury a newer write.
    pub async fn set(&self, id: &SessionId, value: &T) -> Result<()> {
        let condition = self.set_condition(id);
        self.run(id, |key| self.write(key, condition, value)).await.map(drop)
    }

    /// Reads a session, lets `change` change it, and writes it back if nobody else wrote meanwhile; otherwise
    /// starts again from what the other wrote. So no concurrent update is lost, and `change` may run several
    /// times. Answers what `change` answered the last time.
    ///
    /// # Errors
    /// Those of [`get`](Sessions::get) and [`set`](Sessions::set), and [`is_conflict`](Error::is_conflict): others
    /// were faster 256 times, or until the request timeout.
    pub async fn update<R, F>(&self, id: &SessionId, mut change: F) -> Result<R>
    where
        F: FnMut(&mut T) -> R + Send,
        R: Send,
    {
        let deadline = Instant::now() + self.ring.request_timeout();
        let (mut key, mut seen) = self.execute(id, |_| Ok(Command::Read)).await?;
        for attempt in 0..UPDATE_ATTEMPTS {
            let (command, answer) = self.change(&key, seen, &mut change)?;
            match self.ring.execute(key, command).await? {
                Outcome::Conflict(record) => seen = Outcome::Record(record),
                Outcome::Forwarded(record) => {
                    let next = self.successor(&key, &record)?;
                    (key, seen) = self.execute_at(next, |_| Ok(Command::Read)).await?;
                }
                outcome => return self.expect_applied(&key, outcome).map(|_| answer),
            }
            if Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&key))
    }

    /// Slides the idle deadline of a live session to now + idle lifetime, at most to its absolute deadline. The
    /// session itself is neither read nor written.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_deleted`](Error::is_deleted),
    /// [`is_unavailable`](Error::is_unavailable), [`is_indeterminate`](Error::is_indeterminate).
    pub async fn touch(&self, id: &SessionId) -> Result<()> {
        self.run(id, |_| Ok(self.touch_command())).await.map(drop)
    }

    /// Logs out, for good, through whatever id [still works](Sessions::rotate): once this has answered `Ok`, no `set`, `update` or `touch` that is or ever was under way
    /// brings the session back. Works on a node that is out of memory. A session that is not there is fine too.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): the node is down, the session may still be there: try again.
    /// [`is_indeterminate`](Error::is_indeterminate): try again, it does no harm.
    /// [`is_full`](Error::is_full): only when the node cannot save to its disk.
    pub async fn delete(&self, id: &SessionId) -> Result<()> {
        let (key, outcome) = self.execute(id, |_| Ok(self.delete_command(id))).await?;
        self.expect_deleted(&key, outcome)
    }

    /// Whether there is a live session, without reading it.
    ///
    /// # Errors
    /// Those of [`get`](Sessions::get), except that the session is not decoded.
    pub async fn exists(&self, id: &SessionId) -> Result<bool> {
        self.remaining(id).await.map(|remaining| remaining.is_some())
    }

    /// How long a session will live if nobody touches it; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`exists`](Sessions::exists).
    pub async fn remaining(&self, id: &SessionId) -> Result<Option<Duration>> {
        let (key, outcome) = self.execute(id, |_| Ok(Command::Inspect)).await?;
        self.expect_inspected(&key, outcome)
    }

    async fn run(
        &self,
        id: &SessionId,
        command: impl FnMut(&Key) -> Result<Command> + Send,
    ) -> Result<Version> {
        let (key, outcome) = self.execute(id, command).await?;
        self.expect_applied(&key, outcome)
    }
}

fn new_id() -> Result<SessionId> {
    SessionId::generate().map_err(no_id)
}

fn no_id(error: IdError) -> Error {
    let message = error.to_string();
    Error::with_source(ErrorKind::Configuration, message, error)
}

/// An id of this tag, with a fresh secret.
fn id_under(tag: [u8; 8]) -> Result<SessionId> {
    let (mut bytes, secret) = ([0; 24], entropy::secret()?);
    bytes[..8].copy_from_slice(&tag);
    bytes[8..].copy_from_slice(&secret);
    Ok(SessionId::from_bytes(bytes))
}

/// The first losers of a race try again at once: what they need came with the refusal. Those who keep losing
/// wait a random while, so that a crowd thins out.
async fn give_way(attempt: u32) {
    if attempt >= 8 {
        let longest = Duration::from_millis(1 << (attempt - 8).min(4));
        sleep(longest.mul_f64(entropy::fraction())).await;
    }
}

impl<T: 'static> Clone for Options<T> {
    fn clone(&self) -> Options<T> {
        Options {
            codec: self.codec.clone(),
            older: self.older.clone(),
            upgrades: self.upgrades.clone(),
            sealing: self.sealing.clone(),
            ..*self
        }
    }
}

impl<T: 'static> Clone for Sessions<T> {
    fn clone(&self) -> Sessions<T> {
        Sessions {
            ring: self.ring.clone(),
            namespace: self.namespace.clone(),
            keyspace: self.keyspace.clone(),
            principals: self.principals.clone(),
            options: self.options.clone(),
        }
    }
}

impl<T: 'static> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("ring", &self.ring)
            .field("lifetime", &self.options.lifetime)
            .field("codec", &self.options.codec)
            .field("max_bytes", &self.options.max_bytes)
            .field("schema", &self.options.schema)
            .field("on_corrupt", &self.options.on_corrupt)
            .field("sealing", &self.options.sealing)
            .finish_non_exhaustive()
    }
}
