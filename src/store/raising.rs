//! Makes nodes obey a document that was decided.
//!
//! A node that obeys an older document is raised at once. A *blank* one is initialised only after every node that
//! shares a moving token with it has been raised: otherwise a late copy, made under the old document, could land beside
//! the new emptiness. A node that joins with this very document has no old copies to fear.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use futures_util::future::join_all;

use super::{NodeStore, node_store::confused};
use crate::{
    error::{Error, ErrorKind},
    node::ControlNode,
    protocol::{Control, ControlReply, Standing},
    ring::NodeId,
    topology::{Document, DocumentMember, Fence},
};

/// Where a node stands towards a document.
#[derive(Debug, Clone)]
pub(crate) enum Stand {
    /// It obeys it, or a later one.
    Obeys,
    /// It is empty, and not the memory that the document names: it must be readmitted.
    Lost,
    /// It is empty, and initialised only after this node was raised.
    Waits(NodeId),
    /// Its database belongs to another node, or another ring.
    Foreign(Error),
    /// It cannot be asked.
    Unreachable(Error),
}

/// Where each node stands.
#[derive(Debug, Clone)]
pub(crate) struct Raised(pub(crate) BTreeMap<NodeId, Stand>);

impl Raised {
    /// Whether this node obeys the document.
    pub(crate) fn obeys(&self, node: &NodeId) -> bool {
        matches!(self.0.get(node), Some(Stand::Obeys))
    }
}

/// A node and what is to be raised there.
struct Target<'a> {
    document: &'a Document,
    member: &'a DocumentMember,
    node: Result<Arc<ControlNode>, Error>,
}

/// What a first look says.
enum Seen {
    Stands(Stand),
    /// It can be initialised.
    Blank,
    /// It is empty, and not the memory that the document names.
    Emptied,
}

impl NodeStore {
    /// Raises every member of a document that can be raised; and of the one before, those that have left, so that
    /// nobody works on under that one.
    pub(crate) async fn raise(&self, document: &Document, before: Option<&Document>) -> Raised {
        let left = before.into_iter().flat_map(Document::members);
        let stays = |was: &DocumentMember| {
            document.member(&was.id).is_some_and(|(_, member)| member.address == was.address)
        };
        // First those: nobody is to write at an address that was left when others do at the new one.
        let left: Vec<_> = left.filter(|was| !stays(was)).map(|was| self.target(document, was)).collect();
        let left = self.raise_targets(left).await;
        let members = document.members().iter().map(|member| self.target(document, member)).collect();
        let mut raised = self.raise_targets(members).await;
        for (id, stand) in left.0 {
            raised.0.entry(id).or_insert(stand);
        }
        raised
    }

    /// Raises one member, and those that must be raised before it.
    pub(crate) async fn raise_node(&self, document: &Document, id: &NodeId) -> Stand {
        let Some((index, member)) = document.member(id) else { return Stand::Lost };
        let target = self.target(document, member);
        match target.look().await {
            Seen::Stands(stand) => stand,
            Seen::Emptied => Stand::Lost,
            Seen::Blank => {
                let partners =
                    document.partners(index).into_iter().map(|partner| &document.members()[partner.get()]);
                let members = partners.chain([member]);
                let targets = members.map(|member| self.target(document, member)).collect();
                self.raise_targets(targets).await.0.remove(id).unwrap_or(Stand::Lost)
            }
        }
    }

    async fn raise_targets(&self, targets: Vec<Target<'_>>) -> Raised {
        let seen = join_all(targets.iter().map(Target::look)).await;
        let mut stands = BTreeMap::new();
        let (mut blank, mut emptied) = (Vec::new(), BTreeSet::new());
        for (target, seen) in targets.iter().zip(seen) {
            match seen {
                Seen::Stands(stand) => drop(stands.insert(target.member.id.clone(), stand)),
                Seen::Blank => blank.push(target),
                Seen::Emptied => {
                    stands.insert(target.member.id.clone(), Stand::Lost);
                    emptied.insert(target.member.id.clone());
                }
            }
        }
        let has_no_fence =
            |id: &NodeId| emptied.contains(id) || blank.iter().any(|target| target.member.id == *id);
        let ready = blank.iter().map(|target| async {
            // Where a partner is blank, too, it has no fence under which anything old could land. If it waited for
            // one that has to be readmitted, whose readmission may need its vote, neither would ever come back.
            let missing = target
                .partners()
                .find(|id| !matches!(stands.get(id), Some(Stand::Obeys)) && !has_no_fence(id));
            let stand = match missing {
                Some(partner) if target.member.rejoined => Stand::Waits(partner),
                _ => target.raise().await,
            };
            (target.member.id.clone(), stand)
        });
        let initialised = join_all(ready).await;
        stands.extend(initialised);
        Raised(stands)
    }

    fn target<'a>(&self, document: &'a Document, member: &'a DocumentMember) -> Target<'a> {
        Target { document, member, node: self.node(&member.id, &member.address) }
    }
}

impl Target<'_> {
    /// Looks where the node stands, and raises it unless it is blank.
    async fn look(&self) -> Seen {
        let node = match &self.node {
            Ok(node) => node,
            Err(error) => return Seen::Stands(Stand::Unreachable(error.clone())),
        };
        let standing = match node.call(Control::Look).await {
            Ok(ControlReply::Standing(standing)) => standing,
            Ok(_) => return Seen::Stands(Stand::Unreachable(confused(&self.member.id))),
            Err(error) => return Seen::Stands(Stand::Unreachable(error)),
        };
        match self.judge(&standing) {
            Some(Stand::Lost) if standing.fence.is_none() => Seen::Emptied,
            Some(stand) => Seen::Stands(stand),
            None if standing.fence.is_none() => Seen::Blank,
            None => Seen::Stands(self.raise().await),
        }
    }

    /// `None` if the node may be raised.
    fn judge(&self, standing: &Standing) -> Option<Stand> {
        let (id, fence) = (&self.member.id, self.document.fence());
        let foreign = |message: String| Stand::Foreign(Error::at(ErrorKind::Configuration, id, message));
        if !standing.may_be(id.as_str()) {
            let owner = standing.owner.as_deref().unwrap_or_default();
            return Some(foreign(format!("its database belongs to node {owner}")));
        }
        let is_this_memory = standing.incarnation == Some(self.member.incarnation);
        let Some(stored) = &standing.fence else {
            return if is_this_memory { None } else { Some(Stand::Lost) };
        };
        match Fence::decode(stored) {
            Err(error) => Some(foreign(error.to_string())),
            Ok(stored) if stored == fence => Some(Stand::Obeys),
            Ok(stored) if stored.cluster != fence.cluster => Some(foreign(format!("it holds {stored}"))),
            Ok(stored) if stored.epoch > fence.epoch => Some(Stand::Obeys),
            Ok(stored) if stored.epoch == fence.epoch => Some(foreign(format!("it holds {stored}"))),
            Ok(_) => {
                if is_this_memory {
                    None
                } else {
                    Some(Stand::Lost)
                }
            }
        }
    }

    async fn raise(&self) -> Stand {
        let (id, node) = match &self.node {
            Ok(node) => (&self.member.id, node),
            Err(error) => return Stand::Unreachable(error.clone()),
        };
        let raise = Control::Raise {
            name: id.as_str().to_owned(),
            fence: self.document.fence(),
            document: self.document.encode().clone(),
            incarnation: self.member.incarnation,
        };
        match node.call(raise).await {
            Ok(ControlReply::Standing(standing)) => self.judge(&standing).unwrap_or(Stand::Lost),
            Ok(_) => Stand::Unreachable(confused(id)),
            Err(error) => Stand::Unreachable(error),
        }
    }

    fn partners(&self) -> impl Iterator<Item = NodeId> {
        let members = self.document.members();
        let index = self.document.member(&self.member.id).map(|(index, _)| index);
        let partners = index.map(|index| self.document.partners(index)).unwrap_or_default();
        partners.into_iter().map(|partner| members[partner.get()].id.clone())
    }
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stand::Obeys => f.write_str("it is up to date"),
            Stand::Lost => f.write_str("it has lost its memory and has to be readmitted"),
            Stand::Waits(node) => write!(f, "it has to wait until node {node} was reached"),
            Stand::Foreign(error) | Stand::Unreachable(error) => write!(f, "{}", error.message()),
        }
    }
}
