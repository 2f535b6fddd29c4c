//! What each operation sends, and what the answers mean.
//!
//! - [`Command`]: one operation on one record, as a node executes it: atomically
//! - [`Outcome`]: what a node answers
//! - [`apply()`]: the meaning of every write, as a pure function; the in-memory node runs it, and the script of
//!   the Redis node is tested against it
//! - [`Operation`]: the state machine that a client drives until it has an answer
//!
//! The module is pure: no clock, no random source, no I/O.

mod apply;
mod command;
mod operation;

pub use apply::{Effect, Stored, apply};
pub use command::{Command, Condition, Delete, Outcome, Write};
pub use operation::{Operation, Step};
