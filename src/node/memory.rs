//! The in-memory node: for demos, for users' own tests, and for simulation. It runs the specification of the
//! script, `protocol::apply`, and obeys the same conformance suite as a real node.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Batch, BatchReply, Clocks, Connection, Hello, Link, Standing, Transport};
use crate::{
    error::Error,
    protocol::{Effect, Stored, apply},
    record::{Key, Millis},
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

/// What a Redis server would be: records that expire, and the keys beside them.
#[derive(Debug)]
pub(crate) struct MemoryServer(Mutex<Contents>);

#[derive(Debug)]
struct Contents {
    /// The server's clock: started at the time of day, then as tokio's clock goes, which tests can pause.
    start: (Instant, Millis),
    records: HashMap<Key, Stored>,
    beside: HashMap<String, Vec<u8>>,
    seq: u64,
    /// Expired records are swept away when this many are held.
    sweep_at: usize,
}

static NAMED: LazyLock<Mutex<HashMap<String, Weak<MemoryServer>>>> = LazyLock::new(Mutex::default);

const FIRST_SWEEP: usize = 1024;

impl MemoryServer {
    pub(crate) fn new() -> Arc<MemoryServer> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Arc::new(MemoryServer(Mutex::new(Contents {
            start: (Instant::now(), now.as_millis() as Millis),
            records: HashMap::new(),
            beside: HashMap::new(),
            seq: 0,
            sweep_at: FIRST_SWEEP,
        })))
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

    /// Puts bytes under a key for two hours, as somebody else would.
    #[cfg(test)]
    pub(crate) fn store(&self, key: Key, bytes: &[u8]) {
        let mut contents = self.0.lock();
        let expires = contents.now() + 7_200_000;
        contents.records.insert(key, Stored { bytes: bytes.to_vec(), expires });
    }
}

impl Contents {
    fn now(&self) -> Millis {
        self.start.1 + self.start.0.elapsed().as_millis() as Millis
    }

    fn standing(&self, keys: &MetaKeys) -> Standing {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        Standing {
            owner: self.beside.get(&keys.node).map(text),
            fence: self.beside.get(&keys.fence).cloned(),
        }
    }

    fn execute(&mut self, keys: &MetaKeys, batch: &Batch<'_>) -> BatchReply {
        let fence = self.beside.get(&keys.fence);
        if fence.is_none_or(|fence| *fence != batch.fence.encode()) {
            return BatchReply::Refused(fence.cloned());
        }
        let now = self.now();
        let mut wrote = false;
        let answers = batch.requests.iter().map(|waiting| {
            let request = &waiting.request;
            let stored = self.records.get_mut(&request.key).filter(|stored| now <= stored.expires);
            let (outcome, effect) = apply(stored.as_deref(), now, &request.command);
            wrote |= effect != Effect::None;
            match (effect, stored) {
                (Effect::Put(stored), _) => drop(self.records.insert(request.key, stored)),
                (Effect::Expire(expires), Some(stored)) => stored.expires = expires,
                (Effect::Expire(_) | Effect::None, _) => {}
            }
            Ok(outcome)
        });
        let answers = answers.collect();
        self.seq += u64::from(wrote);
        if self.records.len() >= self.sweep_at {
            self.records.retain(|_, stored| now <= stored.expires);
            self.sweep_at = FIRST_SWEEP.max(2 * self.records.len());
        }
        BatchReply::Done(answers)
    }
}

/// The way to an in-memory node.
#[derive(Debug, Clone)]
pub(crate) struct MemoryTransport {
    pub(crate) id: NodeId,
    pub(crate) server: Arc<MemoryServer>,
    pub(crate) keys: Arc<MetaKeys>,
    pub(crate) clocks: Clocks,
}

impl Transport for MemoryTransport {
    type Link = MemoryLink;

    async fn connect(self) -> Result<Connection<MemoryLink>, Error> {
        let hello = {
            let contents = self.server.0.lock();
            let reading = self.clocks.read(contents.now(), Instant::now());
            Hello { standing: contents.standing(&self.keys), reading }
        };
        let link = MemoryLink { id: self.id, server: self.server, keys: self.keys };
        Ok(Connection { link, hello, driver: Box::pin(std::future::pending()) })
    }
}

/// A connection to an in-memory node; it never breaks.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLink {
    id: NodeId,
    server: Arc<MemoryServer>,
    keys: Arc<MetaKeys>,
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

    async fn initialise(self, fence: Fence) -> Result<Standing, Error> {
        let mut contents = self.server.0.lock();
        for (key, value) in
            [(&self.keys.node, self.id.as_str().as_bytes()), (&self.keys.fence, &fence.encode())]
        {
            contents.beside.entry(key.clone()).or_insert_with(|| value.to_vec());
        }
        Ok(contents.standing(&self.keys))
    }
}
