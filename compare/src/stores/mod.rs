//! sessionring and its rivals behind one trait, one file each.
//!
//! Rivals store a value as a plain string under the text of its id, with the same expiry. `i` is always a position
//! in the [`Data`].

mod cluster;
mod coalesced;
mod connection_manager;
mod fred;
mod multiplexed;
mod redis_rs;
mod rustis;
mod sessionring;
mod twemproxy;

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use ::sessionring::SealingKeys;
use futures_util::future::try_join_all;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result, data::Data, servers::Servers, workload::Contestant};

/// How long a session lives, on both sides.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The same in the unit of `PX`.
const LIFETIME_MS: u64 = LIFETIME.as_millis() as u64;
/// Nobody may fail because the machine was busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a session store does. Dispatched statically, so that measuring costs no allocation.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    fn data(&self) -> &Data;

    /// Reads a session.
    fn get(&self, i: usize) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Replaces a session by the value that [`data`](Store::data) has for it.
    fn set(&self, i: usize) -> impl Future<Output = Result<()>> + Send;

    /// Reads a session and begins its idle time again.
    fn visit(&self, i: usize) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Reads a session, [changes](change) it and writes it back.
    fn update(&self, i: usize) -> impl Future<Output = Result<()>> + Send;

    /// Reads many sessions, in order.
    fn get_many(&self, range: Range<usize>) -> impl Future<Output = Result<Vec<Option<String>>>> + Send;

    /// Makes all sessions exist.
    fn fill(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            let all: Vec<usize> = (0..self.data().len()).collect();
            for some in all.chunks(256) {
                try_join_all(some.iter().map(|&i| self.set(i))).await?;
            }
            Ok(())
        }
    }

    /// Ends what does not end by being dropped.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What an update does to a value: it is another one of the same length.
fn change(value: &mut String) {
    value.replace_range(..1, "~");
}

/// Modulo placement: what an application would do by itself.
fn place(key: &str, nodes: usize) -> usize {
    (xxh3_64(key.as_bytes()) % nodes as u64) as usize
}

/// Splits keys by node, and puts the answers back in order.
async fn by_node<F>(
    data: &Data,
    range: Range<usize>,
    nodes: usize,
    mget: impl Fn(usize, &[usize]) -> F,
) -> Result<Vec<Option<String>>>
where
    F: Future<Output = Result<Vec<Option<String>>>> + Send,
{
    if nodes == 1 {
        return mget(0, &range.collect::<Vec<_>>()).await;
    }
    let first = range.start;
    let mut answers = vec![None; range.len()];
    let mut parts = vec![Vec::new(); nodes];
    for i in range {
        parts[place(&data.keys[i], nodes)].push(i);
    }
    let asked = parts.iter().enumerate().filter(|(_, part)| !part.is_empty());
    let answered = try_join_all(asked.map(|(node, part)| mget(node, part))).await?;
    for (part, values) in parts.iter().filter(|part| !part.is_empty()).zip(answered) {
        if part.len() != values.len() {
            return Err("MGET answered another number of values than it was asked for".into());
        }
        for (&i, value) in part.iter().zip(values) {
            answers[i - first] = value;
        }
    }
    Ok(answers)
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    SessionRing,
    /// The same with sealed sessions.
    Sealed,
    Multiplexed,
    ConnectionManager,
    Cluster,
    Twemproxy,
    Fred,
    Rustis,
    /// No rival: what gathering requests can bring at most.
    Coalesced,
    /// The same with versions.
    Versioned,
}

impl Name {
    pub(crate) const RIVALS: [Name; 6] = [
        Name::Multiplexed,
        Name::ConnectionManager,
        Name::Cluster,
        Name::Twemproxy,
        Name::Fred,
        Name::Rustis,
    ];

    /// Where it stores.
    pub(crate) fn servers(self, nodes: usize) -> Servers {
        match self {
            Name::Cluster => Servers::Cluster,
            Name::Twemproxy => Servers::Twemproxy,
            _ => Servers::Plain(nodes),
        }
    }

    /// Connects it to servers that are at `addresses`.
    pub(crate) async fn connect(self, addresses: &[String], data: Arc<Data>) -> Result<Arc<dyn Contestant>> {
        let connected: Result<Arc<dyn Contestant>> = match self {
            Name::SessionRing => {
                sessionring::connect(addresses, data, None).await.map(|store| Arc::new(store) as _)
            }
            Name::Sealed => {
                let keys = SealingKeys::new(1, &[7; 32])?;
                sessionring::connect(addresses, data, Some(keys)).await.map(|store| Arc::new(store) as _)
            }
            Name::Multiplexed => {
                multiplexed::connect(addresses, data).await.map(|store| Arc::new(store) as _)
            }
            Name::ConnectionManager => {
                connection_manager::connect(addresses, data).await.map(|store| Arc::new(store) as _)
            }
            Name::Cluster => cluster::connect(addresses, data).await.map(|store| Arc::new(store) as _),
            Name::Twemproxy => twemproxy::connect(addresses, data).await.map(|store| Arc::new(store) as _),
            Name::Fred => fred::connect(addresses, data).await.map(|store| Arc::new(store) as _),
            Name::Rustis => rustis::connect(addresses, data).await.map(|store| Arc::new(store) as _),
            Name::Coalesced | Name::Versioned => {
                let versions = self == Name::Versioned;
                coalesced::connect(addresses, data, versions).await.map(|store| Arc::new(store) as _)
            }
        };
        connected.map_err(|error| Error::from(format!("{self}: {error}")))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Name::SessionRing => "sessionring",
            Name::Sealed => "sessionring, sealed",
            Name::Multiplexed => "redis-rs multiplexed",
            Name::ConnectionManager => "redis-rs manager",
            Name::Cluster => "redis-rs cluster_async",
            Name::Twemproxy => "redis-rs + twemproxy",
            Name::Fred => "fred",
            Name::Rustis => "rustis",
            Name::Coalesced => "gathering alone",
            Name::Versioned => "gathering with versions",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_back_in_order() {
        let data = Data::new(4096);
        let (nodes, range) = (3, 5..105);
        let values = by_node(&data, range.clone(), nodes, |node, part| {
            assert!(part.iter().all(|&i| place(&data.keys[i], nodes) == node));
            let values = part.iter().map(|i| Some(i.to_string())).collect();
            async move { Ok(values) }
        });
        let expected: Vec<_> = range.map(|i| Some(i.to_string())).collect();
        assert_eq!(values.await.unwrap(), expected);
        let short = by_node(&data, 0..10, 3, |_, _| async { Ok(vec![]) });
        assert!(short.await.is_err());
    }
}
