//! How far a resize is.

use std::{collections::BTreeMap, fmt, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{error::Error, ring::NodeId, telemetry, topology::Epoch};

/// What a resize is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Sessions move to their new owners.
    Moving,
    /// All have moved; the nodes decide that the ring is stable.
    Settling,
    /// Leftovers are deleted; the ring is stable.
    Cleaning,
    /// It is over.
    Done,
}

/// How far a resize is, as seen by the process that drives it. It displays as one line, and one more for
/// everything that is stuck.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// The epoch of the topology that it carries out.
    pub epoch: Epoch,
    /// Sessions and log-outs that were moved, by this process.
    pub moved: u64,
    /// About so many are left: an estimate from the number of keys on the sources.
    pub left: u64,
    /// Moved per second, over the last seconds.
    pub rate: f64,
    /// Until everything has moved, at this rate; unknown while nothing moves.
    pub time_left: Option<Duration>,
    /// What does not go on, and why. Everything else does.
    pub stuck: Vec<Stuck>,
}

/// A part of a resize that waits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stuck {
    /// The node that sessions are to leave.
    pub source: NodeId,
    /// Why they do not; names the node that is the cause.
    pub error: Error,
    /// For how long.
    pub duration: Duration,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Moving => "moving",
            Phase::Settling => "settling",
            Phase::Cleaning => "cleaning",
            Phase::Done => "done",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { phase, epoch, moved, left, rate, .. } = self;
        write!(f, "epoch {epoch}, {phase}: {moved} moved, about {left} left, {rate:.0} per second")?;
        if let Some(time) = self.time_left {
            write!(f, ", about {} s to go", time.as_secs_f64().ceil())?;
        }
        for Stuck { source, error, duration } in &self.stuck {
            write!(
                f,
                "\n  what is to leave {source} waits for {:.1} s: {error}; sessions that do not move there work; when \
                 the node is back it goes on by itself; if it is gone for good, forget_node",
                duration.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

/// Rates are taken over this time.
const WINDOW: Duration = Duration::from_secs(2);

/// Collects what the movers tell, and publishes it.
#[derive(Debug)]
pub(super) struct Reporter {
    ring: String,
    state: Mutex<State>,
    published: watch::Sender<Progress>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    epoch: Epoch,
    moved: u64,
    /// Of the sessions that were sent to new owners.
    bytes: u64,
    /// By source: keys it held when its pass began, keys seen since, and which part of them is to move.
    sources: BTreeMap<NodeId, Scanned>,
    stuck: BTreeMap<NodeId, (Instant, Error)>,
    /// Moments of the last seconds, with what had moved then.
    window: Vec<(Instant, u64)>,
    published: Option<Instant>,
    /// What was counted so far of sessions and bytes.
    counted: (u64, u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct Scanned {
    keys: u64,
    seen: u64,
    share: f64,
}

impl Reporter {
    pub(super) fn new(ring: &str, epoch: Epoch) -> Reporter {
        let state = State {
            phase: Phase::Moving,
            epoch,
            moved: 0,
            bytes: 0,
            sources: BTreeMap::new(),
            stuck: BTreeMap::new(),
            window: vec![(Instant::now(), 0)],
            published: None,
            counted: (0, 0),
        };
        let (published, _) = watch::channel(state.progress(Instant::now()));
        Reporter { ring: ring.to_owned(), state: Mutex::new(state), published }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.published.subscribe()
    }

    pub(super) fn now(&self) -> Progress {
        self.state.lock().progress(Instant::now())
    }

    pub(super) fn phase(&self, phase: Phase, epoch: Epoch) {
        telemetry::resize(&self.ring, epoch, phase.name());
        self.change(true, |state| {
            (state.phase, state.epoch) = (phase, epoch);
            state.sources.clear();
            state.stuck.clear();
        });
    }

    /// A pass over a source begins.
    pub(super) fn pass(&self, source: &NodeId, keys: u64, share: f64) {
        self.change(true, |state| {
            state.sources.insert(source.clone(), Scanned { keys, seen: 0, share });
        });
    }

    pub(super) fn seen(&self, source: &NodeId, keys: usize) {
        self.change(false, |state| {
            state.sources.entry(source.clone()).or_default().seen += keys as u64;
        });
    }

    pub(super) fn moved(&self, sessions: usize, bytes: usize) {
        self.change(false, |state| {
            state.moved += sessions as u64;
            state.bytes += bytes as u64;
        });
    }

    pub(super) fn stuck(&self, source: &NodeId, error: &Error) {
        self.change(true, |state| {
            if !state.stuck.contains_key(source) {
                telemetry::stuck(&self.ring, source, error);
            }
            let since = state.stuck.get(source).map_or_else(Instant::now, |(since, _)| *since);
            state.stuck.insert(source.clone(), (since, error.clone()));
        });
    }

    pub(super) fn goes_on(&self, source: &NodeId) {
        self.change(false, |state| {
            state.stuck.remove(source);
        });
    }

    fn change(&self, publish: bool, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let now = Instant::now();
        let due = state.published.is_none_or(|at| now - at >= Duration::from_millis(100));
        if publish || due {
            state.remember(now);
            state.published = Some(now);
            // Whoever looks has the newest; nobody has to.
            let progress = state.progress(now);
            let so_far = (state.moved, state.bytes);
            let (moved, bytes) = std::mem::replace(&mut state.counted, so_far);
            telemetry::resized(&self.ring, state.moved - moved, state.bytes - bytes, progress.left);
            self.published.send_replace(progress);
        }
    }
}

impl State {
    fn remember(&mut self, now: Instant) {
        self.window.push((now, self.moved));
        let old = self.window.partition_point(|(at, _)| now - *at > WINDOW);
        self.window.drain(..old.saturating_sub(1));
    }

    fn progress(&self, now: Instant) -> Progress {
        let left: f64 = self
            .sources
            .values()
            .map(|source| source.keys.saturating_sub(source.seen) as f64 * source.share)
            .sum();
        let left = left.round() as u64;
        let (begin, before) = self.window[0];
        let seconds = (now - begin).as_secs_f64();
        let rate = if seconds > 0.0 { (self.moved - before) as f64 / seconds } else { 0.0 };
        let time_left = (rate > 0.0).then(|| Duration::from_secs_f64(left as f64 / rate));
        let stuck = self.stuck.iter().map(|(source, (since, error))| Stuck {
            source: source.clone(),
            error: error.clone(),
            duration: now - *since,
        });
        let (phase, epoch, moved) = (self.phase, self.epoch, self.moved);
        Progress { phase, epoch, moved, left, rate, time_left, stuck: stuck.collect() }
    }
}
