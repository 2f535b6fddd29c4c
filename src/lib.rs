//! Sessions on a ring of plain Redis servers.

#[doc(hidden)]
pub mod protocol;
pub mod record;
pub mod ring;
#[doc(hidden)]
pub mod topology;

mod client;
mod error;
mod node;
mod session;

pub use client::{Builder, SessionRing};
pub use error::{Error, ErrorKind, Result};
pub use record::SessionId;
pub use ring::NodeId;
pub use session::{Lifetime, Sessions};
pub use topology::Epoch;
