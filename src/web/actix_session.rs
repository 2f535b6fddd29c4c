//! A store for [actix-session](https://docs.rs/actix-session) 0.11.
//!
//! What the framework's trait alone does not promise, and this store does:
//!
//! - **Requests that run at the same time lose nothing.** actix-session loads a session, and stores all of it with the
//!   response. Here only what the request has changed is written: entries that others have changed meanwhile stay as they are, and
//!   what becomes of an entry that both have changed says [`BothChanged`]. The framework has no place in which what was loaded could
//!   go along with a request. So the store remembers it for the task that asked, which an actix server runs a connection's
//!   requests on, one after the other. It remembers a few thousand requests; what it has forgotten, and a `load` outside of any
//!   task, is stored whole, as in other stores.
//! - **A log-out is final.** An update after `purge`, of a request that was under way, is refused (the framework answers 500), and
//!   the session stays away. One that has merely expired goes on under a new key.
//! - **A node that is down is an error** (500), never an empty session.
//! - **A session that cannot be read** is an error, too ([`OnCorrupt::Fail`]), or for the framework a
//!   `LoadError::Deserialization` ([`OnCorrupt::Reset`]): it warns and gives an empty session.
//!
//! `renew` deletes the old session and stores a new one when the response is there; when the node of the new one fails
//! in between, the user has to log in again.
//!
//! Keys are ids of this crate: 128 random bits and a routing tag. Stored is named MessagePack, or [JSON](RingStore::json).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task;

use super::{ABSOLUTE, BothChanged, lifetime, merge::Merge};
use crate::{
    Error, ErrorKind, OnCorrupt, Result, SealingKeys, Session, SessionId, SessionRing, Sessions,
    record::{Json, MessagePack},
};

/// Of so many requests at least it is remembered what they have loaded.
const REMEMBERED: usize = 2048;

/// Sessions of actix-session on a ring. Cheap to clone: every worker of a server has a clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use actix_session::storage::SessionStore;
/// use sessionring::{SessionRing, web::actix_session::RingStore};
///
/// let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await?;
/// let store = RingStore::new(&ring, "shop");
/// // App::new().wrap(SessionMiddleware::new(store.clone(), cookie_key))
///
/// let hour = time::Duration::hours(1);
/// let key = store.save([("user".into(), "7".into())].into(), &hour).await?;
/// assert_eq!(store.load(&key).await?.unwrap()["user"], "7");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RingStore {
    sessions: Sessions<Stored>,
    absolute: Duration,
    merge: Merge,
    on_corrupt: OnCorrupt,
    underway: Arc<Mutex<Underway>>,
}

/// A session of actix-session, as it is stored: each entry is the text that the framework has made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    entries: Map<String, Value>,
}

impl RingStore {
    /// The sessions in `namespace`: another one than those of sessions of other kinds on the same ring.
    pub fn new(ring: &SessionRing, namespace: &str) -> RingStore {
        RingStore {
            sessions: ring.sessions(namespace).codec(MessagePack),
            absolute: ABSOLUTE,
            merge: merging(|both| both.merged()),
            on_corrupt: OnCorrupt::default(),
            underway: Arc::default(),
        }
    }

    /// Stores JSON instead of MessagePack, for people who read records with `redis-cli`. Both are always read.
    #[must_use]
    pub fn json(self) -> RingStore {
        self.with(|sessions| sessions.codec(Json))
    }

    /// How long a session may go on after it began, however often it is used: 400 days unless set. How long it lives without
    /// being used is the framework's to say (`state_ttl`, `session_ttl`).
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): less than a millisecond, or more than a hundred years.
    pub fn absolute(self, limit: Duration) -> Result<RingStore> {
        lifetime(limit, limit)?;
        Ok(RingStore { absolute: limit, ..self })
    }

    /// What becomes of an entry that this request and another one have changed: [`BothChanged::merged`] unless set. `None`
    /// removes it. It may be asked several times.
    #[must_use]
    pub fn merge(
        self,
        decide: impl Fn(BothChanged<'_>) -> Option<Value> + Send + Sync + 'static,
    ) -> RingStore {
        RingStore { merge: merging(decide), ..self }
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

    /// What becomes of sessions that cannot be read: an error, so that the framework answers 500, or an empty session, which the
    /// next change stores under a new key or in place of the other one.
    #[must_use]
    pub fn on_corrupt(self, answer: OnCorrupt) -> RingStore {
        RingStore { on_corrupt: answer, ..self }
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

    fn living(&self, ttl: &time::Duration) -> Result<Sessions<Stored>> {
        let idle = Duration::try_from(*ttl).unwrap_or_default();
        Ok(self.sessions.clone().lifetime(lifetime(idle, self.absolute)?))
    }

    async fn create(&self, stored: &Stored, ttl: &time::Duration) -> anyhow::Result<SessionKey> {
        let id = self.living(ttl)?.create(stored).await?;
        Ok(SessionKey::try_from(id.expose())?)
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: Option<Loaded>,
        mine: &Stored,
        ttl: &time::Duration,
    ) -> Result<()> {
        let sessions = self.living(ttl)?;
        let Some(Loaded { version, base, .. }) = loaded else { return sessions.set(id, mine).await };
        let mut session = Session::from_parts(id.clone(), version, mine.clone());
        let merge = |mine: &Stored, there: &mut Stored| {
            self.merge.merge(&base, &mine.entries, &mut there.entries);
        };
        sessions.save_or_merge(&mut session, merge).await
    }

    fn underway(&self) -> MutexGuard<'_, Underway> {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_reset(&self, error: &Error) -> bool {
        error.is_corrupt() && self.on_corrupt == OnCorrupt::Reset
    }
}

impl SessionStore for RingStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<HashMap<String, String>>, LoadError> {
        // Whatever else stands in a cookie is no key of ours.
        let Ok(id) = SessionId::parse(key.as_ref()) else { return Ok(None) };
        match self.sessions.load(&id).await {
            Ok(None) => Ok(None),
            Ok(Some(session)) => {
                let version = session.version();
                let base = session.into_value().entries;
                let state =
                    base.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
                let state = state.collect();
                self.underway().remember(Loaded { id, version, base });
                Ok(Some(state))
            }
            Err(error) if self.is_reset(&error) => Err(LoadError::Deserialization(error.into())),
            Err(error) => Err(LoadError::Other(error.into())),
        }
    }

    async fn save(
        &self,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, SaveError> {
        self.create(&Stored::from(state), ttl).await.map_err(|error| {
            if is_encoding(&error) { SaveError::Serialization(error) } else { SaveError::Other(error) }
        })
    }

    async fn update(
        &self,
        key: SessionKey,
        state: HashMap<String, String>,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        let failed = |error: anyhow::Error| {
            if is_encoding(&error) { UpdateError::Serialization(error) } else { UpdateError::Other(error) }
        };
        let stored = Stored::from(state);
        if let Ok(id) = SessionId::parse(key.as_ref()) {
            let loaded = self.underway().take(&id);
            match self.replace(&id, loaded, &stored, ttl).await {
                Ok(()) => return Ok(key),
                Err(error) if error.is_not_found() || self.is_reset(&error) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        self.create(&stored, ttl).await.map_err(failed)
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        let Ok(id) = SessionId::parse(key.as_ref()) else { return Ok(()) };
        match self.living(ttl)?.touch(&id).await {
            // It has ended since the request has read it: there is nothing to prolong, and nothing comes back by it.
            Err(error) if error.is_not_found() || error.is_deleted() => Ok(()),
            touched => Ok(touched?),
        }
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        let Ok(id) = SessionId::parse(key.as_ref()) else { return Ok(()) };
        self.underway().take(&id);
        Ok(self.sessions.delete(&id).await?)
    }
}

impl From<HashMap<String, String>> for Stored {
    fn from(state: HashMap<String, String>) -> Stored {
        Stored { entries: state.into_iter().map(|(name, text)| (name, Value::String(text))).collect() }
    }
}

fn is_encoding(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::Encode)
}

/// Entries are compared as the texts they are, and read only where both have changed one.
fn merging(decide: impl Fn(BothChanged<'_>) -> Option<Value> + Send + Sync + 'static) -> Merge {
    let read =
        |text: Option<&Value>| text.and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
    Merge::by(move |both| {
        let [base, mine, theirs] = [both.base, both.mine, both.theirs].map(read);
        let both = BothChanged { base: base.as_ref(), mine: mine.as_ref(), theirs: theirs.as_ref(), ..both };
        decide(both).map(|value| Value::String(value.to_string()))
    })
}

/// What requests that are under way have loaded, by the task that each of them runs in.
#[derive(Default)]
struct Underway {
    young: HashMap<task::Id, Loaded>,
    old: HashMap<task::Id, Loaded>,
}

struct Loaded {
    id: SessionId,
    version: u64,
    base: Map<String, Value>,
}

impl Underway {
    fn remember(&mut self, loaded: Loaded) {
        let Some(task) = task::try_id() else { return };
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(task, loaded);
    }

    /// What this task has loaded last, if it was this session.
    fn take(&mut self, id: &SessionId) -> Option<Loaded> {
        let task = task::try_id()?;
        let loaded = self.young.remove(&task).or_else(|| self.old.remove(&task))?;
        Some(loaded).filter(|loaded| loaded.id == *id)
    }
}

/// Shows no session.
impl fmt::Debug for Underway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Underway").field("requests", &(self.young.len() + self.old.len())).finish()
    }
}
