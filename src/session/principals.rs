//! All sessions of a principal: who is logged in where, and log-outs everywhere.
//!
//! The ids of his sessions share a routing tag that comes from him, so they stand at one node, and so does the list of them,
//! which is a record like any other: fenced, versioned, moved when they are. At every moment it has **at least** the sessions
//! that live: an entry comes before its session, and goes after a tombstone stands in its place. That holds for every prefix of
//! what the node was told, so it holds after a crash that lost the end of it. And since a log-out everywhere puts its
//! tombstones where the sessions are, nobody who reads a session has to look at anything else.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Sessions, UPDATE_ATTEMPTS,
    bound::{BoundSession, SessionHandle},
    give_way,
    lifetime::LONGEST_MS,
    rotate::{Departure, foreign},
};
use crate::{
    client::SessionEvent,
    entropy,
    error::{Error, ErrorKind, Result},
    protocol::{Command, Condition, Delete, Outcome, Write},
    record::{CodecId, Entry, Index, IndexError, Key, Kind, Millis, Principal, Record, SessionId, Version},
};

/// From so many entries on, and whenever they have doubled, a log-in looks which of them are of sessions that are gone.
const FIRST_LOOK: usize = 32;

/// A session whose entry is younger may be on its way.
const ON_ITS_WAY: Millis = 60_000;

/// A list as it was read.
pub(super) struct Listed {
    tag: [u8; 8],
    key: Key,
    version: Version,
    /// The node's time.
    now: Millis,
    index: Index,
}

/// Principals.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// Makes a session one of `principal`: a user, or whatever has several sessions. At a log-in. The session gets a wholly
    /// new id, and **the old one is dead at once**, so whoever planted it or saw it has nothing. Value and absolute deadline
    /// stay; the idle deadline slides.
    ///
    /// A principal is named by any bytes that stay the same and are nobody else's: the number of an account and not an e-mail
    /// address. The nodes hold digests of them, HMACs in a ring with a [secret](crate::Builder::secret). All sessions of
    /// one principal stand at one node. He may have 1,024.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let carts = ring.sessions::<Vec<String>>("cart");
    /// let anonymous = carts.create(&vec!["book".into()]).await?;
    ///
    /// let phone = carts.bind(&anonymous, "user 7").await?; // he has logged in
    /// assert!(carts.get(&anonymous).await?.is_none());
    /// let laptop = carts.create_for("user 7", &vec![]).await?;
    /// assert_eq!(carts.sessions_of("user 7").await?.len(), 2);
    ///
    /// carts.revoke_all_but("user 7", &phone).await?; // "log out all other devices"
    /// assert!(carts.get(&laptop).await?.is_none());
    /// assert_eq!(carts.get(&phone).await?.unwrap(), ["book"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`rotate`](Sessions::rotate); [`is_deleted`](Error::is_deleted) also where all sessions of the principal were
    /// ended meanwhile; [`is_too_large`](Error::is_too_large): he has too many.
    pub async fn bind(&self, id: &SessionId, principal: impl AsRef<[u8]> + Send) -> Result<SessionId> {
        if id.is_foreign() {
            return Err(foreign("bind"));
        }
        let who = self.principals.of(principal.as_ref());
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut key = self.keyspace.key(id);
        for attempt in 0..UPDATE_ATTEMPTS {
            let departing = self.departing(key).await?;
            key = departing.key;
            let fresh = super::id_under(who.tag)?;
            let to = self.keyspace.key(&fresh);
            self.enlist(&who, &to, Some(departing.header.max_deadline)).await?;
            match self.depart(departing, &to, Duration::ZERO).await? {
                Departure::Done => return Ok(fresh),
                Departure::Refused => return Err(self.overtaken(&to)),
                Departure::Overtaken => {}
            }
            if Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&key))
    }

    /// Creates a session of `principal`: [`create`](Sessions::create) and [`bind`](Sessions::bind) in one.
    ///
    /// # Errors
    /// Those of [`create`](Sessions::create); [`is_deleted`](Error::is_deleted): all sessions of the principal were ended
    /// meanwhile; [`is_too_large`](Error::is_too_large): also where he has too many.
    pub async fn create_for(&self, principal: impl AsRef<[u8]> + Send, value: &T) -> Result<SessionId> {
        let who = self.principals.of(principal.as_ref());
        let id = super::id_under(who.tag)?;
        let key = self.keyspace.key(&id);
        let create = self.write(&key, Condition::Absent, value)?;
        self.enlist(&who, &key, None).await?;
        match self.ring.execute(key, create).await? {
            Outcome::Deleted => Err(self.overtaken(&key)),
            outcome => self.expect_created(&key, outcome).map(|()| id),
        }
    }

    /// The live sessions of a principal, those that began last first: one round trip for the list, and one for the sessions.
    /// Their ids are not known to anybody but the browsers; [`end`](Sessions::end) ends one by its handle.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): the node that holds them is down.
    /// [`is_corrupt`](Error::is_corrupt): the list is damaged. A session that cannot be read is in the list, with its error.
    pub async fn sessions_of(&self, principal: impl AsRef<[u8]> + Send) -> Result<Vec<BoundSession<T>>> {
        let who = self.principals.of(principal.as_ref());
        let Some(mut listed) = self.listed(who.tag).await? else { return Ok(Vec::new()) };
        for _ in 0..3 {
            let (found, gone) = self.look_at(&who, &listed).await?;
            if !gone {
                return Ok(found);
            }
            // A session that is gone may go on under an id that has been listed since.
            let version = listed.version;
            match self.listed(who.tag).await? {
                None => return Ok(found),
                Some(newer) if newer.version == version => {
                    // It is nobody's loss if this fails.
                    let _ = self.prune(newer).await;
                    return Ok(found);
                }
                Some(newer) => listed = newer,
            }
        }
        self.look_at(&who, &listed).await.map(|(found, _)| found)
    }

    /// Ends every session of a principal, for good: log-out everywhere. Once this has answered, no read from any process finds
    /// one of them; reads ask nobody else for that, the sessions themselves are gone. How many there were.
    ///
    /// A log-in that is under way either is ended, too, or comes after: so withdraw first what he logs in with (the old
    /// password), then call this.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable), [`is_indeterminate`](Error::is_indeterminate): some sessions may live yet;
    /// call it again, which does no harm. [`is_corrupt`](Error::is_corrupt): the list is damaged.
    pub async fn revoke_all(&self, principal: impl AsRef<[u8]> + Send) -> Result<usize> {
        let who = self.principals.of(principal.as_ref());
        self.revoke(&who, None, |_| true).await
    }

    /// Ends every session of a principal but the one of this id, which has to be his: "log out all other devices". How many
    /// there were. The id stays good.
    ///
    /// # Errors
    /// Those of [`revoke_all`](Sessions::revoke_all); [`is_not_found`](Error::is_not_found), and nothing was ended: no live
    /// session of his has this id.
    pub async fn revoke_all_but(&self, principal: impl AsRef<[u8]> + Send, id: &SessionId) -> Result<usize> {
        let who = self.principals.of(principal.as_ref());
        self.revoke(&who, Some(id), |_| true).await
    }

    /// Ends one session of a principal, by the handle that [`sessions_of`](Sessions::sessions_of) gave, under whatever id it
    /// has by now. Whether it lived.
    ///
    /// # Errors
    /// Those of [`revoke_all`](Sessions::revoke_all).
    pub async fn end(&self, principal: impl AsRef<[u8]> + Send, handle: SessionHandle) -> Result<bool> {
        let who = self.principals.of(principal.as_ref());
        self.revoke(&who, None, |entry| entry.login == handle.0).await.map(|ended| ended > 0)
    }

    async fn revoke(
        &self,
        who: &Principal,
        spared: Option<&SessionId>,
        which: impl Fn(&Entry) -> bool + Send + Sync,
    ) -> Result<usize> {
        let deadline = Instant::now() + self.ring.request_timeout();
        let spared = match spared {
            Some(id) => Some(self.login_of(who, id).await?),
            None => None,
        };
        let mut ended = BTreeSet::new();
        for attempt in 0..UPDATE_ATTEMPTS {
            let Some(mut listed) = self.listed(who.tag).await? else { return Ok(ended.len()) };
            let is_meant =
                |entry: &Entry| entry.principal == who.digest && Some(entry.login) != spared && which(entry);
            let meant: Vec<Entry> = listed.index.entries.iter().copied().filter(is_meant).collect();
            if meant.is_empty() {
                return Ok(ended.len());
            }
            for (entry, lived) in meant.iter().zip(self.bury(&meant, &listed).await) {
                if lived? {
                    ended.insert(entry.login);
                    self.is_logged_out(&listed.key_of(self, entry));
                    self.emit(&listed.key_of(self, entry), SessionEvent::Revoked);
                }
            }
            listed.index.entries.retain(|entry| !is_meant(entry));
            let (key, version) = (listed.key, listed.version);
            match self.store(listed).await {
                Ok(true) => return Ok(ended.len()),
                Ok(false) => {}
                // A node that takes no more data lets sessions end, but no list be written. If it is the one that was read,
                // nobody has come since.
                Err(error) if error.is_full() => match self.listed(who.tag).await? {
                    Some(same) if same.version != version => {}
                    _ => return Ok(ended.len()),
                },
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(self.conflict(&key));
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&self.principals.index(who.tag)))
    }

    /// The log-in that this id's session came from.
    async fn login_of(&self, who: &Principal, id: &SessionId) -> Result<u64> {
        let mut before = None;
        loop {
            let (key, outcome) = self.execute(id, |_| Ok(Command::Inspect)).await?;
            let lives = self.expect_inspected(&key, outcome)?.is_some();
            let listed = self.listed(who.tag).await?.filter(|_| lives);
            let entries = listed.map(|listed| listed.index.entries).unwrap_or_default();
            let is_his =
                |entry: &&Entry| entry.principal == who.digest && self.listed_under(entry, who.tag) == key;
            if let Some(entry) = entries.iter().find(is_his) {
                return Ok(entry.login);
            }
            // A session that was rotated between the two looks is listed elsewhere.
            if before == Some(key) || !lives {
                let message = "no live session of this principal has this id; nothing was changed".into();
                return Err(self.error(&key, ErrorKind::NotFound, message));
            }
            before = Some(key);
        }
    }

    /// Adds a session that is about to be created.
    async fn enlist(&self, who: &Principal, key: &Key, deadline: Option<Millis>) -> Result<()> {
        let login = entropy::u64()?;
        let absolute = self.options.lifetime.absolute_ms();
        let entry = |now| {
            let deadline = deadline.unwrap_or(now + absolute) + self.tombstone_floor();
            let place = key.digest();
            Entry { place, principal: who.digest, login, deadline, added: now, begun: now }
        };
        self.add(who.tag, entry).await
    }

    /// Whether a principal has the session that stands under this key.
    pub(super) async fn is_listed(&self, tag: [u8; 8], key: &Key) -> Result<bool> {
        let listed = self.listed(tag).await?;
        let entries = listed.map(|listed| listed.index.entries).unwrap_or_default();
        Ok(entries.iter().any(|entry| self.listed_under(entry, tag) == *key))
    }

    /// Before a session is rotated: the list has the key under which it will go on, if it has the session.
    pub(super) async fn enlist_successor(
        &self,
        tag: [u8; 8],
        listed: Option<Listed>,
        from: &Key,
        to: &Key,
    ) -> Result<()> {
        let entries = listed.map(|listed| listed.index.entries).unwrap_or_default();
        let Some(entry) = entries.iter().find(|entry| self.listed_under(entry, tag) == *from) else {
            return Ok(());
        };
        self.add(tag, |now| Entry { place: to.digest(), added: now, ..*entry }).await
    }

    async fn add(&self, tag: [u8; 8], entry: impl Fn(Millis) -> Entry + Send) -> Result<()> {
        let deadline = Instant::now() + self.ring.request_timeout();
        for attempt in 0..UPDATE_ATTEMPTS {
            let mut listed = self.listed_or_new(tag).await?;
            let count = listed.index.entries.len();
            if count >= FIRST_LOOK && count.is_power_of_two() {
                self.drop_ended(&mut listed).await;
            }
            if listed.index.entries.len() >= Index::MOST {
                let message = format!(
                    "the principal has {} sessions, and may not have more; nothing was changed; end some of them",
                    Index::MOST
                );
                return Err(self.error(&listed.key, ErrorKind::TooLarge, message));
            }
            let key = listed.key;
            listed.index.entries.push(entry(listed.now));
            if self.store(listed).await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.conflict(&key));
            }
            give_way(attempt).await;
        }
        Err(self.conflict(&self.principals.index(tag)))
    }

    /// The sessions of a principal, and whether some that are listed are gone.
    async fn look_at(&self, who: &Principal, listed: &Listed) -> Result<(Vec<BoundSession<T>>, bool)> {
        let mine = |entry: &&Entry| entry.principal == who.digest;
        let entries: Vec<&Entry> = listed.index.entries.iter().filter(mine).collect();
        let commands =
            entries.iter().map(|entry| Ok((self.listed_under(entry, who.tag), Command::Visit))).collect();
        let looked = self.run_many(commands, |_, _| Ok(Command::Visit)).await;
        let mut gone = false;
        let mut found: Vec<(Millis, BoundSession<T>)> = Vec::new();
        for (entry, looked) in entries.into_iter().zip(looked) {
            let (key, record, left) = match looked {
                Ok((key, Outcome::Visited { record, left, .. })) => (key, record, left),
                Ok((_, Outcome::Absent | Outcome::Deleted)) => {
                    gone = true;
                    continue;
                }
                Ok((key, outcome)) => {
                    let error = self.unexpected(&key, outcome);
                    found.push((entry.added, BoundSession::new(self, entry, key, Err(error), 0)));
                    continue;
                }
                Err(error) if error.is_corrupt() || error.is_upgrade_required() => {
                    let key = self.listed_under(entry, who.tag);
                    found.push((entry.added, BoundSession::new(self, entry, key, Err(error), 0)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.read_as(&key, Outcome::Record(record), |_, _, value| value) {
                Ok(None) => gone = true,
                Ok(Some(value)) => {
                    found.push((entry.added, BoundSession::new(self, entry, key, Ok(value), left)))
                }
                Err(error) => {
                    found.push((entry.added, BoundSession::new(self, entry, key, Err(error), left)))
                }
            }
        }
        // Of a session that was rotated both entries may be there, and a copy that nobody got an id for.
        found.sort_by_key(|(added, session)| {
            (std::cmp::Reverse(session.begun), session.handle.0, std::cmp::Reverse(*added))
        });
        found.dedup_by_key(|(_, session)| session.handle);
        Ok((found.into_iter().map(|(_, session)| session).collect(), gone))
    }

    /// Puts a tombstone where each of these sessions is, or may yet come. Whether it lived.
    async fn bury(&self, entries: &[Entry], listed: &Listed) -> Vec<Result<bool>> {
        let keys: Vec<Key> = entries.iter().map(|entry| listed.key_of(self, entry)).collect();
        let ends: Vec<_> = keys.iter().map(|key| (*key, self.end_command())).collect();
        let mut buried: Vec<Result<bool>> = Vec::with_capacity(keys.len());
        let mut absent = Vec::new();
        for (i, (key, outcome)) in keys.iter().zip(self.ring.execute_many(&ends).await).enumerate() {
            buried.push(match outcome {
                Ok(Outcome::Applied(_)) => Ok(true),
                // Where it goes on is in the list, or in the next one.
                Ok(Outcome::Deleted | Outcome::Forwarded(_)) => Ok(false),
                Ok(Outcome::Absent) => {
                    absent.push((i, (*key, self.forestall_command())));
                    Ok(false)
                }
                Ok(outcome) => Err(self.unexpected(key, outcome)),
                Err(error) => Err(error),
            });
        }
        let (places, commands): (Vec<usize>, Vec<_>) = absent.into_iter().unzip();
        if !commands.is_empty() {
            for (i, outcome) in places.into_iter().zip(self.ring.execute_many(&commands).await) {
                buried[i] = outcome.map(|_| false);
            }
        }
        buried
    }

    /// A tombstone where nothing is, for as long as a request can be under way.
    fn forestall_command(&self) -> Command {
        Command::Delete(Delete {
            floor: self.tombstone_floor(),
            absolute: 0,
            upsertable: true,
            operation: self.ring.next_operation(),
        })
    }

    async fn prune(&self, mut listed: Listed) -> Result<()> {
        let before = listed.index.entries.len();
        self.drop_ended(&mut listed).await;
        if listed.index.entries.len() < before {
            self.store(listed).await?;
        }
        Ok(())
    }

    /// Drops the entries of sessions that are gone. Where nothing is, a tombstone comes first: a create that was thought to be
    /// lost must not find its place free when its entry is gone.
    async fn drop_ended(&self, listed: &mut Listed) {
        let entries = &listed.index.entries;
        let looks: Vec<_> =
            entries.iter().map(|entry| (listed.key_of(self, entry), Command::Inspect)).collect();
        let looked = self.ring.execute_many(&looks).await;
        let (mut ended, mut absent) = (BTreeSet::new(), Vec::new());
        for (entry, outcome) in entries.iter().zip(looked) {
            match outcome {
                Ok(Outcome::Deleted | Outcome::Forwarded(_)) => drop(ended.insert(entry.place)),
                Ok(Outcome::Absent) if entry.added + ON_ITS_WAY < listed.now => absent.push(*entry),
                _ => {}
            }
        }
        if !absent.is_empty() {
            for (entry, buried) in absent.iter().zip(self.bury(&absent, listed).await) {
                if buried.is_ok() {
                    ended.insert(entry.place);
                }
            }
        }
        listed.index.entries.retain(|entry| !ended.contains(&entry.place));
    }

    fn listed_under(&self, entry: &Entry, tag: [u8; 8]) -> Key {
        self.keyspace.under(tag, entry.place)
    }

    async fn listed_or_new(&self, tag: [u8; 8]) -> Result<Listed> {
        if let Some(listed) = self.listed(tag).await? {
            return Ok(listed);
        }
        let key = self.principals.index(tag);
        let empty = self.index_write(&key, Condition::Absent, &Index::default(), 0)?;
        match self.ring.execute(key, empty).await? {
            // What is created has the node's time for a version.
            Outcome::Applied(now) => Ok(Listed { key, tag, version: now, now, index: Index::default() }),
            Outcome::Exists => match self.listed(tag).await? {
                Some(listed) => Ok(listed),
                None => Err(self.conflict(&key)),
            },
            outcome => Err(self.unexpected(&key, outcome)),
        }
    }

    /// Reads a list, without what has passed its deadline.
    pub(super) async fn listed(&self, tag: [u8; 8]) -> Result<Option<Listed>> {
        let key = self.principals.index(tag);
        let (record, now) = match self.ring.execute(key, Command::Visit).await? {
            Outcome::Visited { record, deadline, left } => (record, deadline - left),
            Outcome::Absent => return Ok(None),
            outcome => return Err(self.damaged(&key, self.unexpected(&key, outcome))),
        };
        let record = Record::decode(&record).map_err(|error| self.not_a_record(&key, error))?;
        let payload = self.opened(&key, &record).map_err(|error| self.damaged(&key, error))?;
        let known = record.header.kind == Kind::Live && record.header.codec == CodecId::INDEX;
        match Index::decode(&payload)
            .and_then(|index| if known { Ok(index) } else { Err(IndexError::Corrupt) })
        {
            Ok(mut index) => {
                index.entries.retain(|entry| entry.deadline >= now);
                Ok(Some(Listed { key, tag, version: record.header.version, now, index }))
            }
            Err(IndexError::Newer(version)) => {
                let message =
                    format!("the list of sessions has format {version}; upgrade this application ({key:?})");
                Err(self.error(&key, ErrorKind::UpgradeRequired, message))
            }
            Err(IndexError::Corrupt) => {
                let error = self.corrupt(&key, "what stands there is no list".into());
                Err(self.damaged(&key, error))
            }
        }
    }

    /// Writes a list back. `false`: somebody was faster.
    async fn store(&self, listed: Listed) -> Result<bool> {
        let Listed { key, version, now, index, .. } = listed;
        let write = self.index_write(&key, Condition::Version(version), &index, now)?;
        match self.ring.execute(key, write).await? {
            Outcome::Applied(_) => Ok(true),
            Outcome::Conflict(_) | Outcome::Absent => Ok(false),
            outcome => Err(self.unexpected(&key, outcome)),
        }
    }

    fn index_write(&self, key: &Key, condition: Condition, index: &Index, now: Millis) -> Result<Command> {
        let write = Write {
            condition,
            idle: index.deadline().saturating_sub(now) + self.tombstone_floor(),
            absolute: LONGEST_MS,
            codec: CodecId::INDEX,
            schema: 0,
            seal: 0,
            operation: self.ring.next_operation(),
            payload: Bytes::from(index.encode()),
        };
        self.sealed(key, write).map(Command::from)
    }

    fn overtaken(&self, key: &Key) -> Error {
        let message = "all sessions of this principal were ended while this one began; it was not begun, and nothing else was \
                       changed; log in again";
        self.error(key, ErrorKind::Deleted, message.into())
    }

    fn damaged(&self, key: &Key, error: Error) -> Error {
        if !error.is_corrupt() {
            return error;
        }
        let message = format!(
            "the list of the sessions of a principal is damaged, so nobody knows all of them; they work, and each can be logged \
             out by itself; to begin a new list, delete the key at its node ({key:?}); {}",
            error.message()
        );
        self.error(key, ErrorKind::Corrupt, message)
    }
}

impl Listed {
    fn key_of<T: Send + Sync + 'static>(&self, sessions: &Sessions<T>, entry: &Entry) -> Key {
        sessions.listed_under(entry, self.tag)
    }
}
