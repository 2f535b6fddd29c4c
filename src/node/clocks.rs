//! The nodes' clocks, compared with each other.
//!
//! Every deadline is set by the clock of the node that holds the session; the application's clock decides
//! nothing. But a session may move from one node to another, so the nodes must agree.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    error::{Error, ErrorKind},
    record::Millis,
    ring::NodeId,
};

/// What is known of the clocks of a ring's nodes. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Clocks {
    limit: Duration,
    start: Instant,
    /// Our own clock at the start, which says whom to name where two nodes contradict each other, and nothing else.
    ours: i64,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last one of each node.
    readings: BTreeMap<NodeId, Reading>,
    /// Of each node that is in use, the one with which it was let in. Only these are a measure for others: a node that was
    /// refused for its clock must not cost the one beside it its place.
    admitted: BTreeMap<NodeId, Reading>,
}

/// How far a node's clock was ahead of our monotonic one, in ms, and how far off that may be. Only differences
/// between nodes mean anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    ahead: i64,
    doubt: u64,
}

impl Clocks {
    pub(crate) fn new(limit: Duration) -> Clocks {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
        Clocks { limit, start: Instant::now(), ours, known: Arc::default() }
    }

    /// A node said `time` in answer to a question asked at `asked`; it is taken to have looked half way between
    /// the question and now, but may have looked at either end.
    pub(crate) fn read(&self, time: Millis, asked: Instant) -> Reading {
        let doubt = asked.elapsed() / 2;
        let middle = (asked + doubt).duration_since(self.start);
        Reading { ahead: time as i64 - middle.as_millis() as i64, doubt: doubt.as_millis() as u64 }
    }

    /// Takes note of a node that is not used yet.
    pub(crate) fn record(&self, node: &NodeId, reading: Reading) {
        self.known.lock().readings.insert(node.clone(), reading);
    }

    /// Lets a node in whose clock agrees with those that are in use. Of two that do not agree the one that is in use stays:
    /// nobody can know which of them is wrong.
    pub(crate) fn admit(&self, node: &NodeId, reading: Reading) -> Result<(), Error> {
        let mut known = self.known.lock();
        known.readings.insert(node.clone(), reading);
        let checked = self.check(&known, node, reading);
        match checked {
            Ok(()) => known.admitted.insert(node.clone(), reading),
            Err(_) => known.admitted.remove(node),
        };
        checked
    }

    /// Looks at the clock of a node that was let in. An error if it has left the others since, and not they it: a clock that
    /// jumps must not cost the node beside it. It is no measure for others from then on.
    pub(crate) fn look_again(&self, node: &NodeId, reading: Reading) -> Result<(), Error> {
        let was = self.known.lock().admitted.get(node).copied().unwrap_or(reading);
        let moved = (reading.ahead - was.ahead).unsigned_abs().saturating_sub(reading.doubt + was.doubt);
        if moved > self.limit.as_millis() as u64 / 2 {
            return self.admit(node, reading);
        }
        self.record(node, reading);
        Ok(())
    }

    /// Whether all clocks agree; names the one that is furthest from the others, and of two the one that is further from ours.
    pub(crate) fn check_all(&self) -> Result<(), Error> {
        let readings = &self.known.lock().readings;
        let offs = readings.iter().map(|(node, &mine)| (node, mine, off(others(readings, node), mine)));
        let from_ours = |reading: Reading| (reading.ahead - self.ours).unsigned_abs();
        match offs.max_by_key(|(_, mine, off)| (off.unsigned_abs(), from_ours(*mine))) {
            Some((node, _, off)) if self.is_too_far(off) => Err(self.error(node, off)),
            _ => Ok(()),
        }
    }

    fn check(&self, known: &Known, node: &NodeId, reading: Reading) -> Result<(), Error> {
        let in_use = others(&known.readings, node).filter(|(id, _)| known.admitted.contains_key(*id));
        let off = off(in_use, reading);
        if self.is_too_far(off) { Err(self.error(node, off)) } else { Ok(()) }
    }

    fn is_too_far(&self, off: i64) -> bool {
        off.unsigned_abs() > self.limit.as_millis() as u64
    }

    fn error(&self, node: &NodeId, off: i64) -> Error {
        let message = format!(
            "its clock is {:.1} s {} the other nodes' (the limit is {:.1} s): sessions would live too long or \
             too short; set the clock (NTP), or raise max_clock_skew",
            off.unsigned_abs() as f64 / 1000.0,
            if off < 0 { "behind" } else { "ahead of" },
            self.limit.as_secs_f64()
        );
        Error::at(ErrorKind::Configuration, node, message)
    }
}

fn others<'a>(
    readings: &'a BTreeMap<NodeId, Reading>,
    node: &'a NodeId,
) -> impl Iterator<Item = (&'a NodeId, Reading)> {
    readings.iter().filter(move |(id, _)| *id != node).map(|(id, &reading)| (id, reading))
}

/// How far a clock is for certain from the median of the others. Of two medians the nearer counts, so that one odd
/// clock makes no other one look odd.
fn off<'a>(others: impl Iterator<Item = (&'a NodeId, Reading)>, mine: Reading) -> i64 {
    let mut others: Vec<Reading> = others.map(|(_, reading)| reading).collect();
    others.sort_unstable_by_key(|reading| reading.ahead);
    let medians = &others[others.len().saturating_sub(1) / 2..others.len().min(others.len() / 2 + 1)];
    let offs = medians.iter().map(|median| {
        let (off, doubt) = (mine.ahead - median.ahead, mine.doubt + median.doubt);
        off.signum() * off.unsigned_abs().saturating_sub(doubt) as i64
    });
    offs.min_by_key(|off| off.unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(readings: &[(&str, i64)]) -> Clocks {
        let clocks = Clocks::new(Duration::from_secs(2));
        for &(name, ahead) in readings {
            clocks.record(&NodeId::new(name).unwrap(), reading(ahead));
        }
        clocks
    }

    fn reading(ahead: i64) -> Reading {
        Reading { ahead, doubt: 0 }
    }

    #[tokio::test]
    async fn the_odd_one_out_is_named() {
        assert!(clocks(&[]).check_all().is_ok());
        assert!(clocks(&[("a", 5_000_000)]).check_all().is_ok());
        assert!(clocks(&[("a", 1_000), ("b", 3_000)]).check_all().is_ok());
        let error = clocks(&[("a", 0), ("b", 3_600_000), ("c", 900)]).check_all().unwrap_err();
        assert_eq!(error.node().unwrap().as_str(), "b");
        assert!(error.to_string().contains("3599") || error.to_string().contains("3600"), "{error}");
        let error = clocks(&[("a", 0), ("b", 300), ("c", -5_000)]).check_all().unwrap_err();
        assert!(error.to_string().contains("behind"), "{error}");
        let (a, b, c) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap(), NodeId::new("c").unwrap());
        let clocks = clocks(&[]);
        clocks.admit(&a, reading(0)).unwrap();
        clocks.admit(&c, reading(900)).unwrap();
        assert!(clocks.admit(&b, reading(3_600_000)).is_err());
        clocks.admit(&a, reading(100)).unwrap();
    }

    #[tokio::test]
    async fn of_two_clocks_the_one_that_is_further_from_ours_is_named() {
        for (right, wrong) in [("a", "b"), ("b", "a")] {
            let clocks = clocks(&[]);
            let ours = clocks.ours;
            clocks.record(&NodeId::new(right).unwrap(), reading(ours + 40_000));
            clocks.record(&NodeId::new(wrong).unwrap(), reading(ours - 3_600_000));
            assert_eq!(clocks.check_all().unwrap_err().node().unwrap().as_str(), wrong);
        }
    }

    #[tokio::test]
    async fn of_two_clocks_the_one_that_jumps_is_to_blame() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let clocks = clocks(&[]);
        clocks.admit(&a, reading(0)).unwrap();
        clocks.admit(&b, reading(500)).unwrap();
        clocks.look_again(&a, reading(10)).unwrap();
        clocks.look_again(&b, reading(490)).unwrap();
        assert!(clocks.look_again(&b, reading(3_600_000)).unwrap_err().is_configuration());
        clocks.look_again(&a, reading(20)).unwrap();
        // The one that is well is let in again when it has to be, and the other one is not.
        assert!(clocks.admit(&b, reading(3_600_000)).is_err());
        clocks.admit(&a, reading(30)).unwrap();
        assert!(clocks.admit(&b, reading(3_600_000)).is_err());
        clocks.admit(&b, reading(700)).unwrap();
        clocks.look_again(&b, reading(710)).unwrap();
    }

    #[tokio::test]
    async fn two_clocks_that_are_both_set_agree_again() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let clocks = clocks(&[]);
        clocks.admit(&a, reading(0)).unwrap();
        clocks.admit(&b, reading(500)).unwrap();
        assert!(clocks.look_again(&a, reading(3_600_000)).is_err());
        assert!(clocks.admit(&a, reading(3_600_000)).is_err());
        clocks.look_again(&b, reading(3_600_400)).unwrap();
        clocks.admit(&a, reading(3_600_000)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_no_wrong_clock() {
        let clocks = Clocks::new(Duration::from_secs(2));
        let asked = Instant::now();
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        clocks.admit(&a, clocks.read(1_000_000, asked)).unwrap();
        tokio::time::advance(Duration::from_secs(8)).await;
        // It looked at its clock when the question came, or just before the answer arrived.
        for time in [1_000_000, 1_008_000] {
            clocks.admit(&b, clocks.read(time, asked)).unwrap();
            assert!(clocks.check_all().is_ok());
        }
        assert!(clocks.admit(&b, clocks.read(1_010_001, asked)).is_err());
    }
}
