//! A real node: Redis 6.2 or later, or Valkey, over the `redis` crate. Nothing outside this folder names it.
//!
//! - `address`: the parsed address
//! - `sentinels`, `primary`: Sentinels as an address says them, and where the primary is that they watch
//! - `handshake`: is this the right server, and is it fit to hold sessions?
//! - `bounded`: no more is read than anybody can have asked for
//! - `wire`, `answers`: a connection, on which commands go out and answers come back; and what comes, taken apart
//! - `link`: batches as commands
//! - `snapshot`: records and how long they live, read together
//! - `script`: `batch.lua`, what goes into it and what comes out
//! - `control`: `control.lua`, the same, and questions about what the server holds
//! - `failure`: what the server's errors mean to us
//! - `raw`: what parses the server's bytes, without a connection, for the fuzz targets

mod address;
mod answers;
mod bounded;
mod commands;
mod control;
mod failure;
mod handshake;
mod link;
mod primary;
pub(crate) mod raw;
mod script;
mod sentinels;
mod snapshot;
mod wire;

pub(crate) use self::{
    address::RedisAddress,
    handshake::RedisTransport,
    link::{Parcel as RedisParcel, RedisLink},
};
