//! Starts and connects what a measure asks for, once, and keeps it until the end of the run.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, sync::Arc};

use sessionring_testkit::RedisServer;
use tokio::runtime::Runtime;

use crate::{
    Result,
    data::Data,
    servers::{self, Servers, Twemproxy},
    stores::Name,
    workload::{Contestant, Load, Round},
};

/// Something that this machine does not have: what needs it is not run, and the rest is.
#[derive(Debug, Clone)]
pub(crate) struct Absent(pub(crate) String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

/// A store on so many nodes with sessions of so many bytes.
pub(crate) type Setting = (Name, usize, usize);

/// All that runs besides the measuring itself.
pub(crate) struct Lab {
    contestants: RefCell<BTreeMap<Setting, Arc<dyn Contestant>>>,
    data: RefCell<BTreeMap<usize, Arc<Data>>>,
    /// One for all clients, as many workers as processors.
    runtime: Runtime,
    twemproxy: RefCell<Option<Result<Rc<Twemproxy>, Absent>>>,
    // Ended last.
    servers: RefCell<BTreeMap<Servers, Rc<Vec<RedisServer>>>>,
}

impl Lab {
    pub(crate) fn new() -> Result<Lab> {
        Ok(Lab {
            contestants: RefCell::default(),
            data: RefCell::default(),
            runtime: Runtime::new()?,
            twemproxy: RefCell::default(),
            servers: RefCell::default(),
        })
    }

    /// What this is measured with, in one line.
    pub(crate) fn machine(&self) -> Result<String> {
        let processors = std::thread::available_parallelism()?;
        let node = self.servers(Servers::Plain(3))?;
        let version = node.first().map(|node| node.info("redis_version")).transpose()?.flatten();
        let version = version.unwrap_or_else(|| "of unknown version".into());
        Ok(format!("Redis {version}; client and servers share {processors} processors"))
    }

    /// The nodes themselves. Twemproxy's are the three plain ones.
    pub(crate) fn servers(&self, which: Servers) -> Result<Rc<Vec<RedisServer>>> {
        let which = if which == Servers::Twemproxy { Servers::Plain(3) } else { which };
        if let Some(servers) = self.servers.borrow().get(&which) {
            return Ok(servers.clone());
        }
        let started = Rc::new(match which {
            Servers::Plain(nodes) => servers::start_plain(nodes)?,
            _ => servers::start_cluster()?,
        });
        self.servers.borrow_mut().insert(which, started.clone());
        Ok(started)
    }

    fn addresses(&self, which: Servers) -> Result<Vec<String>> {
        let servers = self.servers(which)?;
        if which != Servers::Twemproxy {
            return Ok(servers.iter().map(RedisServer::address).collect());
        }
        let mut proxy = self.twemproxy.borrow_mut();
        if proxy.is_none() {
            *proxy = Some(match Twemproxy::start(&servers) {
                Ok(started) => Ok(Rc::new(started)),
                Err(error) => Err(error.downcast::<Absent>().map(|absent| *absent)?),
            });
        }
        match proxy.as_ref() {
            Some(Ok(proxy)) => Ok(vec![proxy.address()]),
            Some(Err(absent)) => Err(absent.clone().into()),
            None => Ok(Vec::new()),
        }
    }

    /// A store, connected, filled and checked. An error that is [`Absent`]: it cannot be had here.
    pub(crate) fn contestant(&self, (name, nodes, size): Setting) -> Result<Arc<dyn Contestant>> {
        if let Some(contestant) = self.contestants.borrow().get(&(name, nodes, size)) {
            return Ok(contestant.clone());
        }
        let addresses = self.addresses(name.servers(nodes))?;
        let data = self.data.borrow_mut().entry(size).or_insert_with(|| Arc::new(Data::new(size))).clone();
        let contestant = self.block_on(async {
            let contestant = name.connect(&addresses, data).await?;
            contestant.prepare().await.map_err(|error| format!("{name}: {error}"))?;
            Ok(contestant)
        })?;
        self.contestants.borrow_mut().insert((name, nodes, size), contestant.clone());
        Ok(contestant)
    }

    pub(crate) fn round(&self, contestant: &dyn Contestant, load: Load) -> Result<Round> {
        self.block_on(contestant.round(load))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(future)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let contestants = std::mem::take(&mut *self.contestants.borrow_mut());
        self.runtime.block_on(async {
            for contestant in contestants.into_values() {
                contestant.close().await;
            }
        });
    }
}
