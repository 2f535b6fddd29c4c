use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    dice::Dice,
    history::{History, Loss},
    network::{Conn, Weather},
    server::{Deed, Memory, Server},
};
use crate::{
    node::simulated::{Question, Response},
    protocol::{Command, Control, Outcome},
    record::Key,
    topology::{Document, DocumentMember, MetaKeys},
};

/// The ring of every simulation.
pub(super) const RING: &str = "simulated";

/// Servers, network, and what is written down.
pub(super) struct World {
    inner: Mutex<Inner>,
    keys: Arc<MetaKeys>,
    /// What connections may be waiting for: a server goes on, or never will.
    changes: Notify,
}

pub(super) struct Inner {
    pub(super) dice: Dice,
    pub(super) servers: BTreeMap<String, Server>,
    pub(super) weather: Weather,
    /// Simulated processes that were killed.
    pub(super) dead: BTreeSet<u64>,
    /// Until when nothing passes between a process and a server.
    pub(super) cut: BTreeMap<(u64, String), Instant>,
    pub(super) conns: BTreeMap<u64, Arc<Conn>>,
    pub(super) last_conn: u64,
    pub(super) history: History,
    pub(super) trace: Trace,
    /// Who loaded the document, and from which server.
    pub(super) loads: Vec<(u64, String)>,
    /// Which write made which version of a session.
    versions: BTreeMap<(Key, u64), u64>,
    /// What no register could explain.
    pub(super) violations: Vec<String>,
}

/// Everything that happened, in order: as a hash, and as text if somebody wants to read it.
pub(super) struct Trace {
    start: Instant,
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    fn new(readable: bool) -> Trace {
        Trace { start: Instant::now(), hash: 0, lines: readable.then(Vec::new) }
    }

    pub(super) fn note(&mut self, numbers: &[u64], text: impl FnOnce() -> String) {
        let time = self.start.elapsed();
        for number in numbers.iter().chain([&(time.as_nanos() as u64)]) {
            self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} {}", time.as_secs_f64() * 1e3, text()));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}

impl World {
    pub(super) fn new(seed: u64, readable: bool, servers: impl IntoIterator<Item = Server>) -> Arc<World> {
        let servers = servers.into_iter().map(|server| (server.id.as_str().to_owned(), server));
        Arc::new(World {
            inner: Mutex::new(Inner {
                dice: Dice::new(seed, 1),
                servers: servers.collect(),
                weather: Weather::calm(),
                dead: BTreeSet::new(),
                cut: BTreeMap::new(),
                conns: BTreeMap::new(),
                last_conn: 0,
                history: History::default(),
                trace: Trace::new(readable),
                loads: Vec::new(),
                versions: BTreeMap::new(),
                violations: Vec::new(),
            }),
            keys: Arc::new(MetaKeys::new(RING)),
            changes: Notify::new(),
        })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock())
    }

    /// Waits until a server goes on, or never will.
    pub(super) async fn changed(&self) {
        self.changes.notified().await;
    }

    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        self.with(|inner| inner.trace.note(&[], text));
    }

    /// A server executes what has arrived on a connection.
    pub(super) fn execute(&self, conn: &Conn, question: Question) -> Response {
        self.with(|inner| {
            let Inner { servers, dice, trace, history, loads, .. } = inner;
            if let Question::Control(Control::Load) = &question {
                loads.push((conn.process, conn.server.clone()));
            }
            let server = servers.get_mut(&conn.server).expect("connections lead to servers");
            let mut deeds = Vec::new();
            let said = format_question(trace, &question);
            let response = server.execute(&self.keys, question, dice, &mut deeds);
            trace.note(&[conn.number, conn.process, deeds.len() as u64], || {
                let (Conn { number, process, server, .. }, said) = (conn, said.unwrap_or_default());
                let answer = format_response(&response);
                format!("{server} executes for process {process} (connection {number}) {said}{answer}")
            });
            for deed in deeds {
                let session = history.session_of(&deed.key);
                let code = match &deed.outcome {
                    Ok(Outcome::Applied(version)) => *version,
                    Ok(Outcome::Absent) => 1,
                    Ok(Outcome::Deleted) => 2,
                    Ok(_) => 3,
                    Err(()) => 4,
                };
                trace.note(&[session.unwrap_or(99) as u64, code], || {
                    let session = session.map_or_else(|| "?".into(), |session| session.to_string());
                    format!("    session {session}: {} -> {}", short(&deed.command), outcome(&deed.outcome))
                });
                inner.violations.extend(audit(&mut inner.versions, history, &deed));
            }
            response
        })
    }

    /// The newest document that any server holds, alive or not.
    pub(super) fn newest(&self) -> Option<Document> {
        self.with(|inner| newest(&mut inner.servers, &self.keys))
    }

    /// Whether half of the members or more would be without their memories if this server lost its own, too. Then nobody
    /// may be left who knows what was decided, and the library promises nothing; see docs/reliability.md.
    pub(super) fn would_forget(&self, name: &str) -> bool {
        self.with(|inner| {
            let Some(newest) = newest(&mut inner.servers, &self.keys) else { return true };
            let mut forgetful = |member: &DocumentMember| {
                let server = inner.servers.get_mut(member.id.as_str());
                member.id.as_str() == name
                    || server.is_none_or(|server| server.document(&self.keys).as_ref() != Some(&newest))
            };
            let lost = newest.members().iter().filter(|member| forgetful(member)).count();
            newest.member(&name.parse().expect("a name")).is_some() && 2 * lost >= newest.members().len()
        })
    }

    pub(super) fn crash(&self, name: &str) {
        self.with(|inner| {
            let Some(server) = inner.servers.get_mut(name) else { return };
            server.up = false;
            server.paused = false;
            inner.trace.note(&[7], || format!("{name} crashes"));
            let broken: Vec<_> = inner.conns.values().filter(|conn| conn.server == name).cloned().collect();
            for conn in broken {
                // The kernel of a host that is gone says nothing.
                if inner.dice.chance(700) {
                    let delay = inner.dice.millis(1, 50);
                    conn.break_in(delay);
                }
            }
        });
        self.changes.notify_waiters();
    }

    /// A server comes back as another process. What it no longer has is written down.
    pub(super) fn start(&self, name: &str, memory: Memory) {
        self.with(|inner| {
            let before = newest(&mut inner.servers, &self.keys);
            let Some(server) = inner.servers.get_mut(name) else { return };
            server.start(memory);
            let restored = server.document(&self.keys);
            inner.trace.note(&[8], || format!("{name} starts with {memory:?}"));
            let loss = match memory {
                Memory::Everything => return,
                Memory::Dump(_) => Loss::Older,
                Memory::Nothing => Loss::Everything,
            };
            let documents = before.iter().chain(&restored);
            let now = inner.history.tick();
            inner.lose(name, now, documents, loss);
        });
        self.changes.notify_waiters();
    }

    /// FLUSHALL.
    pub(super) fn flush(&self, name: &str) {
        self.with(|inner| {
            let before = newest(&mut inner.servers, &self.keys);
            let Some(server) = inner.servers.get_mut(name) else { return };
            server.flush();
            inner.trace.note(&[9], || format!("{name} is flushed"));
            let now = inner.history.tick();
            inner.lose(name, now, before.iter(), Loss::Everything);
        });
    }

    /// What this node holds, or held when this was called first, is given up, at some moment since `since`.
    pub(super) fn give_up(&self, name: &str, since: u64, before: Option<&Document>, loss: Loss) {
        self.with(|inner| {
            let newest = newest(&mut inner.servers, &self.keys);
            inner.lose(name, since, before.into_iter().chain(&newest), loss);
        });
    }

    pub(super) fn pause(&self, name: &str, paused: bool) {
        self.with(|inner| {
            if let Some(server) = inner.servers.get_mut(name) {
                server.paused = paused;
                inner
                    .trace
                    .note(&[10], || format!("{name} {}", if paused { "is stopped" } else { "goes on" }));
            }
        });
        self.changes.notify_waiters();
    }

    pub(super) fn fill(&self, name: &str, full: bool) {
        self.with(|inner| {
            if let Some(server) = inner.servers.get_mut(name) {
                server.full = full;
                let state = if full { "runs out of memory" } else { "has memory again" };
                inner.trace.note(&[11], || format!("{name} {state}"));
            }
        });
    }

    pub(super) fn dump(&self, name: &str) {
        self.with(|inner| {
            if let Some(server) = inner.servers.get_mut(name).filter(|server| server.up) {
                server.dump();
            }
        });
    }

    /// A process ends where it stands. What it has sent may arrive.
    pub(super) fn kill(&self, process: u64) {
        self.with(|inner| {
            inner.dead.insert(process);
            inner.trace.note(&[12, process], || format!("process {process} is killed"));
        });
    }

    pub(super) fn is_dead(&self, process: u64) -> bool {
        self.with(|inner| inner.dead.contains(&process))
    }

    /// Nothing passes between a process and a server for a while.
    pub(super) fn cut(&self, process: u64, name: &str, time: Duration) {
        self.with(|inner| {
            inner
                .trace
                .note(&[13, process], || format!("no way from process {process} to {name} for {time:?}"));
            inner.cut.insert((process, name.to_owned()), Instant::now() + time);
            let conns = inner.conns.values();
            let conns: Vec<_> =
                conns.filter(|conn| conn.process == process && conn.server == name).cloned().collect();
            for conn in conns {
                match inner.dice.below(3) {
                    // Everything is lost, and nobody says so.
                    0 => conn.go_deaf(),
                    // Only answers are lost.
                    1 => conn.go_mute(),
                    // What is sent arrives when the way is open again.
                    _ => conn.hold_until(Instant::now() + time),
                }
            }
        });
    }
}

impl Inner {
    fn lose<'a>(
        &mut self,
        name: &str,
        since: u64,
        documents: impl Iterator<Item = &'a Document>,
        loss: Loss,
    ) {
        let id = self.servers[name].id.clone();
        let documents: Vec<_> = documents
            .filter_map(|document| document.member(&id).map(|(index, _)| (document, index)))
            .collect();
        let affected: Vec<usize> = self
            .history
            .tokens()
            .filter(|(_, token)| {
                documents.iter().any(|(document, index)| {
                    let tenure = document.tenure(*token);
                    tenure.owner == *index || tenure.source.is_some_and(|source| source.node == *index)
                })
            })
            .map(|(session, _)| session)
            .collect();
        self.trace.note(&[14, affected.len() as u64], || format!("{name} loses {affected:?} ({loss:?})"));
        for session in affected {
            self.history.loss(session, since, loss);
        }
    }
}

fn newest(servers: &mut BTreeMap<String, Server>, keys: &MetaKeys) -> Option<Document> {
    let documents = servers.values_mut().filter_map(|server| server.document(keys));
    documents.max_by_key(|document| document.epoch())
}

/// No version of a session is made twice.
fn audit(versions: &mut BTreeMap<(Key, u64), u64>, history: &History, deed: &Deed) -> Option<String> {
    let (operation, version) = match (&deed.command, &deed.outcome) {
        (Command::Write(write), Ok(Outcome::Applied(version))) => (write.operation, *version),
        _ => return None,
    };
    let first = *versions.entry((deed.key, version)).or_insert(operation);
    let session = history.session_of(&deed.key)?;
    let twice = first != operation && !history.lost_something(session);
    twice.then(|| format!("session {session}: version {version} was made twice"))
}

fn format_question(trace: &Trace, question: &Question) -> Option<String> {
    trace.lines.as_ref()?;
    Some(match question {
        Question::Greet => "a greeting".into(),
        Question::Probe => "a probe".into(),
        Question::Batch { fence, requests } => {
            format!("{} requests of epoch {}", requests.len(), fence.epoch)
        }
        Question::Survey(survey) => format!("{survey:?}"),
        Question::Control(control) => {
            let mut text = format!("{control:?}");
            text.truncate(60);
            text
        }
    })
}

fn format_response(response: &Response) -> String {
    use crate::node::BatchReply;
    match response {
        Response::Batch(BatchReply::Refused(stored)) => {
            let fence = stored.as_deref().and_then(|stored| crate::topology::Fence::decode(stored).ok());
            format!(": refused, fence {:?}", fence.map(|fence| fence.epoch.get()))
        }
        Response::Surveyed(crate::node::Surveyed::Keys(cursor, keys)) => {
            format!(": {} keys, {cursor}", keys.len())
        }
        Response::Controlled(reply) => {
            let mut text = format!(": {reply:?}");
            text.truncate(40);
            text
        }
        _ => String::new(),
    }
}

fn short(command: &Command) -> String {
    match command {
        Command::Write(write) => {
            format!("Write {:?} operation {:04x}", write.condition, write.operation & 0xffff)
        }
        Command::Install(install) => {
            format!("Install {:?} version {}", install.header.kind, install.header.version)
        }
        Command::Delete(_) => "Delete".into(),
        command => format!("{command:?}"),
    }
}

fn outcome(outcome: &Result<Outcome, ()>) -> String {
    match outcome {
        Ok(Outcome::Record(bytes) | Outcome::Fetched { record: bytes, .. }) => {
            match crate::record::Header::decode(bytes) {
                Ok(header) => format!(
                    "{:?} version {} stamp {} operation {:04x}{}",
                    header.kind,
                    header.version,
                    header.stamp,
                    header.operation & 0xffff,
                    if header.pending { " PENDING" } else { "" }
                ),
                Err(error) => error.to_string(),
            }
        }
        Ok(outcome) => {
            let mut text = format!("{outcome:?}");
            text.truncate(60);
            text
        }
        Err(()) => "no memory".into(),
    }
}
