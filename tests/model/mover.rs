//! What a mover does: a pass over the source, and `protocol::Transfer` for the key.

use sessionring::protocol::{Transfer, TransferStep};

use crate::{
    machine::Action,
    mutant::Mutant,
    node::Reply,
    ring::Ring,
    world::{Mover, Orphan, Phase, World},
};

impl Ring {
    pub(crate) fn mover(&self, world: &mut World, action: Action) -> Option<()> {
        let epoch = world.epoch();
        if action == Action::MoverStart {
            let (source, _) = world.latest().source?;
            let process = world.nodes[source].process;
            let over = |phase: &Phase| matches!(phase, Phase::Done(begun) if *begun != process);
            let idle = world.mover.as_ref().is_none_or(|mover| mover.epoch < epoch || over(&mover.phase));
            idle.then_some(())?;
            world.mover = Some(Mover { epoch, phase: Phase::Start });
            return Some(());
        }
        let mut mover = world.mover.clone()?;
        let document = world.document(mover.epoch).clone();
        let (source, _) = document.source?;
        let process = world.nodes[source].process;
        match (action, mover.phase.clone()) {
            (Action::MoverRaise(node), Phase::Start) => {
                (self.may_raise(world, node, mover.epoch)).then_some(())?;
                self.raise(world, node, mover.epoch);
            }
            (Action::MoverPass, Phase::Start) => {
                let raised = |node: usize| world.nodes[node].fence == Some(mover.epoch);
                let ready = raised(source) && (raised(document.owner) || self.is(Mutant::TargetNotRaised));
                (ready && self.welcome(world, source, mover.epoch)).then_some(())?;
                mover.phase = Phase::Pass(process);
                world.mover = Some(mover);
            }
            (Action::MoverScan, Phase::Pass(begun)) => {
                mover.phase = if begun != process {
                    if self.is(Mutant::ResumedCursor) { Phase::Done(process) } else { Phase::Start }
                } else if world.nodes[source].dead || world.nodes[source].fence.is_none() {
                    Phase::Start
                } else if world.stored(source).is_some() {
                    let mut transfer = Box::new(Transfer::new());
                    let message = world.route(mover.epoch, transfer.start());
                    Phase::Transfer(begun, transfer, message)
                } else {
                    Phase::Done(begun)
                };
                world.mover = Some(mover);
            }
            (Action::MoverDeliver, Phase::Transfer(begun, mut transfer, message)) => {
                // What is on its way to the target does not break with the connection to the source.
                if begun != process && message.node == source {
                    mover.phase = Phase::Start;
                    world.mover = Some(mover);
                    return Some(());
                }
                self.welcome(world, message.node, mover.epoch).then_some(())?;
                match self.execute(world, &message) {
                    Reply::Done(outcome) => {
                        let step = transfer.answered(outcome);
                        mover.phase = Phase::Transfer(begun, transfer, message);
                        self.move_on(world, mover, step);
                    }
                    Reply::Newer(_) => world.mover = None,
                    Reply::Older => {
                        self.may_raise(world, message.node, mover.epoch).then_some(())?;
                        self.raise(world, message.node, mover.epoch);
                    }
                    Reply::Blank | Reply::Full => return None,
                }
            }
            (Action::MoverLose, Phase::Transfer(begun, mut transfer, message)) => {
                (world.budget.losses > 0 && !message.command.is_read()).then_some(())?;
                (!world.nodes[message.node].dead).then_some(())?;
                world.budget.losses -= 1;
                let process = world.nodes[message.node].process;
                world.orphans.push(Orphan { message: message.clone(), process });
                world.orphans.sort_by_cached_key(|orphan| format!("{orphan:?}"));
                let step = transfer.lost();
                mover.phase = Phase::Transfer(begun, transfer, message);
                self.move_on(world, mover, step);
            }
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn move_on(&self, world: &mut World, mut mover: Mover, step: TransferStep) {
        let Phase::Transfer(process, transfer, _) = mover.phase else { return };
        mover.phase = match step {
            TransferStep::Send(send) => Phase::Transfer(process, transfer, world.route(mover.epoch, send)),
            TransferStep::Done(_) => Phase::Done(process),
            _ => Phase::Start,
        };
        world.mover = Some(mover);
    }
}
