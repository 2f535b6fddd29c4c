//! redis-rs' `cluster_async` on a real Redis Cluster: what places keys there is their slot.

use std::sync::Arc;

use redis::{cluster::ClusterClientBuilder, cluster_async::ClusterConnection};

use super::{PATIENCE, redis_rs::RedisRs};
use crate::{Result, data::Data};

pub(super) async fn connect(addresses: &[String], data: Arc<Data>) -> Result<RedisRs<ClusterConnection>> {
    let client =
        ClusterClientBuilder::new(addresses.iter().map(String::as_str)).response_timeout(PATIENCE).build()?;
    Ok(RedisRs::new(vec![client.get_async_connection().await?], data))
}
