//! What it means that a node is not this ring's, or not at its epoch.

use crate::{
    error::{Error, ErrorKind, Result},
    protocol::Standing,
    ring::NodeId,
    topology::{Fence, PROTOCOL_VERSION, Verdict},
};

/// Makes sure that the database belongs to this node, or to none yet.
pub(crate) fn check_owner(id: &NodeId, standing: &Standing) -> Result<()> {
    match &standing.owner {
        Some(owner) if owner != id.as_str() => Err(Error::at(
            ErrorKind::Configuration,
            id,
            format!(
                "its database belongs to node {owner} already; every node needs a database of its own (if the node \
                 was renamed on purpose, delete its key sessionring:RING:node)"
            ),
        )),
        _ => Ok(()),
    }
}

/// The error for a node that obeys another fence.
pub(crate) fn refused(id: &NodeId, fence: &Fence, stored: Option<&[u8]>) -> Error {
    let configuration = |message: String| Error::at(ErrorKind::Configuration, id, message);
    match fence.judge(stored) {
        Verdict::UpgradeRequired(protocol) => Error::at(
            ErrorKind::UpgradeRequired,
            id,
            format!(
                "the ring speaks protocol {protocol}, this version of sessionring speaks {}; upgrade this \
                 application; nothing was changed",
                PROTOCOL_VERSION
            ),
        ),
        Verdict::Foreign(other) if other.cluster == fence.cluster => configuration(format!(
            "it belongs to this ring with other members, weights or placement (it holds {other}, this \
             application has {fence}): give every application the same node list, and start this one again if \
             the servers lost their memories and the ring was founded anew; nothing was changed"
        )),
        Verdict::Foreign(other) => configuration(format!(
            "it belongs to another ring (it holds {other}, this application has {fence}); check the address \
             and the ring's name; nothing was changed"
        )),
        Verdict::Stale(epoch) | Verdict::Behind(epoch) => configuration(format!(
            "it is at epoch {epoch}, this application at {}; connect again; nothing was changed",
            fence.epoch
        )),
        Verdict::Uninitialised => Error::at(
            ErrorKind::Unavailable,
            id,
            "the node lost its memory and could not be initialised again; nothing was changed",
        ),
        Verdict::Corrupt | Verdict::Accepted => configuration(
            "its fence is not one of sessionring's: something else wrote to that key; remove the key by hand; \
             nothing was changed"
                .into(),
        ),
    }
}
