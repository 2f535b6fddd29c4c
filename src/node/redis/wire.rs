//! One connection: commands go out in order, and the answers come back in the same order.
//!
//! The driver has such a connection, too, for which each command is a message between tasks of its own. This one does
//! nothing of itself: whoever has the [`Wire`] also polls what moves its bytes, in the same task.

use std::{collections::VecDeque, future::Future, io};

use bytes::{Buf, Bytes};
use redis::RedisError;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::{mpsc, oneshot},
};

use super::{
    answers::{Answers, Value},
    bounded::Allowance,
    commands::Bundle,
};

/// The end of a connection that commands go into. Cheap to clone; when the last one is dropped the connection ends.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    calls: mpsc::UnboundedSender<Call>,
}

/// Commands that are sent in one go.
#[derive(Debug)]
struct Call {
    bytes: Bytes,
    asked: Asked,
}

/// Who waits for so many answers.
#[derive(Debug)]
struct Asked {
    count: usize,
    answers: Vec<Value>,
    caller: oneshot::Sender<Result<Vec<Value>, RedisError>>,
}

/// What goes out.
#[derive(Debug, Default)]
struct Outgoing {
    /// What is not yet written.
    rest: Bytes,
    /// Something was written that a layer below may hold back.
    held_back: bool,
}

impl Wire {
    /// A connection over `stream`, and what moves its bytes. That ends when the connection does, or when more comes than
    /// is allowed.
    pub(super) fn over<S>(stream: S, allowance: Allowance) -> (Wire, impl Future<Output = ()> + Send)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (calls, called) = mpsc::unbounded_channel();
        (Wire { calls }, run(stream, allowance, called))
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.calls.is_closed()
    }

    /// Puts commands behind those before, at once. The future gives their answers, of which there are as many as
    /// commands (at least one). An error means that the connection has ended, and that they may have been executed.
    pub(super) fn call(
        &self,
        Bundle { bytes, count }: Bundle,
    ) -> impl Future<Output = Result<Vec<Value>, RedisError>> + Send + use<> {
        let (caller, answers) = oneshot::channel();
        let asked = Asked { count, answers: Vec::with_capacity(count), caller };
        // Where nobody takes it the caller is dropped with it.
        let _ = self.calls.send(Call { bytes, asked });
        async move { answers.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::NotConnected).into())) }
    }
}

async fn run(
    stream: impl AsyncRead + AsyncWrite,
    allowance: Allowance,
    mut calls: mpsc::UnboundedReceiver<Call>,
) {
    let (mut reader, mut writer) = split(stream);
    let (mut outgoing, mut answers, mut asked) = (Outgoing::default(), Answers::default(), VecDeque::new());
    // No branch loses anything when another one is taken. Calls first: what was asked together goes in one write.
    let ended = loop {
        let moved = tokio::select! {
            biased;
            call = calls.recv() => match call {
                Some(call) => {
                    outgoing.append(call.bytes);
                    asked.push_back(call.asked);
                    Ok(())
                }
                None => return,
            },
            went = outgoing.write_to(&mut writer), if !outgoing.is_done() => {
                went.map(|bytes| outgoing.went(bytes)).map_err(RedisError::from)
            }
            read = reader.read_buf(answers.buffer()) => match read {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(bytes) => {
                    let delivered = deliver(&mut answers, &mut asked);
                    delivered.and(allowance.spend(bytes, answers.count()).map_err(RedisError::from))
                }
                Err(error) => Err(error.into()),
            },
        };
        if let Err(error) = moved {
            break error;
        }
    };
    for Asked { answers, caller, .. } in asked {
        // A server that lets nobody in says why, and hangs up before it has answered everything.
        let error = match answers.into_iter().next() {
            Some(Value::ServerError(said)) => said.into(),
            _ => ended.clone(),
        };
        let _ = caller.send(Err(error));
    }
}

/// Gives each caller its answers, once they are all there.
fn deliver(answers: &mut Answers, asked: &mut VecDeque<Asked>) -> Result<(), RedisError> {
    while let Some(answer) = answers.next()? {
        let Some(first) = asked.front_mut() else {
            // Taken for the answer to what is asked next, it would be somebody else's.
            return Err(io::Error::other("an answer that nobody asked for").into());
        };
        first.answers.push(answer);
        if first.answers.len() == first.count
            && let Some(Asked { answers, caller, .. }) = asked.pop_front()
        {
            // Whoever waits no longer was told that its commands may have been executed.
            let _ = caller.send(Ok(answers));
        }
    }
    Ok(())
}

impl Outgoing {
    fn append(&mut self, bytes: Bytes) {
        self.rest = if self.rest.is_empty() { bytes } else { [&self.rest[..], &bytes].concat().into() };
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty() && !self.held_back
    }

    /// Writes some of it, or lets go what a layer below holds back: then 0.
    async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        if self.rest.is_empty() {
            return writer.flush().await.map(|()| 0);
        }
        match writer.write(&self.rest).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        }
    }

    fn went(&mut self, bytes: usize) {
        self.rest.advance(bytes);
        self.held_back = bytes > 0;
        if self.rest.is_empty() {
            // Whoever sent it may be the last one to hold it.
            self.rest = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::duplex;

    use super::*;

    fn commands(text: &'static [u8], count: usize) -> Bundle {
        Bundle { bytes: Bytes::from_static(text), count }
    }

    async fn expect(server: &mut (impl AsyncRead + Unpin), bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        server.read_exact(&mut came).await.unwrap();
        assert_eq!(came, bytes);
    }

    #[tokio::test]
    async fn answers_go_to_who_asked_in_the_order_of_the_questions() {
        // Narrow, so that nothing goes in one piece.
        let (stream, mut server) = duplex(3);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let (first, second) = (wire.call(commands(b"one two ", 2)), wire.call(commands(b"three", 1)));
        let served = async {
            expect(&mut server, b"one two three").await;
            server.write_all(b":1\r\n:2\r\n:3\r\n").await.unwrap();
        };
        let (first, second, ()) = tokio::select! {
            all = async { tokio::join!(first, second, served) } => all,
            () = moving => panic!("it ended"),
        };
        assert_eq!(first.unwrap(), [Value::Int(1), Value::Int(2)]);
        assert_eq!(second.unwrap(), [Value::Int(3)]);
    }

    #[tokio::test]
    async fn who_waits_no_longer_leaves_its_answers_to_nobody_else() {
        let (stream, mut server) = duplex(64);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        drop(wire.call(commands(b"one", 1)));
        let second = wire.call(commands(b"two", 1));
        let served = async {
            expect(&mut server, b"onetwo").await;
            server.write_all(b":1\r\n:2\r\n").await.unwrap();
        };
        tokio::select! {
            (second, ()) = async { tokio::join!(second, served) } => assert_eq!(second.unwrap(), [Value::Int(2)]),
            () = moving => panic!("it ended"),
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_connection() {
        let (stream, mut server) = duplex(64);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let (served, first) = (server.write_all(b":1\r\n:2\r\n"), wire.call(commands(b"one", 1)));
        let ((), served, first) = tokio::join!(moving, served, first);
        served.unwrap();
        assert_eq!(first.unwrap(), [Value::Int(1)]);
        assert!(wire.is_closed());
        assert!(wire.call(commands(b"two", 1)).await.unwrap_err().is_connection_dropped());
    }

    #[tokio::test]
    async fn the_end_is_told_to_everybody_who_waits() {
        let (stream, mut server) = duplex(64);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let (first, second) = (wire.call(commands(b"one", 2)), wire.call(commands(b"two", 1)));
        let served = async {
            server.write_all(b":1\r\n").await.unwrap();
            drop(server);
        };
        let ((), (), first, second) = tokio::join!(moving, served, first, second);
        assert!(first.unwrap_err().is_connection_dropped() && second.unwrap_err().is_connection_dropped());
    }

    #[tokio::test]
    async fn what_is_said_before_hanging_up_is_the_reason() {
        let (stream, mut server) = duplex(64);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let call = wire.call(commands(b"one two three", 3));
        let served = async {
            server.write_all(b"-ERR max number of clients reached\r\n:1\r\n").await.unwrap();
            drop(server);
        };
        let ((), (), called) = tokio::join!(moving, served, call);
        assert_eq!(called.unwrap_err().detail(), Some("max number of clients reached"));
    }

    #[tokio::test]
    async fn it_ends_when_nobody_can_use_it_any_more() {
        let (stream, mut server) = duplex(64);
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let mut moving = pin!(moving);
        assert!(futures_util::poll!(&mut moving).is_pending());
        drop(wire);
        moving.await;
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}
