//! A primary and a replica that Sentinels watch.

use std::time::Duration;

use crate::{Error, RedisServer, RedisServerBuilder, Reply, Result, server::wait_within};

/// So many Sentinels, of which two must agree.
const SENTINELS: usize = 3;
const QUORUM: usize = 2;
/// How long they may take to know each other, or to promote the replica.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two servers, one of which is the primary and the other its replica, and three Sentinels that promote the replica when the
/// primary dies. All on loopback; all end when this is dropped.
///
/// ```no_run
/// use std::time::Duration;
/// use sessionring_testkit::Watched;
///
/// let watched = Watched::start("sessions-a", Duration::from_secs(1))?;
/// let primary = watched.primary()?;
/// watched.servers[primary].kill()?;
/// watched.wait_for_promotion(primary)?;
/// assert_ne!(watched.primary()?, primary);
/// # Ok::<(), sessionring_testkit::Error>(())
/// ```
#[derive(Debug)]
pub struct Watched {
    /// What the Sentinels call the primary.
    pub name: String,
    /// Both servers; the first was the primary at first.
    pub servers: [RedisServer; 2],
    /// The Sentinels.
    pub sentinels: Vec<RedisServer>,
}

impl Watched {
    /// Starts everything, and waits until each Sentinel knows the replica and the others. They take a server for dead that they
    /// have not heard for `down_after`.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`]; or they do not find each other.
    pub fn start(name: &str, down_after: Duration) -> Result<Watched> {
        Watched::start_with(name, down_after, |server| server)
    }

    /// The same, with these options for both servers.
    ///
    /// # Errors
    /// See [`start`](Watched::start).
    pub fn start_with(
        name: &str,
        down_after: Duration,
        options: impl Fn(RedisServerBuilder) -> RedisServerBuilder,
    ) -> Result<Watched> {
        let primary = options(RedisServer::builder()).start()?;
        let replica = options(RedisServer::builder()).replica_of(&primary).start()?;
        replica.wait_for_link()?;
        let sentinel =
            |_| RedisServer::builder().sentinel().watch(name, primary.port(), QUORUM, down_after).start();
        let sentinels = (0..SENTINELS).map(sentinel).collect::<Result<Vec<_>>>()?;
        let watched = Watched { name: name.to_owned(), servers: [primary, replica], sentinels };
        watched.wait_until_whole()?;
        Ok(watched)
    }

    /// `redis+sentinel://127.0.0.1:PORT,…/NAME`
    #[must_use]
    pub fn address(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| one.socket_address().to_string()).collect();
        format!("redis+sentinel://{}/{}", hosts.join(","), self.name)
    }

    /// Which of the servers is the primary, as the first Sentinel that runs says.
    ///
    /// # Errors
    /// No Sentinel answers.
    pub fn primary(&self) -> Result<usize> {
        let running = self.sentinels.iter().find(|sentinel| sentinel.pid().is_some());
        self.primary_of(running.ok_or(Error::NotRunning)?)
    }

    /// Waits until every Sentinel that runs knows another primary than this one, and until that takes writes.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a minute.
    pub fn wait_for_promotion(&self, old: usize) -> Result<()> {
        wait_within(PATIENCE, "the promotion", || {
            for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.pid().is_some()) {
                if self.primary_of(sentinel)? == old {
                    return Ok(false);
                }
            }
            Ok(self.servers[1 - old].info("role")?.as_deref() == Some("master"))
        })
    }

    /// Waits until one server is the replica of the other and has its data, and all Sentinels know both and each other.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a minute.
    pub fn wait_until_whole(&self) -> Result<()> {
        wait_within(PATIENCE, "servers and Sentinels to find each other", || {
            let others = (self.sentinels.len() - 1).to_string();
            for sentinel in &self.sentinels {
                let known = self.known_to(sentinel)?;
                let says =
                    |field: &str, value: &str| known.iter().any(|(name, is)| name == field && is == value);
                if !(says("num-slaves", "1")
                    && says("num-other-sentinels", &others)
                    && says("flags", "master"))
                {
                    return Ok(false);
                }
            }
            let replica = &self.servers[1 - self.primary()?];
            Ok(replica.pid().is_some() && replica.info("master_link_status")?.as_deref() == Some("up"))
        })
    }

    fn primary_of(&self, sentinel: &RedisServer) -> Result<usize> {
        let reply = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.name])?;
        let port = reply.array().and_then(|parts| parts.get(1)?.text());
        let is = |server: &RedisServer| port.as_deref() == Some(&server.port().to_string());
        self.servers.iter().position(is).ok_or_else(|| Error::protocol(format!("{reply:?} as a primary")))
    }

    /// What a Sentinel says of the primary.
    fn known_to(&self, sentinel: &RedisServer) -> Result<Vec<(String, String)>> {
        let reply = sentinel.command(&["SENTINEL", "MASTER", &self.name])?;
        let fields: Vec<String> = reply.array().unwrap_or_default().iter().filter_map(Reply::text).collect();
        Ok(fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }
}
