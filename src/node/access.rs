//! Who we are at the nodes, and how they prove who they are. Asked at every connection, so it may change at any time.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;

use super::{Address, Credentials, Tls, redis::RedisAddress};
use crate::{
    error::{Error, ErrorKind, Result},
    ring::NodeId,
};

/// What the application said about it.
#[derive(Debug, Default)]
pub(crate) struct Access {
    given: RwLock<Given>,
    /// For nodes with TLS where nothing was said about it. Read when it is first needed.
    system: OnceLock<Result<Tls>>,
}

#[derive(Debug, Default)]
struct Given {
    tls: Option<Tls>,
    everywhere: Option<Credentials>,
    sentinels: Option<Credentials>,
    nodes: BTreeMap<NodeId, Credentials>,
    /// Nodes that the application named, with the credentials in their addresses.
    contacts: Vec<(NodeId, Address)>,
}

impl Access {
    pub(crate) fn of(contacts: Vec<(NodeId, Address)>) -> Arc<Access> {
        let given = RwLock::new(Given { contacts, ..Given::default() });
        Arc::new(Access { given, system: OnceLock::new() })
    }

    /// The nodes that the application named.
    pub(crate) fn contacts(&self) -> Vec<(NodeId, Address)> {
        self.given.read().contacts.clone()
    }

    /// Another node that the application names.
    pub(crate) fn learn(&self, id: &NodeId, address: Address) {
        let mut given = self.given.write();
        given.contacts.retain(|(known, _)| known != id);
        given.contacts.push((id.clone(), address));
    }

    /// From now on no node is reached without TLS, except inside this machine.
    pub(crate) fn set_tls(&self, tls: Tls) {
        self.given.write().tls = Some(tls);
    }

    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        self.given.write().everywhere = Some(credentials);
    }

    pub(crate) fn set_sentinel_credentials(&self, credentials: Credentials) {
        self.given.write().sentinels = Some(credentials);
    }

    pub(crate) fn set_node_credentials(&self, id: NodeId, credentials: Credentials) {
        self.given.write().nodes.insert(id, credentials);
    }

    /// How the server at this address proves who it is; `None` where nothing is encrypted.
    ///
    /// # Errors
    /// Configuration: it would have to be encrypted, or cannot be.
    pub(crate) fn tls(&self, id: &NodeId, address: &RedisAddress) -> Result<Option<Tls>> {
        let at = |error: Error| Error::at(error.kind(), id, error.message());
        match self.given.read().tls.clone() {
            tls @ Some(_) if address.is_encrypted() => Ok(tls),
            None if address.is_encrypted() => {
                self.system.get_or_init(Tls::system_roots).clone().map(Some).map_err(at)
            }
            Some(_) if address.is_plaintext() => Err(Error::at(
                ErrorKind::Configuration,
                id,
                format!(
                    "TLS was asked for, and {} is plaintext: write rediss{}:// (where the ring itself has that address, \
                     move_address tells it the new one); nothing was sent",
                    address.without_credentials(),
                    if address.has_sentinels() { "+sentinel" } else { "" }
                ),
            )),
            _ => Ok(None),
        }
    }

    /// Whether the node may be reached at this address.
    pub(crate) fn check(&self, id: &NodeId, address: &Address) -> Result<()> {
        match address {
            Address::Redis(address) => self.tls(id, address).map(drop),
            _ => Ok(()),
        }
    }

    /// Who we are at a node: what was said for that name, by `set_node_credentials` or in its address; else what was said
    /// for all; else who we are at another node of the same server, or at the first that asks for it.
    pub(crate) fn credentials(&self, id: &NodeId, address: &RedisAddress) -> Option<Credentials> {
        let given = self.given.read();
        if let Some(credentials) = given.nodes.get(id).or_else(|| address.credentials()) {
            return Some(credentials.clone());
        }
        let known = || lendable(&given, address, RedisAddress::credentials);
        let same_name = known().find(|(name, ..)| *name == id).map(|(.., credentials)| credentials);
        let same_server = || {
            known().find(|(_, other, _)| other.is_same_server(address)).map(|(.., credentials)| credentials)
        };
        let first = || known().next().map(|(.., credentials)| credentials);
        let credentials = same_name.or(given.everywhere.as_ref()).or_else(same_server).or_else(first);
        credentials.cloned()
    }
    /// Who we are to the Sentinels of a node: what stands in its address; else what was said for all Sentinels; else who we
    /// are to those of the same primary, or to the first that ask for it.
    pub(crate) fn sentinel_credentials(&self, id: &NodeId, address: &RedisAddress) -> Option<Credentials> {
        let given = self.given.read();
        let known = || lendable(&given, address, RedisAddress::sentinel_credentials);
        let same_name = || known().find(|(name, ..)| *name == id).map(|(.., credentials)| credentials);
        let same_primary =
            || known().find(|(_, other, _)| other.is_same_server(address)).map(|(.., found)| found);
        let first = || known().next().map(|(.., credentials)| credentials);
        let own = address.sentinel_credentials().or_else(same_name).or(given.sentinels.as_ref());
        own.or_else(same_primary).or_else(first).cloned()
    }
}

/// The contacts that have credentials of that kind, as far as they may be used at this address.
fn lendable<'a>(
    given: &'a Given,
    address: &'a RedisAddress,
    kind: fn(&RedisAddress) -> Option<&Credentials>,
) -> impl Iterator<Item = (&'a NodeId, &'a RedisAddress, &'a Credentials)> {
    given.contacts.iter().filter_map(move |(id, contact)| match contact {
        // What was given for an encrypted connection is shown to nobody else.
        Address::Redis(contact) if address.is_encrypted() || !contact.is_encrypted() => {
            Some((id, &**contact, kind(contact)?))
        }
        _ => None,
    })
}
