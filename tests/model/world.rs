//! Everything there is: nodes, clients, a mover, requests that are late; and what the session should be by now.

use std::collections::{BTreeMap, BTreeSet};

use sessionring::{
    internals,
    protocol::{
        Command, Effect, Mode, Operation, Outcome, Place, Scope, Send, Sinces, Stored, Transfer, apply,
    },
    record::{Header, Kind, Record},
    topology::Epoch,
};

use crate::document::{Document, NODES};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Node {
    /// None: it is blank.
    pub(crate) fence: Option<u64>,
    /// The highest fence that this memory ever had, in whatever process.
    pub(crate) highest: u64,
    pub(crate) incarnation: Option<u8>,
    pub(crate) process: u8,
    pub(crate) record: Option<Stored>,
    pub(crate) dead: bool,
    /// An old dump, or a replica that misses what came since.
    pub(crate) image: Option<Image>,
    /// It went back in time: what it holds may be older than what it gave away.
    pub(crate) restored: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) fence: Option<u64>,
    pub(crate) incarnation: Option<u8>,
    pub(crate) record: Option<Stored>,
}

/// A message with all that was decided when it was routed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) node: usize,
    pub(crate) epoch: u64,
    pub(crate) since: u64,
    pub(crate) mode: Mode,
    pub(crate) command: Command,
}

/// A message that left, and whose sender waits no more. It arrives whenever it likes, in the process it was sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Orphan {
    pub(crate) message: Message,
    pub(crate) process: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// The epoch of the document it goes by.
    pub(crate) view: u64,
    /// The processes it has met.
    pub(crate) met: [u8; NODES],
    /// How much of its script is done.
    pub(crate) done: usize,
    pub(crate) running: Option<Running>,
    /// The version it read last.
    pub(crate) version: u64,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) operation: Operation,
    pub(crate) command: Command,
    pub(crate) message: Message,
    /// What the source has answered already.
    pub(crate) foreseen: Option<Outcome>,
    /// Every state of the session since it began.
    pub(crate) seen: BTreeSet<Seen>,
}

/// A state of the session, as an answer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Seen {
    Absent,
    /// Of this version.
    Live(u64),
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Mover {
    pub(crate) epoch: u64,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Start,
    /// The cursor, which belongs to this process, has not come to the key yet.
    Pass(u8),
    Transfer(u8, Box<Transfer>, Message),
    /// A whole pass in this process.
    Done(u8),
}

/// What may still go wrong, and what is still planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    pub(crate) losses: u8,
    pub(crate) ticks: u8,
    pub(crate) wipes: [u8; NODES],
    pub(crate) restores: [u8; NODES],
    pub(crate) deaths: [u8; NODES],
    pub(crate) changes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) documents: Vec<Document>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) mover: Option<Mover>,
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) now: u64,
    pub(crate) budget: Budget,
    /// The session as one node that never moves would hold it.
    pub(crate) session: Option<Stored>,
    /// What the session is depends on a node that nobody can use: it may be lost.
    pub(crate) limbo: bool,
    /// Copies that were under way when a node went back in time. What it forgot, they may bring back, as long as nobody
    /// has changed the session since.
    pub(crate) copies: Vec<Stored>,
    /// How often each write, by its number, has changed the session.
    pub(crate) applied: BTreeMap<u64, u8>,
    /// Names of memories, to tell them apart.
    pub(crate) memories: u8,
    pub(crate) violation: Option<String>,
}

/// What the nodes say the session is.
pub(crate) enum Authority<'a> {
    /// It depends on a node that nobody can use.
    Limbo,
    Holds {
        node: usize,
        record: Option<&'a Stored>,
    },
}

impl World {
    pub(crate) fn epoch(&self) -> u64 {
        self.documents.len() as u64
    }

    pub(crate) fn document(&self, epoch: u64) -> &Document {
        &self.documents[epoch as usize - 1]
    }

    pub(crate) fn latest(&self) -> &Document {
        &self.documents[self.documents.len() - 1]
    }

    /// What is stored at the node and has not expired.
    pub(crate) fn stored(&self, node: usize) -> Option<&Stored> {
        self.nodes[node].record.as_ref().filter(|record| self.now <= record.expires)
    }

    pub(crate) fn valid(&self, node: usize, since: u64) -> Option<&Stored> {
        self.stored(node).filter(|record| header(record).stamp.get() >= since)
    }

    pub(crate) fn session(&self) -> Option<&Stored> {
        self.session.as_ref().filter(|record| self.now <= record.expires)
    }

    fn usable(&self, node: usize, strict: bool) -> bool {
        let state = &self.nodes[node];
        !state.dead && state.fence.is_some() && (!strict || state.process == self.latest().processes[node])
    }

    /// The authoritative state: the source's until its fence is raised; then what the owner has, or else the source.
    pub(crate) fn authority(&self, strict: bool) -> Authority<'_> {
        let latest = self.latest();
        let holds = |node, record| match self.usable(node, strict) {
            true => Authority::Holds { node, record },
            false => Authority::Limbo,
        };
        let reached = |node: usize, epoch| self.nodes[node].fence.is_some_and(|fence| fence >= epoch);
        if let Some((source, since)) = latest.source
            && self.nodes[source].highest < latest.began
        {
            return holds(source, self.valid(source, since));
        }
        let here = self.valid(latest.owner, latest.since);
        let back = reached(latest.owner, latest.returned) || self.nodes[latest.owner].highest < latest.began;
        if here.is_some() && back {
            return holds(latest.owner, here);
        }
        let all = latest.source.map(|(source, _)| source).into_iter().chain([latest.owner]);
        let concluded = back && all.clone().all(|node| reached(node, latest.paired));
        match latest.source {
            _ if !concluded || !self.usable(latest.owner, strict) => Authority::Limbo,
            Some((source, since)) => holds(source, self.valid(source, since)),
            None => holds(latest.owner, None),
        }
    }

    /// The message for a place of the token under this document.
    pub(crate) fn route(&self, epoch: u64, send: Send) -> Message {
        let document = self.document(epoch);
        let (node, since) = match (send.place, document.source) {
            (Place::Source, Some(source)) => source,
            _ => (document.owner, document.since),
        };
        Message { node, epoch, since, mode: send.mode, command: send.command }
    }

    pub(crate) fn sinces(&self, epoch: u64) -> Sinces {
        let document = self.document(epoch);
        Sinces::new(Epoch::new(document.since), document.source.map(|(_, since)| Epoch::new(since)))
    }

    /// The copies that are under way.
    pub(crate) fn installs(&self) -> Vec<Stored> {
        let running = self.clients.iter().filter_map(|client| Some(&client.running.as_ref()?.message));
        let mover = self.mover.iter().filter_map(|mover| match &mover.phase {
            Phase::Transfer(_, _, message) => Some(message),
            _ => None,
        });
        let orphans = self.orphans.iter().map(|orphan| &orphan.message);
        let copies = running.chain(mover).chain(orphans).filter_map(|message| {
            let Command::Install(install) = &message.command else { return None };
            let bytes = [&install.header.encode()[..], &install.payload].concat();
            Some(internals::stored(plain_bytes(&bytes), install.deadline))
        });
        let mut copies: Vec<Stored> = copies.collect();
        copies.sort_by(|a, b| (&a.bytes, a.expires).cmp(&(&b.bytes, b.expires)));
        copies.dedup();
        copies
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// What a node executes of what clients ask for must be what one node that never moves would do.
    pub(crate) fn compare(&mut self, message: &Message, outcome: &Outcome, effect: &Effect) {
        let command = &message.command;
        let asked = matches!(command, Command::Write(_) | Command::Touch(_) | Command::Delete(_));
        let undecided =
            *outcome == Outcome::Pending || message.mode == Mode::Unchecked && *outcome == Outcome::Absent;
        if !asked || undecided {
            return;
        }
        let mode = if message.mode == Mode::Settled { Mode::Settled } else { Mode::Checked };
        let scope = Scope::new(Epoch::new(0), mode);
        let stamp = Epoch::new(message.epoch);
        let (expected, change) = apply(self.session(), self.now, command, stamp, scope);
        if plain_outcome(outcome) != plain_outcome(&expected) || plain_effect(effect) != plain_effect(&change)
        {
            self.fail(format!(
                "node {} answers {outcome:?} to {command:?} with {effect:?}, where the session is {:?}",
                message.node,
                self.session()
            ));
        }
        if change == Effect::None {
            return;
        }
        take(&mut self.session, change);
        self.copies.clear();
        if let Command::Write(write) = command {
            let times = self.applied.entry(write.operation).or_default();
            *times += 1;
            if *times > 1 && !command.is_idempotent() {
                self.fail(format!("the blind write {} happened twice", write.operation));
            }
        }
    }

    /// The invariants that hold in every state; then readers take note of the session. `dump` is a node that has just
    /// gone back in time.
    pub(crate) fn check(&mut self, strict: bool, dump: Option<(usize, bool)>) {
        let (node, found) = match self.authority(strict) {
            Authority::Limbo => {
                self.limbo = true;
                return;
            }
            Authority::Holds { node, record } => (node, record.cloned()),
        };
        if plain(found.as_ref()) != plain(self.session()) {
            let lost = self.limbo && found.is_none();
            let dumped = dump.is_some_and(|(_, held)| held);
            // An install that the target forgot, and a copy that was under way when a node forgot what it had.
            let forgotten = found.is_none() && !strict && self.nodes[self.latest().owner].restored;
            let remembered = plain(found.as_ref()).is_some_and(|found| self.copies.contains(&found));
            if forgotten {
                self.copies.extend(plain(self.session()));
            }
            if !lost && !dumped && !forgotten && !remembered {
                self.fail(format!(
                    "I3: node {node} has {:?}, and the session is {:?}",
                    found.as_ref().map(shown),
                    self.session().map(shown)
                ));
            }
            self.session = found;
        }
        self.limbo = false;
        self.check_copies();
        let now = observed(self.session());
        for client in &mut self.clients {
            if let Some(running) = &mut client.running {
                running.seen.insert(now);
            }
        }
    }

    fn check_copies(&mut self) {
        let latest = self.latest();
        let Some((source, since)) = latest.source else { return };
        let Some(here) = self.valid(latest.owner, latest.since) else { return };
        let there = &self.nodes[source];
        if there.fence.is_some() && there.highest < latest.since {
            return self.fail("I1: the owner has a record, and the source was not raised".into());
        }
        let changed = !header(here).pending || header(here).kind == Kind::Tombstone;
        let live = self.valid(source, since).is_some_and(|record| header(record).kind == Kind::Live);
        if changed && live && !there.restored {
            self.fail("I2: the owner's record was changed while the source had a live one".into());
        }
    }
}

pub(crate) fn header(record: &Stored) -> Header {
    Header::decode(&record.bytes).expect("only records are stored")
}

pub(crate) fn observed(record: Option<&Stored>) -> Seen {
    match record.map(header) {
        None => Seen::Absent,
        Some(header) if header.kind == Kind::Live => Seen::Live(header.version),
        Some(_) => Seen::Deleted,
    }
}

pub(crate) fn take(stored: &mut Option<Stored>, effect: Effect) {
    match (effect, stored) {
        (Effect::Put(put), stored) => *stored = Some(put),
        (Effect::Expire(at), Some(stored)) => stored.expires = at,
        (Effect::Remove, stored) => *stored = None,
        _ => {}
    }
}

/// A record without what only says where it was: stamp and PENDING.
fn plain(record: Option<&Stored>) -> Option<Stored> {
    record.map(|record| internals::stored(plain_bytes(&record.bytes), record.expires))
}

fn plain_bytes(bytes: &[u8]) -> Vec<u8> {
    let Ok(record) = Record::decode(bytes) else { return bytes.to_vec() };
    let mut header = record.header;
    (header.stamp, header.pending) = (Epoch::new(0), false);
    [&header.encode()[..], record.payload].concat()
}

fn plain_outcome(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Conflict(record) => Outcome::Conflict(plain_bytes(record).into()),
        outcome => outcome.clone(),
    }
}

fn plain_effect(effect: &Effect) -> Effect {
    match effect {
        Effect::Put(record) => Effect::Put(internals::stored(plain_bytes(&record.bytes), record.expires)),
        effect => effect.clone(),
    }
}

pub(crate) fn shown(record: &Stored) -> String {
    let header = header(record);
    let pending = if header.pending { " PENDING" } else { "" };
    format!("{:?}{pending} v{} of {} until {}", header.kind, header.version, header.stamp, record.expires)
}
