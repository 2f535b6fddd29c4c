//! Shared pieces of the benchmarks.

pub mod keys;
pub mod rings;
