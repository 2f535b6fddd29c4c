//! What happens to nodes: time, lost memory, old dumps, death.

use crate::{
    machine::Action,
    ring::{Ring, TICK},
    world::{Image, World, observed},
};

impl Ring {
    pub(crate) fn misfortune(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick => {
                world.budget.ticks = world.budget.ticks.checked_sub(1)?;
                world.now += TICK;
            }
            Action::Wipe(node) => {
                world.budget.wipes[node] = world.budget.wipes[node].checked_sub(1)?;
                let state = &mut world.nodes[node];
                (!state.dead && state.fence.is_some()).then_some(())?;
                (state.fence, state.incarnation, state.record, state.image) = (None, None, None, None);
            }
            Action::Save(node) => {
                let state = &mut world.nodes[node];
                let able = world.budget.restores[node] > 0 && !state.dead && state.image.is_none();
                (able && state.fence.is_some()).then_some(())?;
                state.image = Some(Image {
                    fence: state.fence,
                    incarnation: state.incarnation,
                    record: state.record.clone(),
                });
            }
            Action::Restore(node) => {
                if !self.strict {
                    world.copies = world.installs();
                }
                let state = &mut world.nodes[node];
                let image = state.image.take().filter(|_| !state.dead && state.fence.is_some())?;
                world.budget.restores[node] = world.budget.restores[node].checked_sub(1)?;
                (state.fence, state.incarnation, state.record) =
                    (image.fence, image.incarnation, image.record);
                state.process += 1;
                state.restored = true;
                let back = observed(state.record.as_ref());
                // Who looked at the owner before the source went back in time may take that for the answer.
                for client in world.clients.iter_mut().filter(|_| !self.strict) {
                    if let Some(running) = &mut client.running {
                        running.seen.insert(back);
                    }
                }
                // Requests end with the process that they were sent to.
                let process = world.nodes[node].process;
                world.orphans.retain(|orphan| orphan.message.node != node || orphan.process == process);
            }
            Action::Die(node) => {
                world.budget.deaths[node] = world.budget.deaths[node].checked_sub(1)?;
                world.nodes[node].dead = true;
                world.orphans.retain(|orphan| orphan.message.node != node);
            }
            _ => return None,
        }
        Some(())
    }
}
