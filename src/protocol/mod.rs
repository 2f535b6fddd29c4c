//! What each operation sends, and what the answers mean.
//!
//! - [`Command`]: one operation on one record, as a node executes it: atomically
//! - [`Scope`]: what it may take for a record, and how far it knows the source of a moving token
//! - [`Outcome`]: what a node answers
//! - [`apply()`]: the meaning of every command, as a pure function; the in-memory node runs it, and the script of
//!   the Redis node is tested against it
//! - [`Control`], [`govern()`]: the same for what a node keeps beside the records: fence, document, votes
//! - [`Ballot`], [`Proposal`]: how the next document is decided
//! - [`Operation`]: the state machine that a client drives until it has an answer
//! - [`Transfer`]: the one that a mover drives to carry a record over
//!
//! The module is pure: no clock, no random source, no I/O. The protocol is that of `docs/resize.md`.

mod apply;
mod ballot;
mod command;
mod control;
mod operation;
mod proposal;
mod scope;
mod transfer;

pub use apply::{Effect, Stored, apply};
pub use ballot::Ballot;
pub use command::{Command, Condition, Delete, Forward, Install, Outcome, Write};
pub use control::{Charter, Control, ControlReply, Slot, Standing, Vote, govern};
pub use operation::{Operation, Place, Send, Sinces, Step};
pub use proposal::{Action, Ending, Proposal, Rule};
pub use scope::{Mode, Scope};
pub use transfer::{Transfer, TransferStep, Transferred};
