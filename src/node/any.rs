//! A node of either kind.

#[cfg(test)]
use super::simulated::{Question, SimulatedLink, SimulatedTransport};
use super::{
    Batch, BatchReply, Connection, Failure, Link, Look, Survey, Surveyed, Transport,
    memory::{MemoryLink, MemoryTransport},
    redis::{RedisLink, RedisParcel, RedisTransport},
};
use crate::{
    error::Error,
    protocol::{Control, ControlReply, Standing},
    topology::Fence,
};

#[derive(Debug, Clone)]
pub(crate) enum AnyTransport {
    Memory(MemoryTransport),
    Redis(RedisTransport),
    #[cfg(test)]
    Simulated(SimulatedTransport),
}

#[derive(Clone)]
pub(crate) enum AnyLink {
    Memory(MemoryLink),
    Redis(RedisLink),
    #[cfg(test)]
    Simulated(SimulatedLink),
}

pub(crate) enum AnyParcel {
    Memory(Vec<BatchReply>),
    Redis(RedisParcel),
    #[cfg(test)]
    Simulated(Vec<Question>),
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
            #[cfg(test)]
            AnyTransport::Simulated(transport) => {
                let Connection { link, hello, driver } = transport.connect().await?;
                Connection { link: AnyLink::Simulated(link), hello, driver }
            }
        })
    }

    async fn moved(self) {
        match self {
            AnyTransport::Redis(transport) => transport.moved().await,
            _ => std::future::pending().await,
        }
    }
}

impl Link for AnyLink {
    type Parcel = AnyParcel;

    fn pack(&self, batches: &[Batch<'_>]) -> AnyParcel {
        match self {
            AnyLink::Memory(link) => AnyParcel::Memory(link.pack(batches)),
            AnyLink::Redis(link) => AnyParcel::Redis(link.pack(batches)),
            #[cfg(test)]
            AnyLink::Simulated(link) => AnyParcel::Simulated(link.pack(batches)),
        }
    }

    async fn exchange(self, parcel: AnyParcel) -> Vec<BatchReply> {
        match (self, parcel) {
            (AnyLink::Memory(link), AnyParcel::Memory(parcel)) => link.exchange(parcel).await,
            (AnyLink::Redis(link), AnyParcel::Redis(parcel)) => link.exchange(parcel).await,
            #[cfg(test)]
            (AnyLink::Simulated(link), AnyParcel::Simulated(parcel)) => link.exchange(parcel).await,
            _ => unreachable!("a link is given what it packed"),
        }
    }

    async fn control(self, control: Control) -> Result<ControlReply, Failure> {
        match self {
            AnyLink::Memory(link) => link.control(control).await,
            AnyLink::Redis(link) => link.control(control).await,
            #[cfg(test)]
            AnyLink::Simulated(link) => link.control(control).await,
        }
    }

    async fn survey(self, survey: Survey) -> Result<Surveyed, Failure> {
        match self {
            AnyLink::Memory(link) => link.survey(survey).await,
            AnyLink::Redis(link) => link.survey(survey).await,
            #[cfg(test)]
            AnyLink::Simulated(link) => link.survey(survey).await,
        }
    }

    async fn probe(self) -> Result<Look, Error> {
        match self {
            AnyLink::Memory(link) => link.probe().await,
            AnyLink::Redis(link) => link.probe().await,
            #[cfg(test)]
            AnyLink::Simulated(link) => link.probe().await,
        }
    }
}
