//! A small ring with one session: what its clients do, what is planned, and what may go wrong.

use bytes::Bytes;
use sessionring::{
    internals,
    protocol::{Command, Condition, Effect, Mode, Scope, apply},
    topology::Epoch,
};

use crate::{
    document::{Document, NODES},
    mutant::Mutant,
    world::{Budget, Client, Node, World},
};

/// Times: sessions that nobody touches end after two ticks.
pub(crate) const IDLE: u64 = 5;
pub(crate) const SHORT: u64 = 1;
pub(crate) const TICK: u64 = 3;
pub(crate) const ABSOLUTE: u64 = 50;
/// A tombstone outlives every request that may be under way, so here it outlives all.
pub(crate) const FLOOR: u64 = 1000;
pub(crate) const START: u64 = 100;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Inspect,
    Create,
    Set,
    Upsert,
    /// Writes under the version that the client read last.
    Update,
    Touch,
    /// By a client that grants sessions less time.
    TouchShort,
    Delete,
    /// Of an id that may be upserted.
    DeleteForeign,
}

/// What the controller is told to do, each from a stable document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    MoveTo(usize),
}

/// What the session is at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initially {
    Live,
    Absent,
    Deleted,
}

/// A small ring with one session, what its clients do, and what may go wrong.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    pub(crate) nodes: usize,
    pub(crate) scripts: Vec<Vec<Op>>,
    pub(crate) plan: Vec<Plan>,
    pub(crate) initially: Initially,
    pub(crate) strict: bool,
    pub(crate) clean_up: bool,
    pub(crate) losses: u8,
    pub(crate) ticks: u8,
    pub(crate) wipes: [u8; NODES],
    pub(crate) restores: [u8; NODES],
    pub(crate) deaths: [u8; NODES],
    /// These nodes are out of memory.
    pub(crate) full: [bool; NODES],
    pub(crate) mutant: Option<Mutant>,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring {
            nodes: 2,
            scripts: vec![],
            plan: vec![Plan::MoveTo(1)],
            initially: Initially::Live,
            strict: false,
            clean_up: true,
            losses: 0,
            ticks: 0,
            wipes: [0; NODES],
            restores: [0; NODES],
            deaths: [0; NODES],
            full: [false; NODES],
            mutant: None,
        }
    }
}

impl Ring {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn command(&self, client: usize, index: usize, version: u64) -> Command {
        let operation = (client * 16 + index + 1) as u64;
        let write = |condition| {
            internals::write(condition, IDLE, ABSOLUTE, operation, Bytes::from(vec![operation as u8]))
        };
        match self.scripts[client][index] {
            Op::Get => Command::Read,
            Op::Inspect => Command::Inspect,
            Op::Create => write(Condition::Absent),
            Op::Set => write(Condition::Live),
            Op::Upsert => write(Condition::AbsentOrLive),
            Op::Update => write(Condition::Version(version)),
            Op::Touch => Command::Touch(IDLE),
            Op::TouchShort => Command::Touch(SHORT),
            Op::Delete => internals::delete(FLOOR, ABSOLUTE, false, operation),
            Op::DeleteForeign => internals::delete(FLOOR, ABSOLUTE, true, operation),
        }
    }

    /// The state before anything happens: node 0 has the session, and the others have leftovers of long ago.
    pub(crate) fn start(&self) -> World {
        let node =
            |fence| Node { fence: Some(fence), highest: fence, incarnation: Some(1), ..Node::default() };
        let made = |command: Command, stamp| {
            let scope = Scope::new(Epoch::new(0), Mode::Settled);
            match apply(None, START, &command, Epoch::new(stamp), scope) {
                (_, Effect::Put(put)) => put,
                (outcome, _) => unreachable!("{outcome:?}"),
            }
        };
        let payload = Bytes::from_static(b"0");
        let leftover = made(internals::write(Condition::Absent, FLOOR, FLOOR, 255, payload.clone()), 0);
        let created = internals::write(Condition::Absent, IDLE, ABSOLUTE, 254, payload);
        let session = match self.initially {
            Initially::Absent => None,
            Initially::Live => Some(made(created, 1)),
            Initially::Deleted => Some(made(internals::delete(FLOOR, ABSOLUTE, true, 254), 1)),
        };
        let mut nodes: Vec<Node> = (0..self.nodes).map(|_| node(1)).collect();
        nodes.iter_mut().for_each(|node| node.record = Some(leftover.clone()));
        nodes[0].record = session.clone();
        let client = Client { view: 1, met: [0; NODES], done: 0, running: None, version: START };
        let mut world = World {
            documents: vec![Document::founded()],
            nodes,
            clients: vec![client; self.scripts.len()],
            mover: None,
            orphans: vec![],
            now: START,
            budget: Budget {
                losses: self.losses,
                ticks: self.ticks,
                wipes: self.wipes,
                restores: self.restores,
                deaths: self.deaths,
                changes: 0,
            },
            session,
            limbo: false,
            copies: vec![],
            applied: Default::default(),
            memories: 1,
            violation: None,
        };
        world.check(self.strict, None);
        world
    }

    /// All is done, and nothing moves. What is dead or full may wait for ever.
    pub(crate) fn finished(&self, world: &World) -> bool {
        let done = |(client, script): (&Client, &Vec<Op>)| client.done == script.len();
        let settled = world.latest().source.is_none() && world.budget.changes == self.plan.len();
        let waits = world.nodes.iter().any(|node| node.dead) || self.full.contains(&true);
        (settled || waits) && world.clients.iter().zip(&self.scripts).all(done)
    }
}
