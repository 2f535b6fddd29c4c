//! The servers, the ways to them, and the client processes of one run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sessionring_testkit::{FaultProxy, RedisServer};
use tempfile::TempDir;

use crate::{
    chronicle::Chronicle,
    driver::Options,
    history::{Nanos, now},
    linearizability::{Loss, Policy},
    random::Random,
    recording,
    resizes::Change,
    schedule::{Fault, Moment},
    worker::{Assignment, DIE_AT},
};

/// Servers that are no members at first.
pub(crate) const SPARES: usize = 2;
/// Nobody leaves so few members.
pub(crate) const FEWEST: usize = 4;

/// The result of whatever can fail in a run for reasons of its own.
pub(crate) type Result<T, E = String> = std::result::Result<T, E>;

/// Any error as a text.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Locks, whoever has panicked meanwhile.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node: a server that may be replaced by another, and ways to it: one for each worker, and one for operators.
pub(crate) struct Node {
    pub(crate) name: String,
    /// Where it was at first, which is what the ring was told: everybody has ways of his own.
    address: String,
    pub(crate) server: Mutex<RedisServer>,
    pub(crate) ways: Vec<FaultProxy>,
}

/// A fault as it happened.
#[derive(Debug, Clone)]
pub(crate) struct Injected {
    pub(crate) fault: Fault,
    /// What it did beyond what its name says.
    pub(crate) note: Option<Note>,
    pub(crate) from: Nanos,
    pub(crate) until: Nanos,
    /// The memory that the node lost by it.
    pub(crate) loss: Option<Loss>,
}

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// A node was drained while it was full.
    Drained,
    /// A node could not be drained while it was full, for whatever reason.
    NotDrained,
}

/// A client process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    recording: PathBuf,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) workers: Vec<Mutex<Worker>>,
    pub(crate) injected: Mutex<Vec<Injected>>,
    /// Held by whoever has a resize under way: others are refused meanwhile.
    pub(crate) changing: Mutex<()>,
    pub(crate) chronicle: Mutex<Chronicle>,
    /// Nodes whose memories were lost and that are not in use again.
    pub(crate) forgetful: Mutex<BTreeSet<String>>,
    /// What went wrong with the run itself.
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) recordings: Mutex<Vec<PathBuf>>,
    pub(crate) begin: Nanos,
    pub(crate) end: Nanos,
    pub(crate) folder: TempDir,
    processes: AtomicU32,
    program: PathBuf,
    template: Assignment,
}

impl Cluster {
    /// Starts the servers, then the workers.
    pub(crate) fn start(options: &Options) -> Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("sessionring-chaos-").tempdir().map_err(text)?;
        let mut nodes = Vec::new();
        // The last ones wait to be added.
        for (i, name) in ('a'..='z').take(options.nodes + SPARES).enumerate() {
            let mut server = RedisServer::builder();
            if options.alone {
                server = server.config("appendonly", "yes").config("appendfsync", "always");
            } else if is_durable(i, options.nodes) {
                // Written to the file before the answer is sent: that survives the death of the process.
                server = server.config("appendonly", "yes").config("appendfsync", "no");
            }
            let server = server.start().map_err(text)?;
            let ways = (0..=options.workers).map(|_| FaultProxy::in_front_of(&server));
            let ways = ways.collect::<Result<Vec<_>, _>>().map_err(text)?;
            let address = server.address();
            nodes.push(Node { name: name.into(), address, server: Mutex::new(server), ways });
        }
        let begin = now();
        let end = begin + options.length().as_nanos() as Nanos;
        let template = Assignment {
            process: 0,
            seed: options.seed,
            strict: options.policy == Policy::Strict,
            members: nodes.iter().take(options.nodes).map(|node| (node.name.clone(), 1)).collect(),
            addresses: BTreeMap::new(),
            routes: BTreeMap::new(),
            begin,
            end,
            tasks: options.tasks,
            pause_us: options.pause_us,
            request_timeout_ms: 500,
            recording: PathBuf::new(),
        };
        let mut cluster = Cluster {
            nodes,
            changing: Mutex::default(),
            chronicle: Mutex::default(),
            forgetful: Mutex::default(),
            workers: Vec::new(),
            injected: Mutex::default(),
            failures: Mutex::default(),
            recordings: Mutex::default(),
            begin,
            end,
            folder,
            processes: AtomicU32::new(1),
            program: options.program.clone(),
            template,
        };
        for i in 0..options.workers {
            let worker = cluster.start_worker(i)?;
            cluster.workers.push(Mutex::new(worker));
        }
        Ok(cluster)
    }

    /// What a process that takes this worker's place is told; without a worker, one that goes to the servers directly.
    pub(crate) fn assignment(&self, worker: Option<usize>) -> Assignment {
        let process = self.processes.fetch_add(1, Relaxed);
        let recording = self.folder.path().join(format!("process-{process}"));
        lock(&self.recordings).push(recording.clone());
        let route = |node: &Node| match worker {
            Some(worker) => node.ways[worker].address(),
            None => lock(&node.server).address(),
        };
        let routes = self.nodes.iter().map(|node| (node.name.clone(), route(node))).collect();
        let addresses = self.nodes.iter().map(|node| (node.name.clone(), node.address.clone())).collect();
        Assignment { process, recording, addresses, routes, ..self.template.clone() }
    }

    pub(crate) fn start_worker(&self, worker: usize) -> Result<Worker> {
        let assignment = self.assignment(Some(worker));
        Worker::start(&self.program, &assignment, None)
    }

    /// A process that does nothing but what it is told. It dies at this moment of a resize that it drives, if there is one.
    pub(crate) fn start_operator(&self, dies: Option<(Moment, u64)>) -> Result<Worker> {
        let assignment = Assignment { tasks: 0, ..self.assignment(Some(self.workers.len())) };
        Worker::start(&self.program, &assignment, dies)
    }

    /// A change by an operator of its own, by this time at the latest.
    pub(crate) fn change(&self, change: &Change, deadline: Nanos) -> Result<()> {
        let mut operator = self.start_operator(None)?;
        operator.tell(change)?;
        operator.outcome(change, deadline)
    }

    /// The members, with their weights, as far as anybody knows.
    pub(crate) fn members(&self) -> Vec<(String, u32)> {
        let chronicle = lock(&self.chronicle);
        let members = chronicle.newest().into_iter().flat_map(|document| document.members());
        members.map(|member| (member.id.as_str().to_owned(), member.weight.get())).collect()
    }

    /// A change of membership that this ring could make.
    pub(crate) fn some_change(&self, choice: u64) -> Option<Change> {
        let mut random = Random::new(choice);
        let members = self.members();
        let is_member = |node: &Node| members.iter().any(|(name, _)| *name == node.name);
        let spares: Vec<&Node> = self.nodes.iter().filter(|node| !is_member(node)).collect();
        let (member, weight) = random.pick(&members)?.clone();
        let spare = random.pick(&spares).map(|node| node.name.clone());
        // The fewer spares there are, the more likely does somebody leave.
        let leaves = random.below(1 + SPARES as u64) >= spares.len() as u64;
        Some(match (random.below(3), spare) {
            (0, _) => Change::Reweight(member, weight % 3 + 1),
            (_, Some(spare)) if !leaves || members.len() <= FEWEST => {
                Change::Add(spare, random.between(1, 3) as u32)
            }
            _ if members.len() > FEWEST => Change::Remove(member),
            _ => Change::Reweight(member, weight % 3 + 1),
        })
    }

    /// Waits, at most until the faults have to be over.
    pub(crate) fn wait(&self, time: Duration) {
        self.wait_until(now() + time.as_nanos() as Nanos);
    }

    /// Waits, at most until the faults have to be over.
    pub(crate) fn wait_until(&self, at: Nanos) {
        let at = at.min(self.quiet());
        std::thread::sleep(Duration::from_nanos(at.saturating_sub(now())));
    }

    /// Waits until the workers take up nothing new.
    pub(crate) fn wait_for_the_end(&self) {
        std::thread::sleep(Duration::from_nanos(self.end.saturating_sub(now())));
    }

    /// By then every fault is over.
    pub(crate) fn quiet(&self) -> Nanos {
        self.end.saturating_sub(1_500_000_000)
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.template.strict
    }

    pub(crate) fn failed(&self, what: String) {
        lock(&self.failures).push(what);
    }
}

/// The last third of the servers writes down everything.
pub(crate) fn is_durable(node: usize, nodes: usize) -> bool {
    3 * node >= 2 * nodes
}

impl Worker {
    fn start(program: &PathBuf, assignment: &Assignment, dies: Option<(Moment, u64)>) -> Result<Worker> {
        let told = serde_json::to_string(assignment).map_err(text)?;
        let mut command = Command::new(program);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::null());
        if let Some((moment, times)) = dies {
            command.env(DIE_AT, format!("{moment:?}:{times}"));
        }
        let mut child = command.spawn().map_err(|error| format!("start {}: {error}", program.display()))?;
        let input = child.stdin.take();
        let mut worker = Worker { child, input, recording: assignment.recording.clone() };
        worker.say(&told)?;
        Ok(worker)
    }

    fn say(&mut self, line: &str) -> Result<()> {
        match &mut self.input {
            Some(input) => writeln!(input, "{line}").map_err(text),
            None => Err("the worker has no input".into()),
        }
    }

    /// Tells it to change the membership.
    pub(crate) fn tell(&mut self, change: &Change) -> Result<()> {
        self.say(&change.to_string())
    }

    /// Waits for what came of a change that it was told.
    pub(crate) fn outcome(&self, change: &Change, deadline: Nanos) -> Result<()> {
        let said = format!("change {change}: ");
        loop {
            // It may not have begun to write yet.
            let remarks =
                recording::read(&self.recording).map(|recording| recording.remarks).unwrap_or_default();
            match remarks.iter().find_map(|(_, remark)| remark.strip_prefix(&said)) {
                Some("done") => return Ok(()),
                Some(error) => return Err(format!("{change}: {error}")),
                None if now() > deadline => return Err(format!("{change}: no end in sight")),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, signal).map_err(text)
    }

    /// Waits until it dies by itself, and says whether it did.
    pub(crate) fn dies(&mut self, deadline: Nanos) -> Result<bool> {
        while now() < deadline {
            if self.child.try_wait().map_err(text)?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(text)?;
        self.child.wait().map(drop).map_err(text)
    }

    /// Waits for its end; one that does not end in time is killed.
    pub(crate) fn finish(&mut self, deadline: Nanos) -> Result<()> {
        loop {
            match self.child.try_wait().map_err(text)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("a worker ended with {status}")),
                None if now() > deadline => {
                    self.kill()?;
                    return Err("a worker did not end: one of its operations never returned".into());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.kill();
    }
}
