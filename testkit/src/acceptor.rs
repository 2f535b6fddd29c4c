//! A listener on a thread of its own, which can be closed and opened again on the same port.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::port::{Port, stop_listening};
use crate::{Error, Result, lock};

type OnConnection = Arc<dyn Fn(TcpStream) + Send + Sync>;

pub(crate) struct Acceptor {
    port: Port,
    on_connection: OnConnection,
    running: Mutex<Option<Running>>,
}

struct Running {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Acceptor {
    /// Listens on a free port; `on_connection` must not block.
    pub(crate) fn start(on_connection: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Acceptor> {
        let (port, listener) = Port::listen(false)?;
        let acceptor = Acceptor { port, on_connection: Arc::new(on_connection), running: Mutex::new(None) };
        *lock(&acceptor.running) = Some(acceptor.run(listener)?);
        Ok(acceptor)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }

    /// Listens again, on the same port.
    pub(crate) fn open(&self) -> Result<()> {
        let mut running = lock(&self.running);
        if running.is_none() {
            let listener = TcpListener::bind(self.address())
                .map_err(Error::io(format!("listen again on {}", self.address())))?;
            *running = Some(self.run(listener)?);
        }
        Ok(())
    }

    /// Stops listening. When this returns, connecting is refused.
    pub(crate) fn close(&self) {
        if let Some(running) = lock(&self.running).take() {
            running.closing.store(true, Ordering::SeqCst);
            // Wakes the thread from `accept`; if nobody listens any more, so much the better.
            let _ = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1));
            let _ = running.thread.join();
        }
    }

    fn run(&self, listener: TcpListener) -> Result<Running> {
        let closing = Arc::new(AtomicBool::new(false));
        let on_connection = Arc::clone(&self.on_connection);
        let seen = Arc::clone(&closing);
        let thread = spawn("testkit-accept", move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    break;
                }
                if let Ok(stream) = stream {
                    on_connection(stream);
                }
            }
            stop_listening(listener);
        })?;
        Ok(Running { closing, thread })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("port", &self.port).finish_non_exhaustive()
    }
}

/// A named thread.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(Error::io("start a thread"))
}
