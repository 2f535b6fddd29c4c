//! What the controller does: it decides documents, raises fences, takes nodes in again and cleans up.

use sessionring::protocol::{Command, Mode};

use crate::{
    machine::Action,
    mutant::Mutant,
    ring::{Plan, Ring},
    world::{Message, Phase, World},
};

impl Ring {
    pub(crate) fn control(&self, world: &mut World, action: Action) -> Option<()> {
        let epoch = world.epoch();
        let latest = world.latest().clone();
        match action {
            Action::Raise(node) => {
                self.may_raise(world, node, epoch).then_some(())?;
                self.raise(world, node, epoch);
            }
            Action::Change => {
                let Plan::MoveTo(to) = *self.plan.get(world.budget.changes)?;
                let able = latest.source.is_none() && latest.owner != to && !world.nodes[to].dead;
                able.then_some(())?;
                world.budget.changes += 1;
                let mut next = latest.moved(to, epoch + 1);
                if self.is(Mutant::ReturnKeepsSince)
                    && let Some(before) = world.documents.iter().rev().find(|before| before.owner == to)
                {
                    next.since = before.since;
                }
                world.documents.push(next);
            }
            Action::Settle => {
                let (source, _) = latest.source?;
                let passed = world.mover.as_ref().is_some_and(|mover| {
                    mover.epoch == epoch && mover.phase == Phase::Done(world.nodes[source].process)
                });
                (passed && !world.nodes[source].dead || self.is(Mutant::SettleWithoutPass)).then_some(())?;
                let mut next = latest.settled();
                if self.is(Mutant::SettleForgets) {
                    next.since = epoch + 1;
                }
                world.documents.push(next);
                world.mover = None;
            }
            Action::Name(node) => {
                let state = &mut world.nodes[node];
                (!state.dead && state.fence.is_none() && state.incarnation.is_none()).then_some(())?;
                world.memories += 1;
                state.incarnation = Some(world.memories);
            }
            Action::Readmit(node) => {
                let state = &world.nodes[node];
                let incarnation = state.incarnation?;
                let other = incarnation != latest.incarnations[node]
                    || self.strict && state.process != latest.processes[node];
                (!state.dead && other).then_some(())?;
                let mut next = latest.readmitted(node, incarnation, state.process, epoch + 1);
                if self.is(Mutant::ReadmitKeepsSince) {
                    (next.since, next.source) = (latest.since, latest.source);
                }
                world.documents.push(next);
            }
            Action::Initialise(node, at) => {
                let state = &world.nodes[node];
                (!state.dead && state.fence.is_none()).then_some(())?;
                let document = world.document(at);
                let partner = document.partner(node).map(|partner| &world.nodes[partner]);
                let raised = partner.is_none_or(|partner| partner.fence.is_some_and(|fence| fence >= at));
                let named = state.incarnation == Some(document.incarnations[node])
                    && (!self.strict || state.process == document.processes[node]);
                let right = match self.mutant {
                    Some(Mutant::InitialiseFirst) => named && raised || at == epoch,
                    Some(Mutant::NoPartnerFences) => named,
                    Some(Mutant::AnyIncarnation) => raised,
                    _ => named && raised,
                };
                right.then_some(())?;
                let state = &mut world.nodes[node];
                state.fence = Some(at);
                state.highest = state.highest.max(at);
            }
            Action::Forget(node) => {
                let meant = latest.owner == node || latest.source.is_some_and(|(source, _)| source == node);
                let survivor = (0..self.nodes).find(|node| !world.nodes[*node].dead)?;
                (world.nodes[node].dead && meant).then_some(())?;
                world.documents.push(latest.forgotten(node, survivor, epoch + 1));
            }
            Action::CleanUp(node, at) => {
                let document = world.document(at);
                let free = self.is(Mutant::CleanUpWithoutFence);
                let reached =
                    world.nodes[node].fence == Some(at) || free && world.nodes[node].fence.is_some();
                let theirs = document.source.is_none() && document.owner != node;
                (self.clean_up && reached && theirs && world.stored(node).is_some()).then_some(())?;
                let command = Command::Erase;
                let message = Message { node, epoch: at, since: 0, mode: Mode::Settled, command };
                self.execute(world, &message);
            }
            _ => return None,
        }
        Some(())
    }
}
