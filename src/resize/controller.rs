//! Carries a migrating document to a stable one. Anyone may, several at once; nothing here is remembered between two
//! runs, and everything may be done twice.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    mover::{Mover, Pass, Witness, scanned_at_once},
    progress::{Phase, Reporter},
    steps::{Step, reached},
};
use crate::{
    client::{Keeper, Limiter, raise_to},
    error::{Error, ErrorKind, Result},
    node::{Limits, Node, Request},
    protocol::{Command, Mode, Scope},
    record::Key,
    ring::NodeIndex,
    store::{Decision, TopologyStore},
    topology::{Change, Document, DocumentMember},
};

/// Between two attempts to have the stable document decided.
const PAUSE: Duration = Duration::from_millis(500);

/// Drives the resize that is under way until the ring is stable.
pub(super) async fn conduct(keeper: Arc<Keeper>, rate: Option<u32>, reporter: Arc<Reporter>) -> Result<()> {
    let mut former = Vec::new();
    loop {
        let document = keeper.document();
        if !document.is_migrating() {
            clean(&keeper, &former, rate, &reporter).await;
            reporter.phase(Phase::Done, document.epoch());
            return Ok(());
        }
        reporter.phase(Phase::Moving, document.epoch());
        let sources = document.sources();
        let left: Vec<DocumentMember> =
            sources.iter().map(|node| document.members()[node.get()].clone()).collect();
        let mover = Mover {
            nodes: handles(&keeper, &document, rate),
            keeper: keeper.clone(),
            document,
            limiter: Limiter::new(rate),
            reporter: reporter.clone(),
        };
        if keeper.is_closed() {
            return Err(Error::new(
                ErrorKind::Closed,
                "the ring was closed; another process can resume the resize",
            ));
        }
        let Some(witnesses) = drain(&mover, &sources).await else {
            close(&mover.nodes).await;
            continue;
        };
        reached(Step::Drained);
        let settled = settle(&mover, &witnesses).await;
        close(&mover.nodes).await;
        if settled {
            former = left;
        }
    }
}

/// Passes over all sources at once; none if there is a newer document.
async fn drain(mover: &Mover, sources: &[NodeIndex]) -> Option<Vec<Box<Witness>>> {
    let passes = join_all(sources.iter().map(|&source| mover.drain(source))).await;
    passes
        .into_iter()
        .map(|pass| match pass {
            Pass::Complete(witness) => Some(witness),
            Pass::Superseded => None,
        })
        .collect()
}

/// Has the stable document decided, as long as every source is still the process that was passed over.
async fn settle(mover: &Mover, witnesses: &[Box<Witness>]) -> bool {
    let Mover { keeper, document, reporter, .. } = mover;
    reporter.phase(Phase::Settling, document.epoch());
    let Ok(next) = document.next(&Change::Settle) else { return false };
    loop {
        // A process that was restarted may have forgotten that its sessions have left.
        for witness in witnesses {
            if !witness.testifies().await {
                return false;
            }
        }
        match keeper.store().propose(document, next.clone()).await {
            Ok(decision) => {
                let settled = decision == Decision::Own;
                keeper.adopt(decision.or(&next));
                if settled {
                    reached(Step::Settled);
                }
                return settled;
            }
            Err(error) => {
                for witness in witnesses {
                    reporter.stuck(witness.source(), &error);
                }
                if keeper.is_closed() {
                    return false;
                }
                sleep(PAUSE).await;
            }
        }
        if mover.is_superseded() {
            return false;
        }
    }
}

/// Deletes what former sources still hold and no longer own, which is tombstones and leftovers that nobody can read. It saves
/// memory, nothing else: what cannot be cleaned is left to expire.
async fn clean(keeper: &Arc<Keeper>, former: &[DocumentMember], rate: Option<u32>, reporter: &Reporter) {
    let document = keeper.document();
    if former.is_empty() || document.is_migrating() {
        return;
    }
    reporter.phase(Phase::Cleaning, document.epoch());
    let limiter = Limiter::new(rate);
    join_all(former.iter().map(|member| clean_one(keeper, &document, member, &limiter))).await;
}

async fn clean_one(
    keeper: &Arc<Keeper>,
    document: &Document,
    member: &DocumentMember,
    limiter: &Limiter,
) -> Result<()> {
    let control = keeper.directory().control_alone(&member.id, &member.address)?;
    // Only behind the fence of the stable document is it certain that no request of an older one comes.
    let standing = control.standing(raise_to(document, member)).await?;
    if !standing.obeys(&document.fence()) {
        return Ok(());
    }
    let node = keeper.open_handle(member, &limits(keeper, true));
    let connection = control.greet().await?.connection;
    let (mut cursor, prefix, scan) = (0, keeper.directory().prefix(), scanned_at_once(limiter));
    while let Some((next, keys)) = control.scan(connection, &prefix, cursor, scan).await? {
        let own = |key: &Key| document.members()[document.tenure(key.token()).owner.get()].id == member.id;
        let strangers = keys.into_iter().filter(|key| !own(key));
        let erase = strangers.map(|key| Request {
            key,
            command: Command::Erase,
            fence: document.fence(),
            scope: Scope::new(document.epoch(), Mode::Settled),
            deadline: Instant::now() + Duration::from_secs(5),
        });
        let requests: Vec<_> = erase.collect();
        reached(Step::Cleaning);
        limiter.take(requests.len()).await;
        node.submit_many(requests).await;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    node.close().await;
    Ok(())
}

/// Handles of the mover's own.
fn handles(keeper: &Arc<Keeper>, document: &Document, rate: Option<u32>) -> Vec<Node> {
    let limits = limits(keeper, rate.is_some());
    document.members().iter().map(|member| keeper.handle(member, &limits)).collect()
}

/// A script call holds the server for as long as it runs, and requests wait meanwhile: short ones, where that matters.
fn limits(keeper: &Keeper, gentle: bool) -> Limits {
    let limits = keeper.limits().clone();
    if gentle { Limits { script_batch: 16, ..limits } } else { limits }
}

async fn close(nodes: &[Node]) {
    join_all(nodes.iter().map(Node::close)).await;
}
