//! redis-rs, one `MultiplexedConnection` per node, modulo placement. **The floor**: no ring, no fence, no versions,
//! log-outs that a late write undoes.

use std::sync::Arc;

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};

use super::{
    PATIENCE,
    redis_rs::{RedisRs, client},
};
use crate::{Result, data::Data};

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<RedisRs<MultiplexedConnection>> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut connections = Vec::new();
    for address in addresses {
        connections.push(client(address)?.get_multiplexed_async_connection_with_config(&config).await?);
    }
    Ok(RedisRs::new(connections, data))
}
