//! What can happen next, and what comes of it. Clients run `protocol::Operation`, the mover `protocol::Transfer`, nodes
//! `protocol::apply`: the code that applications run.

use stateright::{Model, Property};

use crate::{
    ring::Ring,
    world::{Authority, World},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A client begins its next operation.
    Begin(usize),
    /// A client hears of the newest document.
    Learn(usize),
    /// The message of a client gets where it is sent, and the answer back.
    Deliver(usize),
    /// The source answers a client that reads before the owner does.
    Foresee(usize),
    /// The message of a client is late, and the client sends it again if it may.
    Lose(usize),
    /// The message of a client is late, and the client has no time left.
    GiveUp(usize),
    /// A late message comes.
    Arrive(usize),
    MoverStart,
    MoverRaise(usize),
    MoverPass,
    MoverScan,
    MoverDeliver,
    MoverLose,
    Raise(usize),
    /// The next planned change is decided.
    Change,
    Settle,
    /// A blank database is given an incarnation.
    Name(usize),
    Readmit(usize),
    /// A blank node gets the fence of this epoch.
    Initialise(usize, u64),
    Forget(usize),
    /// What a former source still has goes, as of the stable document of this epoch.
    CleanUp(usize, u64),
    Tick,
    /// A node loses its memory.
    Wipe(usize),
    /// A node is saved, or its replica falls behind.
    Save(usize),
    /// A node comes back with what was saved: an old dump, or a replica that was promoted.
    Restore(usize),
    /// A node is gone for good.
    Die(usize),
}

impl Ring {
    /// What comes of an action; nothing where it cannot happen.
    pub(crate) fn step(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        let dump = match action {
            Action::Restore(node) => {
                let held =
                    matches!(before.authority(self.strict), Authority::Holds { node: at, .. } if at == node);
                Some((node, held))
            }
            _ => None,
        };
        match action {
            Action::Begin(_)
            | Action::Learn(_)
            | Action::Deliver(_)
            | Action::Foresee(_)
            | Action::Lose(_)
            | Action::GiveUp(_)
            | Action::Arrive(_) => self.client(&mut world, action)?,
            Action::MoverStart
            | Action::MoverRaise(_)
            | Action::MoverPass
            | Action::MoverScan
            | Action::MoverDeliver
            | Action::MoverLose => self.mover(&mut world, action)?,
            Action::Tick | Action::Wipe(_) | Action::Save(_) | Action::Restore(_) | Action::Die(_) => {
                self.misfortune(&mut world, action)?;
            }
            _ => self.control(&mut world, action)?,
        }
        world.check(self.strict, dump);
        (world != *before).then_some(world)
    }

    pub(crate) fn candidates(&self, world: &World) -> Vec<Action> {
        let mut all = Vec::new();
        for at in 0..world.clients.len() {
            all.extend([
                Action::Begin(at),
                Action::Learn(at),
                Action::Deliver(at),
                Action::Foresee(at),
                Action::Lose(at),
                Action::GiveUp(at),
            ]);
        }
        all.extend((0..world.orphans.len()).map(Action::Arrive));
        all.extend([Action::MoverStart, Action::MoverPass, Action::MoverScan, Action::MoverDeliver]);
        all.extend([Action::MoverLose, Action::Change, Action::Settle, Action::Tick]);
        for node in 0..self.nodes {
            all.extend([
                Action::MoverRaise(node),
                Action::Raise(node),
                Action::Wipe(node),
                Action::Save(node),
            ]);
            all.extend([Action::Restore(node), Action::Die(node), Action::Forget(node)]);
            if world.nodes[node].fence.is_none() {
                all.extend([Action::Name(node)]);
                all.extend((1..=world.epoch()).map(|epoch| Action::Initialise(node, epoch)));
            }
            all.push(Action::Readmit(node));
            all.extend((1..=world.epoch()).map(|epoch| Action::CleanUp(node, epoch)));
        }
        all
    }
}

impl Model for Ring {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.violation.is_none() {
            actions.extend(self.candidates(world));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.step(world, action)
    }

    fn properties(&self) -> Vec<Property<Ring>> {
        vec![
            Property::always("safety", |_, world: &World| world.violation.is_none()),
            Property::eventually("a pass ends", |ring: &Ring, world: &World| {
                world.violation.is_some() || ring.finished(world)
            }),
        ]
    }
}
