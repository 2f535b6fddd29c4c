//! Requests per second of an axum router with sessions: the ring's store beside tower-sessions-redis-store, on one Redis each
//! at the same time, in interleaved rounds. The router is called in the process: what HTTP costs is the same for both and
//! would only hide the difference.
//!
//! `cargo run --release -p compare --bin web`

#[allow(dead_code)]
#[path = "../pairs.rs"]
mod pairs;
#[allow(dead_code)]
#[path = "../statistics.rs"]
mod statistics;

use std::{
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
use tower::ServiceExt;
use tower_sessions::{Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::{RedisStore, fred::prelude::*};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(400);
/// So many sessions; each client goes through its share of them.
const SESSIONS: usize = 2048;

/// A page that reads its session, and one that changes it, as pages do that keep a cart of some hundred bytes.
fn app(store: impl SessionStore + Clone) -> Router {
    Router::new()
        .route("/begin", get(async |session: Session| insert(&session, 0).await))
        .route(
            "/read",
            get(async |session: Session| session.get::<u64>("visits").await.map(drop).map_err(failed)),
        )
        .route(
            "/change",
            get(async |session: Session| {
                let visits: u64 = session.get("visits").await.map_err(failed)?.unwrap_or(0);
                insert(&session, visits + 1).await
            }),
        )
        .layer(SessionManagerLayer::new(store))
}

async fn insert(session: &Session, visits: u64) -> Result<(), StatusCode> {
    session.insert("visits", visits).await.map_err(failed)?;
    session.insert("cart", ["a book", "a cup", "some tea", "x".repeat(150).as_str()]).await.map_err(failed)
}

fn failed(error: tower_sessions::session::Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

#[derive(Clone)]
struct Site {
    router: Router,
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
        Ok(Site { router, cookies: cookies.into() })
    }

    async fn request(&self, path: &str, session: usize) -> Result<()> {
        let cookie = &self.cookies[session % SESSIONS];
        let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty())?;
        let status = self.router.clone().oneshot(request).await?.status();
        if status != StatusCode::OK { Err(format!("{path}: {status}").into()) } else { Ok(()) }
    }

    /// Requests per second of so many clients. One of `reads + 1` requests changes its session.
    async fn round(&self, clients: usize, reads: usize) -> Result<f64> {
        let (begin, done) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let clients = (0..clients).map(|client| {
            let (site, done) = (self.clone(), done.clone());
            tokio::spawn(async move {
                let share = SESSIONS / clients;
                let mut turn = 0;
                while begin.elapsed() < ROUND {
                    let path = if turn % (reads + 1) == reads { "/change" } else { "/read" };
                    site.request(path, client * share + turn % share).await?;
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

fn main() -> Result<()> {
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
        "| clients | requests that change the session | sessionring | tower-sessions-redis-store | ratio |"
    );
    println!("|---|---|---|---|---|");
    for clients in [1, 16, 128] {
        for (reads, what) in [(9, "1 of 10"), (0, "all")] {
            let pairs = interleave(ROUNDS, |side| {
                let site = if side == Side::Ours { &ours } else { &theirs };
                runtime.block_on(site.round(clients, reads))
            })?;
            let spread = ratio(&pairs, |rate| *rate)?;
            let [ours, theirs] = [Side::Ours, Side::Theirs].map(|side| median(&pairs, side, |rate| *rate));
            println!(
                "| {clients} | {what} | {ours:.0}/s | {theirs:.0}/s | {:.2} ({:.2} to {:.2}) |",
                spread.median, spread.least, spread.most
            );
        }
    }
    Ok(())
}
