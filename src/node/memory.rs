//! The in-memory node: for demos, for users' own tests, and for simulation. It runs the specification of the
//! script, `protocol::apply`, and obeys the same conformance suite as a real node.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, LazyLock, Weak},
    time::SystemTime,
};

#[cfg(test)]
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Batch, BatchReply, Clocks, Connection, Failure, Hello, Link, Look, Request, Survey, Surveyed, Transport,
    queue::Waiting,
};
use crate::{
    entropy,
    error::Error,
    protocol::{Charter, Control, ControlReply, Effect, Outcome, Standing, Stored, apply, govern},
    record::{Key, Millis},
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

/// What a Redis server would be: records that expire, and the keys beside them.
#[derive(Debug)]
pub(crate) struct MemoryServer(Mutex<Contents>);

#[derive(Debug, Clone)]
pub(crate) struct Contents {
    /// The server's clock: started at the time of day, then as tokio's clock goes, which tests can pause.
    start: (Instant, Millis),
    records: BTreeMap<Key, Stored>,
    /// What each ring keeps beside its records, by the ring's name.
    charters: BTreeMap<String, Charter>,
    /// Names this server, until it is restarted.
    process: u64,
    scans: Scans,
    seq: u64,
    /// Expired records are swept away when this many are held.
    sweep_at: usize,
}

/// Where the scans that are under way go on. A position would not do: records go while a scan is under way.
#[derive(Debug, Clone, Default)]
struct Scans {
    last: u64,
    after: BTreeMap<u64, Key>,
}

/// So many scans may be under way at once; an older one begins anew.
const SCANS: usize = 64;

static NAMED: LazyLock<Mutex<HashMap<String, Weak<MemoryServer>>>> = LazyLock::new(Mutex::default);

const FIRST_SWEEP: usize = 1024;

impl MemoryServer {
    pub(crate) fn new() -> Arc<MemoryServer> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Arc::new(MemoryServer(Mutex::new(Contents::new(now.as_millis() as Millis))))
    }

    /// The server that everyone in this process reaches by this name, for as long as anyone uses it.
    pub(crate) fn named(name: &str) -> Arc<MemoryServer> {
        let mut named = NAMED.lock();
        named.retain(|_, server| server.strong_count() > 0);
        if let Some(server) = named.get(name).and_then(Weak::upgrade) {
            return server;
        }
        let server = MemoryServer::new();
        named.insert(name.to_owned(), Arc::downgrade(&server));
        server
    }

    /// Another process, with the data of the one before or without any.
    #[cfg(test)]
    pub(crate) fn restart(&self, keep_data: bool) {
        let mut contents = self.0.lock();
        contents.restart();
        if !keep_data {
            contents.clear();
        }
    }

    /// Takes a record away, as somebody else would.
    #[cfg(test)]
    pub(crate) fn remove(&self, key: &Key) {
        self.0.lock().records.remove(key);
    }

    /// Does something to what a ring keeps beside its records, as somebody else would.
    #[cfg(test)]
    pub(crate) fn meddle(&self, ring: &str, how: impl FnOnce(&mut Charter)) {
        how(self.0.lock().charters.entry(ring.to_owned()).or_default());
    }

    /// Puts bytes under a key for two hours, as somebody else would.
    #[cfg(test)]
    pub(crate) fn store(&self, key: Key, bytes: &[u8]) {
        let mut contents = self.0.lock();
        let expires = contents.now() + 7_200_000;
        contents.records.insert(key, Stored { bytes: Bytes::copy_from_slice(bytes), expires });
    }
}

/// A number for a server's process. Where there is no randomness, one restart looks like another.
fn process() -> u64 {
    entropy::u64().unwrap_or_default()
}

impl Contents {
    /// A server without contents, at this time of day.
    pub(crate) fn new(now: Millis) -> Contents {
        Contents {
            start: (Instant::now(), now),
            records: BTreeMap::new(),
            charters: BTreeMap::new(),
            process: process(),
            scans: Scans::default(),
            seq: 0,
            sweep_at: FIRST_SWEEP,
        }
    }

    /// Another process, with the same data.
    #[cfg(test)]
    pub(crate) fn restart(&mut self) {
        self.process = process();
        self.scans = Scans::default();
    }

    /// The same process, without any data.
    #[cfg(test)]
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.charters.clear();
        self.seq = 0;
    }

    /// Names the running server.
    pub(crate) fn process(&self) -> u64 {
        self.process
    }

    /// Whether a scan that is under way goes on there.
    #[cfg(test)]
    pub(crate) fn knows_cursor(&self, cursor: u64) -> bool {
        cursor == 0 || self.scans.after.contains_key(&cursor)
    }

    pub(crate) fn now(&self) -> Millis {
        self.start.1 + self.start.0.elapsed().as_millis() as Millis
    }

    pub(crate) fn charter(&mut self, keys: &MetaKeys) -> &mut Charter {
        self.charters.entry(keys.ring.clone()).or_default()
    }

    pub(crate) fn survey(&mut self, survey: &Survey) -> Surveyed {
        let now = self.now();
        let live = |stored: &Stored| now <= stored.expires;
        match survey {
            Survey::Scan { prefix, cursor, count } => {
                let after = self.scans.after.get(cursor);
                let rest = after.map_or(Bound::Unbounded, |key| Bound::Excluded(*key));
                let mut part = self.records.range((rest, Bound::Unbounded)).take((*count).max(1));
                let (mut found, mut end) = (Vec::new(), None);
                for (key, stored) in part.by_ref() {
                    end = Some(*key);
                    if live(stored) && key.as_bytes().starts_with(prefix) {
                        found.push(*key);
                    }
                }
                let more = end.filter(|end| {
                    self.records.range((Bound::Excluded(*end), Bound::Unbounded)).next().is_some()
                });
                Surveyed::Keys(more.map_or(0, |key| self.scans.go_on_after(key)), found)
            }
            Survey::Weigh(keys) => {
                let weight = |key| {
                    self.records.get(key).filter(|stored| live(stored)).map_or(0, |stored| stored.bytes.len())
                };
                Surveyed::Weights(keys.iter().map(|key| weight(key) as u64).collect())
            }
            Survey::Count => {
                Surveyed::Count(self.records.values().filter(|stored| live(stored)).count() as u64)
            }
        }
    }

    fn execute(&mut self, keys: &MetaKeys, batch: &Batch<'_>) -> BatchReply {
        let standing = &self.charter(keys).standing;
        if !standing.obeys(batch.fence) {
            return BatchReply::Refused(standing.fence.clone());
        }
        let mut wrote = false;
        let answers = batch.requests.iter().map(|Waiting { request, .. }| {
            let (outcome, effect) = self.judge(request);
            wrote |= effect != Effect::None;
            self.take(request.key, effect);
            Ok(outcome)
        });
        let answers = answers.collect();
        self.seq += u64::from(wrote);
        if self.records.len() >= self.sweep_at {
            let now = self.now();
            self.records.retain(|_, stored| now <= stored.expires);
            self.sweep_at = FIRST_SWEEP.max(2 * self.records.len());
        }
        BatchReply::Done(answers)
    }

    /// What a request that the fence lets in is answered, and what it is to do.
    pub(crate) fn judge(&self, request: &Request) -> (Outcome, Effect) {
        let now = self.now();
        let stored = self.records.get(&request.key).filter(|stored| now <= stored.expires);
        apply(stored, now, &request.command, request.fence.epoch, request.scope)
    }

    pub(crate) fn take(&mut self, key: Key, effect: Effect) {
        match effect {
            Effect::Put(stored) => drop(self.records.insert(key, stored)),
            Effect::Expire(expires) => {
                self.records.entry(key).and_modify(|stored| stored.expires = expires);
            }
            Effect::Remove => drop(self.records.remove(&key)),
            Effect::None => {}
        }
    }
}

impl Scans {
    fn go_on_after(&mut self, key: Key) -> u64 {
        self.last += 1;
        self.after.insert(self.last, key);
        if self.after.len() > SCANS {
            self.after.pop_first();
        }
        self.last
    }
}

/// The way to an in-memory node.
#[derive(Debug, Clone)]
pub(crate) struct MemoryTransport {
    pub(crate) server: Arc<MemoryServer>,
    pub(crate) keys: Arc<MetaKeys>,
    pub(crate) clocks: Clocks,
}

impl Transport for MemoryTransport {
    type Link = MemoryLink;

    async fn connect(self) -> Result<Connection<MemoryLink>, Error> {
        let hello = {
            let mut contents = self.server.0.lock();
            let reading = self.clocks.read(contents.now(), Instant::now());
            let standing = contents.charter(&self.keys).standing.clone();
            Hello { standing, process: contents.process, version: None, reading }
        };
        let link = MemoryLink { server: self.server, keys: self.keys, clocks: self.clocks };
        Ok(Connection { link, hello, driver: Box::pin(std::future::pending()) })
    }
}

/// A connection to an in-memory node; it never breaks.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLink {
    server: Arc<MemoryServer>,
    keys: Arc<MetaKeys>,
    clocks: Clocks,
}

impl Link for MemoryLink {
    /// Nothing travels: what is packed is executed.
    type Parcel = Vec<BatchReply>;

    fn pack(&self, batches: &[Batch<'_>]) -> Vec<BatchReply> {
        let mut contents = self.server.0.lock();
        batches.iter().map(|batch| contents.execute(&self.keys, batch)).collect()
    }

    async fn exchange(self, replies: Vec<BatchReply>) -> Vec<BatchReply> {
        replies
    }

    async fn control(self, control: Control) -> Result<ControlReply, Failure> {
        Ok(govern(self.server.0.lock().charter(&self.keys), &control))
    }

    async fn survey(self, survey: Survey) -> Result<Surveyed, Failure> {
        Ok(self.server.0.lock().survey(&survey))
    }

    async fn probe(self) -> Result<Look, Error> {
        let mut contents = self.server.0.lock();
        let reading = self.clocks.read(contents.now(), Instant::now());
        Ok(Look { fence: contents.charter(&self.keys).standing.fence.clone(), reading })
    }
}
