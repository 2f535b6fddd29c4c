//! Requests per second of the axum example of the README, with the ring's store and with tower-sessions-redis-store, in interleaved rounds,
//! each on one Redis. Over HTTP, as `axum::serve` serves it, and once more with the router called in the process: what HTTP
//! costs is the same for both and hides a part of the difference.
//!
//! `cargo run --release -p compare --bin web`; `-- http`, `-- router` for one of the two.

#[allow(dead_code)]
#[path = "../pairs.rs"]
mod pairs;
#[allow(dead_code)]
#[path = "../statistics.rs"]
mod statistics;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    routing::get,
};
use pairs::{Side, interleave, median, ratio};
use sessionring::{SessionRing, web::tower_sessions::RingStore};
use sessionring_testkit::RedisServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;
use tower_sessions::{Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::{RedisStore, fred::prelude::*};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(400);
/// So many sessions; each client goes through its share of them.
const SESSIONS: usize = 2048;

/// The example of the README (`/`), and beside it a page that only reads its session. Before, each session was filled as those of
/// a shop are, with some hundred bytes.
fn app(store: impl SessionStore + Clone) -> Router {
    Router::new()
        .route("/", get(visits))
        .route(
            "/read",
            get(async |session: Session| Ok::<_, StatusCode>(format!("{} visits", read(&session).await?))),
        )
        .route(
            "/begin",
            get(async |session: Session| {
                let cart = ["a book", "a cup", "some tea", "x".repeat(150).as_str()].map(str::to_owned);
                session.insert("cart", cart).await.map_err(failed)
            }),
        )
        .layer(SessionManagerLayer::new(store))
}

async fn visits(session: Session) -> Result<String, StatusCode> {
    let before = read(&session).await?;
    session.insert("visits", before + 1).await.map_err(failed)?;
    Ok(format!("{before} visits before this one"))
}

async fn read(session: &Session) -> Result<u64, StatusCode> {
    Ok(session.get("visits").await.map_err(failed)?.unwrap_or(0))
}

fn failed(error: tower_sessions::session::Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::SERVICE_UNAVAILABLE
}

/// How requests come to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http,
    Router,
}

#[derive(Clone)]
struct Site {
    router: Router,
    address: SocketAddr,
    cookies: Arc<[String]>,
}

impl Site {
    async fn new(store: impl SessionStore + Clone) -> Result<Site> {
        let (router, mut cookies) = (app(store), Vec::new());
        for _ in 0..SESSIONS {
            let response = router.clone().oneshot(Request::get("/begin").body(Body::empty())?).await?;
            let cookie = response.headers().get(header::SET_COOKIE).ok_or("no cookie")?.to_str()?;
            cookies.push(cookie.split(';').next().unwrap_or_default().to_owned());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(axum::serve(listener, router.clone()).into_future());
        Ok(Site { router, address, cookies: cookies.into() })
    }

    /// Requests per second of so many clients. One of `reads + 1` requests changes its session.
    async fn round(&self, way: Way, clients: usize, reads: usize) -> Result<f64> {
        let (begin, done) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|client| {
            let (site, done) = (self.clone(), done.clone());
            tokio::spawn(async move {
                let mut browser = match way {
                    Way::Http => Browser::Http(Connection::new(site.address).await?),
                    Way::Router => Browser::Router(site.router.clone()),
                };
                let share = SESSIONS / clients;
                let mut turn = 0;
                while begin.elapsed() < ROUND {
                    let path = if turn % (reads + 1) == reads { "/" } else { "/read" };
                    browser.get(path, &site.cookies[client * share + turn % share]).await?;
                    turn += 1;
                }
                done.fetch_add(turn, Ordering::Relaxed);
                Ok::<(), Error>(())
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await??;
        }
        Ok(done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
    }
}

enum Browser {
    Http(Connection),
    Router(Router),
}

impl Browser {
    async fn get(&mut self, path: &str, cookie: &str) -> Result<()> {
        match self {
            Browser::Http(connection) => connection.get(path, cookie).await,
            Browser::Router(router) => {
                let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty())?;
                let status = router.clone().oneshot(request).await?.status();
                if status == StatusCode::OK { Ok(()) } else { Err(format!("{path}: {status}").into()) }
            }
        }
    }
}

/// A connection of HTTP/1.1 that is kept. It does as little as a load generator can, since it runs on the same processors.
struct Connection {
    stream: TcpStream,
    request: String,
    response: Vec<u8>,
}

impl Connection {
    async fn new(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, request: String::new(), response: Vec::new() })
    }

    async fn get(&mut self, path: &str, cookie: &str) -> Result<()> {
        self.request.clear();
        self.request.extend(["GET ", path, " HTTP/1.1\r\nhost: shop\r\ncookie: ", cookie, "\r\n\r\n"]);
        self.stream.write_all(self.request.as_bytes()).await?;
        self.response.clear();
        loop {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err(format!("{path}: the server has closed the connection").into());
            }
            // Pages of a few bytes come in one piece with their head, which axum ends with their length.
            if self.response.ends_with(b"this one") || self.response.ends_with(b" visits") {
                break;
            }
        }
        if self.response.starts_with(b"HTTP/1.1 200 ") {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&self.response).into())
        }
    }
}

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = RedisServer::start()?;
    let (ours, theirs) = runtime.block_on(async {
        let ring = SessionRing::builder().node("a", server.address()).connect().await?;
        let config = Config::from_url(&format!("redis://{}", server.socket_address()))?;
        // The size of the example in its documentation.
        let pool = Pool::new(config, None, None, None, 6)?;
        pool.connect();
        pool.wait_for_connect().await?;
        let ours = Site::new(RingStore::new(&ring, "web")).await?;
        Ok::<_, Error>((ours, Site::new(RedisStore::new(pool)).await?))
    })?;
    println!(
        "| | clients | requests that change the session | sessionring | tower-sessions-redis-store | ratio |"
    );
    println!("|---|---|---|---|---|---|");
    for (way, name) in [(Way::Http, "http"), (Way::Router, "router")] {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        for clients in [1, 16, 128] {
            for (reads, what) in [(9, "1 of 10"), (0, "all")] {
                let pairs = interleave(ROUNDS, |side| {
                    let site = if side == Side::Ours { &ours } else { &theirs };
                    runtime.block_on(site.round(way, clients, reads))
                })?;
                let spread = ratio(&pairs, |rate| *rate)?;
                let [ours, theirs] =
                    [Side::Ours, Side::Theirs].map(|side| median(&pairs, side, |rate| *rate));
                println!(
                    "| {name} | {clients} | {what} | {ours:.0}/s | {theirs:.0}/s | {:.2} ({:.2} to {:.2}) |",
                    spread.median, spread.least, spread.most
                );
            }
        }
    }
    Ok(())
}
