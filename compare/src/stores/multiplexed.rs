//! redis-rs, one `MultiplexedConnection` per node, modulo placement. **The floor**: no ring, no fence, no versions,
//! log-outs that a late write undoes.

use std::sync::Arc;

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use super::{PATIENCE, redis_rs::RedisRs};
use crate::{Result, data::Data};

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<RedisRs<MultiplexedConnection>> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut connections = Vec::new();
    for address in addresses {
        let client = Client::open(address.as_str())?;
        connections.push(client.get_multiplexed_async_connection_with_config(&config).await?);
    }
    Ok(RedisRs::new(connections, data))
}
