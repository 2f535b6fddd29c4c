use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::{Decision, Loaded, StoreFuture, TopologyStore, decision::Vote};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{ControlNode, Directory},
    protocol::{Control, ControlReply, Rule, Standing},
    ring::NodeId,
    topology::{Document, DocumentError, Fence, FenceError, PROTOCOL_VERSION},
};

/// The nodes keep the document and decide the next one.
pub(crate) struct NodeStore {
    pub(super) directory: Arc<Directory>,
    /// How long a decision may take.
    pub(super) patience: Duration,
}

/// A node, and where it is.
type Contact = (NodeId, String);

/// What a node was found to hold.
pub(super) enum Found {
    Blank,
    Document(Document),
}

impl NodeStore {
    /// A store over the nodes of a directory; a decision may take as long as `patience`, one command as long as the
    /// directory says.
    pub(crate) fn new(directory: Arc<Directory>, patience: Duration) -> NodeStore {
        NodeStore { directory, patience }
    }

    pub(super) fn node(&self, id: &NodeId, address: &str) -> Result<Arc<ControlNode>> {
        self.directory.control(id, address)
    }

    /// What each of these nodes holds. Nodes that obey the same document are asked for it once, so that many nodes cost a
    /// process that starts no more than one document; and for a known one not at all.
    async fn ask(&self, places: Vec<Contact>, known: Option<&Document>) -> Vec<(Contact, Result<Found>)> {
        let looked = join_all(places.into_iter().map(|place| async move {
            let standing = match self.node(&place.0, &place.1) {
                Ok(node) => node.look().await,
                Err(error) => Err(error),
            };
            (place, standing)
        }));
        let mut found = Vec::new();
        let mut holders: BTreeMap<Vec<u8>, Vec<Contact>> = BTreeMap::new();
        for (place, standing) in looked.await {
            match standing {
                Err(error) => found.push((place, Err(error))),
                Ok(Standing { fence: None, .. }) => found.push((place, Ok(Found::Blank))),
                Ok(standing) => match known.filter(|known| standing.obeys(&known.fence())) {
                    Some(known) => found.push((place, Ok(Found::Document(known.clone())))),
                    None => holders.entry(standing.fence.unwrap_or_default()).or_default().push(place),
                },
            }
        }
        let loaded = join_all(holders.into_iter().map(|(fence, holders)| self.load_once(fence, holders)));
        found.extend(loaded.await.into_iter().flatten());
        found
    }

    /// What the holders of a fence hold: the document that it names, from the first that has it.
    async fn load_once(&self, fence: Vec<u8>, holders: Vec<Contact>) -> Vec<(Contact, Result<Found>)> {
        let mut found = Vec::with_capacity(holders.len());
        let mut document: Option<Document> = None;
        for place in holders {
            let answer = match &document {
                Some(document) => Ok(Found::Document(document.clone())),
                None => self.load_at(&place).await,
            };
            if let Ok(Found::Document(found)) = &answer
                && found.fence().encode() == *fence
            {
                document = Some(found.clone());
            }
            found.push((place, answer));
        }
        found
    }

    async fn load_at(&self, (id, address): &Contact) -> Result<Found> {
        let (standing, bytes) = self.node(id, address)?.load().await?;
        self.found_at(id, &standing, bytes.as_deref())
    }

    /// What a node holds, if it is of this ring and whole.
    fn found_at(&self, id: &NodeId, standing: &Standing, bytes: Option<&[u8]>) -> Result<Found> {
        let Some(stored) = &standing.fence else { return Ok(Found::Blank) };
        let fence = decode_fence(id, stored)?;
        if !fence.is_of(self.directory.ring()) {
            let message = format!("it belongs to another ring (it holds {fence}); check the ring's name");
            return Err(Error::at(ErrorKind::Configuration, id, message));
        }
        let Some(bytes) = bytes else {
            let message = "it has a fence and no document: an early version of sessionring used it, or somebody \
                           removed the key; empty the node, or remove the key of the fence, to use it";
            return Err(Error::at(ErrorKind::Configuration, id, message));
        };
        let document = Document::decode(bytes).map_err(|error| of_document(Some(id), &error))?;
        if document.fence() != fence {
            let message = format!("its document is not the one that its fence names ({fence})");
            return Err(Error::at(ErrorKind::Corrupt, id, message));
        }
        Ok(Found::Document(document))
    }

    /// Asks the contact points, the members of what is known, and those of what is found, until nothing newer is.
    async fn search(&self, known: Option<&Document>) -> Result<Loaded> {
        let mut newest: Option<(Document, Option<NodeId>)> = known.map(|known| (known.clone(), None));
        let mut answers: BTreeMap<Contact, Result<Found>> = BTreeMap::new();
        loop {
            let contacts = self.directory.contacts().into_iter();
            let members = newest.iter().flat_map(|(document, _)| document.members());
            let members = members.map(|member| (member.id.clone(), member.address.clone()));
            let places = contacts.chain(members).filter(|at| !answers.contains_key(at));
            let unasked: Vec<Contact> = places.collect::<BTreeSet<_>>().into_iter().collect();
            if unasked.is_empty() {
                break;
            }
            let known = newest.as_ref().map(|(document, _)| document.clone());
            for ((id, address), found) in self.ask(unasked, known.as_ref()).await {
                match &found {
                    Ok(Found::Document(document)) => newer(&mut newest, document, &id)?,
                    // Whatever else is there, this application must not work on the ring.
                    Err(error) if error.is_upgrade_required() => return Err(error.clone()),
                    _ => {}
                }
                answers.insert((id, address), found);
            }
        }
        let document = newest.map(|(document, _)| document);
        Ok(self.summary(document, answers))
    }

    /// What is to be said of each node: a member is where the document says.
    fn summary(&self, document: Option<Document>, answers: BTreeMap<Contact, Result<Found>>) -> Loaded {
        let mut loaded = Loaded::of(document);
        for ((id, address), answer) in answers {
            let member = loaded.document.as_ref().and_then(|document| document.member(&id));
            if member.is_some_and(|(_, member)| member.address != address) {
                continue;
            }
            match answer {
                Ok(Found::Blank) => loaded.blank.push(id),
                Ok(Found::Document(_)) => {}
                Err(error) => loaded.unreachable.push((id, error)),
            }
        }
        loaded
    }
}

impl TopologyStore for NodeStore {
    fn load<'a>(&'a self, known: Option<&'a Document>) -> StoreFuture<'a, Loaded> {
        Box::pin(self.search(known))
    }

    fn propose<'a>(&'a self, base: &'a Document, next: Document) -> StoreFuture<'a, Decision> {
        Box::pin(async move {
            match self.decide(base, &next, Rule::Majority).await? {
                Vote::Decided(decision) => Ok(decision),
                Vote::AllBlank => Err(Error::new(
                    ErrorKind::Unavailable,
                    "all nodes of the ring have lost their memories, so nobody has a vote; connecting again founds \
                     the ring anew",
                )),
            }
        })
    }
}

/// Keeps the later one of two documents. Two of one epoch are two rings under one name.
fn newer(newest: &mut Option<(Document, Option<NodeId>)>, found: &Document, at: &NodeId) -> Result<()> {
    match newest {
        Some((best, _)) if best.epoch() > found.epoch() || best == found => {}
        Some((best, holder)) if best.epoch() == found.epoch() => {
            let holder = holder.as_ref().map_or("this application".to_owned(), |id| format!("node {id}"));
            let message = format!(
                "it holds {}, but {holder} holds {}: two rings were founded under one name; nothing was changed",
                found.fence(),
                best.fence()
            );
            return Err(Error::at(ErrorKind::Configuration, at, message));
        }
        _ => *newest = Some((found.clone(), Some(at.clone()))),
    }
    Ok(())
}

pub(super) fn decode_fence(id: &NodeId, stored: &[u8]) -> Result<Fence> {
    Fence::decode(stored).map_err(|error| match error {
        FenceError::NewerProtocol(protocol) => Error::at(
            ErrorKind::UpgradeRequired,
            id,
            format!(
                "the ring speaks protocol {protocol}, this version of sessionring speaks {PROTOCOL_VERSION}; upgrade \
                 this application; nothing was changed"
            ),
        ),
        FenceError::Corrupt(_) => Error::at(
            ErrorKind::Configuration,
            id,
            "its fence is not one of sessionring's: something else wrote to that key; remove the key by hand",
        ),
    })
}

/// What is wrong with a document; stored at a node, or about to be proposed.
pub(super) fn of_document(at: Option<&NodeId>, error: &DocumentError) -> Error {
    let kind = match error {
        DocumentError::NewerProtocol(_) | DocumentError::Newer { .. } => ErrorKind::UpgradeRequired,
        DocumentError::Damaged { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Configuration,
    };
    match at {
        Some(id) => Error::at(kind, id, error.to_string()),
        None => Error::new(kind, error.to_string()),
    }
}

pub(super) fn confused(id: &NodeId) -> Error {
    Error::at(ErrorKind::Unavailable, id, "the node answered another question than it was asked")
}
