//! What a node does with a message: `protocol::apply` behind the fence.

use sessionring::{
    protocol::{Command, Effect, Mode, Outcome, Scope, apply},
    record::{Kind, Record},
    topology::Epoch,
};

use crate::{
    mutant::Mutant,
    ring::{IDLE, Ring},
    world::{Message, World, header, take},
};

/// What a node answers to a message.
pub(crate) enum Reply {
    Done(Outcome),
    Newer(u64),
    Older,
    Blank,
    /// Out of memory: nothing happened.
    Full,
}

impl Ring {
    /// Whether a client or mover that goes by this document may use the node as it is.
    pub(crate) fn welcome(&self, world: &World, node: usize, epoch: u64) -> bool {
        let state = &world.nodes[node];
        !state.dead
            && state.fence.is_some()
            && (!self.strict || state.process == world.document(epoch).processes[node])
    }

    pub(crate) fn may_raise(&self, world: &World, node: usize, epoch: u64) -> bool {
        let state = &world.nodes[node];
        self.welcome(world, node, epoch)
            && state.fence.is_some_and(|fence| fence < epoch)
            && (state.incarnation == Some(world.document(epoch).incarnations[node])
                || self.is(Mutant::AnyIncarnation))
    }

    pub(crate) fn raise(&self, world: &mut World, node: usize, epoch: u64) {
        if self.may_raise(world, node, epoch) {
            let state = &mut world.nodes[node];
            state.fence = Some(epoch);
            state.highest = state.highest.max(epoch);
        }
    }

    /// One message at one node.
    pub(crate) fn execute(&self, world: &mut World, message: &Message) -> Reply {
        let command = &message.command;
        let reads = matches!(command, Command::Read | Command::Recheck | Command::Inspect);
        let free = match command {
            Command::Fetch => self.is(Mutant::NoFenceForFetch),
            Command::Erase => self.is(Mutant::CleanUpWithoutFence),
            _ if reads => self.is(Mutant::NoFenceForReads),
            _ => self.is(Mutant::NoFenceForWrites),
        };
        match world.nodes[message.node].fence {
            None => return Reply::Blank,
            Some(fence) if fence == message.epoch || free => {}
            Some(fence) if fence > message.epoch => return Reply::Newer(fence),
            Some(_) if reads && self.is(Mutant::NoRaiseForReads) => {}
            Some(_) => return Reply::Older,
        }
        let stored = world.stored(message.node).cloned();
        let kind = stored.as_ref().map(|record| header(record).kind);
        let valid = stored.as_ref().is_some_and(|record| header(record).stamp.get() >= message.since);
        let pending = stored.as_ref().is_some_and(|record| header(record).pending);
        let hidden = matches!(command, Command::Install(_))
            && match kind {
                Some(Kind::Tombstone) => self.is(Mutant::InstallOverTombstone),
                Some(Kind::Live) => self.is(Mutant::InstallOverLive),
                _ => false,
            };
        let mode = match (message.mode, command) {
            (Mode::Unchecked, _) if self.is(Mutant::UncheckedCreates) => Mode::Checked,
            (Mode::Checked, _) if self.is(Mutant::EndsSooner) => Mode::Settled,
            (Mode::Unchecked, _) if valid && !pending && self.is(Mutant::EndsSooner) => Mode::Settled,
            (Mode::Unchecked, Command::Touch(_)) if valid && self.is(Mutant::TouchPending) => Mode::Settled,
            (mode, _) => mode,
        };
        let since = if self.is(Mutant::NoStamp) { 0 } else { message.since };
        let scope = Scope::new(Epoch::new(since), mode);
        let late = matches!(command, Command::Install(_)) && self.is(Mutant::InstallAnyTime);
        let now = if late { 0 } else { world.now };
        let seen = stored.as_ref().filter(|_| !hidden);
        let (outcome, mut effect) = apply(seen, now, command, Epoch::new(message.epoch), scope);
        let needs_memory = match command {
            Command::Install(install) => !install.for_logout,
            Command::Write(_) => true,
            _ => false,
        };
        if needs_memory && self.full[message.node] && matches!(effect, Effect::Put(_)) {
            return Reply::Full;
        }
        world.compare(message, &outcome, &effect);
        match (command, &mut effect) {
            (Command::Install(_), Effect::Put(put)) if late => put.expires = world.now + IDLE,
            (Command::Install(_), Effect::Put(put)) if self.is(Mutant::NoPending) => {
                let record = Record::decode(&put.bytes).expect("a record");
                let mut header = record.header;
                header.pending = false;
                put.bytes = [&header.encode()[..], record.payload].concat().into();
            }
            (Command::Delete(_), effect @ Effect::Put(_)) if self.is(Mutant::NoTombstone) => {
                *effect = Effect::Remove;
            }
            _ => {}
        }
        take(&mut world.nodes[message.node].record, effect);
        if *command == Command::Fetch
            && matches!(outcome, Outcome::Fetched { .. })
            && kind == Some(Kind::Live)
            && self.is(Mutant::ReleaseFirst)
        {
            world.nodes[message.node].record = None;
        }
        Reply::Done(outcome)
    }
}
