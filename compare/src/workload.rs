//! What callers do, and one timed round of it.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sessionring_benches::keys::Random;
use tokio::task::JoinSet;

use crate::{Result, statistics::percentile, stores::Store};

/// What every caller repeats, each time with a random session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Get,
    Set,
    /// Nine reads for each write.
    Mix,
    /// Read, and begin the idle time again.
    Visit,
    /// Read, change, write back.
    Update,
    /// Read so many at once.
    GetMany(usize),
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workload::Get => f.write_str("get"),
            Workload::Set => f.write_str("set"),
            Workload::Mix => f.write_str("90 % get, 10 % set"),
            Workload::Visit => f.write_str("visit"),
            Workload::Update => f.write_str("update"),
            Workload::GetMany(many) => write!(f, "get_many({many})"),
        }
    }
}

/// A workload, how many callers there are, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) workload: Workload,
    pub(crate) in_flight: usize,
    pub(crate) time: Duration,
}

/// What came of a round.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) elapsed: Duration,
    /// Of each operation in nanoseconds, sorted.
    latencies: Vec<u32>,
}

impl Round {
    pub(crate) fn operations(&self) -> f64 {
        self.latencies.len() as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations() / self.elapsed.as_secs_f64()
    }

    /// In microseconds.
    pub(crate) fn latency(&self, percent: f64) -> f64 {
        f64::from(percentile(&self.latencies, percent)) / 1000.0
    }
}

/// A [`Store`] without its type: whole rounds are dispatched dynamically, single operations never.
pub(crate) trait Contestant: Send + Sync {
    /// Makes all sessions exist, and shows that every operation stores and returns the right bytes.
    fn prepare(&self) -> BoxFuture<'_, Result<()>>;

    /// Keeps the callers busy.
    fn round(&self, load: Load) -> BoxFuture<'_, Result<Round>>;

    /// Ends connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl<S: Store> Contestant for S {
    fn prepare(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.fill().await?;
            check(self).await
        })
    }

    fn round(&self, load: Load) -> BoxFuture<'_, Result<Round>> {
        Box::pin(round(self, load))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Store::close(self))
    }
}

async fn round<S: Store>(store: &S, load: Load) -> Result<Round> {
    let mut callers = JoinSet::new();
    let begin = Instant::now();
    let end = begin + load.time;
    for caller in 0..load.in_flight {
        let store = store.clone();
        callers.spawn(async move {
            // Both sides of a pair ask for the same sessions.
            let mut random = Random::new(0xca11 + caller as u64);
            let mut latencies = Vec::with_capacity(256);
            let mut now = Instant::now();
            while now < end {
                operate(&store, load.workload, &mut random).await?;
                let after = Instant::now();
                latencies.push(u32::try_from((after - now).as_nanos()).unwrap_or(u32::MAX));
                now = after;
            }
            Ok::<_, crate::Error>(latencies)
        });
    }
    let done = callers.join_all().await;
    let elapsed = begin.elapsed();
    let mut latencies = Vec::new();
    for caller in done {
        latencies.append(&mut caller?);
    }
    latencies.sort_unstable();
    Ok(Round { elapsed, latencies })
}

async fn operate<S: Store>(store: &S, workload: Workload, random: &mut Random) -> Result<()> {
    let number = random.next_u64();
    let i = (number >> 32) as usize % store.data().len();
    match workload {
        Workload::Get => expect(store, store.get(i).await?),
        Workload::Set => store.set(i).await,
        Workload::Mix if number.is_multiple_of(10) => store.set(i).await,
        Workload::Mix => expect(store, store.get(i).await?),
        Workload::Visit => expect(store, store.visit(i).await?),
        Workload::Update => store.update(i).await,
        Workload::GetMany(many) => {
            let values = store.get_many(store.data().neighbours(i, many)).await?;
            if values.len() != many.min(store.data().len()) {
                return Err("get_many answered another number of sessions than it was asked for".into());
            }
            values.into_iter().try_for_each(|value| expect(store, value))
        }
    }
}

/// Cheap enough to be done while it is measured: a session is there and has its size.
fn expect<S: Store>(store: &S, value: Option<String>) -> Result<()> {
    match black_box(value) {
        Some(value) if value.len() == store.data().size => Ok(()),
        Some(value) => {
            Err(format!("a session of {} bytes instead of {}", value.len(), store.data().size).into())
        }
        None => Err("a session is lost".into()),
    }
}

/// Every operation, with all bytes compared.
async fn check<S: Store>(store: &S) -> Result<()> {
    let data = store.data();
    let equal = |what: &str, i: usize, found: Option<&str>, expected: &str| {
        if found == Some(expected) {
            Ok(())
        } else {
            Err(format!("{what}: session {i} came back as another one"))
        }
    };
    for i in (0..data.len()).step_by((data.len() / 16).max(1)) {
        let value = data.values[i].as_str();
        equal("get", i, store.get(i).await?.as_deref(), value)?;
        store.update(i).await?;
        let updated = format!("~{}", &value[1..]);
        equal("update", i, store.get(i).await?.as_deref(), &updated)?;
        store.set(i).await?;
        equal("set", i, store.get(i).await?.as_deref(), value)?;
        equal("visit", i, store.visit(i).await?.as_deref(), value)?;
    }
    let range = data.neighbours(data.len() / 2, 1000);
    let many = store.get_many(range.clone()).await?;
    if many.len() != range.len() {
        return Err("get_many: another number of sessions than it was asked for".into());
    }
    for (i, found) in range.zip(&many) {
        equal("get_many", i, found.as_deref(), &data.values[i])?;
    }
    Ok(())
}
