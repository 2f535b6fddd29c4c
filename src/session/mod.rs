//! What an application calls.
//!
//! - [`Sessions`]: typed sessions of one namespace
//! - [`Lifetime`]: idle and absolute
//! - `many`: the same operations for many sessions at once

mod lifetime;
mod many;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

pub use self::lifetime::Lifetime;
use crate::{
    client::SessionRing,
    error::{Error, ErrorKind, Result},
    protocol::{Command, Condition, Delete, Outcome, Write},
    record::{
        Bincode, Codec, CodecId, Header, IdError, Key, Keyspace, Kind, Record, RecordError, SessionId,
        Version, built_in,
    },
};

/// How long a log-out is remembered beyond the session's remaining idle time: longer than any request can be
/// under way.
const TOMBSTONE_FLOOR: Duration = Duration::from_secs(15 * 60);

/// Other writers may be faster this often before an update gives up.
const UPDATE_ATTEMPTS: u32 = 256;

/// Sessions of type `T` in one namespace. Cheap to clone.
///
/// Every operation is one round trip to the node that owns the session. Writes are atomic there and carry a
/// version; **a log-out is final**: whatever is in flight, no later write brings the session back.
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
    keyspace: Arc<Keyspace>,
    options: Arc<Options<T>>,
}

struct Options<T: 'static> {
    lifetime: Lifetime,
    codec: Arc<dyn Codec<T>>,
    /// Read, not written.
    older: Vec<Arc<dyn Codec<T>>>,
    built_in: fn(CodecId) -> Option<&'static dyn Codec<T>>,
    max_bytes: usize,
    upsert_foreign: bool,
}

impl<T> Sessions<T>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) fn new(ring: SessionRing, ring_name: &str, namespace: &str) -> Sessions<T> {
        Sessions {
            keyspace: Arc::new(Keyspace::new(ring_name, namespace)),
            ring,
            options: Arc::new(Options {
                lifetime: Lifetime::default(),
                codec: Arc::new(Bincode),
                older: Vec::new(),
                built_in: built_in::<T>,
                max_bytes: 64 << 10,
                upsert_foreign: false,
            }),
        }
    }
}

/// Options. They belong to this handle and its clones; records carry what reading them needs.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// How long sessions live: [`Lifetime::default`] unless set. The idle part holds from the next write or touch
    /// of a session, the absolute part for sessions created from now on.
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
        let command = self.write(Condition::Absent, value)?;
        self.run(id, command).await.map(drop)
    }

    /// Reads a session. `None`: it was logged out, expired, or never was.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): its node is down, and whether it exists is unknown.
    /// [`is_corrupt`](Error::is_corrupt), [`is_too_large`](Error::is_too_large),
    /// [`is_upgrade_required`](Error::is_upgrade_required): something is there that this application cannot read.
    pub async fn get(&self, id: &SessionId) -> Result<Option<T>> {
        let key = self.keyspace.key(id);
        let outcome = self.ring.execute(key, Command::Read).await?;
        Ok(self.read(&key, outcome)?.map(|(value, _)| value))
    }

    /// Replaces a live session, whoever wrote it last, and slides its idle deadline. It never brings a session
    /// back: to change what is there, [`update`](Sessions::update) is safe against concurrent writers.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_deleted`](Error::is_deleted),
    /// [`is_too_large`](Error::is_too_large), [`is_full`](Error::is_full),
    /// [`is_unavailable`](Error::is_unavailable), [`is_corrupt`](Error::is_corrupt), and
    /// [`is_indeterminate`](Error::is_indeterminate): sent, but no answer came. It is not sent again, since that
    /// could bury a newer write.
    pub async fn set(&self, id: &SessionId, value: &T) -> Result<()> {
        let command = self.write(self.set_condition(id), value)?;
        self.run(id, command).await.map(drop)
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
        let key = self.keyspace.key(id);
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut seen = self.ring.execute(key, Command::Read).await?;
        for attempt in 0..UPDATE_ATTEMPTS {
            let (command, answer) = self.change(&key, seen, &mut change)?;
            match self.ring.execute(key, command).await? {
                Outcome::Conflict(record) => seen = Outcome::Record(record),
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
        self.run(id, self.touch_command()).await.map(drop)
    }

    /// Logs out, for good: once this has answered `Ok`, no `set`, `update` or `touch` that is or ever was under way
    /// brings the session back. Works on a node that is out of memory. A session that is not there is fine too.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): the node is down, the session may still be there: try again.
    /// [`is_indeterminate`](Error::is_indeterminate): try again, it does no harm.
    /// [`is_full`](Error::is_full): only when the node cannot save to its disk.
    pub async fn delete(&self, id: &SessionId) -> Result<()> {
        let key = self.keyspace.key(id);
        let outcome = self.ring.execute(key, self.delete_command(id)).await?;
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
        let key = self.keyspace.key(id);
        let outcome = self.ring.execute(key, Command::Inspect).await?;
        self.expect_inspected(&key, outcome)
    }

    async fn run(&self, id: &SessionId, command: Command) -> Result<Version> {
        let key = self.keyspace.key(id);
        let outcome = self.ring.execute(key, command).await?;
        self.expect_applied(&key, outcome)
    }
}

/// From calls to commands.
impl<T: Send + Sync + 'static> Sessions<T> {
    fn write(&self, condition: Condition, value: &T) -> Result<Command> {
        let options = &*self.options;
        let payload = options.codec.encode(value).map_err(|error| {
            let message = format!("the session does not encode as {}: {error}", options.codec.id());
            Error::with_source(ErrorKind::Encode, message, error)
        })?;
        if payload.len() > options.max_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the encoded session has {} bytes, the limit is {}; nothing was changed; store less, or raise \
                     max_bytes",
                    payload.len(),
                    options.max_bytes
                ),
            ));
        }
        Ok(Command::Write(Write {
            condition,
            idle: options.lifetime.idle_ms(),
            absolute: options.lifetime.absolute_ms(),
            codec: options.codec.id(),
            schema: 0,
            stamp: self.ring.epoch(),
            operation: self.ring.next_operation(),
            payload: Bytes::from(payload),
        }))
    }

    fn set_condition(&self, id: &SessionId) -> Condition {
        if self.upserts(id) { Condition::AbsentOrLive } else { Condition::Live }
    }

    fn upserts(&self, id: &SessionId) -> bool {
        self.options.upsert_foreign && id.is_foreign()
    }

    fn touch_command(&self) -> Command {
        Command::Touch(self.options.lifetime.idle_ms())
    }

    fn delete_command(&self, id: &SessionId) -> Command {
        let floor = TOMBSTONE_FLOOR + self.ring.max_clock_skew();
        Command::Delete(Delete {
            floor: lifetime::milliseconds(floor),
            absolute: self.options.lifetime.absolute_ms(),
            upsertable: self.upserts(id),
            stamp: self.ring.epoch(),
            operation: self.ring.next_operation(),
        })
    }

    /// The write that replaces what was seen by what `change` makes of it.
    fn change<R>(
        &self,
        key: &Key,
        seen: Outcome,
        change: &mut (impl FnMut(&mut T) -> R + Send),
    ) -> Result<(Command, R)> {
        let deleted = matches!(&seen, Outcome::Record(bytes)
            if Header::decode(bytes).is_ok_and(|header| header.kind == Kind::Tombstone));
        let Some((mut value, version)) = self.read(key, seen)? else {
            return Err(if deleted { self.deleted(key) } else { self.not_found(key) });
        };
        let answer = change(&mut value);
        Ok((self.write(Condition::Version(version), &value)?, answer))
    }
}

/// From outcomes to answers.
impl<T: Send + Sync + 'static> Sessions<T> {
    fn read(&self, key: &Key, outcome: Outcome) -> Result<Option<(T, Version)>> {
        let bytes = match outcome {
            Outcome::Record(bytes) => bytes,
            Outcome::Absent => return Ok(None),
            outcome => return Err(self.unexpected(key, outcome)),
        };
        let record = Record::decode(&bytes).map_err(|error| self.not_a_record(key, error))?;
        match record.header.kind {
            Kind::Tombstone => Ok(None),
            Kind::Live if !record.header.pending => {
                Ok(Some((self.decode(key, &record)?, record.header.version)))
            }
            Kind::Live | Kind::Moved => Err(self.unexpected(key, Outcome::Unexpected(bytes))),
        }
    }

    fn decode(&self, key: &Key, record: &Record<'_>) -> Result<T> {
        let options = &*self.options;
        let (size, limit) = (record.payload.len(), options.max_bytes);
        if size > limit {
            let message = format!(
                "the stored session has {size} bytes, this application reads at most {limit}; raise max_bytes ({key:?})"
            );
            return Err(Error::at(ErrorKind::TooLarge, &self.ring.node_of(key), message));
        }
        if record.header.seal != 0 {
            let message = format!(
                "the session is sealed with key {}, and this application has none; upgrade it ({key:?})",
                record.header.seal
            );
            return Err(self.error(key, ErrorKind::UpgradeRequired, message));
        }
        let id = record.header.codec;
        let own = std::iter::once(&options.codec).chain(&options.older).find(|codec| codec.id() == id);
        let codec = own.map(|codec| &**codec).or_else(|| (options.built_in)(id));
        let Some(codec) = codec else {
            return Err(self.corrupt(key, format!("the session is encoded as {id}; name it with also_read")));
        };
        codec.decode(record.payload).map_err(|error| {
            let message = format!(
                "the stored session ({size} bytes of {id}) does not decode as the type asked for: {error}"
            );
            self.corrupt(key, message)
        })
    }

    fn expect_applied(&self, key: &Key, outcome: Outcome) -> Result<Version> {
        match outcome {
            Outcome::Applied(version) => Ok(version),
            Outcome::Absent => Err(self.not_found(key)),
            Outcome::Deleted => Err(self.deleted(key)),
            Outcome::Exists => Err(self.error(
                key,
                ErrorKind::Exists,
                "a session with this id is there already; use set".into(),
            )),
            Outcome::Conflict(_) => Err(self.conflict(key)),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    fn expect_deleted(&self, key: &Key, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Applied(_) | Outcome::Absent | Outcome::Deleted => Ok(()),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    fn expect_inspected(&self, key: &Key, outcome: Outcome) -> Result<Option<Duration>> {
        match outcome {
            Outcome::Inspected(_, remaining) => Ok(Some(Duration::from_millis(remaining))),
            Outcome::Absent | Outcome::Deleted => Ok(None),
            outcome => Err(self.unexpected(key, outcome)),
        }
    }

    fn not_found(&self, key: &Key) -> Error {
        let message = "no such session: it expired, or never was; nothing was changed";
        self.error(key, ErrorKind::NotFound, message.into())
    }

    fn deleted(&self, key: &Key) -> Error {
        let message = "the session was logged out, and that is final; nothing was changed";
        self.error(key, ErrorKind::Deleted, message.into())
    }

    fn conflict(&self, key: &Key) -> Error {
        let message = format!(
            "others changed the session each time before this update could (up to {UPDATE_ATTEMPTS} attempts or the \
             request timeout); nothing was changed; try again later, or change it from fewer places"
        );
        self.error(key, ErrorKind::Conflict, message)
    }

    /// What stands under the key is no session.
    fn unexpected(&self, key: &Key, outcome: Outcome) -> Error {
        match outcome {
            Outcome::WrongType => self.corrupt(key, "another Redis type than a string is stored".into()),
            Outcome::Unexpected(first) => match Header::decode(&first) {
                Err(error) => self.not_a_record(key, error),
                Ok(header) => {
                    let kind = header.kind;
                    self.corrupt(key, format!("the record is {kind:?} and moving, but the ring is not"))
                }
            },
            outcome => self.corrupt(key, format!("the node answered what was not asked: {outcome:?}")),
        }
    }

    fn not_a_record(&self, key: &Key, error: RecordError) -> Error {
        match error {
            RecordError::NewerFormat(_) => {
                let message = format!("{error}; upgrade this application ({key:?})");
                self.error(key, ErrorKind::UpgradeRequired, message)
            }
            error => self.corrupt(key, error.to_string()),
        }
    }

    fn corrupt(&self, key: &Key, what: String) -> Error {
        let message = format!("{what}; nothing was changed; delete ends the session ({key:?})");
        self.error(key, ErrorKind::Corrupt, message)
    }

    fn error(&self, key: &Key, kind: ErrorKind, message: String) -> Error {
        Error::at(kind, &self.ring.node_of(key), message)
    }
}

fn new_id() -> Result<SessionId> {
    SessionId::generate().map_err(|error: IdError| {
        let message = error.to_string();
        Error::with_source(ErrorKind::Configuration, message, error)
    })
}

/// The first losers of a race try again at once: what they need came with the refusal. Those who keep losing
/// wait a random while, so that a crowd thins out.
async fn give_way(attempt: u32) {
    if attempt >= 8 {
        let random = getrandom::u32().unwrap_or(0);
        let longest = Duration::from_millis(1 << (attempt - 8).min(4));
        sleep(longest.mul_f64(f64::from(random) / f64::from(u32::MAX))).await;
    }
}

impl<T: 'static> Clone for Options<T> {
    fn clone(&self) -> Options<T> {
        Options { codec: self.codec.clone(), older: self.older.clone(), ..*self }
    }
}

impl<T: 'static> Clone for Sessions<T> {
    fn clone(&self) -> Sessions<T> {
        Sessions { ring: self.ring.clone(), keyspace: self.keyspace.clone(), options: self.options.clone() }
    }
}

impl<T: 'static> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("ring", &self.ring)
            .field("lifetime", &self.options.lifetime)
            .field("codec", &self.options.codec)
            .field("max_bytes", &self.options.max_bytes)
            .finish_non_exhaustive()
    }
}
