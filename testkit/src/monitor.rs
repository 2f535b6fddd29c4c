//! What really arrived at a server.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::acceptor::spawn;
use crate::{Client, Error, Result, lock};

const PATIENCE: Duration = Duration::from_secs(30);

/// One command that a server executed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorLine {
    /// The client that sent it; `None` for a call from a script.
    pub client_addr: Option<SocketAddr>,
    /// Whether a script made this call.
    pub is_lua: bool,
    /// The database.
    pub db: u32,
    /// The command and its arguments.
    pub args: Vec<Vec<u8>>,
}

impl MonitorLine {
    /// The command's name in capitals.
    #[must_use]
    pub fn name(&self) -> String {
        self.args.first().map(|name| String::from_utf8_lossy(name).to_uppercase()).unwrap_or_default()
    }

    /// `1700000000.000001 [0 127.0.0.1:50000] "set" "k" "\x00v"`, or `[0 lua]`.
    fn parse(line: &[u8]) -> Option<MonitorLine> {
        let open = line.iter().position(|&b| b == b'[')?;
        let close = open + line[open..].iter().position(|&b| b == b']')?;
        let origin = std::str::from_utf8(&line[open + 1..close]).ok()?;
        let (db, client) = origin.split_once(' ')?;
        let args = unquote(&line[close + 1..])?;
        Some(MonitorLine {
            client_addr: client.parse().ok(),
            is_lua: client == "lua",
            db: db.parse().ok()?,
            args,
        })
    }
}

/// The strings of ` "a" "\x00\""`.
fn unquote(mut rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    while let Some(after) = rest.strip_prefix(b" \"") {
        let mut arg = Vec::new();
        rest = after;
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            match byte {
                b'"' => break,
                b'\\' => {
                    let (&escaped, after) = rest.split_first()?;
                    rest = after;
                    arg.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'a' => 7,
                        b'b' => 8,
                        b'x' => {
                            let (hex, after) = rest.split_at_checked(2)?;
                            rest = after;
                            u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?
                        }
                        other => other,
                    });
                }
                byte => arg.push(byte),
            }
        }
        args.push(arg);
    }
    rest.is_empty().then_some(args)
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<MonitorLine>,
    /// How many markers have passed.
    markers: u64,
    /// The connection has ended; with the reason, if it was not us.
    ended: Option<String>,
}

/// Collects what a server executes, from [`RedisServer::monitor`](crate::RedisServer::monitor) on.
///
/// Collecting ends at a marker, not after some time: [`take`](Monitor::take) and [`stop`](Monitor::stop)
/// send one over a connection of their own and return when the server has shown it, so whatever was answered
/// before the call is in the result. The monitor's own commands are not.
#[derive(Debug)]
pub struct Monitor {
    marker: Client,
    sent: u64,
    stream: TcpStream,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub(crate) fn start(mut client: Client, marker: Client) -> Result<Monitor> {
        client.set_timeout(None)?;
        client.command(&["MONITOR"])?.ok()?;
        let stream = client.stream()?;
        let own = marker.local_address();
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = Arc::clone(&seen);
        let thread = spawn("testkit-monitor", move || {
            loop {
                let line = client.line();
                let mut seen = lock(&shared.0);
                let more = line.is_ok();
                match line {
                    Err(error) => seen.ended = Some(error.to_string()),
                    Ok(line) => match MonitorLine::parse(line.strip_prefix(b"+").unwrap_or(&line)) {
                        Some(line) if line.client_addr == Some(own) => seen.markers += 1,
                        Some(line) => seen.lines.push(line),
                        None => {}
                    },
                }
                shared.1.notify_all();
                if !more {
                    return;
                }
            }
        })?;
        Ok(Monitor { marker, sent: 0, stream, seen, thread: Some(thread) })
    }

    /// Everything executed since the start or the last `take`; goes on collecting.
    ///
    /// # Errors
    /// The server went away.
    pub fn take(&mut self) -> Result<Vec<MonitorLine>> {
        self.marker.command(&["ECHO", "testkit-marker"])?.ok()?;
        self.sent += 1;
        let deadline = Instant::now() + PATIENCE;
        let mut seen = lock(&self.seen.0);
        while seen.markers < self.sent {
            if let Some(reason) = &seen.ended {
                return Err(Error::Io {
                    what: "monitor".into(),
                    source: std::io::Error::other(reason.clone()),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::timeout("the monitor's marker"));
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(|e| e.into_inner()).0;
        }
        Ok(std::mem::take(&mut seen.lines))
    }

    /// Everything executed since the start or the last [`take`](Monitor::take), and the end.
    ///
    /// # Errors
    /// The server went away.
    pub fn stop(mut self) -> Result<Vec<MonitorLine>> {
        self.take()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It fails where the server has closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let line = MonitorLine::parse(br#"17.5 [3 127.0.0.1:50000] "set" "k \"\\" "\x00\n]""#).unwrap();
        assert_eq!(line.name(), "SET");
        assert_eq!(line.args[1..], [b"k \"\\".to_vec(), b"\x00\n]".to_vec()]);
        assert_eq!((line.db, line.is_lua), (3, false));
        assert_eq!(line.client_addr, Some(([127, 0, 0, 1], 50000).into()));
        let line = MonitorLine::parse(br#"17.5 [0 lua] "get" "k""#).unwrap();
        assert!(line.is_lua && line.client_addr.is_none());
        assert_eq!(MonitorLine::parse(b"OK"), None);
    }
}
