//! Where the nodes come from, what a look into them shows, and cleaning up.
//!
//! An application needs none of this: it names its servers and uses the ring.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use redis::{AsyncConnectionConfig, IntoConnectionInfo, aio::MultiplexedConnection};
use sessionring::record::{Key, Keyspace};
use sessionring_testkit::{RedisServer, find_server};

use crate::{Result, login};

/// The nodes of the demo.
pub(crate) struct Servers {
    /// The members of the ring.
    nodes: Vec<Node>,
    /// Joins the ring later.
    spare: Option<Node>,
    /// No members any more.
    gone: Vec<Node>,
    origin: Origin,
    ring_name: String,
    keyspace: Keyspace,
}

/// Whose servers they are.
enum Origin {
    /// Started here; each is ended, and its folder removed, when it is dropped.
    Own(Vec<RedisServer>),
    /// Named in `NODES`.
    Yours,
    /// Inside this process, since no server program is installed.
    Memory,
}

pub(crate) struct Node {
    name: String,
    address: String,
}

impl Node {
    fn new(position: usize, address: impl Into<String>) -> Node {
        Node { name: name(position), address: address.into() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Without user and password.
    fn place(&self) -> String {
        match self.address.as_str().into_connection_info() {
            _ if self.is_memory() => "in this process".into(),
            Ok(info) => info.addr().to_string(),
            Err(_) => "?".into(),
        }
    }

    fn is_memory(&self) -> bool {
        self.address.starts_with("memory:")
    }

    /// A connection of the plain driver; `None` to a memory node.
    async fn look(&self) -> Result<Option<MultiplexedConnection>> {
        if self.is_memory() {
            return Ok(None);
        }
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        let client = redis::Client::open(self.address.as_str())?;
        Ok(Some(client.get_multiplexed_async_connection_with_config(&patient).await?))
    }
}

/// a, b, …, z, n27, n28, …
fn name(position: usize) -> String {
    match ('a'..='z').nth(position) {
        Some(letter) => letter.into(),
        None => format!("n{}", position + 1),
    }
}

impl Servers {
    /// Those of `NODES`, or else four of our own, or else four in memory. Of four or more the last joins later.
    pub(crate) fn from_environment() -> Result<Servers> {
        // A name that no other ring has, so that this one cannot be in anybody's way. Should the demo be killed while
        // it works on your servers, its sessions expire, and a few keys stay: `sessionring:sessionring-demo-…`.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let ring_name = format!("sessionring-demo-{:x}-{:x}", std::process::id(), now.as_nanos());
        let yours = std::env::var("NODES").unwrap_or_default();
        let (origin, addresses): (_, Vec<String>) = if !yours.trim().is_empty() {
            (Origin::Yours, yours.split_whitespace().map(str::to_owned).collect())
        } else if find_server().is_some() {
            let started: std::result::Result<Vec<_>, _> = (0..4).map(|_| RedisServer::start()).collect();
            let servers = started?;
            let addresses: Vec<_> = servers.iter().map(RedisServer::address).collect();
            (Origin::Own(servers), addresses)
        } else {
            // With a name, such a node is one and the same to all who use it.
            (Origin::Memory, (0..4).map(|at| format!("memory:{ring_name}-{at}")).collect())
        };
        let nodes = addresses.into_iter().enumerate();
        let mut nodes: Vec<Node> = nodes.map(|(at, address)| Node::new(at, address)).collect();
        let spare = if nodes.len() > 3 { nodes.pop() } else { None };
        Ok(Servers {
            nodes,
            spare,
            gone: Vec::new(),
            origin,
            keyspace: Keyspace::new(&ring_name, login::NAMESPACE),
            ring_name,
        })
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that is to join.
    pub(crate) fn spare(&self) -> Option<&Node> {
        self.spare.as_ref()
    }

    /// The node that was to join is a member.
    pub(crate) fn joined(&mut self) {
        self.nodes.extend(self.spare.take());
    }

    /// The first node is no member any more. If it is a server of our own it ends here; says so.
    pub(crate) fn first_has_left(&mut self) -> Option<String> {
        let node = self.nodes.remove(0);
        let said = match &mut self.origin {
            Origin::Own(servers) => {
                servers.retain(|server| server.address() != node.address);
                Some(format!("The server of {} was switched off.", node.name))
            }
            Origin::Yours | Origin::Memory => None,
        };
        self.gone.push(node);
        said
    }

    /// The name of a node that is not there yet.
    pub(crate) fn next_name(&self) -> String {
        name(self.nodes.len())
    }

    pub(crate) fn ring_name(&self) -> &str {
        &self.ring_name
    }

    /// Makes the keys of the demo's sessions, to find them at the servers.
    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn title(&self) -> &'static str {
        match self.origin {
            Origin::Own(_) => "Redis servers of its own, on free ports and in temporary folders",
            Origin::Yours => "Your servers, from NODES",
            Origin::Memory => {
                "memory: nodes in this process, since no Redis or Valkey server program was found\n\
                 (`make server` installs one, REDIS_SERVER=/path/to/redis-server names one)"
            }
        }
    }

    pub(crate) fn list(&self) -> String {
        let line = |node: &Node| format!("{}  {}\n", node.name, node.place());
        let mut list: String = self.nodes.iter().map(line).collect();
        if let Some(spare) = &self.spare {
            list += "and to join them later\n";
            list += &line(spare);
        }
        list
    }

    /// `used_memory` of each server; `None` for a memory node.
    pub(crate) async fn used_memory(&self) -> Result<Vec<Option<u64>>> {
        let mut used = Vec::new();
        for node in &self.nodes {
            used.push(match node.look().await? {
                Some(mut server) => {
                    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut server).await?;
                    let field = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
                    field.and_then(|bytes| bytes.trim().parse().ok())
                }
                None => None,
            });
        }
        Ok(used)
    }

    /// The keys of the demo's sessions, as each server lists them; `None` for a memory node.
    pub(crate) async fn held(&self) -> Result<Vec<Option<HashSet<Key>>>> {
        let mut held = Vec::new();
        for node in &self.nodes {
            held.push(match node.look().await? {
                Some(mut server) => {
                    let keys = scan(&mut server, self.keyspace.prefix()).await?;
                    Some(keys.iter().filter_map(|key| Key::parse(key)).collect())
                }
                None => None,
            });
        }
        Ok(held)
    }

    /// Ends our own servers; removes from yours what the demo put there, and nothing else. Says what it did.
    pub(crate) async fn clean_up(self) -> Result<String> {
        match self.origin {
            Origin::Own(servers) => {
                let count = servers.len();
                drop(servers);
                Ok(format!("{count} servers ended, their folders removed"))
            }
            Origin::Memory => Ok("the memory nodes end with the process".into()),
            Origin::Yours => {
                // A node that cannot be cleaned must not keep the others from it.
                let (mut removed, mut failed) = (0, None);
                for node in self.nodes.iter().chain(&self.spare).chain(&self.gone) {
                    match self.remove_from(node).await {
                        Ok(keys) => removed += keys,
                        Err(error) => failed = failed.or(Some((node.name.clone(), error))),
                    }
                }
                match failed {
                    None => Ok(format!("{removed} keys of the demo removed from your servers")),
                    Some((name, error)) => {
                        Err(format!("node {name} could not be cleaned up: {error}").into())
                    }
                }
            }
        }
    }

    /// Removes sessions and what is remembered of log-outs, then what the ring wrote about itself.
    async fn remove_from(&self, node: &Node) -> Result<usize> {
        let Some(mut server) = node.look().await? else { return Ok(0) };
        let about_itself = format!("sessionring:{}:", self.ring_name);
        let mut removed = 0;
        for prefix in [self.keyspace.prefix(), about_itself.as_bytes()] {
            let keys: Vec<_> = scan(&mut server, prefix).await?.into_iter().collect();
            for keys in keys.chunks(1000) {
                removed += redis::cmd("UNLINK").arg(keys).query_async::<usize>(&mut server).await?;
            }
        }
        Ok(removed)
    }
}

/// All keys that begin like this. SCAN never holds the server for long, and may list a key twice.
async fn scan(server: &mut MultiplexedConnection, prefix: &[u8]) -> Result<HashSet<Vec<u8>>> {
    // The prefix of a key is binary: a byte of it may look like a wildcard.
    let mut pattern: Vec<u8> = prefix.iter().flat_map(|&byte| [b'\\', byte]).collect();
    pattern.push(b'*');
    let (mut found, mut cursor) = (HashSet::new(), 0_u64);
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern.as_slice()).arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<Vec<u8>>) = command.query_async(server).await?;
        found.extend(keys);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
