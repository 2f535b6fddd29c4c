//! A node of either kind.

use super::{
    Batch, BatchReply, Connection, Link, Standing, Transport,
    memory::{MemoryLink, MemoryTransport},
    redis::{RedisLink, RedisParcel, RedisTransport},
};
use crate::{error::Error, topology::Fence};

#[derive(Debug, Clone)]
pub(crate) enum AnyTransport {
    Memory(MemoryTransport),
    Redis(RedisTransport),
}

#[derive(Clone)]
pub(crate) enum AnyLink {
    Memory(MemoryLink),
    Redis(RedisLink),
}

pub(crate) enum AnyParcel {
    Memory(Vec<BatchReply>),
    Redis(RedisParcel),
}

impl Transport for AnyTransport {
    type Link = AnyLink;

    async fn connect(self) -> Result<Connection<AnyLink>, Error> {
        Ok(match self {
            AnyTransport::Memory(transport) => {
                let Connection { link, hello, driver } = transport.connect().await?;
                Connection { link: AnyLink::Memory(link), hello, driver }
            }
            AnyTransport::Redis(transport) => {
                let Connection { link, hello, driver } = transport.connect().await?;
                Connection { link: AnyLink::Redis(link), hello, driver }
            }
        })
    }
}

impl Link for AnyLink {
    type Parcel = AnyParcel;

    fn pack(&self, batches: &[Batch<'_>]) -> AnyParcel {
        match self {
            AnyLink::Memory(link) => AnyParcel::Memory(link.pack(batches)),
            AnyLink::Redis(link) => AnyParcel::Redis(link.pack(batches)),
        }
    }

    async fn exchange(self, parcel: AnyParcel) -> Vec<BatchReply> {
        match (self, parcel) {
            (AnyLink::Memory(link), AnyParcel::Memory(parcel)) => link.exchange(parcel).await,
            (AnyLink::Redis(link), AnyParcel::Redis(parcel)) => link.exchange(parcel).await,
            _ => unreachable!("a link is given what it packed"),
        }
    }

    async fn initialise(self, fence: Fence) -> Result<Standing, Error> {
        match self {
            AnyLink::Memory(link) => link.initialise(fence).await,
            AnyLink::Redis(link) => link.initialise(fence).await,
        }
    }
}
