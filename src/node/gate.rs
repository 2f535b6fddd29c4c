//! May this connection carry requests?

use std::future::Future;

use super::{Hello, Link};
use crate::error::Error;

/// Whoever knows the topology stands at the gate of every connection.
pub(crate) trait Gate<L: Link>: Clone + Send + Sync + 'static {
    /// Looks at what is behind a fresh connection, before its first request, and brings it up to date; an error
    /// closes the connection again.
    fn admit(&self, link: &L, hello: &Hello) -> impl Future<Output = Result<(), Error>> + Send;

    /// What was stored as the fence when an open connection was looked at; called now and then.
    fn noticed(&self, fence: Option<Vec<u8>>);

    /// There is no connection, and the last attempt to open one failed.
    fn unreachable(&self);
}
