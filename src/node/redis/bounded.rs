//! A stream that ends where more comes than anybody can have asked for.
//!
//! What has come of an answer is kept until the answer is whole, however long it says it will be: a server that
//! announces a string without end and goes on sending would fill the memory until somebody's deadline. A list of many small things
//! would do so sooner: each takes some four bytes on the way, and many times that when it is here. So they cost more than their bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much may still come. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// The answers to the handshake: INFO is a few kilobytes.
    const HANDSHAKE: u64 = 4 << 20;
    /// All answers to what one flight asks. 8,192 sessions of 64 KiB are half of it, and Redis has no longer string.
    const FLIGHT: u64 = 1 << 30;
    /// What a value counts for besides its bytes: about as many as it may take when it is taken apart.
    const VALUE: u64 = 128;

    pub(super) fn of_handshake() -> Allowance {
        Allowance(Arc::new(AtomicU64::new(Allowance::HANDSHAKE)))
    }

    /// Something is asked, so that something may come.
    pub(super) fn renew(&self) {
        self.0.store(Allowance::FLIGHT, Relaxed);
    }

    /// So many bytes have come, and so many values were found in what has come.
    pub(super) fn spend(&self, bytes: usize, values: usize) -> io::Result<()> {
        let cost = bytes as u64 + values as u64 * Allowance::VALUE;
        let left = self.0.load(Relaxed).checked_sub(cost);
        let left = left.ok_or_else(|| io::Error::other("more comes than was asked for"))?;
        // Who renews it at this very moment loses a few bytes of what he allows.
        self.0.store(left, Relaxed);
        Ok(())
    }
}

/// Reads no more than is allowed, for whoever does not count values: each ends a line, so lines are what counts here.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, allowance: Allowance) -> Bounded<S> {
        Bounded { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                let came = &buffer.filled()[before..];
                let lines = came.iter().filter(|&&byte| byte == b'\n').count();
                let spent = self.allowance.spend(came.len(), lines);
                if spent.is_err() {
                    // An error says that nothing was read.
                    buffer.set_filled(before);
                }
                Poll::Ready(spent)
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn what_nobody_asked_for_ends_the_stream() {
        let allowance = Allowance(Arc::new(AtomicU64::new(10)));
        let mut stream = Bounded::new(&[7_u8; 64][..], allowance.clone());
        let mut eight = [0; 8];
        stream.read_exact(&mut eight).await.unwrap();
        assert!(stream.read_exact(&mut eight).await.is_err());
        allowance.renew();
        stream.read_exact(&mut eight).await.unwrap();
        assert_eq!(eight, [7; 8]);
        assert_eq!(allowance.0.load(Relaxed), Allowance::FLIGHT - 8);
    }

    #[tokio::test]
    async fn short_lines_cost_more_than_their_bytes() {
        let allowance = Allowance(Arc::new(AtomicU64::new(1000)));
        let lines = b":1\r\n".repeat(64);
        let mut stream = Bounded::new(&lines[..], allowance.clone());
        let mut all = Vec::new();
        assert!(stream.read_to_end(&mut all).await.is_err());
        allowance.spend(7, 0).unwrap();
        assert!(allowance.spend(0, 8).is_err());
    }
}
