//! What a client looks at before it uses a connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::keeper::Keeper;
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Condition, Gate, Hello, Link, Look, check_owner, refused},
    protocol::{Control, ControlReply, Standing},
    ring::NodeId,
    telemetry::{self, NodeMeters},
    topology::{DocumentMember, Verdict},
};

/// Both sides may move on while they compare; after so many rounds something is wrong.
const ROUNDS: usize = 8;

/// Connections of the control plane that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(10);

/// The gate of one node's connections.
#[derive(Clone)]
pub(crate) struct KeeperGate {
    keeper: Weak<Keeper>,
    node: NodeId,
    address: Arc<str>,
    meters: NodeMeters,
}

impl KeeperGate {
    pub(crate) fn new(keeper: Weak<Keeper>, member: &DocumentMember) -> KeeperGate {
        KeeperGate {
            keeper,
            node: member.id.clone(),
            address: member.address.as_str().into(),
            meters: NodeMeters::none(),
        }
    }

    /// The same for the handle that requests use.
    pub(crate) fn counted(self, meters: NodeMeters) -> KeeperGate {
        KeeperGate { meters, ..self }
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.node
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn look<L: Link>(&self, link: &L) -> Result<Standing> {
        match self.control(link, Control::Look).await? {
            ControlReply::Standing(standing) => Ok(standing),
            _ => Err(self.confused()),
        }
    }

    async fn control<L: Link>(&self, link: &L, control: Control) -> Result<ControlReply> {
        link.clone().control(control).await.map_err(|failure| failure.into_error())
    }

    fn confused(&self) -> Error {
        Error::at(ErrorKind::Configuration, &self.node, "the node answered what was not asked")
    }
}

impl<L: Link> Gate<L> for KeeperGate {
    async fn admit(&self, link: &L, hello: &Hello) -> Result<()> {
        let Some(keeper) = self.keeper.upgrade() else { return Err(gone(&self.node)) };
        let admitted = keeper.directory().clocks().admit(&self.node, hello.reading);
        admitted.inspect_err(|_| telemetry::warned(&self.node, "clock"))?;
        check_owner(&self.node, &hello.standing)?;
        if !keeper.knows(&self.node, hello.process) {
            // A server that was restarted from an old copy of its data, or a replica that was promoted, may hold
            // an old fence. So what the others know is looked at first, as far as they can be asked.
            let _ = keeper.catch_up().await;
            keeper.remember(&self.node, hello.process);
        }
        let mut standing = hello.standing.clone();
        for round in 0..ROUNDS {
            let document = keeper.document();
            let Some((_, member)) = document.member(&self.node) else { return Err(gone(&self.node)) };
            keeper.believes(&document, member, hello.process)?;
            let fence = document.fence();
            match fence.judge(standing.fence.as_deref()) {
                Verdict::Accepted if standing.incarnation == Some(member.incarnation) => return Ok(()),
                Verdict::Stale(_) => match self.control(link, Control::Load).await? {
                    ControlReply::Loaded(now, document) => {
                        keeper.adopt_from(&self.node, &now, document.as_deref())?;
                        standing = now;
                    }
                    _ => return Err(self.confused()),
                },
                // A fence is given to one memory alone, but the greeting was not read in one moment.
                Verdict::Accepted if round == 0 => standing = self.look(link).await?,
                Verdict::Accepted => return Err(of_another_memory(&self.node)),
                Verdict::Behind(_) | Verdict::Uninitialised => {
                    keeper.bring_up(&self.node, &document).await?;
                    standing = self.look(link).await?;
                }
                _ => return Err(refused(&self.node, &fence, standing.fence.as_deref())),
            }
        }
        Err(Error::at(ErrorKind::Unavailable, &self.node, "the ring changes faster than the node can follow"))
    }

    fn noticed(&self, look: Look) -> Result<()> {
        if let Some(keeper) = self.keeper.upgrade() {
            let clocks = keeper.directory().clocks();
            clocks
                .look_again(&self.node, look.reading)
                .inspect_err(|_| telemetry::warned(&self.node, "clock"))?;
            keeper.settle_soon(&self.node, look.fence);
            keeper.directory().rest(IDLE);
        }
        Ok(())
    }

    fn turned(&self, condition: &Condition) {
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.announce(condition);
        }
    }

    fn meters(&self) -> NodeMeters {
        self.meters.clone()
    }

    fn unreachable(&self) {
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.catch_up_soon();
        }
    }
}

/// Lets everybody in.
#[derive(Clone)]
pub(crate) struct OpenGate;

impl<L: Link> Gate<L> for OpenGate {
    async fn admit(&self, _: &L, _: &Hello) -> Result<()> {
        Ok(())
    }

    fn noticed(&self, _: Look) -> Result<()> {
        Ok(())
    }

    fn turned(&self, _: &Condition) {}

    fn unreachable(&self) {}
}

fn gone(node: &NodeId) -> Error {
    Error::at(ErrorKind::Unavailable, node, "the node has left the ring")
}

fn of_another_memory(node: &NodeId) -> Error {
    let message = "its topology was given to another memory: something else wrote to its key sessionring:RING:incarnation; \
                   readmit it (SessionRing::readmit)";
    Error::at(ErrorKind::Configuration, node, message)
}

#[cfg(test)]
mod tests {
    use crate::{client::SessionRing, node::MemoryServer, resize::Returning};

    #[tokio::test]
    async fn the_right_fence_on_another_memory_lets_nobody_in() {
        for strict in [false, true] {
            let address = format!("memory:of-another-memory-{strict}");
            let builder = SessionRing::builder().node("a", &address);
            let ring = if strict { builder.strict() } else { builder }.connect().await.unwrap();
            ring.reconnect().await.unwrap();
            MemoryServer::named(&address["memory:".len()..])
                .meddle(ring.name(), |charter| charter.standing.incarnation = Some(1));
            let error = ring.reconnect().await.unwrap_err();
            assert!(error.is_configuration() && error.to_string().contains(":incarnation"), "{error}");
            ring.readmit("a", Returning::Discard).await.unwrap();
            ring.reconnect().await.unwrap();
        }
    }
}
