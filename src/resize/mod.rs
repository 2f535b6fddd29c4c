//! The ring grows, shrinks and mends itself while it is used.
//!
//! - `plan`: what a change would do, before it is done
//! - `start`: from a plan to a decided document
//! - `controller`: from a migrating document to a stable one; anyone may run it
//! - `mover`: one full pass over the sessions of one source
//! - `progress`: how far
//! - `steps`: where tests let a process die
//!
//! The protocol is in `docs/resize.md`. Everything here may be done twice, by several processes, in any order.

mod controller;
mod mover;
mod plan;
mod progress;
mod start;
pub(crate) mod steps;

use std::{fmt, sync::Arc};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::watch;

use self::{plan::refused, progress::Reporter};
pub use self::{
    plan::{Flow, Plan, Sample},
    progress::{Phase, Progress, Stuck},
};
use crate::{
    client::SessionRing,
    error::{Error, ErrorKind, Result},
    node::Address,
    ring::{NodeId, Share},
    store::{Decision, Held, TopologyStore},
    telemetry,
    topology::{Change, Document},
};

/// Sessions per second that move unless something else is asked for.
const DEFAULT_RATE: u32 = 10_000;
/// Other changes may be decided first this often.
const ATTEMPTS: usize = 16;

/// A resize under way in this process. Dropping it changes nothing: the resize goes on.
#[derive(Clone)]
pub struct Resize {
    reporter: Arc<Reporter>,
    progress: watch::Receiver<Progress>,
    ended: Shared<BoxFuture<'static, Result<()>>>,
}

/// How a node whose process changed is taken up again in a strict ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Returning {
    /// What it holds may be old: none of it counts, its sessions are absent.
    Discard,
    /// Whoever calls vouches that it lost nothing, neither a write nor a log-out.
    Keep,
}

/// What forgetting a node cost.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Forgotten {
    /// The part of all sessions that was on the node and is gone; in the middle of a resize, that is so at most.
    pub share: Share,
    /// About so many sessions, judged by what the other nodes hold; unknown if none answered.
    pub sessions: Option<u64>,
    /// Where something has to move among the other nodes because of it.
    pub resize: Option<Resize>,
}

/// Changing the ring while it is used. **No session is lost by it and no log-out undone**, whichever applications use the
/// ring and whenever they learn of the change; see `docs/resize.md`.
impl SessionRing {
    /// What a change would do; [`Plan::start`] does it.
    pub fn plan(&self) -> Plan {
        Plan::new(self.clone())
    }

    /// Adds a node of weight 1, and moves its share of the sessions to it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let mut resize = ring.add_node("b", "memory:").await?;
    /// while let Some(progress) = resize.progress().await {
    ///     println!("{progress}");
    /// }
    /// resize.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Plan::add`] and [`Plan::start`].
    pub async fn add_node(&self, name: impl AsRef<str>, address: impl Into<String>) -> Result<Resize> {
        self.plan().add(name, address)?.start().await
    }

    /// Moves the sessions of a node to the others, and takes it out of the ring. When the resize is done, the server may be
    /// switched off.
    ///
    /// # Errors
    /// Those of [`Plan::remove`] and [`Plan::start`].
    pub async fn remove_node(&self, name: impl AsRef<str>) -> Result<Resize> {
        self.plan().remove(name)?.start().await
    }

    /// Gives a node another weight.
    ///
    /// # Errors
    /// Those of [`Plan::reweight`] and [`Plan::start`].
    pub async fn reweight(&self, name: impl AsRef<str>, weight: u32) -> Result<Resize> {
        self.plan().reweight(name, weight)?.start().await
    }

    /// Drives the resize that is under way, if there is one: for when the process that began it is gone. It does no harm
    /// while that one lives.
    ///
    /// # Errors
    /// [`is_unavailable`](Error::is_unavailable): no node answers.
    pub async fn resume_resize(&self) -> Result<Option<Resize>> {
        self.keeper().catch_up().await?;
        let document = self.keeper().document();
        Ok(document.is_migrating().then(|| Resize::conduct(self, Some(DEFAULT_RATE))))
    }

    /// Tells the ring that a node is reached at another address. No session moves: the database must be the same, moved or
    /// replicated. (An empty one is taken up as a node that lost its memory.)
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): no such node, or no valid address.
    /// [`is_unavailable`](Error::is_unavailable): a majority of the nodes does not answer; nothing was changed.
    pub async fn move_address(&self, name: impl AsRef<str>, address: impl Into<String>) -> Result<()> {
        let node = NodeId::new(name.as_ref())?;
        let address = self.keeper().directory().learn(&node, Address::parse(&address.into())?)?;
        self.decide(|_| Ok(Change::Move { node: node.clone(), address: address.clone() })).await.map(drop)
    }

    /// Takes a node that is gone for good out of the ring, also in the middle of a resize. Its sessions are lost: everything
    /// else tries first to do without this ([`remove_node`](SessionRing::remove_node) moves them). Says what it cost.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): no such node, or it is the last.
    /// [`is_unavailable`](Error::is_unavailable): a majority of the nodes does not answer; nothing was changed. In a ring of two
    /// nodes one is no majority: [`forget_node_by_force`](SessionRing::forget_node_by_force).
    pub async fn forget_node(&self, name: impl AsRef<str>) -> Result<Forgotten> {
        start::forget(self, &NodeId::new(name.as_ref())?, false).await
    }

    /// [`forget_node`](SessionRing::forget_node) where fewer than a majority of the nodes are left. **Whoever calls it vouches that
    /// the others are gone**: if they live on unseen, with applications that see them, the ring splits.
    ///
    /// # Errors
    /// Those of [`forget_node`](SessionRing::forget_node), except for the majority.
    pub async fn forget_node_by_force(&self, name: impl AsRef<str>) -> Result<Forgotten> {
        start::forget(self, &NodeId::new(name.as_ref())?, true).await
    }

    /// Takes up a node again that was restarted, replaced by a replica or lost its memory: in a [strict](crate::Builder::strict)
    /// ring nobody else does. May be called again, and changes nothing if the node is in use as the process that the ring
    /// knows: so an attempt that failed, and came to its end later, costs nothing of what was written since.
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): no such node.
    /// [`is_unavailable`](Error::is_unavailable): the node does not answer, or a majority of the others, or one that sessions
    /// move to or from.
    pub async fn readmit(&self, name: impl AsRef<str>, returning: Returning) -> Result<()> {
        let node = NodeId::new(name.as_ref())?;
        let keeper = self.keeper();
        keeper.catch_up().await?;
        let held = match returning {
            Returning::Discard => Held::Discard,
            Returning::Keep => Held::Keep,
        };
        for _ in 0..ATTEMPTS {
            let document = keeper.document();
            let Some((_, before)) = document.member(&node) else {
                return Err(Error::at(ErrorKind::Configuration, &node, "the ring has no such node"));
            };
            let after = keeper.store().readmit(&document, &node, held).await?;
            // Somebody else's decision counts if it is about this node, too, and about what it is now.
            let is_another = after.member(&node).is_some_and(|(_, now)| match returning {
                Returning::Discard => now.incarnation != before.incarnation,
                Returning::Keep => now.process != before.process,
            });
            keeper.adopt(after.clone());
            if is_another {
                telemetry::readmitted(self.name(), &node, after.epoch());
            }
            if after == document || is_another && keeper.store().is_readmitted(&after, &node).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Has this change decided, on top of whatever else is decided meanwhile.
    async fn decide(&self, change: impl Fn(&Document) -> Result<Change>) -> Result<Document> {
        let keeper = self.keeper();
        for _ in 0..ATTEMPTS {
            let document = keeper.document();
            let next = document.next(&change(&document)?).map_err(refused)?;
            let decision = keeper.store().propose(&document, next.clone()).await?;
            let mine = decision == Decision::Own;
            keeper.adopt(decision.or(&next));
            if mine {
                steps::reached(steps::Step::Decided);
                return Ok(next);
            }
        }
        Err(busy())
    }
}

fn busy() -> Error {
    Error::new(ErrorKind::Conflict, "others change the ring all the time; nothing was changed; try again")
}

impl Resize {
    /// Runs the controller in the background.
    fn conduct(ring: &SessionRing, rate: Option<u32>) -> Resize {
        let keeper = ring.keeper().clone();
        let reporter = Arc::new(Reporter::new(ring.name(), keeper.document().epoch()));
        let progress = reporter.subscribe();
        let task = tokio::spawn(controller::conduct(keeper, rate, reporter.clone()));
        let ended = async move {
            task.await.unwrap_or_else(|_| {
                let message = "the runtime of the resize has ended; another process can resume it";
                Err(Error::new(ErrorKind::Closed, message))
            })
        };
        Resize { reporter, progress, ended: ended.boxed().shared() }
    }

    /// The next news, at most ten a second; `None` when it is over.
    pub async fn progress(&mut self) -> Option<Progress> {
        tokio::select! {
            biased;
            Ok(()) = self.progress.changed() => Some(self.progress.borrow_and_update().clone()),
            _ = self.ended.clone() => None,
        }
    }

    /// How far it is now.
    pub fn now(&self) -> Progress {
        self.reporter.now()
    }

    /// Waits until all sessions have moved and the ring is stable. While a node is down that is needed, it waits; see
    /// [`Progress::stuck`].
    ///
    /// # Errors
    /// [`is_closed`](Error::is_closed): the ring was closed first. The resize is as far as it is, another process can
    /// [resume](SessionRing::resume_resize) it.
    pub async fn wait(&self) -> Result<()> {
        self.ended.clone().await
    }
}

impl PartialEq for Resize {
    fn eq(&self, other: &Resize) -> bool {
        Arc::ptr_eq(&self.reporter, &other.reporter)
    }
}

impl fmt::Debug for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resize").field("progress", &self.now()).finish_non_exhaustive()
    }
}
