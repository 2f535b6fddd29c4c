//! redis-rs, one `MultiplexedConnection` to twemproxy, which places keys by ketama on the same nodes that ours and the
//! floor use.

use std::sync::Arc;

use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, aio::MultiplexedConnection};

use super::{PATIENCE, redis_rs::RedisRs};
use crate::{Result, data::Data};

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<RedisRs<MultiplexedConnection>> {
    let address = addresses.first().ok_or("twemproxy has no address")?;
    let info = address.as_str().into_connection_info()?;
    // The proxy knows no CLIENT command and would hang up.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let client = Client::open(info.set_redis_settings(settings))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    Ok(RedisRs::new(vec![client.get_multiplexed_async_connection_with_config(&config).await?], data))
}
