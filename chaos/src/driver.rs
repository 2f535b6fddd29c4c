//! One run: servers, workers, faults, and the judgement at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    panic::resume_unwind,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    chronicle::{self, Chronicle},
    cluster::{Cluster, Injected, Note, Result, SPARES, is_durable, lock, text},
    history::{Action, Answer, Nanos, Operation, Reason, now},
    linearizability::{Loss, Policy, Verdict, check},
    mode::Mode,
    nemesis,
    observer::{self, Sightings},
    oracles::{Finding, Harm, examine},
    population::Population,
    recording::{self, Histories, Recorder, Recording},
    report::{Report, Row},
    resizes::Change,
    schedule::{Kind, schedule},
    worker,
};

/// So long after the end a resize may take, and an operation.
const PATIENCE: Nanos = 40_000_000_000;

/// What a run is like.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Decides the faults and what the workers do.
    pub seed: u64,
    /// How long the workers work.
    pub seconds: u64,
    /// What the ring promises about servers that come back.
    pub policy: Policy,
    /// How many servers.
    pub nodes: usize,
    /// How many client processes at a time.
    pub workers: usize,
    /// How many things each of them does at a time.
    pub tasks: u64,
    /// Between two of those, on average.
    pub pause_us: u64,
    /// This program, which is also that of the workers.
    pub program: PathBuf,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// One server fails at a time, and all of them write to their disks before they answer.
    pub alone: bool,
    /// Judge as if no memory had been lost: such a run must fail.
    pub deny_losses: bool,
}

impl Options {
    /// A run of this mode.
    #[must_use]
    pub fn about(mut self, mode: Mode) -> Options {
        (self.kinds, self.alone) = (mode.kinds(), mode.loses_nothing());
        if self.alone {
            self.nodes = 3;
        }
        self
    }

    /// A run with the usual numbers.
    pub fn new(program: PathBuf, seed: u64, seconds: u64) -> Options {
        Options {
            seed,
            seconds,
            policy: Policy::Trust,
            nodes: 5,
            workers: 4,
            tasks: 16,
            pause_us: 25_000,
            program,
            kinds: Kind::all(),
            alone: false,
            deny_losses: false,
        }
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Makes a run and judges it.
///
/// # Errors
/// The run itself could not be made: no servers, no processes, no files.
pub fn run(options: &Options) -> Result<Report, String> {
    // Spares hold nothing until somebody adds them.
    let servers = options.nodes + if options.alone { 0 } else { SPARES };
    let durable: Vec<bool> =
        (0..servers).map(|node| options.alone || is_durable(node, options.nodes)).collect();
    let faults =
        schedule(options.seed, options.length(), &options.kinds, &durable, options.workers, options.alone);
    let cluster = Cluster::start(options)?;
    let population = Population::new(options.seed, cluster.begin);
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let deadline = cluster.end + PATIENCE;
    let seen = thread::scope(|scope| {
        let observer = scope.spawn(|| observer::observe(&cluster, &population, &stop));
        let following = scope.spawn(|| chronicle::follow(&cluster, &over));
        nemesis::haunt(&cluster, &faults);
        cluster.wait_for_the_end();
        stop.store(true, Relaxed);
        // Whatever is under way must come to its end, now that all is well.
        if let Err(error) = cluster.change(&Change::Resume, deadline) {
            cluster.failed(error);
        }
        over.store(true, Relaxed);
        following.join().unwrap_or_else(|panic| resume_unwind(panic));
        observer.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    for worker in &cluster.workers {
        if let Err(error) = lock(worker).finish(deadline) {
            cluster.failed(error);
        }
    }
    let read = |path: &PathBuf| match recording::read(path) {
        // It was killed before it could begin.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Recording::default()),
        read => read.map_err(text),
    };
    let mut recordings = lock(&cluster.recordings).iter().map(read).collect::<Result<Vec<_>>>()?;
    let used: BTreeSet<usize> =
        recordings.iter().flat_map(|one| one.operations.iter().map(|&(session, _)| session)).collect();
    recordings.push(read_all(&cluster, &population, &used)?);
    let mut report = judge(options, &cluster, &population, &recordings, &seen)?;
    for epoch in &lock(&cluster.chronicle).split {
        report.violations.insert(0, format!("epoch {epoch} has two documents"));
    }
    for failure in lock(&cluster.failures).drain(..) {
        report.violations.push(failure);
    }
    if !report.is_clean() && !options.deny_losses {
        let story = story(&cluster);
        let Cluster { folder, .. } = cluster;
        std::fs::write(folder.path().join("story"), story).map_err(text)?;
        eprintln!("the recordings are kept in {}", folder.keep().display());
    }
    Ok(report)
}

/// What happened to the ring, in order, for people.
fn story(cluster: &Cluster) -> String {
    let mut lines = lock(&cluster.chronicle).sightings.clone();
    for one in lock(&cluster.injected).iter() {
        let name = &cluster.nodes[one.fault.node].name;
        let lasts = one.until.saturating_sub(one.from) / 1_000_000;
        lines.push((one.from, format!("{} (node {name}, {lasts} ms)", one.fault.kind.name())));
    }
    lines.sort();
    let line = |(at, what): &(Nanos, String)| {
        format!("{:>12.3} {what}\n", at.saturating_sub(cluster.begin) as f64 / 1e6)
    };
    lines.iter().map(line).collect()
}

/// Reads every session with a fresh client that goes to the servers directly.
fn read_all(cluster: &Cluster, population: &Population, used: &BTreeSet<usize>) -> Result<Recording> {
    let assignment = cluster.assignment(None);
    let path = assignment.recording.clone();
    let recorder = Recorder::create(&path, assignment.process).map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let reading = async {
        let builder = worker::builder(&assignment)?;
        let ring = builder.connect().await.map_err(|error| format!("at the end: {error}"))?;
        let sessions = worker::sessions(&ring);
        for &session in used {
            let begun = recorder.begin(session, Action::Get);
            let found = sessions.get(&population.id(session)).await;
            let found =
                found.map_err(|error| format!("at the end session {session} cannot be read: {error}"))?;
            let replaced = found.as_ref().map(|content| content.replaced);
            recorder.end(begun, Answer::Found(found.map(|content| content.token)), replaced);
        }
        Ok::<(), String>(())
    };
    if let Err(error) = runtime.block_on(reading) {
        cluster.failed(error);
    }
    recording::read(&path).map_err(text)
}

fn judge(
    options: &Options,
    cluster: &Cluster,
    population: &Population,
    recordings: &[Recording],
    seen: &Sightings,
) -> Result<Report> {
    let mut injected = lock(&cluster.injected).clone();
    if options.deny_losses {
        injected.iter_mut().for_each(|one| one.loss = None);
    }
    let chronicle = lock(&cluster.chronicle);
    let names = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let placement = Placement { names, chronicle: &chronicle, population };
    let (sessions, misled) = recording::merge(recordings);
    let mut report = Report {
        seed: options.seed,
        policy: options.policy,
        sessions: sessions.len(),
        processes: recordings.len(),
        answers: BTreeMap::new(),
        rows: rows(&injected, &sessions),
        lost: 0,
        resurrected: 0,
        lost_to_memory: 0,
        resized: chronicle.resized(),
        drained: (0, 0),
        logged_out_when_full: 0,
        harm: BTreeMap::new(),
        violations: Vec::new(),
        remarks: BTreeMap::new(),
        versions: 0,
        longest: 0,
    };
    // As they were written down: what others saw of an operation that was never answered is no answer.
    let times = recordings.iter().flat_map(|one| &one.operations);
    let times = times.filter_map(|(_, one)| Some(one.returned?.saturating_sub(one.invoked)));
    report.longest = times.max().unwrap_or(0);
    for recording in recordings {
        for (_, remark) in &recording.remarks {
            *report.remarks.entry(remark.clone()).or_default() += 1;
        }
    }
    sessions.values().flatten().for_each(|operation| report.count(operation));
    count_full(&mut report, &injected, &sessions, &placement);
    for judged in check_all(options.policy, &sessions, &injected, &placement) {
        let Judged { session, losses, verdict, mut findings } = judged;
        findings.extend(misled.iter().filter(|(of, _)| *of == session).map(|(_, finding)| finding.clone()));
        let (lost, resurrected) = report.judge(&format!("session {session}"), &verdict, &findings);
        if let Verdict::WithLosses(used) = &verdict {
            report.lost_to_memory += 1;
            let kinds: BTreeSet<Kind> = used.iter().map(|&i| injected[losses[i].0].fault.kind).collect();
            for kind in kinds {
                report.rows.entry(kind).or_default().lost_to_memory += 1;
            }
        }
        report.lost += usize::from(lost);
        report.resurrected += usize::from(resurrected);
        if lost || resurrected {
            for kind in around(&verdict, &findings, &injected) {
                let row = report.rows.entry(kind).or_default();
                row.lost += usize::from(lost);
                row.resurrected += usize::from(resurrected);
            }
        }
    }
    report.versions = seen.len();
    let losses = |session| {
        let losses = placement.losses(session, &injected);
        losses.into_iter().map(|(_, loss)| loss).collect()
    };
    for (session, version) in observer::doubled(seen, losses) {
        *report.harm.entry(Harm::WrittenTwice).or_default() += 1;
        report.violations.push(format!("session {session}: version {version} was given to two writes"));
    }
    Ok(report)
}

/// The kinds of faults that were in force around a violation, or shortly before.
fn around(verdict: &Verdict, findings: &[Finding], injected: &[Injected]) -> BTreeSet<Kind> {
    let mut operations: Vec<Operation> = findings.iter().flat_map(|one| one.operations.clone()).collect();
    if let Verdict::Violation(witness) = verdict {
        operations.extend(&witness.core);
    }
    let from = operations.iter().map(|one| one.invoked).min().unwrap_or(0);
    let until = operations.iter().filter_map(|one| one.returned).max().unwrap_or(0);
    let near = injected.iter().filter(|one| one.from <= until && one.until + 2_000_000_000 >= from);
    near.map(|one| one.fault.kind).collect()
}

fn rows(injected: &[Injected], sessions: &Histories) -> BTreeMap<Kind, Row> {
    let mut invoked: Vec<Nanos> = sessions.values().flatten().map(|one| one.invoked).collect();
    let mut ended: Vec<Nanos> =
        sessions.values().flatten().map(|one| one.returned.unwrap_or(one.invoked)).collect();
    invoked.sort_unstable();
    ended.sort_unstable();
    let mut rows: BTreeMap<Kind, Row> = BTreeMap::new();
    for one in injected {
        let row = rows.entry(one.fault.kind).or_default();
        row.injected += 1;
        let begun = invoked.partition_point(|&at| at <= one.until);
        row.operations += begun.saturating_sub(ended.partition_point(|&at| at < one.from));
    }
    rows
}

/// Log-outs have to work on servers that take no more data, and what such servers hold has to be able to leave.
fn count_full(report: &mut Report, injected: &[Injected], sessions: &Histories, placement: &Placement<'_>) {
    let drained = |note| injected.iter().filter(|one| one.note == Some(note)).count();
    report.drained = (drained(Note::Drained), drained(Note::NotDrained));
    let full: Vec<&Injected> =
        injected.iter().filter(|one| matches!(one.fault.kind, Kind::OutOfMemory | Kind::DrainFull)).collect();
    for (&session, operation) in
        sessions.iter().flat_map(|(session, all)| all.iter().map(move |one| (session, one)))
    {
        if operation.action != Action::Delete {
            continue;
        }
        if operation.answer == Answer::Refused(Reason::Full) {
            report.violations.push(format!("session {session}: a log-out was refused: {operation}"));
        }
        let token = placement.population.id(session).token();
        let owner = placement.chronicle.owner(token, operation.invoked).map(|owner| owner.as_str());
        let on_full = |one: &&Injected| {
            one.from <= operation.invoked
                && operation.returned.is_some_and(|returned| returned <= one.until)
                && owner == Some(&placement.names[one.fault.node])
        };
        if operation.answer == Answer::Done && full.iter().any(on_full) {
            report.logged_out_when_full += 1;
        }
    }
}

struct Judged {
    session: usize,
    /// The losses that its nodes had, each with its place among the faults.
    losses: Vec<(usize, Loss)>,
    verdict: Verdict,
    findings: Vec<Finding>,
}

/// Judges all sessions, on all processors.
fn check_all(
    policy: Policy,
    sessions: &Histories,
    injected: &[Injected],
    placement: &Placement<'_>,
) -> Vec<Judged> {
    let all: Vec<(&usize, &Vec<Operation>)> = sessions.iter().collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let one = |&(&session, history): &(&usize, &Vec<Operation>)| {
        let losses = placement.losses(session, injected);
        let only: Vec<Loss> = losses.iter().map(|&(_, loss)| loss).collect();
        let (verdict, findings) = (check(history, &only, policy), examine(history, &only));
        Judged { session, losses, verdict, findings }
    };
    thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads)
            .map(|i| {
                let part = all.iter().skip(i).step_by(threads);
                scope.spawn(move || part.map(one).collect::<Vec<_>>())
            })
            .collect();
        let joined =
            spawned.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.flatten().collect()
    })
}

/// Which nodes hold a session.
struct Placement<'a> {
    names: Vec<String>,
    chronicle: &'a Chronicle,
    population: &'a Population,
}

impl Placement<'_> {
    /// The losses of the nodes that had to do with the session meanwhile, each with its place among the faults.
    fn losses(&self, session: usize, injected: &[Injected]) -> Vec<(usize, Loss)> {
        let token = self.population.id(session).token();
        let losses = injected.iter().enumerate().filter_map(|(i, one)| Some((i, one.fault.node, one.loss?)));
        let concerns = |node: usize, loss: Loss| {
            self.chronicle.concerns(token, &self.names[node], loss.from, loss.until)
        };
        losses.filter(|&(_, node, loss)| concerns(node, loss)).map(|(i, _, loss)| (i, loss)).collect()
    }
}

/// A seed for a run that was given none.
pub fn fresh_seed() -> u64 {
    now() % 1_000_000_007
}

/// Kinds of faults by the names that `Debug` gives them.
///
/// # Errors
/// There is no such kind.
pub fn kinds(list: &str) -> Result<Vec<Kind>, String> {
    let kind = |name: &str| {
        let all = Kind::all();
        let found = all.iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(name)).copied();
        found.ok_or_else(|| format!("{name}: no such fault; there are {all:?}"))
    };
    list.split(',').filter(|name| !name.is_empty()).map(kind).collect()
}
