//! A connection that fails exactly when a test says so.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::acceptor::{Acceptor, spawn};
use crate::resp::Scanner;
use crate::{RedisServer, Result, lock};

/// A request with more bytes than this is compared by its first ones only.
const LOOKED_AT: usize = 64 * 1024;

/// One of the two ways through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third direction")]
pub enum Direction {
    /// Requests: from the client to the server.
    ToServer,
    /// Answers: from the server to the client.
    ToClient,
}

/// What has gone through a proxy since its start or the last [`FaultProxy::take_counts`].
///
/// Requests and replies are complete commands and answers of the Redis protocol (RESP3 pushes do not count),
/// counted as they arrive at the proxy, whether or not a fault keeps them from getting further. After a
/// SUBSCRIBE or MONITOR the counts mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Commands from clients.
    pub requests: u64,
    /// Answers from the server.
    pub replies: u64,
    /// How often a client that had all its answers sent something new, so how often one that works step by
    /// step has waited. Commands sent together count once.
    pub round_trips: u64,
    /// Bytes from clients.
    pub bytes_to_server: u64,
    /// Bytes from the server.
    pub bytes_to_client: u64,
}

/// A TCP proxy in front of one server, in this process, with faults to switch on and off.
///
/// Everything happens on events; the only clock is that of [`delay`](FaultProxy::delay). Faults hold for
/// present and future connections until they are switched off. When a fault's method returns, the fault is in
/// force.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// By direction.
    faults: [Faults; 2],
    /// Cut after the next request that contains these bytes.
    armed: Option<Vec<u8>>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Faults {
    swallow: bool,
    hold: bool,
    /// Bytes that still pass while the rest is held.
    pass: usize,
    delay: Duration,
}

#[derive(Debug)]
struct Connection {
    client: Arc<TcpStream>,
    server: Arc<TcpStream>,
    queues: [VecDeque<(Instant, Item)>; 2],
    scanners: [Scanner; 2],
    /// The beginning of the request that is under way, up to [`LOOKED_AT`] bytes.
    request: Vec<u8>,
    requests: u64,
    replies: u64,
    /// The answer to this request is never delivered: the connection is cut instead.
    cut_at: Option<u64>,
    /// Directions that have not ended yet.
    open: u8,
}

#[derive(Debug)]
enum Item {
    Bytes(Vec<u8>),
    /// The sender has closed its end.
    End,
    /// Both ends are to be closed.
    Cut,
}

impl Direction {
    const BOTH: [Direction; 2] = [Direction::ToServer, Direction::ToClient];
}

impl FaultProxy {
    /// A proxy in front of this server.
    ///
    /// # Errors
    /// No free port.
    pub fn in_front_of(server: &RedisServer) -> Result<FaultProxy> {
        FaultProxy::start(server.socket_address())
    }

    /// A proxy in front of whatever listens there.
    ///
    /// # Errors
    /// No free port.
    pub fn start(target: SocketAddr) -> Result<FaultProxy> {
        let shared =
            Arc::new(Shared { target: Mutex::new(target), state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        let acceptor = Acceptor::start(move |client| {
            // A server that cannot be reached looks like a connection that is closed at once.
            let _ = Shared::connect(&accepting, client);
        })?;
        Ok(FaultProxy { shared, acceptor })
    }

    /// The proxy's port; it stays the same.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.address().port()
    }

    /// `redis://127.0.0.1:PORT`, with the proxy's own port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("redis://{}", self.acceptor.address())
    }

    /// `127.0.0.1:PORT`, with the proxy's own port.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// Closes all connections, both ends. What was under way, held back or delayed is lost. New connections
    /// are accepted.
    pub fn cut(&self) {
        let mut state = lock(&self.shared.state);
        for (_, connection) in std::mem::take(&mut state.connections) {
            connection.close();
        }
        self.shared.changed.notify_all();
    }

    /// `true`: the server executes the next request, but its answer never arrives; the connection is closed
    /// instead (and with it goes whatever else was under way there). The client cannot know what happened;
    /// when it sees the end, the server *has* executed the request. This happens once.
    pub fn cut_after_request(&self) {
        self.cut_after_request_with(b"");
    }

    /// Like [`cut_after_request`](FaultProxy::cut_after_request), for the next request that contains these
    /// bytes, so that a reconnecting client's greetings do not count.
    pub fn cut_after_request_with(&self, bytes: &[u8]) {
        lock(&self.shared.state).armed = Some(bytes.to_vec());
    }

    /// Whether a [`cut_after_request`](FaultProxy::cut_after_request) still waits for its request.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        lock(&self.shared.state).armed.is_some()
    }

    /// Connections open and are accepted, but every byte in both directions vanishes; those of the time
    /// before that have not been forwarded yet, too.
    pub fn blackhole(&self, on: bool) {
        self.swallow(Direction::ToServer, on);
        self.swallow(Direction::ToClient, on);
    }

    /// A [`blackhole`](FaultProxy::blackhole) in one direction. Swallowed answers: the server executes, the
    /// client never knows. Afterwards the streams are out of step, so usually a [`cut`](FaultProxy::cut)
    /// follows. The end of a stream is always passed on.
    pub fn swallow(&self, direction: Direction, on: bool) {
        let mut state = lock(&self.shared.state);
        state.faults[direction as usize].swallow = on;
        if on {
            for connection in state.connections.values_mut() {
                connection.queues[direction as usize].retain(|(_, item)| !matches!(item, Item::Bytes(_)));
            }
        }
    }

    /// Holds everything back in one direction, and lets it go, in order, when switched off: a request that
    /// arrives late, after its client has given up (even one that has closed its connection).
    pub fn hold(&self, direction: Direction, on: bool) {
        let mut state = lock(&self.shared.state);
        let faults = &mut state.faults[direction as usize];
        (faults.hold, faults.pass) = (on, 0);
        self.shared.changed.notify_all();
    }

    /// Lets so many bytes pass in one direction, and holds back what follows: half of a request arrives, and the other
    /// half when [`hold`](FaultProxy::hold) is switched off.
    pub fn hold_after(&self, direction: Direction, bytes: usize) {
        let mut state = lock(&self.shared.state);
        let faults = &mut state.faults[direction as usize];
        (faults.hold, faults.pass) = (true, bytes);
    }

    /// Every answer arrives this much later. What is under way already keeps its time.
    pub fn delay(&self, by: Duration) {
        self.delay_direction(Direction::ToClient, by);
    }

    /// Everything in one direction arrives this much later.
    pub fn delay_direction(&self, direction: Direction, by: Duration) {
        lock(&self.shared.state).faults[direction as usize].delay = by;
    }

    /// `true`: nobody listens any more, so that connecting is refused; connections that are open stay (see
    /// [`cut`](FaultProxy::cut)). `false`: listens again on the same port.
    ///
    /// # Errors
    /// The port cannot be opened again.
    pub fn refuse(&self, on: bool) -> Result<()> {
        if on {
            self.acceptor.close();
            Ok(())
        } else {
            self.acceptor.open()
        }
    }

    /// New connections go to another server, as after a fail-over. Those that are open stay with the old one (see
    /// [`cut`](FaultProxy::cut)).
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// What has gone through so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.shared.state).counts
    }

    /// What has gone through so far, and starts again from zero.
    #[must_use]
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut lock(&self.shared.state).counts)
    }

    /// Whether every command that has arrived was answered, and no answer is kept here.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let at_rest =
            |one: &Connection| one.requests == one.replies && one.queues.iter().all(VecDeque::is_empty);
        lock(&self.shared.state).connections.values().all(at_rest)
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.state).connections.len()
    }

    /// Waits until the counts satisfy a condition, such as a request that has arrived; `false` when the time
    /// is over.
    #[must_use]
    pub fn wait_for(&self, condition: impl Fn(&Counts) -> bool, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.shared.state);
        while !condition(&state.counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, Some(left));
        }
        true
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.close();
        self.cut();
    }
}

impl Shared {
    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Option<Duration>) -> MutexGuard<'a, State> {
        match timeout {
            Some(timeout) => self.changed.wait_timeout(state, timeout).unwrap_or_else(|e| e.into_inner()).0,
            None => self.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> Result<()> {
        let target = *lock(&self.target);
        let failed = || crate::Error::io(format!("connect the proxy to {target}"));
        let server = TcpStream::connect_timeout(&target, Duration::from_secs(5)).map_err(failed())?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).map_err(failed())?;
        }
        let (client, server) = (Arc::new(client), Arc::new(server));
        let id = {
            let mut state = lock(&self.state);
            let id = state.next;
            state.next += 1;
            state.counts.connections += 1;
            state.connections.insert(id, Connection::new(Arc::clone(&client), Arc::clone(&server)));
            id
        };
        self.changed.notify_all();
        for direction in Direction::BOTH {
            let (from, to) = match direction {
                Direction::ToServer => (Arc::clone(&client), Arc::clone(&server)),
                Direction::ToClient => (Arc::clone(&server), Arc::clone(&client)),
            };
            let shared = Arc::clone(self);
            spawn("testkit-proxy-read", move || shared.read(id, direction, &from))?;
            let shared = Arc::clone(self);
            spawn("testkit-proxy-write", move || shared.write(id, direction, &to))?;
        }
        Ok(())
    }

    /// Takes what arrives, and decides what becomes of it.
    fn read(&self, id: u64, direction: Direction, mut from: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let mut guard = lock(&self.state);
            let state = &mut *guard;
            let Some(connection) = state.connections.get_mut(&id) else { return };
            let faults = state.faults[direction as usize];
            let due = Instant::now() + faults.delay;
            let queue = direction as usize;
            if length == 0 {
                connection.queues[queue].push_back((due, Item::End));
                self.changed.notify_all();
                return;
            }
            let piece = &buffer[..length];
            let (pass, cut) = match direction {
                Direction::ToServer => {
                    connection.requests(piece, &mut state.counts, &mut state.armed);
                    (piece, false)
                }
                Direction::ToClient => connection.replies(piece, &mut state.counts),
            };
            if !faults.swallow && !pass.is_empty() {
                connection.queues[queue].push_back((due, Item::Bytes(pass.to_vec())));
            }
            if cut {
                connection.queues[queue].push_back((due, Item::Cut));
            }
            self.changed.notify_all();
        }
    }

    /// Delivers what may be delivered.
    fn write(&self, id: u64, direction: Direction, mut to: &TcpStream) {
        let queue = direction as usize;
        let mut broken = false;
        let mut state = lock(&self.state);
        loop {
            let Faults { hold: holds, pass, .. } = state.faults[queue];
            let hold = holds && pass == 0;
            let Some(connection) = state.connections.get_mut(&id) else { return };
            let left = connection.queues[queue]
                .front()
                .map(|(due, _)| due.saturating_duration_since(Instant::now()))
                .filter(|_| !hold);
            if left != Some(Duration::ZERO) {
                state = self.wait(state, left);
                continue;
            }
            match connection.queues[queue].pop_front() {
                Some((due, Item::Bytes(mut bytes))) => {
                    if holds && bytes.len() >= pass {
                        let rest = bytes.split_off(pass);
                        connection.queues[queue].push_front((due, Item::Bytes(rest)));
                    }
                    if holds {
                        state.faults[queue].pass = pass.saturating_sub(bytes.len());
                    }
                    drop(state);
                    broken = broken || to.write_all(&bytes).is_err();
                    state = lock(&self.state);
                }
                Some((_, Item::End)) => {
                    // It fails where the other side has gone already.
                    let _ = to.shutdown(Shutdown::Write);
                    connection.open -= 1;
                    if connection.open == 0 {
                        state.connections.remove(&id);
                    }
                    self.changed.notify_all();
                    return;
                }
                Some((_, Item::Cut)) => {
                    if let Some(connection) = state.connections.remove(&id) {
                        connection.close();
                    }
                    self.changed.notify_all();
                    return;
                }
                None => {}
            }
        }
    }
}

impl Connection {
    fn new(client: Arc<TcpStream>, server: Arc<TcpStream>) -> Connection {
        Connection {
            client,
            server,
            queues: Default::default(),
            scanners: Default::default(),
            request: Vec::new(),
            requests: 0,
            replies: 0,
            cut_at: None,
            open: 2,
        }
    }

    fn close(&self) {
        for stream in [&self.client, &self.server] {
            // It fails where the other side has gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn requests(&mut self, piece: &[u8], counts: &mut Counts, armed: &mut Option<Vec<u8>>) {
        counts.bytes_to_server += piece.len() as u64;
        let mut begin = 0;
        let frames = self.scanners[Direction::ToServer as usize].feed(piece);
        for frame in frames {
            self.note(&piece[begin..frame.end]);
            begin = frame.end;
            if armed.as_ref().is_some_and(|bytes| contains(&self.request, bytes)) {
                *armed = None;
                self.cut_at.get_or_insert(self.requests);
            }
            self.request.clear();
            counts.requests += 1;
            counts.round_trips += u64::from(self.requests == self.replies);
            self.requests += 1;
        }
        self.note(&piece[begin..]);
    }

    fn note(&mut self, bytes: &[u8]) {
        let room = LOOKED_AT - self.request.len().min(LOOKED_AT);
        self.request.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What of these bytes may be delivered, and whether the connection is cut behind them.
    fn replies<'a>(&mut self, piece: &'a [u8], counts: &mut Counts) -> (&'a [u8], bool) {
        counts.bytes_to_client += piece.len() as u64;
        let mut cut = (self.cut_at == Some(self.replies)).then_some(0);
        for frame in self.scanners[Direction::ToClient as usize].feed(piece) {
            if frame.push {
                continue;
            }
            counts.replies += 1;
            self.replies += 1;
            if self.cut_at == Some(self.replies) && frame.end < piece.len() {
                cut = Some(frame.end);
            }
        }
        (&piece[..cut.unwrap_or(piece.len())], cut.is_some())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}
