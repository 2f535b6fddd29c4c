//! What departs together, on an in-memory node behind a link that writes down what it is given.

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::{node::memory::MemoryLink, protocol::Outcome};

/// The batches of one flight: of what kind each is, and how many requests it has.
type Packed = Vec<(Kind, usize)>;

#[derive(Clone)]
struct Way {
    there: AnyTransport,
    flights: Arc<Mutex<Vec<Packed>>>,
    /// So many flights may land.
    landing: Arc<Semaphore>,
}

#[derive(Clone)]
struct Written {
    link: MemoryLink,
    flights: Arc<Mutex<Vec<Packed>>>,
    landing: Arc<Semaphore>,
}

impl Transport for Way {
    type Link = Written;

    async fn connect(self) -> Result<Connection<Written>, Error> {
        let AnyTransport::Memory(there) = self.there else { unreachable!("it is in memory") };
        let Connection { link, hello, driver } = there.connect().await?;
        Ok(Connection { link: Written { link, flights: self.flights, landing: self.landing }, hello, driver })
    }
}

impl Link for Written {
    type Parcel = Vec<BatchReply>;

    fn pack(&self, batches: &[Batch<'_>]) -> Vec<BatchReply> {
        self.flights.lock().push(batches.iter().map(|batch| (batch.kind, batch.requests.len())).collect());
        self.link.pack(batches)
    }

    async fn exchange(self, parcel: Vec<BatchReply>) -> Vec<BatchReply> {
        self.landing.acquire().await.unwrap().forget();
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

async fn node(limits: Limits) -> (Way, TestNode) {
    let (flights, landing) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let way = Way { there: way("flights", "memory:"), flights, landing };
    let node = TestNode::behind("flights", way.clone(), limits).await;
    node.node.tried().await.unwrap();
    (way, node)
}

fn create(operation: u64) -> Command {
    Command::from(write(Condition::Absent, operation, b"value"))
}

/// While one flight is under way everything else waits, and goes with the next one: whatever it is, and in whatever order it came.
#[tokio::test]
async fn all_that_waits_departs_together_whatever_its_kind() {
    let (way, node) = node(Limits::default()).await;
    let submit = |key, command| tokio::spawn(node.node.submit(node.request(key, command)));
    let alone = submit(0, Command::Read);
    while way.flights.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let many = [
        submit(1, create(1)),
        submit(2, Command::Read),
        submit(3, Command::Visit),
        submit(4, Command::Read),
        submit(5, Command::Visit),
        submit(6, create(6)),
        submit(7, Command::Read),
    ];
    tokio::task::yield_now().await;
    way.landing.add_permits(2);
    assert_eq!(alone.await.unwrap().unwrap(), Outcome::Absent);
    for answer in many {
        assert!(answer.await.unwrap().is_ok());
    }
    let together = vec![(Kind::Read, 3), (Kind::Visit, 2), (Kind::Script, 2)];
    assert_eq!(*way.flights.lock(), [vec![(Kind::Read, 1)], together]);
}

/// However many writes wait, a read that comes after them is in the next flight.
#[tokio::test]
async fn reads_do_not_wait_behind_writes_that_fill_flights() {
    let limits = Limits { script_batch: 2, flight_batches: 3, ..Limits::default() };
    let (way, node) = node(limits).await;
    let writes = (0..15).map(|key| node.request(key, create(u64::from(key)))).collect();
    let writes = tokio::spawn(node.node.submit_many(writes));
    let read = tokio::spawn(node.node.submit(node.request(99, Command::Read)));
    way.landing.add_permits(9);
    assert_eq!(read.await.unwrap().unwrap(), Outcome::Absent);
    assert!(writes.await.unwrap().iter().all(Result::is_ok));
    let full = vec![(Kind::Script, 2); 3];
    let first = [vec![(Kind::Read, 1)], full.clone()].concat();
    assert_eq!(*way.flights.lock(), [first, full, vec![(Kind::Script, 2), (Kind::Script, 1)]]);
}
