//! What a client does: `protocol::Operation`, from its first message to an answer that must be true.

use sessionring::{
    internals,
    protocol::{Command, Operation, Outcome, Place, Step},
};

use crate::{
    machine::Action,
    mutant::Mutant,
    node::Reply,
    ring::Ring,
    world::{Message, Orphan, Running, Seen, World, observed},
};

impl Ring {
    pub(crate) fn client(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Begin(at) => {
                let client = &world.clients[at];
                (client.running.is_none() && client.done < self.scripts[at].len()).then_some(())?;
                let command = self.command(at, client.done, client.version);
                let view = client.view;
                let mut operation = Operation::new(command.clone());
                let send = operation.start(world.sinces(view));
                let message = world.route(view, send);
                let (foreseen, seen) = Default::default();
                world.clients[at].running = Some(Running { operation, command, message, foreseen, seen });
            }
            Action::Learn(at) => {
                let client = &world.clients[at];
                (client.view < world.epoch() && client.done < self.scripts[at].len()).then_some(())?;
                let stuck =
                    |running: &Running| !self.welcome(world, running.message.node, running.message.epoch);
                let waits = client.running.as_ref().is_none_or(stuck);
                let epoch = world.epoch();
                if waits {
                    self.adopt(world, at, epoch);
                } else if self.is(Mutant::NewFenceOldScope) {
                    world.clients[at].view = epoch;
                } else {
                    return None;
                }
            }
            Action::Deliver(at) => {
                let running = world.clients[at].running.as_ref()?;
                let (node, epoch) = (running.message.node, running.message.epoch);
                let unmet =
                    world.clients[at].met[node] != world.nodes[node].process && !world.nodes[node].dead;
                (unmet || self.welcome(world, node, epoch)).then_some(())?;
                self.deliver(world, at);
            }
            Action::Foresee(at) => {
                let client = &world.clients[at];
                let running = client.running.as_ref().filter(|running| running.foreseen.is_none())?;
                let message = world.route(client.view, running.operation.foresee()?);
                let (node, epoch) = (message.node, message.epoch);
                let unmet = client.met[node] != world.nodes[node].process && !world.nodes[node].dead;
                (unmet || self.welcome(world, node, epoch)).then_some(())?;
                self.foresee(world, at, &message);
            }
            Action::Lose(at) | Action::GiveUp(at) => {
                let running = world.clients[at].running.as_ref()?;
                let message = &running.message;
                let able = world.budget.losses > 0
                    && !message.command.is_read()
                    && self.welcome(world, message.node, message.epoch)
                    && world.clients[at].met[message.node] == world.nodes[message.node].process;
                able.then_some(())?;
                self.lose(world, at, matches!(action, Action::Lose(_)));
            }
            Action::Arrive(at) => {
                (at < world.orphans.len()).then_some(())?;
                let orphan = world.orphans.remove(at);
                (orphan.process == world.nodes[orphan.message.node].process).then_some(())?;
                self.execute(world, &orphan.message);
            }
            _ => return None,
        }
        Some(())
    }

    /// Begins the operation again under another document.
    pub(crate) fn adopt(&self, world: &mut World, client: usize, epoch: u64) {
        let sinces = world.sinces(epoch);
        world.clients[client].view = epoch;
        let Some(mut running) = world.clients[client].running.take() else { return };
        if !self.is(Mutant::ForeseenKept) {
            running.foreseen = None;
        }
        if self.is(Mutant::LostForgotten) {
            running.operation = Operation::new(running.command.clone());
        }
        if self.is(Mutant::GoesOnMidway) {
            running.message.epoch = epoch;
        } else {
            let send = running.operation.start(sinces);
            running.message = world.route(epoch, send);
        }
        world.clients[client].running = Some(running);
    }

    pub(crate) fn deliver(&self, world: &mut World, client: usize) {
        let Some(running) = &world.clients[client].running else { return };
        let mut message = running.message.clone();
        let node = message.node;
        if self.meets(world, client, node, message.epoch) {
            return;
        }
        if self.is(Mutant::NewFenceOldScope) {
            message.epoch = world.clients[client].view;
        }
        match self.execute(world, &message) {
            Reply::Done(outcome) => {
                let step = match &mut world.clients[client].running {
                    Some(running) => running.operation.answered(outcome),
                    None => return,
                };
                let seen = |running: &Running| running.seen.contains(&Seen::Deleted);
                let forgot = !self.strict && world.nodes.iter().any(|node| node.restored);
                if message.command == Command::Fetch
                    && !forgot
                    && step == Step::Done(Outcome::Deleted)
                    && !world.clients[client].running.as_ref().is_some_and(seen)
                {
                    world.fail(format!("client {client} is told Deleted, and the session was not"));
                }
                self.follow(world, client, step);
            }
            Reply::Newer(epoch) => self.adopt(world, client, epoch),
            Reply::Older => self.raise(world, node, message.epoch),
            Reply::Full => {
                let Some(running) = &world.clients[client].running else { return };
                let step = running.operation.unsent();
                self.follow(world, client, step);
            }
            Reply::Blank => {}
        }
    }

    /// Whether this is a new connection. Then the client asks the others whether they know better.
    fn meets(&self, world: &mut World, client: usize, node: usize, epoch: u64) -> bool {
        if world.clients[client].met[node] == world.nodes[node].process {
            return false;
        }
        world.clients[client].met[node] = world.nodes[node].process;
        let known = world.nodes.iter().filter(|node| !node.dead).filter_map(|node| node.fence).max();
        if let Some(known) = known.filter(|known| *known > epoch && !self.is(Mutant::NoLook)) {
            self.adopt(world, client, known);
        }
        true
    }

    /// The source answers before the owner does. Anything but an outcome is as if it had not been asked.
    fn foresee(&self, world: &mut World, client: usize, message: &Message) {
        if self.meets(world, client, message.node, message.epoch) {
            return;
        }
        let Reply::Done(outcome) = self.execute(world, message) else { return };
        let live = matches!(outcome, Outcome::Record(_) | Outcome::Inspected(..));
        if live && self.is(Mutant::ForeseenAlone) {
            return self.done(world, client, outcome);
        }
        if let Some(running) = &mut world.clients[client].running {
            running.foreseen = Some(outcome);
        }
    }

    pub(crate) fn lose(&self, world: &mut World, client: usize, time_left: bool) {
        let Some(epoch) = world.clients[client].running.as_ref().map(|running| running.message.epoch) else {
            return;
        };
        let sinces = world.sinces(epoch);
        let Some(running) = &mut world.clients[client].running else { return };
        let message = running.message.clone();
        let mut step = running.operation.lost();
        if step == Step::Indeterminate && time_left && self.is(Mutant::BlindTwice) {
            step = Step::Send(running.operation.start(sinces));
        }
        if !time_left {
            step = running.operation.unsent();
        }
        let process = world.nodes[message.node].process;
        world.orphans.push(Orphan { message, process });
        world.orphans.sort_by_cached_key(|orphan| format!("{orphan:?}"));
        world.budget.losses -= 1;
        self.follow(world, client, step);
    }

    /// The operation says what to do next.
    pub(crate) fn follow(&self, world: &mut World, client: usize, step: Step) {
        let view = world.clients[client].view;
        let Some(mut running) = world.clients[client].running.take() else { return };
        match step {
            Step::Send(send) => {
                let last_look = send.place == Place::Owner
                    && running.command.is_read()
                    && running.message.node != world.document(view).owner;
                if last_look && self.is(Mutant::NoLastLook) {
                    world.clients[client].running = Some(running);
                    return self.done(world, client, Outcome::Absent);
                }
                let foreseen = running.foreseen.take().filter(|_| send.place == Place::Source);
                running.message = world.route(view, send);
                let decided = foreseen.and_then(|outcome| running.operation.foreseen(outcome));
                world.clients[client].running = Some(running);
                if let Some(step) = decided {
                    self.follow(world, client, step);
                }
            }
            Step::Done(outcome) => {
                world.clients[client].running = Some(running);
                self.done(world, client, outcome);
            }
            Step::Failed => {
                world.clients[client].running = Some(running);
                self.nothing_happened(world, client, "Failed");
                self.next_operation(world, client);
            }
            _ => self.next_operation(world, client),
        }
    }

    pub(crate) fn done(&self, world: &mut World, client: usize, outcome: Outcome) {
        let Some(running) = &world.clients[client].running else { return };
        match (&running.command, &outcome) {
            (Command::Read | Command::Inspect, outcome) => {
                let answer = match outcome {
                    Outcome::Record(bytes) => observed(Some(&internals::stored(bytes.to_vec(), u64::MAX))),
                    Outcome::Inspected(header, _) => Seen::Live(header.version),
                    Outcome::Absent | Outcome::Deleted => Seen::Absent,
                    other => unreachable!("{other:?}"),
                };
                // Who reads does not tell a tombstone from nothing.
                let live = matches!(answer, Seen::Live(_));
                let possible = [Seen::Absent, Seen::Deleted].iter().any(|seen| running.seen.contains(seen));
                if !running.seen.contains(&answer) && (live || !possible) {
                    let seen = running.seen.clone();
                    world.fail(format!("I5: client {client} reads {answer:?}, and the session was {seen:?}"));
                }
                if let Seen::Live(version) = answer {
                    world.clients[client].version = version;
                }
            }
            (Command::Write(write), Outcome::Applied(_)) => {
                if !world.applied.contains_key(&write.operation) {
                    world.fail(format!("client {client} is told Applied, and nothing happened"));
                }
            }
            (
                Command::Write(_),
                Outcome::Absent | Outcome::Exists | Outcome::Deleted | Outcome::Conflict(_),
            ) => self.nothing_happened(world, client, &format!("{outcome:?}")),
            (
                Command::Touch(_) | Command::Delete(_),
                Outcome::Applied(_) | Outcome::Absent | Outcome::Deleted,
            ) => {}
            (command, outcome) => world.fail(format!("{outcome:?} is no answer to {command:?}")),
        }
        self.next_operation(world, client);
    }

    /// An answer that says so must be true, also of copies that are still under way.
    pub(crate) fn nothing_happened(&self, world: &mut World, client: usize, said: &str) {
        let Some(running) = &world.clients[client].running else { return };
        let late = world.orphans.iter().any(|orphan| orphan.message.command == running.command);
        let happened = match &running.command {
            Command::Write(write) => late || world.applied.contains_key(&write.operation),
            Command::Delete(_) | Command::Touch(_) => late,
            _ => false,
        };
        if happened {
            let what =
                format!("client {client} is told {said}, and {:?} happened or may happen", running.command);
            world.fail(what);
        }
    }

    pub(crate) fn next_operation(&self, world: &mut World, client: usize) {
        world.clients[client].running = None;
        world.clients[client].done += 1;
    }
}
