//! A store for [tower-sessions](https://docs.rs/tower-sessions), and so for axum and axum-login.
//!
//! [`RingStore`] implements the `SessionStore` of tower-sessions 0.14 (which axum-login 0.18 uses) with the feature
//! `tower-sessions-0-14`, and that of 0.15 with `tower-sessions-0-15`.
//!
//! What the framework's trait alone does not promise, and this store does:
//!
//! - **Requests that run at the same time lose nothing.** tower-sessions loads a session, and saves all of it with the response.
//!   Here only what the request has changed is written: entries that others have changed meanwhile stay as they are, and what
//!   becomes of an entry that both have changed says [`BothChanged`].
//! - **A log-out is final.** A save after `flush` or `delete`, of a request that was under way, is refused (the framework answers
//!   500), and the session stays away. That it expired is another error.
//! - **`cycle_id` loses nothing when the response fails.** The old id dies in the same step in which the new one begins to count,
//!   with the response; where the response is an error, or the node of the session is down, the session goes on under its old id.
//! - **A node that is down is an error** (500), never an empty session.
//!
//! # What to know of `cycle_id`
//!
//! tower-sessions deletes the old session at once in `cycle_id`, and creates the new one with the response. A store sees no
//! difference between that and a request that ends in between. So:
//!
//! - To end a session, call `flush` **without** `cycle_id` before it in the same request: after `cycle_id` the framework does not
//!   tell the store which session to end, and the one from before would live on under its old id until its idle time is over.
//!   The same holds for `clear` together with `cycle_id`: remove entries by name, or `flush` and begin anew.
//! - When two requests replace the same id at the same time, one of them does, and the other one fails: what it had in
//!   hand was not a session any more.
//! - `record.id` of a record that `load` gave is not the session's id, but another name of it, by which the store knows who asks;
//!   deleting by it ends nothing. `Session::id` is the id.
//!
//! # What is stored
//!
//! Named MessagePack, or [JSON](RingStore::json): entries are self-describing values, which bincode cannot carry. Ids are of 127 random
//! bits from the operating system.

mod failure;
mod loaded;
mod store;
mod stored;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

pub use self::failure::error_kind;
use self::{failure::Failure, loaded::Loaded, stored::Stored};
use super::{ABSOLUTE, BothChanged, lifetime, merge::Merge};
use crate::{
    OnCorrupt, Result, SealingKeys, Session, SessionId, SessionRing, Sessions,
    record::{IdError, Json, MessagePack},
};

/// In the id of a record that was loaded, and in no id of a session: who deletes by it is `cycle_id`, not a log-out.
const LOADED: i128 = i128::MIN;

/// So often an id of 127 random bits may be taken already.
const ATTEMPTS: usize = 4;

/// Sessions of tower-sessions on a ring. Cheap to clone.
///
#[cfg_attr(
    feature = "tower-sessions-0-15",
    doc = r#"
```
# #[tokio::main(flavor = "current_thread")]
# async fn main() -> Result<(), Box<dyn std::error::Error>> {
use sessionring::{SessionRing, web::tower_sessions::RingStore};
use tower_sessions_core_0_15::{Session, SessionStore}; // as `tower_sessions::{Session, SessionStore}` in an application

let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await?;
let store = RingStore::new(&ring, "shop");
// SessionManagerLayer::new(store) is the layer of an axum router

let session = Session::new(None, std::sync::Arc::new(store.clone()), None);
session.insert("user", 7).await?;
session.save().await?;
# let again = Session::new(session.id(), std::sync::Arc::new(store), None);
# assert_eq!(again.get::<u64>("user").await?, Some(7));
# Ok(())
# }
```
"#
)]
#[derive(Debug, Clone)]
pub struct RingStore {
    sessions: Sessions<Stored>,
    absolute: Duration,
    merge: Merge,
    /// The next request's name among all that write.
    writer: Arc<AtomicU64>,
}

impl RingStore {
    /// The sessions in `namespace`: another one than those of sessions of other kinds on the same ring.
    pub fn new(ring: &SessionRing, namespace: &str) -> RingStore {
        // Random, so that no two processes use the same names.
        let writer = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        RingStore {
            sessions: ring.sessions(namespace).codec(MessagePack),
            absolute: ABSOLUTE,
            merge: Merge::default(),
            writer: Arc::new(AtomicU64::new(writer)),
        }
    }

    /// Stores JSON instead of MessagePack, for people who read records with `redis-cli`. Both are always read.
    #[must_use]
    pub fn json(self) -> RingStore {
        self.with(|sessions| sessions.codec(Json))
    }

    /// How long a session may go on after it began, however often it is used: 400 days unless set. How long it lives without
    /// being written is the framework's to say (`Expiry`), and slides with every save.
    ///
    /// # Errors
    /// [`is_configuration`](crate::Error::is_configuration): less than a millisecond, or more than a hundred years.
    pub fn absolute(self, limit: Duration) -> Result<RingStore> {
        lifetime(limit, limit)?;
        Ok(RingStore { absolute: limit, ..self })
    }

    /// What becomes of an entry that this request and another one have changed: [`BothChanged::merged`] unless set. `None`
    /// removes it. It may be asked several times.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::web::tower_sessions::RingStore;
    ///
    /// let number = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_i64()).unwrap_or(0);
    /// let store = RingStore::new(&ring, "shop").merge(move |both| match both.key {
    ///     "visits" => Some((number(both.mine) + number(both.theirs) - number(both.base)).into()),
    ///     _ => both.merged(),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn merge(
        self,
        decide: impl Fn(BothChanged<'_>) -> Option<Value> + Send + Sync + 'static,
    ) -> RingStore {
        RingStore { merge: Merge::by(decide), ..self }
    }

    /// Seals what is stored, see [`Sessions::seal`].
    #[must_use]
    pub fn seal(self, keys: SealingKeys) -> RingStore {
        self.with(|sessions| sessions.seal(keys))
    }

    /// Opens what others seal, see [`Sessions::open_sealed`].
    #[must_use]
    pub fn open_sealed(self, keys: SealingKeys) -> RingStore {
        self.with(|sessions| sessions.open_sealed(keys))
    }

    /// What becomes of sessions that cannot be read: an error of the framework (500), or none, so that the next save makes a new
    /// one. See [`Sessions::on_corrupt`].
    #[must_use]
    pub fn on_corrupt(self, answer: OnCorrupt) -> RingStore {
        self.with(|sessions| sessions.on_corrupt(answer))
    }

    /// The most bytes a stored session may have: 65,536 unless set. See [`Sessions::max_bytes`].
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> RingStore {
        self.with(|sessions| sessions.max_bytes(bytes))
    }

    fn with(mut self, change: impl FnOnce(Sessions<Stored>) -> Sessions<Stored>) -> RingStore {
        self.sessions = change(self.sessions);
        self
    }

    /// Stores a new session, or goes on with one whose id is being replaced. Answers its id.
    async fn create(&self, data: &mut HashMap<String, Value>, expires: i64) -> Result<i128, Failure> {
        let (loaded, entries) = Loaded::split(data);
        let writer = loaded.as_ref().map_or_else(|| self.next_writer(), |loaded| loaded.writer);
        let stored = Stored { data: entries, expires, writer };
        let sessions = self.until(expires)?;
        let replaced = match loaded {
            Some(loaded) => self.replace(&sessions, &loaded, &stored).await?,
            None => None,
        };
        let id = match replaced {
            Some(id) => id,
            None => begin(&sessions, &stored).await?,
        };
        // Should the request save once more: that its version is unknown costs it a look at what is there.
        Loaded::new(None, 0, writer, &stored.data).hide_in(data);
        Ok(number(&id))
    }

    /// `None`: there is nothing to replace, or it has expired meanwhile.
    async fn replace(
        &self,
        sessions: &Sessions<Stored>,
        loaded: &Loaded,
        mine: &Stored,
    ) -> Result<Option<SessionId>, Failure> {
        let Some(old) = loaded.replaces else { return Ok(None) };
        let change = |there: &mut Stored| there.take_in(loaded, mine, &self.merge);
        match sessions.rotate_into(&session_id(old)?, fresh_id, change).await {
            Ok((id, ())) => Ok(Some(id)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn save(&self, id: i128, data: &HashMap<String, Value>, expires: i64) -> Result<(), Failure> {
        let (loaded, entries) = Loaded::split(data);
        let (id, sessions) = (session_id(id)?, self.until(expires)?);
        let Some(loaded) = loaded else {
            // It was cleared, or made by hand: all of it is meant.
            let stored = Stored { data: entries, expires, writer: self.next_writer() };
            return Ok(sessions.set(&id, &stored).await?);
        };
        let mine = Stored { data: entries, expires, writer: loaded.writer };
        let mut session = Session::from_parts(id, loaded.version, mine);
        let merge = |mine: &Stored, there: &mut Stored| there.take_in(&loaded, mine, &self.merge);
        Ok(sessions.save_or_merge(&mut session, merge).await?)
    }

    /// The id, the entries and the end of the session, as a record has them.
    async fn load(&self, id: i128) -> Result<Option<(i128, HashMap<String, Value>, i64)>, Failure> {
        if id & LOADED != 0 {
            // No cookie of ours.
            return Ok(None);
        }
        let Some(session) = self.sessions.load(&session_id(id)?).await? else { return Ok(None) };
        let version = session.version();
        let Stored { data: entries, expires, .. } = session.into_value();
        let loaded = Loaded::new(Some(id), version, self.next_writer(), &entries);
        let mut data: HashMap<String, Value> = entries.into_iter().collect();
        loaded.hide_in(&mut data);
        Ok(Some((id | LOADED, data, expires)))
    }

    async fn delete(&self, id: i128) -> Result<(), Failure> {
        if id & LOADED != 0 {
            // `cycle_id`: the session goes on when the response is there, and until then as it is.
            return Ok(());
        }
        Ok(self.sessions.delete(&session_id(id)?).await?)
    }

    /// Sessions that live until then. The node is told a duration, so that clocks which differ do no harm.
    fn until(&self, expires: i64) -> Result<Sessions<Stored>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let idle = Duration::from_micros(u64::try_from(expires).unwrap_or(0)).saturating_sub(now);
        Ok(self.sessions.clone().lifetime(lifetime(idle, self.absolute)?))
    }

    fn next_writer(&self) -> u64 {
        self.writer.fetch_add(1, Ordering::Relaxed)
    }
}

async fn begin(sessions: &Sessions<Stored>, stored: &Stored) -> Result<SessionId, Failure> {
    let mut attempt = 1;
    loop {
        let id = fresh_id()?;
        match sessions.create_with_id(&id, stored).await {
            Ok(()) => return Ok(id),
            Err(error) if attempt < ATTEMPTS && (error.is_exists() || error.is_deleted()) => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The secret of a fresh id of this crate, as large as ids of tower-sessions are, without the bit of those that were loaded.
fn fresh_id() -> Result<SessionId, IdError> {
    let generated = SessionId::generate()?;
    let secret = generated.as_bytes().last_chunk().copied().unwrap_or_default();
    session_id(i128::from_be_bytes(secret))
}

/// The id of this crate that a session of tower-sessions has (`session.id()`, whose number is `id.0`): for
/// [`SessionRing::owner`] and [`Sessions::key_of`].
///
#[cfg_attr(
    feature = "tower-sessions-0-15",
    doc = r#"
```
# #[tokio::main(flavor = "current_thread")]
# async fn main() -> Result<(), Box<dyn std::error::Error>> {
use sessionring::{SessionRing, web::tower_sessions::{RingStore, session_id}};
# use tower_sessions_core_0_15::Session;

let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await?;
let session = Session::new(None, std::sync::Arc::new(RingStore::new(&ring, "shop")), None);
session.insert("user", 7).await?;
session.save().await?;

let node = ring.owner(&session_id(session.id().unwrap().0)?);
let count = ring.sessions::<()>("shop").count().await;
assert!(count.nodes.iter().all(|there| there.sessions == u64::from(there.node == node)));
# Ok(())
# }
```
"#
)]
///
/// # Errors
/// None: it has a length that every id may have.
pub fn session_id(id: i128) -> Result<SessionId, IdError> {
    SessionId::foreign((id & !LOADED).to_be_bytes())
}

fn number(id: &SessionId) -> i128 {
    i128::from_be_bytes(id.as_bytes().first_chunk().copied().unwrap_or_default())
}
