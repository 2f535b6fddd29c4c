//! Carries proposals to the nodes until something is decided.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep};

use super::{
    Decision, NodeStore, Stand, TopologyStore,
    node_store::{confused, decode_fence, of_document},
};
use crate::{
    entropy,
    error::{Error, ErrorKind, Result},
    node::ControlNode,
    protocol::{Action, Ballot, ControlReply, Ending, Proposal, Rule, Standing},
    ring::NodeId,
    topology::Document,
};

/// What came of a vote.
pub(super) enum Vote {
    Decided(Decision),
    /// Nobody had a vote.
    AllBlank,
}

/// The attempts of one proposer.
pub(super) struct Attempts {
    deadline: Instant,
    highest: Ballot,
    count: u32,
}

/// How an attempt ended, and what went wrong at which node.
pub(super) struct Attempt {
    pub(super) ending: Ending,
    pub(super) errors: BTreeMap<NodeId, Error>,
}

impl NodeStore {
    /// Has `next` decided as the document after `base`, and raises it wherever that is possible.
    pub(super) async fn decide(&self, base: &Document, next: &Document, rule: Rule) -> Result<Vote> {
        let nodes = self.nodes(base);
        let mut attempts = Attempts::within(self.patience);
        let mut begun = false;
        loop {
            let acceptors = base.members().iter().map(|member| (member.id.clone(), member.incarnation));
            let ballot = attempts.ballot()?;
            let slot = Some(base.fence());
            let proposal = Proposal::new(slot, rule.clone(), ballot, next.encode().clone(), acceptors);
            let Attempt { ending, errors } = self.carry(proposal, &nodes, Some(base)).await;
            let reason = match ending {
                Ending::Decided(bytes) => {
                    let decided = if bytes == *next.encode() { next.clone() } else { decode(&bytes)? };
                    self.raise(&decided, Some(base)).await;
                    return Ok(Vote::Decided(decision(decided, next)));
                }
                Ending::Newer(node, fence) => {
                    let loaded = self.load(Some(base)).await?;
                    match loaded.document.filter(|document| document.epoch() > base.epoch()) {
                        Some(document) => return Ok(Vote::Decided(decision(document, next))),
                        None => {
                            let message = format!("it holds {fence}, but that document cannot be loaded");
                            Error::at(ErrorKind::Unavailable, &node, message)
                        }
                    }
                }
                Ending::Outbid(ballot) => {
                    attempts.outbid(ballot);
                    Error::new(ErrorKind::Unavailable, "others are changing the ring at the same time")
                }
                Ending::Unreachable { missing, blank, .. }
                    if missing.is_empty() && blank.len() == base.members().len() =>
                {
                    return Ok(Vote::AllBlank);
                }
                Ending::Unreachable { missing, blank, begun: voted } => {
                    begun |= voted;
                    let error = no_quorum(&rule, base.members().len(), &missing, &blank, &errors);
                    if !begun {
                        return Err(error);
                    }
                    error
                }
                Ending::Other(_) => unreachable!("only a founding has members of its own"),
            };
            if !attempts.pause().await? {
                return Err(gave_up(begun, &reason));
            }
        }
    }

    /// The members of a document, as the control plane reaches them.
    pub(super) fn nodes(&self, document: &Document) -> BTreeMap<NodeId, Result<Arc<ControlNode>>> {
        let members = document.members().iter();
        members.map(|member| (member.id.clone(), self.node(&member.id, &member.address))).collect()
    }

    /// Carries one attempt to its end. `before` is the document that the decision follows: whoever is behind is raised
    /// to it.
    pub(super) async fn carry(
        &self,
        mut proposal: Proposal,
        nodes: &BTreeMap<NodeId, Result<Arc<ControlNode>>>,
        before: Option<&Document>,
    ) -> Attempt {
        enum Done {
            Answered(Result<ControlReply>),
            Raised(Stand),
        }
        let perform = |action| async move {
            match action {
                Action::Send(id, control) => {
                    let answer = match nodes.get(&id) {
                        Some(Ok(node)) => node.call(control).await,
                        Some(Err(error)) => Err(error.clone()),
                        None => Err(confused(&id)),
                    };
                    (id, Done::Answered(answer))
                }
                Action::Raise(id) => {
                    let stand = match before {
                        Some(before) => self.raise_node(before, &id).await,
                        None => Stand::Lost,
                    };
                    (id, Done::Raised(stand))
                }
            }
        };
        let mut errors = BTreeMap::new();
        let mut under_way: FuturesUnordered<_> = proposal.begin().into_iter().map(perform).collect();
        let ending = loop {
            if let Some(ending) = proposal.ending() {
                break ending.clone();
            }
            let Some((id, done)) = under_way.next().await else {
                // Every action is answered, and the last answer ends it.
                break Ending::Unreachable { missing: Vec::new(), blank: Vec::new(), begun: true };
            };
            let actions = match done {
                Done::Answered(Ok(reply)) => {
                    if let ControlReply::Refused(standing) = &reply
                        && let Some(error) = foreign(&id, standing, self.directory.ring())
                    {
                        errors.insert(id.clone(), error);
                    }
                    proposal.reply(&id, &reply)
                }
                Done::Raised(Stand::Obeys) => proposal.raised(&id),
                Done::Answered(Err(error)) | Done::Raised(Stand::Unreachable(error)) => {
                    errors.insert(id.clone(), error);
                    proposal.failed(&id)
                }
                Done::Raised(stand) => {
                    let message = format!("it could not be brought up to date: {stand}");
                    errors.insert(id.clone(), Error::at(ErrorKind::Unavailable, &id, message));
                    proposal.failed(&id)
                }
            };
            under_way.extend(actions.into_iter().map(perform));
        };
        Attempt { ending, errors }
    }
}

impl Attempts {
    pub(super) fn within(patience: Duration) -> Attempts {
        Attempts { deadline: Instant::now() + patience, highest: Ballot::default(), count: 0 }
    }

    /// A ballot that nobody else has, beyond all that have been seen.
    pub(super) fn ballot(&mut self) -> Result<Ballot> {
        self.highest = self.highest.beyond(entropy::u64()?);
        Ok(self.highest)
    }

    pub(super) fn outbid(&mut self, ballot: Ballot) {
        self.highest = self.highest.max(ballot);
    }

    /// Waits for a random while, longer from attempt to attempt. `false` if there is no time for another one.
    pub(super) async fn pause(&mut self) -> Result<bool> {
        let most = 10u64 << self.count.min(6);
        self.count += 1;
        let pause = Duration::from_millis(1 + entropy::u64()? % most);
        if Instant::now() + pause >= self.deadline {
            return Ok(false);
        }
        sleep(pause).await;
        Ok(true)
    }
}

fn decision(decided: Document, proposed: &Document) -> Decision {
    if decided == *proposed { Decision::Own } else { Decision::Other(decided) }
}

pub(super) fn decode(bytes: &Bytes) -> Result<Document> {
    Document::decode(bytes).map_err(|error| of_document(None, &error))
}

/// Why a node has no part in this ring, if it has none.
fn foreign(id: &NodeId, standing: &Standing, ring: &str) -> Option<Error> {
    match decode_fence(id, standing.fence.as_deref()?) {
        Err(error) => Some(error),
        Ok(fence) if !fence.is_of(ring) => {
            Some(Error::at(ErrorKind::Configuration, id, format!("it belongs to another ring ({fence})")))
        }
        Ok(fence) => Some(Error::at(ErrorKind::Configuration, id, format!("it holds {fence}"))),
    }
}

fn no_quorum(
    rule: &Rule,
    acceptors: usize,
    missing: &[NodeId],
    blank: &[NodeId],
    errors: &BTreeMap<NodeId, Error>,
) -> Error {
    let needed = match rule {
        Rule::All => "needs every node".to_owned(),
        Rule::AllBut(_) => "needs every node that is not being forgotten".to_owned(),
        _ => format!("needs {} of {acceptors} nodes", acceptors / 2 + 1),
    };
    let mut reasons: Vec<String> = missing
        .iter()
        .map(|id| errors.get(id).map_or_else(|| format!("node {id} has no part in it"), Error::to_string))
        .collect();
    reasons.extend(blank.iter().map(|id| format!("node {id} has lost its memory")));
    let message = format!("changing the ring {needed}: {}; nothing was changed", reasons.join("; "));
    Error::new(ErrorKind::Unavailable, message)
}

pub(super) fn gave_up(begun: bool, reason: &Error) -> Error {
    if begun {
        let message = format!("whether the ring was changed is unknown, look again ({reason})");
        return Error::new(ErrorKind::Indeterminate, message);
    }
    Error::new(ErrorKind::Unavailable, format!("nothing was decided in time ({reason}); try again"))
}
