//! Web sessions on several plain Redis servers, spread by a consistent-hash ring inside the application.
//!
//! ```text
//!   Sessions<T>            typed values, lifetimes, codecs: create get set update touch delete …
//!       │ key = digest of the id + token of its tag
//!   SessionRing            who owns the token? what to send, what to send again (protocol)
//!       │ one queue and one connection per node
//!   ┌───┴────┬────────┐
//!  node a   node b   node c    plain Redis servers, or `memory:`; a fence on each keeps rings apart
//! ```
//!
//! Begin with [`SessionRing::builder`], then [`SessionRing::sessions`]; [`Sessions`] has an example from log-in to
//! log-out. Everything that can fail answers one [`Error`], with predicates for what an application does about it.
//!
//! - **Log-outs are final, updates are compare-and-set**: [`Sessions::delete`], [`Sessions::update`]
//! - **Sessions in hand**: [`Sessions::load`], [`Sessions::save`], [`Sessions::save_or_merge`]
//! - **Other ids**: [`Sessions::rotate`] renews the id of a session
//! - **All sessions of a user**: [`Sessions::bind`] at a log-in, [`Sessions::sessions_of`], [`Sessions::revoke_all`]
//! - **Secrets**: [`Sessions::seal`] encrypts and binds what is stored, [`Builder::secret`] keys the digests of ids
//! - **All sessions**: [`Sessions::list`], [`Sessions::count`]; what happens to them: [`SessionRing::session_events`]
//! - **Types that change**: [`SessionData`], [`OnCorrupt`], and [`testing`] for the tests of your own
//! - **Ids**: [`SessionId`] is fresh from the operating system, and never shown by accident
//! - **Web frameworks**: `web` has stores for tower-sessions (and so axum and axum-login) and actix-session
//! - **Placement**: [`ring`] is usable on its own, to study balance and movement: shares, diffs, preference lists
//! - **Stored bytes**: [`record`] and `docs/format.md`
//!
//! # Features
//!
//! - `tls` (off unless asked for): nodes that are reached over TLS, as `rediss://` addresses say, with the authorities of the
//!   system, or your own, and client certificates; see `Tls`. Off, because it takes some dozen crates and a C compiler, which a
//!   ring inside a private network can do without; an address that needs it says so.
//! - `tracing`, `metrics` (off unless asked for): what the ring does, for subscribers of the one and recorders of the other; see
//!   `docs/observability.md`.
//! - `tower-sessions-0-14`, `tower-sessions-0-15`, `actix-session-0-11` (off unless asked for): stores for the session middleware
//!   of web frameworks, each for one version of the framework's trait; see `web`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod record;
pub mod ring;
pub mod testing;
// The client does not use the store yet.
#[cfg_attr(not(test), expect(dead_code))]
#[expect(unused_imports)]
pub mod store;

// Not part of the API: for this crate's own models, simulations and fuzz targets.
#[doc(hidden)]
pub mod internals;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod topology;

mod client;
mod entropy;
mod error;
// Nor what the store needs of the nodes.
#[cfg_attr(not(test), expect(dead_code))]
#[expect(unused_imports)]
mod node;
mod resize;
mod session;
#[cfg(test)]
mod simulation;
mod telemetry;
#[cfg(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15", feature = "actix-session-0-11"))]
pub mod web;

pub use client::{Builder, Event, Events, SessionEvent, SessionEvents, SessionRef, SessionRing};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "tls")]
pub use node::Tls;
pub use node::{Credentials, NodeHealth, NodeState};
pub use record::{RingSecret, SealingKeys, SessionData, SessionId, Upgrades};
pub use resize::{Flow, Forgotten, Phase, Plan, Progress, Resize, Returning, Sample, Stuck};
pub use ring::NodeId;
pub use session::{
    BoundSession, Count, Lifetime, ListedSession, Listing, NodeCount, OnCorrupt, Page, SaveError, Session,
    SessionHandle, Sessions,
};
pub use topology::Epoch;

/// The code of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
