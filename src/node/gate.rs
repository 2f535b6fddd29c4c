//! May this connection carry requests?

use std::future::Future;

use super::{Condition, Hello, Link, Look};
use crate::{error::Error, telemetry::NodeMeters};

/// Whoever knows the topology stands at the gate of every connection.
pub(crate) trait Gate<L: Link>: Clone + Send + Sync + 'static {
    /// Looks at what is behind a fresh connection, before its first request, and brings it up to date; an error
    /// closes the connection again.
    fn admit(&self, link: &L, hello: &Hello) -> impl Future<Output = Result<(), Error>> + Send;

    /// What was seen when an open connection was looked at; called now and then. An error closes the connection.
    fn noticed(&self, look: Look) -> Result<(), Error>;

    /// The node has come up or gone down.
    fn turned(&self, condition: &Condition);

    /// Where what goes through its queue is counted.
    fn meters(&self) -> NodeMeters {
        NodeMeters::none()
    }

    /// There is no connection, and the last attempt to open one failed.
    fn unreachable(&self);
}
