//! Sessions on a ring of plain Redis servers.

pub mod ring;
