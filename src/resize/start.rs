//! From a plan to a decided document.

use futures_util::future::join_all;

use super::{ATTEMPTS, Forgotten, Resize, plan::Planned, plan::refused, steps};
use crate::{
    client::SessionRing,
    error::{Error, ErrorKind, Result},
    ring::NodeId,
    store::{Decision, TopologyStore},
    topology::{Change, Document, Edit},
};

/// Has the changes decided, and drives them.
pub(super) async fn start(ring: &SessionRing, changes: &[Planned], rate: Option<u32>) -> Result<Resize> {
    let keeper = ring.keeper();
    keeper.catch_up().await?;
    for _ in 0..ATTEMPTS {
        let document = keeper.document();
        if document.is_migrating() {
            return Err(under_way(&document));
        }
        let edits = join_all(changes.iter().map(|change| prepare(ring, &document, change))).await;
        let edits = edits.into_iter().collect::<Result<Vec<Edit>>>()?;
        let next = document.next(&Change::Resize(edits)).map_err(refused)?;
        let decision = keeper.store().propose(&document, next.clone()).await?;
        let mine = decision == Decision::Own;
        keeper.adopt(decision.or(&next));
        if mine {
            steps::reached(steps::Step::Decided);
            return Ok(Resize::conduct(ring, rate));
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "others change the ring all the time; nothing was changed; try again",
    ))
}

fn under_way(document: &Document) -> Error {
    Error::configuration(format!(
        "a resize is under way (epoch {}); wait for it, or drive it on with resume_resize; nothing was changed",
        document.epoch()
    ))
}

/// A new node is looked at, and its database given a name, before anybody decides about it.
async fn prepare(ring: &SessionRing, document: &Document, change: &Planned) -> Result<Edit> {
    Ok(match change {
        Planned::Add { id, address, weight } => {
            let address = ring.keeper().directory().learn(id, address.clone())?;
            let newcomer = ring.keeper().store().enlist(document, id, &address).await?;
            Edit::Add {
                id: id.clone(),
                weight: *weight,
                address,
                incarnation: newcomer.incarnation,
                process: newcomer.process,
            }
        }
        Planned::Remove { id } => Edit::Remove { id: id.clone() },
        Planned::Reweight { id, weight } => Edit::Reweight { id: id.clone(), weight: *weight },
    })
}

/// Takes a node out that is gone for good.
pub(super) async fn forget(ring: &SessionRing, node: &NodeId, force: bool) -> Result<Forgotten> {
    let keeper = ring.keeper();
    keeper.catch_up().await?;
    for _ in 0..ATTEMPTS {
        let document = keeper.document();
        let cost = document
            .cost_of_forgetting(node)
            .ok_or_else(|| Error::at(ErrorKind::Configuration, node, "the ring has no such node"))?;
        let next = document.next(&Change::Forget { node: node.clone() }).map_err(refused)?;
        let sessions = estimate(ring, &document, node, cost.total().as_f64()).await;
        let decision = keeper.store().forget(&document, node, force).await?;
        let mine = decision == Decision::Own;
        keeper.adopt(decision.or(&next));
        if mine {
            steps::reached(steps::Step::Decided);
            let resize = next.is_migrating().then(|| Resize::conduct(ring, Some(super::DEFAULT_RATE)));
            return Ok(Forgotten { share: cost.total(), sessions, resize });
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "others change the ring all the time; nothing was changed; try again",
    ))
}

/// How many sessions a part of the ring holds, judged by the nodes that answer.
async fn estimate(ring: &SessionRing, document: &Document, gone: &NodeId, share: f64) -> Option<u64> {
    let others = document.members().iter().filter(|member| member.id != *gone);
    let counted = join_all(others.map(|member| async move {
        let control = ring.keeper().directory().control(&member.id, &member.address).ok()?;
        let keys = control.count().await.ok()?;
        let share = document.ring().share(&member.id)?.as_f64();
        Some((keys, share))
    }));
    let (keys, shares) =
        counted.await.into_iter().flatten().fold((0, 0.0), |(keys, shares), (k, s)| (keys + k, shares + s));
    (shares > 0.0).then(|| (keys as f64 / shares * share).round() as u64)
}
