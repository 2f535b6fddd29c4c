//! The whole library on simulated servers and a simulated network, in simulated time: everything that happens follows
//! from a seed.
//!
//! - `dice`: the seed's numbers
//! - `server`: what a Redis server holds, and what can befall it
//! - `network`: connections that are slow, break, and deliver late
//! - `world`: both, and what is written down of them
//! - `history`: what was asked of each session, and what was answered
//! - `oracle`: could one register for each session have answered so?
//! - `workload`: applications, which use sessions
//! - `operators`: those who change the ring, and everything that goes wrong
//! - `stampede`: a thousand processes that learn of a change at once
//! - `run`: one seed from the founding to the verdict
//!
//! The clients are the real ones, down to `node::Transport`. See `docs/reliability.md`.

mod dice;
mod history;
mod network;
mod operators;
mod oracle;
mod run;
mod server;
mod stampede;
mod tests;
mod workload;
mod world;
