//! Free loopback ports below the range that the system gives to outgoing connections.
//!
//! Servers here go down and come back on the same port. From inside the ephemeral range another connection
//! could take the port meanwhile, and a client that reconnects in a loop could even connect to itself.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use crate::{Error, Result, lock};

const FIRST: u16 = 10_500;
const LAST: u16 = 32_000;
/// A cluster node also listens this far above its port.
const BUS: u16 = 10_000;

/// The ports of this process: one stays reserved while its server is down.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody else in this process gets until this is dropped.
#[derive(Debug)]
pub(crate) struct Port(u16);

impl Port {
    /// Reserves a port for another process. `bus`: the cluster bus' port must be free too.
    pub(crate) fn reserve(bus: bool) -> Result<Port> {
        let (port, listener) = Port::listen(bus)?;
        stop_listening(listener);
        Ok(port)
    }

    /// Reserves a port and returns the listener that showed that it is free.
    pub(crate) fn listen(bus: bool) -> Result<(Port, TcpListener)> {
        let last = if bus { LAST - BUS } else { LAST };
        for attempt in 0..1000_u32 {
            let random = RandomState::new().hash_one(attempt);
            let port = FIRST + (random % u64::from(last - FIRST)) as u16;
            let mut taken = lock(&TAKEN);
            let bus_port = bus.then_some(port + BUS);
            if taken.contains(&port) || bus_port.is_some_and(|bus_port| taken.contains(&bus_port)) {
                continue;
            }
            let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
            if let Some(bus_port) = bus_port {
                let Ok(on_bus) = TcpListener::bind((Ipv4Addr::LOCALHOST, bus_port)) else { continue };
                stop_listening(on_bus);
            }
            taken.insert(port);
            return Ok((Port(port), listener));
        }
        Err(Error::timeout(format!("a free loopback port between {FIRST} and {last}")))
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }
}

/// Stops listening, at once. Closing alone is not enough: where another thread is just starting a process,
/// that child holds a copy of every descriptor until it becomes another program.
pub(crate) fn stop_listening(listener: TcpListener) {
    // Outside Linux a listening socket may not allow it; then closing has to do.
    let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.0);
    }
}
