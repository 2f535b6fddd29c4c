//! Breaks servers, networks and clients of a sessionring, and checks what the clients saw.
//!
//! - `driver`: one run: real servers, client processes, faults, and the judgement at the end
//! - `schedule`: which faults happen when, as a function of the seed; `nemesis`: what they do
//! - `resizes`: changes of membership; `chronicle`: the documents as they came, and so who held which session when
//! - `cluster`: the servers, the ways to them, the processes
//! - `worker`: a client process; `population`: which sessions there are and what it does to them
//! - `recording`: histories as files; `history`: what they consist of
//! - `linearizability`, `oracles`: whether a history may have happened
//! - `observer`: looks at the stored records, past the library
//! - `report`: what came of it
//! - `mode`: what a run is about, and all runs of a kind in one line
//! - `promotions`, `persistence`: what a promotion by Sentinels costs, and the death of a server, by how it persists; `ledger`:
//!   the work under which that is measured

mod chronicle;
mod cluster;
mod ledger;
mod nemesis;
mod observer;

pub mod driver;
pub mod history;
pub mod linearizability;
pub mod mode;
pub mod oracles;
pub mod persistence;
pub mod population;
pub mod promotions;
pub mod random;
pub mod recording;
pub mod report;
pub mod resizes;
pub mod schedule;
pub mod worker;
