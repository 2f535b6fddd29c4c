//! Looks at the records themselves, past the library: no version of a session is ever given to two writes.
//!
//! It sees what is stored at the moments at which it looks, so it proves nothing; but what it finds needs no explanation.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use sessionring::record::{Header, Keyspace};
use sessionring_testkit::Client;

use crate::{
    cluster::{Cluster, Node},
    history::{Nanos, now},
    linearizability::Loss,
    population::Population,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The versions that were seen: of which session, which version, of which write; when first and when last.
pub(crate) type Sightings = BTreeMap<(usize, u64, u64), (Nanos, Nanos)>;

/// Looks again and again, until told to stop.
pub(crate) fn observe(cluster: &Cluster, population: &Population, stop: &AtomicBool) -> Sightings {
    let keyspace = Keyspace::new("chaos", "chaos");
    let mut seen = Sightings::new();
    while !stop.load(Relaxed) {
        let sessions = population.in_use(now());
        let keys: Vec<_> = sessions.iter().map(|&session| keyspace.key(&population.id(session))).collect();
        let mut command: Vec<&[u8]> = vec![b"MGET"];
        command.extend(keys.iter().map(|key| key.as_bytes()));
        for node in &cluster.nodes {
            let before = now();
            let Some(records) = look(node, &command) else { continue };
            for (&session, record) in sessions.iter().zip(records) {
                let Some(header) = record.and_then(|record| Header::decode(&record).ok()) else { continue };
                let times =
                    seen.entry((session, header.version, header.operation)).or_insert((before, before));
                times.1 = now();
            }
        }
        thread::sleep(PAUSE);
    }
    seen
}

/// What is stored under these keys; `None` where the server does not answer, or a fault has its hands on it.
fn look(node: &Node, command: &[&[u8]]) -> Option<Vec<Option<Vec<u8>>>> {
    let address = node.server.try_lock().ok()?.socket_address();
    let mut client = Client::connect(address).ok()?;
    client.set_timeout(Some(Duration::from_millis(200))).ok()?;
    let reply = client.command(command).ok()?;
    Some(reply.array()?.iter().map(|record| record.bytes().map(<[u8]>::to_vec)).collect())
}

/// The sessions of which one version was given to two writes, though no memory was lost in between.
pub(crate) fn doubled(seen: &Sightings, losses: impl Fn(usize) -> Vec<Loss>) -> Vec<(usize, u64)> {
    let mut doubled = Vec::new();
    let all: Vec<_> = seen.iter().collect();
    // By session and version: those of the same version stand together.
    for pair in all.windows(2) {
        let [(&(session, version, _), one), (&(other, again, _), two)] = *pair else { continue };
        if (session, version) != (other, again) {
            continue;
        }
        let (from, until) = (one.0.min(two.0), one.1.max(two.1));
        if !losses(session).iter().any(|loss| loss.from <= until && loss.until >= from) {
            doubled.push((session, version));
        }
    }
    doubled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearizability::Memory;

    #[test]
    fn two_writes_of_one_version_are_found() {
        let seen = Sightings::from([
            ((1, 10, 100), (0, 5)),
            ((1, 10, 101), (7, 8)),
            ((1, 11, 102), (9, 9)),
            ((2, 10, 103), (0, 1)),
        ]);
        assert_eq!(doubled(&seen, |_| vec![]), [(1, 10)]);
        assert_eq!(doubled(&seen, |_| vec![Loss::new(6, 6, Memory::Old)]), []);
        assert_eq!(doubled(&seen, |_| vec![Loss::new(20, 30, Memory::Old)]), [(1, 10)]);
    }
}
