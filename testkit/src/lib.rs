//! Real servers for tests, benches and the demo, and the faults that happen to them.
//!
//! - [`RedisServer`] starts a Redis or Valkey server of its own: a free port, a temporary folder, ended and
//!   cleaned up on drop. It can be killed, stopped, restarted with its data, without it or from an old dump.
//! - [`Watched`] is a primary with a replica and Sentinels, one of which is promoted when the other dies.
//! - [`FaultProxy`] stands in front of a server and cuts, delays, holds back, swallows and counts.
//! - [`Authority`] issues certificates, for [servers with TLS](RedisServerBuilder::tls) and for clients that show one.
//! - [`FakeServer`] listens like a server and answers whatever a script says.
//! - [`Client`] is a small blocking client, so that a test can look at a server with other eyes than the
//!   library's. [`Monitor`] says which commands really arrived there.
//!
//! Nothing here skips a test: where no server program is installed, [`RedisServer::start`] returns an error
//! whose text says what to install, and [`require_redis`] panics with it.
//!
//! ```
//! use sessionring_testkit::{RedisServer, Reply};
//!
//! let server = RedisServer::start()?;
//! let mut client = server.client()?;
//! assert_eq!(client.command(&["SET", "k", "v"])?, Reply::Simple("OK".into()));
//! assert_eq!(client.command(&["GET", "k"])?, Reply::Bulk(b"v".to_vec()));
//! # Ok::<(), sessionring_testkit::Error>(())
//! ```
//!
//! # Servers never outlive their tests
//!
//! Each server has a watchdog, a few lines of `sh` that read from a pipe whose other end only this process
//! holds. However the process ends (a panic, Ctrl-C, SIGKILL, a server kept in a `static`), the pipe closes,
//! and the watchdog kills the server and removes its folder. (`PR_SET_PDEATHSIG` would not do: it follows the
//! *thread* that started the server, and every test has a thread of its own.)
//!
//! Unix only, like the servers.

mod acceptor;
#[cfg(feature = "certificates")]
mod certificates;
mod error;
mod fake;
mod monitor;
mod port;
mod proxy;
mod resp;
mod server;
mod watchdog;
mod watched;

#[cfg(feature = "certificates")]
pub use certificates::Authority;
pub use error::{Error, Result};
pub use fake::{FakeServer, Script};
pub use monitor::{Monitor, MonitorLine};
pub use proxy::{Counts, Direction, FaultProxy};
pub use resp::{Client, Reply};
pub use server::{Backup, Identity, RedisServer, RedisServerBuilder, find_server, require_redis};
pub use watched::Watched;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, and goes on where another thread panicked: a test that fails must still be able to clean up.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
