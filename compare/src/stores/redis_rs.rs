//! The commands of every rival that is a connection of redis-rs.
//!
//! Connections are as the driver sets them up by itself, which means with Nagle's delay: over loopback it gathers requests
//! in flight, and makes the floor faster at 256 callers (and cheaper for the servers) than TCP_NODELAY does.

use std::{ops::Range, sync::Arc};

use redis::{aio::ConnectionLike, cmd};

use super::{LIFETIME_MS, Store, by_node, change, place};
use crate::{Result, data::Data};

/// One connection per node. Where somebody else places keys (a cluster, a proxy), one in all.
#[derive(Clone)]
pub(super) struct RedisRs<C> {
    connections: Arc<[C]>,
    data: Arc<Data>,
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisRs<C> {
    pub(super) fn new(connections: Vec<C>, data: Arc<Data>) -> RedisRs<C> {
        RedisRs { connections: connections.into(), data }
    }

    /// Every caller has a handle of his own, as the driver wants it.
    fn connection(&self, key: &str) -> C {
        self.connections[place(key, self.connections.len())].clone()
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisRs<C> {
    fn data(&self) -> &Data {
        &self.data
    }

    async fn get(&self, i: usize) -> Result<Option<String>> {
        let key = &self.data.keys[i];
        Ok(cmd("GET").arg(key).query_async(&mut self.connection(key)).await?)
    }

    async fn set(&self, i: usize) -> Result<()> {
        let key = &self.data.keys[i];
        let mut set = cmd("SET");
        set.arg(key).arg(&self.data.values[i]).arg("PX").arg(LIFETIME_MS);
        Ok(set.query_async(&mut self.connection(key)).await?)
    }

    async fn visit(&self, i: usize) -> Result<Option<String>> {
        let key = &self.data.keys[i];
        let mut getex = cmd("GETEX");
        getex.arg(key).arg("PX").arg(LIFETIME_MS);
        Ok(getex.query_async(&mut self.connection(key)).await?)
    }

    async fn update(&self, i: usize) -> Result<()> {
        let key = &self.data.keys[i];
        let mut connection = self.connection(key);
        let value: Option<String> = cmd("GET").arg(key).query_async(&mut connection).await?;
        let mut value = value.ok_or("a session is lost")?;
        change(&mut value);
        let mut set = cmd("SET");
        set.arg(key).arg(value).arg("PX").arg(LIFETIME_MS);
        Ok(set.query_async(&mut connection).await?)
    }

    async fn get_many(&self, range: Range<usize>) -> Result<Vec<Option<String>>> {
        by_node(&self.data, range, self.connections.len(), |node, part| {
            let mut connection = self.connections[node].clone();
            let mut mget = cmd("MGET");
            part.iter().for_each(|&i| {
                mget.arg(&self.data.keys[i]);
            });
            async move { Ok(mget.query_async(&mut connection).await?) }
        })
        .await
    }
}
