//! The Redis protocol, as much of it as tests need: a blocking client, and a scanner that finds where
//! requests and replies end in a stream.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::{Error, Result};

/// How long a client waits for a connection or an answer, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server answered (RESP2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RESP2 has these and gets no more; tests match on all of them")]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the minus sign
    Error(String),
    /// `:1`
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// No value.
    Nil,
    /// Several replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The reply in RESP, as a server sends it: for [`FakeServer`](crate::FakeServer).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Simple(text) => format!("+{text}\r\n").into(),
            Reply::Error(text) => format!("-{text}\r\n").into(),
            Reply::Int(n) => format!(":{n}\r\n").into(),
            Reply::Nil => b"$-1\r\n".to_vec(),
            Reply::Bulk(bytes) => [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            Reply::Array(parts) => {
                let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
                parts.iter().for_each(|part| bytes.extend(part.encode()));
                bytes
            }
        }
    }

    /// The reply, or [`Error::Reply`] if it is an error.
    ///
    /// # Errors
    /// The server's text.
    pub fn ok(self) -> Result<Reply> {
        match self {
            Reply::Error(text) => Err(Error::Reply { text }),
            reply => Ok(reply),
        }
    }

    /// The text of a simple, bulk or error reply or the digits of a number; `None` for nil, arrays and
    /// bytes that are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Simple(text) | Reply::Error(text) => Some(text.clone()),
            Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).ok(),
            Reply::Int(number) => Some(number.to_string()),
            Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// The number of an integer reply.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The bytes of a bulk reply.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The replies in an array.
    #[must_use]
    pub fn array(&self) -> Option<&[Reply]> {
        match self {
            Reply::Array(replies) => Some(replies),
            _ => None,
        }
    }

    /// Whether this is the error reply that begins with `code`, such as `NOAUTH`.
    #[must_use]
    pub fn is_error(&self, code: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(code))
    }
}

/// A small blocking client.
pub struct Client {
    stream: BufReader<TcpStream>,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Client {
    /// Connects. Waits at most ten seconds for the connection and for each answer.
    ///
    /// # Errors
    /// [`Error::Io`] if nobody listens there.
    pub fn connect(address: impl ToSocketAddrs + fmt::Debug) -> Result<Client> {
        let what = format!("connect to {address:?}");
        let peer = address
            .to_socket_addrs()
            .map_err(Error::io(what.clone()))?
            .next()
            .ok_or_else(|| Error::protocol("an empty address"))?;
        let stream = TcpStream::connect_timeout(&peer, PATIENCE).map_err(Error::io(what.clone()))?;
        stream.set_nodelay(true).map_err(Error::io(what.clone()))?;
        let local = stream.local_addr().map_err(Error::io(what))?;
        let client = Client { stream: BufReader::new(stream), local, peer };
        client.set_timeout(Some(PATIENCE))?;
        Ok(client)
    }

    /// Waits at most this long for each answer; `None`: for ever.
    ///
    /// # Errors
    /// [`Error::Io`] for a duration of zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(timeout).map_err(Error::io("set a timeout"))?;
        stream.set_write_timeout(timeout).map_err(Error::io("set a timeout"))
    }

    /// This end of the connection: what the server calls the client's address.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Logs in; `user` is `"default"` where there is only a password.
    ///
    /// # Errors
    /// [`Error::Reply`] if the server refuses.
    pub fn auth(&mut self, user: &str, password: &str) -> Result<()> {
        let reply = if user == "default" {
            self.command(&["AUTH", password])?
        } else {
            self.command(&["AUTH", user, password])?
        };
        reply.ok().map(drop)
    }

    /// Sends one command and waits for its answer. An error *reply* is an `Ok(Reply::Error)`; see
    /// [`Reply::ok`].
    ///
    /// # Errors
    /// The connection is broken, or no answer came in time.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply> {
        self.send(args)?;
        self.receive()
    }

    /// Sends a command without waiting; each needs a [`receive`](Client::receive) later.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<()> {
        self.send_raw(&encode(args))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).map_err(Error::io(format!("send to {}", self.peer)))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// The connection is broken, the bytes are no reply, or none came in time.
    pub fn receive(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let text = String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
        let number = || text.parse::<i64>().map_err(|_| Error::protocol(format!("{text:?} as a number")));
        match line.first() {
            Some(b'+') => Ok(Reply::Simple(text)),
            Some(b'-') => Ok(Reply::Error(text)),
            Some(b':') => Ok(Reply::Int(number()?)),
            Some(b'$') => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = Vec::new();
                    let took = (&mut self.stream).take(length as u64 + 2).read_to_end(&mut bytes);
                    took.map_err(Error::io(format!("receive from {}", self.peer)))?;
                    if bytes.len() != length + 2 {
                        return Err(Error::protocol("the end of the stream inside a string"));
                    }
                    bytes.truncate(length);
                    Ok(Reply::Bulk(bytes))
                }
                Err(_) => Ok(Reply::Nil),
            },
            Some(b'*') => match number()? {
                count if count < 0 => Ok(Reply::Nil),
                count => Ok(Reply::Array((0..count).map(|_| self.receive()).collect::<Result<_>>()?)),
            },
            _ => Err(Error::protocol(format!("{:?}", String::from_utf8_lossy(&line)))),
        }
    }

    /// One line without its end.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        let took = self.stream.read_until(b'\n', &mut line);
        took.map_err(Error::io(format!("receive from {}", self.peer)))?;
        if line.pop() != Some(b'\n') {
            return Err(Error::Io {
                what: format!("receive from {}", self.peer),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            });
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    /// A handle with which another thread can end a wait on this connection.
    pub(crate) fn stream(&self) -> Result<TcpStream> {
        self.stream.get_ref().try_clone().map_err(Error::io("clone a socket"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ends the connection even while a child that is just being started holds a copy of the descriptor.
        // It fails where the server has closed it already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The arguments of one complete request; an inline command is split at spaces.
pub(crate) fn arguments(frame: &[u8]) -> Vec<Vec<u8>> {
    if frame.first() != Some(&b'*') {
        return frame.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).map(<[u8]>::to_vec).collect();
    }
    let mut args = Vec::new();
    let mut rest = after_line(frame);
    while rest.first() == Some(&b'$') {
        let line = &rest[1..rest.iter().position(|&b| b == b'\r').unwrap_or(rest.len())];
        let length: usize = String::from_utf8_lossy(line).parse().unwrap_or(0);
        rest = after_line(rest);
        args.push(rest.get(..length).unwrap_or(rest).to_vec());
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    args
}

fn after_line(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|&b| b == b'\n').map_or(&[], |end| &bytes[end + 1..])
}

/// Finds the ends of requests and replies (RESP2, RESP3 and inline commands) in a stream that comes in
/// pieces. It keeps no payload.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Bytes of the present line, no more of them than a length can have.
    line: Vec<u8>,
    /// Payload bytes still to come, with their line end.
    payload: u64,
    /// How many elements each open aggregate still lacks.
    open: Vec<u64>,
    /// The first byte of the frame that is under way.
    kind: Option<u8>,
}

/// Where a frame ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Offset of the byte behind it, in the piece just fed.
    pub(crate) end: usize,
    /// A RESP3 push: nobody asked for it.
    pub(crate) push: bool,
}

impl Scanner {
    const LINE: usize = 32;

    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            self.kind.get_or_insert(byte);
            let element = if self.payload > 0 {
                let skip = self.payload.min((piece.len() - at) as u64);
                self.payload -= skip;
                at += skip as usize;
                self.payload == 0
            } else {
                at += 1;
                if byte == b'\n' {
                    self.end_of_line()
                } else {
                    if self.line.len() < Self::LINE {
                        self.line.push(byte);
                    }
                    false
                }
            };
            if element && self.end_of_element() {
                frames.push(Frame { end: at, push: self.kind.take() == Some(b'>') });
            }
        }
        frames
    }

    /// Whether the line was an element by itself.
    fn end_of_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let text = line.get(1..).map(String::from_utf8_lossy).unwrap_or_default();
        let number = text.trim_end().parse::<i64>().ok().and_then(|n| u64::try_from(n).ok());
        match (line.first(), number) {
            (Some(b'*' | b'~' | b'>'), Some(n)) if n > 0 => self.open.push(n),
            (Some(b'%'), Some(n)) if n > 0 => self.open.push(n.saturating_mul(2)),
            // Attributes stand before the element that they belong to.
            (Some(b'|'), Some(n)) => self.open.push(n.saturating_mul(2).saturating_add(1)),
            (Some(b'$' | b'=' | b'!'), Some(n)) => self.payload = n.saturating_add(2),
            _ => return true,
        }
        false
    }

    /// Whether the element was the last of its frame.
    fn end_of_element(&mut self) -> bool {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [&str; 10] = [
        "+OK\r\n",
        "$3\r\na\nb\r\n",
        "$-1\r\n",
        "*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        "*0\r\n",
        ">1\r\n+x\r\n",
        "%1\r\n+k\r\n+v\r\n",
        "|1\r\n+k\r\n+v\r\n:9\r\n",
        "-ERR no\r\n",
        "PING\r\n",
    ];

    #[test]
    fn every_way_to_split_a_stream_finds_the_same_frames() {
        let stream = FRAMES.concat().into_bytes();
        let ends: Vec<usize> = (1..=FRAMES.len()).map(|count| FRAMES[..count].concat().len()).collect();
        for cut in 0..=stream.len() {
            let mut scanner = Scanner::default();
            let mut found: Vec<usize> = scanner.feed(&stream[..cut]).iter().map(|f| f.end).collect();
            found.extend(scanner.feed(&stream[cut..]).iter().map(|f| f.end + cut));
            assert_eq!(found, ends, "cut at {cut}");
        }
    }

    #[test]
    fn byte_by_byte_only_one_frame_is_a_push() {
        let mut scanner = Scanner::default();
        let stream = FRAMES.concat().into_bytes();
        let frames: Vec<Frame> = stream.iter().flat_map(|&byte| scanner.feed(&[byte])).collect();
        let pushes: Vec<bool> = frames.iter().map(|f| f.push).collect();
        assert_eq!(pushes, FRAMES.map(|frame| frame.starts_with('>')));
    }

    #[test]
    fn arguments_come_back() {
        let args: [&[u8]; 3] = [b"SET", b"k\r\n$1\r\n", b""];
        assert_eq!(arguments(&encode(&args)), args);
        assert_eq!(arguments(b"SET a  b\r\n"), [b"SET".as_slice(), b"a", b"b"]);
    }
}
