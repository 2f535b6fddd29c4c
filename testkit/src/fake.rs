//! Something that listens like a server and is none.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::acceptor::{Acceptor, spawn};
use crate::resp::{Scanner, arguments};
use crate::{Error, Result, lock};

type Respond = Arc<dyn Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync>;
type Until = Arc<dyn Fn(&[Vec<u8>]) -> Option<Vec<u8>> + Send + Sync>;

/// How a [`FakeServer`] behaves towards each connection.
#[derive(Clone)]
#[non_exhaustive]
pub enum Script {
    /// Closes each connection at once.
    Close,
    /// Reads everything, says nothing, keeps the connection open.
    Silence,
    /// Says these bytes as soon as somebody connects, then nothing more.
    Greet(Vec<u8>),
    /// Says these bytes when the client has sent something, and keeps the connection open.
    Once(Vec<u8>),
    /// Says these bytes when the client has sent something, and closes the connection.
    OnceAndClose(Vec<u8>),
    /// Answers each complete request with these bytes.
    Each(Vec<u8>),
    /// Answers each complete request with what the function makes of its arguments.
    Respond(Respond),
    /// The same, until there is nothing that it makes of them: then it closes the connection.
    Until(Until),
    /// The same as `Respond`, but where the answer is empty it announces a long string, and sends a byte of it after every such pause, for ever.
    Drip(Respond, Duration),
}

impl Script {
    /// [`Script::Respond`] with this function.
    pub fn respond(function: impl Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static) -> Script {
        Script::Respond(Arc::new(function))
    }

    /// [`Script::Until`] with this function.
    pub fn until(function: impl Fn(&[Vec<u8>]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Script {
        Script::Until(Arc::new(function))
    }

    /// [`Script::Drip`] with this function and pause.
    pub fn drip(pause: Duration, function: impl Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static) -> Script {
        Script::Drip(Arc::new(function), pause)
    }

    /// A web server that has been asked something it does not understand.
    #[must_use]
    pub fn http() -> Script {
        Script::OnceAndClose(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        )
    }

    /// A string of so many bytes is announced, and does not come.
    #[must_use]
    pub fn huge_bulk(length: u64) -> Script {
        Script::Each(format!("${length}\r\n").into_bytes())
    }

    /// A server that still loads its data.
    #[must_use]
    pub fn loading() -> Script {
        Script::error("LOADING Redis is loading the dataset in memory")
    }

    /// A server that wants a password.
    #[must_use]
    pub fn no_auth() -> Script {
        Script::error("NOAUTH Authentication required.")
    }

    /// Answers each request with this error (without the minus sign).
    #[must_use]
    pub fn error(text: &str) -> Script {
        Script::Each(format!("-{text}\r\n").into_bytes())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Script::Close => ("Close", None),
            Script::Silence => ("Silence", None),
            Script::Greet(bytes) => ("Greet", Some(bytes)),
            Script::Once(bytes) => ("Once", Some(bytes)),
            Script::OnceAndClose(bytes) => ("OnceAndClose", Some(bytes)),
            Script::Each(bytes) => ("Each", Some(bytes)),
            Script::Respond(_) => ("Respond", None),
            Script::Until(_) => ("Until", None),
            Script::Drip(..) => ("Drip", None),
        };
        match bytes {
            Some(bytes) => f.debug_tuple(name).field(&String::from_utf8_lossy(bytes)).finish(),
            None => f.write_str(name),
        }
    }
}

/// Listens on a free loopback port and answers every connection by a [`Script`].
#[derive(Debug)]
pub struct FakeServer {
    state: Arc<Mutex<State>>,
    acceptor: Acceptor,
}

#[derive(Debug)]
struct State {
    script: Script,
    accepted: u64,
    requests: u64,
    open: BTreeMap<u64, TcpStream>,
}

impl FakeServer {
    /// Begins to listen.
    ///
    /// # Errors
    /// No free port.
    pub fn start(script: Script) -> Result<FakeServer> {
        let state = Arc::new(Mutex::new(State { script, accepted: 0, requests: 0, open: BTreeMap::new() }));
        let accepting = Arc::clone(&state);
        let acceptor = Acceptor::start(move |stream| {
            // Without a thread or a socket the connection closes, which a client has to bear anyway.
            let _ = accept(&accepting, stream);
        })?;
        Ok(FakeServer { state, acceptor })
    }

    /// From now on new connections meet another script.
    pub fn set_script(&self, script: Script) {
        lock(&self.state).script = script;
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.acceptor.address().port()
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("redis://{}", self.acceptor.address())
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// How many connections have been accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        lock(&self.state).accepted
    }

    /// How many complete requests have arrived.
    #[must_use]
    pub fn requests(&self) -> u64 {
        lock(&self.state).requests
    }

    /// Closes all connections; new ones are accepted.
    pub fn cut(&self) {
        for stream in lock(&self.state).open.values() {
            // It fails where the client has gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.acceptor.close();
        self.cut();
    }
}

fn accept(state: &Arc<Mutex<State>>, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).map_err(Error::io("set up a connection"))?;
    let clone = stream.try_clone().map_err(Error::io("set up a connection"))?;
    let (id, script) = {
        let mut state = lock(state);
        let id = state.accepted;
        state.accepted += 1;
        state.open.insert(id, clone);
        (id, state.script.clone())
    };
    let state = Arc::clone(state);
    spawn("testkit-fake", move || {
        // A client that goes away ends the play.
        let _ = play(&state, &script, &stream);
        let _ = stream.shutdown(Shutdown::Both);
        lock(&state).open.remove(&id);
    })?;
    Ok(())
}

fn play(state: &Mutex<State>, script: &Script, mut stream: &TcpStream) -> std::io::Result<()> {
    match script {
        Script::Close => return Ok(()),
        Script::Greet(bytes) => stream.write_all(bytes)?,
        _ => {}
    }
    let mut scanner = Scanner::default();
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut first = true;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut begin = 0;
        for frame in scanner.feed(&buffer[..length]) {
            request.extend_from_slice(&buffer[begin..frame.end]);
            begin = frame.end;
            lock(state).requests += 1;
            match script {
                Script::Each(bytes) => stream.write_all(bytes)?,
                Script::Respond(function) => stream.write_all(&function(&arguments(&request)))?,
                Script::Until(function) => match function(&arguments(&request)) {
                    Some(answer) => stream.write_all(&answer)?,
                    None => return Ok(()),
                },
                Script::Drip(function, pause) => match function(&arguments(&request)) {
                    answer if answer.is_empty() => return drip(stream, *pause),
                    answer => stream.write_all(&answer)?,
                },
                _ => {}
            }
            request.clear();
        }
        request.extend_from_slice(&buffer[begin..length]);
        match script {
            Script::Once(bytes) if first => stream.write_all(bytes)?,
            Script::OnceAndClose(bytes) => return stream.write_all(bytes),
            _ => {}
        }
        first = false;
    }
}

fn drip(mut stream: &TcpStream, pause: Duration) -> std::io::Result<()> {
    stream.write_all(b"$500000000\r\n")?;
    loop {
        stream.write_all(b"x")?;
        thread::sleep(pause);
    }
}
