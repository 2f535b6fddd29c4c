//! Connections that do not come about, or end at the wrong moment: how long anybody waits for them, and what becomes of what was to
//! go over them. Most of it on a node that is made up, in simulated time.

use std::{collections::VecDeque, future::pending};

use parking_lot::Mutex;
use sessionring_testkit::{FaultProxy, RedisServer};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::*;
use crate::{node::memory::MemoryLink, protocol::Outcome};

const LIMIT: Duration = Duration::from_secs(1);
/// Longer than anything may take here.
const PATIENCE: Duration = Duration::from_secs(600);

/// What becomes of an attempt to connect.
#[derive(Clone, Copy)]
enum Attempt {
    Succeeds,
    Fails,
    /// Nobody says anything.
    Hangs,
    /// It succeeds, and the connection ends before anything is sent.
    Ends,
}

/// A way to an in-memory node on which this happens, one attempt after the other; then they all succeed.
#[derive(Clone)]
struct Way {
    there: AnyTransport,
    attempts: Arc<Mutex<VecDeque<Attempt>>>,
    /// Somebody tries to connect.
    tries: Arc<Notify>,
    /// The node is elsewhere.
    moves: Arc<Notify>,
}

fn way_with(attempts: impl IntoIterator<Item = Attempt>) -> Way {
    Way {
        there: way("connections", "memory:"),
        attempts: Arc::new(Mutex::new(attempts.into_iter().collect())),
        tries: Arc::default(),
        moves: Arc::default(),
    }
}

impl Transport for Way {
    type Link = Ending;

    async fn connect(self) -> Result<Connection<Ending>, Error> {
        self.tries.notify_one();
        let attempt = self.attempts.lock().pop_front().unwrap_or(Attempt::Succeeds);
        match attempt {
            Attempt::Succeeds | Attempt::Ends => {}
            Attempt::Fails => return Err(Error::new(ErrorKind::Unavailable, "nobody listens")),
            Attempt::Hangs => pending().await,
        }
        let AnyTransport::Memory(there) = self.there else { unreachable!("it is in memory") };
        let Connection { link, hello, driver } = there.connect().await?;
        Ok(Connection { link: Ending { link, ended: matches!(attempt, Attempt::Ends) }, hello, driver })
    }

    async fn moved(self) {
        self.moves.notified().await;
    }
}

/// A connection that has ended, or has not.
#[derive(Clone)]
struct Ending {
    link: MemoryLink,
    ended: bool,
}

impl Link for Ending {
    type Parcel = Vec<BatchReply>;

    fn pack(&self, batches: &[Batch<'_>]) -> Vec<BatchReply> {
        if self.ended {
            let closed = |_| BatchReply::Closed(Error::new(ErrorKind::Unavailable, "it has ended"));
            return batches.iter().map(closed).collect();
        }
        self.link.pack(batches)
    }

    async fn exchange(self, parcel: Vec<BatchReply>) -> Vec<BatchReply> {
        self.link.exchange(parcel).await
    }

    async fn control(self, control: Control) -> Result<ControlReply, Failure> {
        self.link.control(control).await
    }

    async fn survey(self, survey: Survey) -> Result<Surveyed, Failure> {
        self.link.survey(survey).await
    }

    async fn probe(self) -> Result<Look, Error> {
        self.link.probe().await
    }
}

/// Whoever has to agree does not answer.
#[derive(Clone)]
struct Undecided;

impl<L: Link> Gate<L> for Undecided {
    async fn admit(&self, _: &L, _: &Hello) -> Result<(), Error> {
        pending().await
    }

    fn noticed(&self, _: Look) -> Result<(), Error> {
        Ok(())
    }

    fn turned(&self, _: &crate::node::Condition) {}

    fn unreachable(&self) {}
}

async fn tried(way: Way, gate: impl Gate<Ending>) -> (Node, Error) {
    let limits = Limits { connect_timeout: LIMIT, ..Limits::default() };
    let (node, inbox) = Node::new(node_id("a"), &limits);
    Dispatcher::spawn(&node, inbox, limits, way, gate);
    let tried = timeout(PATIENCE, node.tried()).await.expect("it is waited for without end");
    (node, tried.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_is_given_up_and_another_one_is_tried() {
    let way = way_with([Attempt::Hangs]);
    let (_node, error) = tried(way.clone(), Unguarded).await;
    assert!(error.is_unavailable() && error.to_string().contains("no connection within 1000 ms"), "{error}");
    way.tries.notified().await;
    timeout(PATIENCE, way.tries.notified()).await.expect("it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_does_not_agree_in_time_keeps_nobody_waiting() {
    let (_node, error) = tried(way_with([]), Undecided).await;
    assert!(error.is_unavailable() && error.to_string().contains("did not agree in time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_as_soon_as_the_node_is_elsewhere() {
    let way = way_with([Attempt::Fails]);
    let (_node, _) = tried(way.clone(), Unguarded).await;
    way.tries.notified().await;
    let begin = Instant::now();
    way.moves.notify_one();
    way.tries.notified().await;
    // The clock stands still while anybody has something to do; no pause is shorter than 25 ms.
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_meets_an_ended_connection_goes_with_the_next_one() {
    let way = way_with([Attempt::Succeeds, Attempt::Ends, Attempt::Ends]);
    let node = TestNode::behind("connections", way.clone(), Limits::default()).await;
    let blind = Command::from(write(Condition::AbsentOrLive, 1, b"value"));
    let (written, read) = tokio::join!(node.run(1, blind), node.run(2, Command::Read));
    assert!(matches!(written, Ok(Outcome::Applied(_))), "{written:?}");
    assert!(matches!(read, Ok(Outcome::Absent)), "{read:?}");
    assert!(way.attempts.lock().is_empty());
}

/// A real connection, below the dispatcher: it ends when a write has left, and then before one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_left_is_lost_with_its_connection_and_what_has_not_is_kept() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let node = TestNode::connect("connections", &server.address(), Limits::default()).await;
    let Connection { link, driver, .. } = way("connections", &proxy.address()).connect().await.unwrap();
    let driver = tokio::spawn(driver);
    let pack = || {
        let blind = Command::from(write(Condition::AbsentOrLive, 1, b"value"));
        let requests = [Waiting::new(node.request(1, blind), Reply::One(oneshot::channel().0))];
        let batch = || Batch { kind: Kind::Script, fence: &node.fence, requests: &requests };
        link.pack(&[batch(), batch()])
    };
    let sent = proxy.counts().requests;
    proxy.swallow(sessionring_testkit::Direction::ToServer, true);
    let exchange = tokio::spawn(link.clone().exchange(pack()));
    assert!(proxy.wait_for(|counts| counts.requests == sent + 2, PATIENCE));
    proxy.cut();
    for reply in exchange.await.unwrap() {
        assert!(matches!(reply, BatchReply::Broken(Failure::Lost(_))));
    }
    driver.await.unwrap();
    let replies = link.clone().exchange(pack()).await;
    assert!(replies.len() == 2 && replies.iter().all(|reply| matches!(reply, BatchReply::Closed(_))));
}
