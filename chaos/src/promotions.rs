//! Primaries that die while Sentinels watch them, under load: for how long nothing is written, and what asynchronous
//! replication loses.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use sessionring::{Builder, Returning, SessionRing};
use sessionring_testkit::{Direction, FaultProxy, RedisServer, Reply, Watched};

use crate::{
    cluster::{Result, text},
    history::{Nanos, now},
    ledger::{Harm, Load, runtime},
    linearizability::Policy,
    mode::Sum,
};

/// The node whose primaries die.
const NODE: &str = "a";
/// Work before the primary dies, and after the first write that its successor takes.
const WORK: Duration = Duration::from_millis(1500);
/// As long as a promotion may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Options {
    /// Of the ring.
    pub policy: Policy,
    /// How long, about; at least one primary dies.
    pub seconds: u64,
    /// New sessions per second.
    pub rate: u32,
    /// After so long without a sign of life Sentinels take a server for dead.
    pub down_after: Duration,
    /// How late the replica hears of what the primary does; when the primary dies, what is on the way dies with it.
    pub lag: Duration,
}

impl Options {
    /// With the usual numbers.
    pub fn new(policy: Policy, seconds: u64) -> Options {
        Options { policy, seconds, rate: 1000, down_after: Duration::from_secs(1), lag: Duration::ZERO }
    }
}

/// What came of one promotion.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Promotion {
    /// From the death of the primary to the first write that was acknowledged after it, in milliseconds.
    pub gap: f64,
    /// Acknowledged before the death: sessions that are gone.
    pub lost: usize,
    /// Acknowledged before the death: log-outs that were undone.
    pub undone: usize,
    /// How long before the death the first of these was acknowledged, in milliseconds.
    pub window: f64,
}

/// What came of all of them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Measured {
    /// One after the other.
    pub promotions: Vec<Promotion>,
    /// What was asked for.
    pub operations: usize,
    /// What of that was acknowledged.
    pub answered: usize,
    /// Sessions that are gone although they were asked for after the death of the old primary.
    pub lost: usize,
    /// The same of log-outs that were undone.
    pub resurrected: usize,
    /// What must not have happened besides.
    pub violations: Vec<String>,
}

/// Kills primaries, one after the other.
///
/// # Errors
/// The servers or Sentinels do not do what they should.
pub fn run(options: &Options) -> Result<Measured> {
    let watched = Watched::start("sessions-a", options.down_after).map_err(text)?;
    let others = [RedisServer::start().map_err(text)?, RedisServer::start().map_err(text)?];
    let begin = Instant::now();
    let mut measured = Measured::default();
    while measured.promotions.is_empty() || begin.elapsed() < Duration::from_secs(options.seconds) {
        one(options, &watched, &others, &mut measured)?;
    }
    Ok(measured)
}

fn builder(options: &Options, watched: &Watched, others: &[RedisServer]) -> Builder {
    let builder = SessionRing::builder()
        .name("promotions")
        .request_timeout(Duration::from_secs(1))
        .node(NODE, watched.address());
    let named = ["b", "c"].into_iter().zip(others);
    let builder = named.fold(builder, |builder, (name, server)| builder.node(name, server.address()));
    if options.policy == Policy::Strict { builder.strict() } else { builder }
}

fn one(options: &Options, watched: &Watched, others: &[RedisServer], measured: &mut Measured) -> Result<()> {
    let builder = || builder(options, watched, others);
    let old = watched.primary().map_err(text)?;
    let network = late(watched, old, options.lag)?;
    let load = Load::begin(builder(), NODE, options.rate);
    thread::sleep(WORK);
    let died = now();
    watched.servers[old].kill().map_err(text)?;
    drop(network);
    if options.policy == Policy::Strict {
        watched.wait_for_promotion(old).map_err(text)?;
        let refused_until = now();
        readmit(builder())?;
        if load.ledger().any_between(died, refused_until) {
            measured
                .violations
                .push("a promoted replica was used before an operator had readmitted it".into());
        }
    }
    let first = first_after(&load, died)?;
    thread::sleep(WORK);
    watched.wait_for_promotion(old).map_err(text)?;
    watched.servers[old].restart().map_err(text)?;
    let ledger = load.end()?;
    // The old primary has thrown away what it had, and follows the new one.
    watched.wait_until_whole().map_err(text)?;
    let harm = ledger.judge(builder())?;
    let (before, after) = harm.around(died);
    let Harm { lost, undone } = &before;
    measured.promotions.push(Promotion {
        gap: first.saturating_sub(died) as f64 / 1e6,
        lost: lost.len(),
        undone: undone.len(),
        window: before.reaches_back(died),
    });
    let (asked, answered) = ledger.counts();
    measured.operations += asked;
    measured.answered += answered;
    measured.lost += after.lost.len();
    measured.resurrected += after.undone.len();
    if options.policy == Policy::Strict {
        // It was readmitted with nothing: no log-out is undone, whenever it was.
        measured.resurrected += undone.len();
    }
    measured.violations.extend(ledger.unexpected());
    Ok(())
}

/// A network between primary and replica on which everything takes so long.
fn late(watched: &Watched, primary: usize, lag: Duration) -> Result<Option<FaultProxy>> {
    if lag.is_zero() {
        return Ok(None);
    }
    let network = FaultProxy::in_front_of(&watched.servers[primary]).map_err(text)?;
    let replica = &watched.servers[1 - primary];
    let port = network.port().to_string();
    // The Sentinels set that right, but not within seconds.
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).and_then(Reply::ok).map_err(text)?;
    replica.wait_for_link().map_err(text)?;
    network.delay_direction(Direction::ToClient, lag);
    Ok(Some(network))
}

/// When the first write was acknowledged that was asked for after this.
fn first_after(load: &Load, at: Nanos) -> Result<Nanos> {
    let begin = Instant::now();
    loop {
        match load.ledger().first_after(at) {
            Some(span) => return Ok(span.acknowledged),
            None if begin.elapsed() > PATIENCE => return Err("nothing is written after a promotion".into()),
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The operator of a strict ring cannot know what the replica had not received yet.
fn readmit(builder: Builder) -> Result<()> {
    runtime()?.block_on(async {
        let ring = builder.connect().await.map_err(text)?;
        let begin = Instant::now();
        while let Err(error) = ring.readmit(NODE, Returning::Discard).await {
            if begin.elapsed() > PATIENCE {
                return Err(text(error));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ring.close().await;
        Ok(())
    })
}

impl Measured {
    /// What it adds to those of its mode.
    pub fn sum(&self) -> Sum {
        Sum {
            faults: self.promotions.len(),
            operations: self.operations,
            answered: self.answered,
            lost: self.lost,
            resurrected: self.resurrected,
        }
    }

    /// Whether everything that was promised was kept.
    pub fn is_clean(&self) -> bool {
        self.lost + self.resurrected == 0 && self.violations.is_empty()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>10} {:>18} {:>14} {:>16} {:>12}",
            "promotion", "no writes (ms)", "sessions lost", "log-outs undone", "reaching back (ms)"
        )?;
        for (i, one) in self.promotions.iter().enumerate() {
            let Promotion { gap, lost, undone, window } = one;
            writeln!(f, "{:>10} {gap:>18.0} {lost:>14} {undone:>16} {window:>12.1}", i + 1)?;
        }
        let mut gaps: Vec<f64> = self.promotions.iter().map(|one| one.gap).collect();
        gaps.sort_by(f64::total_cmp);
        writeln!(
            f,
            "no writes: median {:.0} ms, longest {:.0} ms",
            gaps[gaps.len() / 2],
            gaps[gaps.len() - 1]
        )?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION {violation}"))
    }
}
