//! redis-rs, one `ConnectionManager` per node, modulo placement: the floor that reconnects by itself.

use std::sync::Arc;

use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{PATIENCE, redis_rs::RedisRs};
use crate::{Result, data::Data};

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<RedisRs<ConnectionManager>> {
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(PATIENCE));
    let mut connections = Vec::new();
    for address in addresses {
        connections
            .push(ConnectionManager::new_with_config(Client::open(address.as_str())?, config.clone()).await?);
    }
    Ok(RedisRs::new(connections, data))
}
