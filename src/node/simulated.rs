//! A node that is not there: what is sent to it goes to whatever stands in for the network, see `src/simulation`.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Batch, BatchReply, Clocks, Connection, Driver, Failure, Hello, Link, Look, Request, Survey, Surveyed,
    Transport, run,
};
use crate::{
    error::{Error, ErrorKind},
    protocol::{Control, ControlReply, Standing},
    record::Millis,
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

/// What is asked of a simulated server. Each is executed at once, or never.
pub(crate) enum Question {
    Greet,
    Batch { fence: Fence, requests: Vec<Request> },
    Probe,
    Control(Control),
    Survey(Survey),
}

pub(crate) enum Response {
    Greeted { standing: Standing, process: u64, time: Millis },
    Batch(BatchReply),
    Looked { fence: Option<Vec<u8>>, time: Millis },
    Controlled(ControlReply),
    Surveyed(Surveyed),
}

/// A connection and what drives it.
pub(crate) type Dialled = (Arc<dyn Wire>, Driver);

/// Stands in for the network.
pub(crate) trait Network: Send + Sync {
    /// Connects a process of the simulation with a server.
    fn dial(
        &self,
        process: u64,
        server: &str,
        keys: &Arc<MetaKeys>,
    ) -> BoxFuture<'static, Result<Dialled, Error>>;
}

/// An open connection.
pub(crate) trait Wire: Send + Sync {
    fn is_closed(&self) -> bool;

    /// Sends questions, all in one go; one response each, in order. An error: the connection has ended.
    fn ask(&self, questions: Vec<Question>) -> BoxFuture<'static, Result<Vec<Response>, Error>>;
}

thread_local! {
    static NETWORK: RefCell<Option<Arc<dyn Network>>> = const { RefCell::new(None) };
    static PROCESS: Cell<u64> = const { Cell::new(0) };
}

/// From here on simulated nodes of this thread are reached through this network.
pub(crate) fn plug_in(network: Option<Arc<dyn Network>>) {
    NETWORK.set(network);
}

/// From here on whoever is set up on this thread belongs to this process of the simulation.
pub(crate) fn become_process(process: u64) {
    PROCESS.set(process);
}

/// The process of the simulation that is being set up.
pub(super) fn process() -> u64 {
    PROCESS.get()
}

/// The way to a simulated node.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedTransport {
    pub(crate) id: NodeId,
    pub(crate) server: String,
    pub(crate) process: u64,
    pub(crate) keys: Arc<MetaKeys>,
    pub(crate) clocks: Clocks,
}

impl Transport for SimulatedTransport {
    type Link = SimulatedLink;

    async fn connect(self) -> Result<Connection<SimulatedLink>, Error> {
        let network =
            NETWORK.with_borrow(Clone::clone).ok_or_else(|| Error::configuration("no simulation runs"))?;
        let (wire, mut driver) = network.dial(self.process, &self.server, &self.keys).await?;
        let link = SimulatedLink { id: self.id, wire, clocks: self.clocks.clone() };
        let asked = Instant::now();
        let greeted = run(&mut driver, link.ask_one(Question::Greet)).await.map_err(Failure::into_error)?;
        let Response::Greeted { standing, process, time } = greeted else { return Err(link.confused()) };
        let hello = Hello { standing, process, version: None, reading: self.clocks.read(time, asked) };
        Ok(Connection { link, hello, driver })
    }
}

#[derive(Clone)]
pub(crate) struct SimulatedLink {
    id: NodeId,
    wire: Arc<dyn Wire>,
    clocks: Clocks,
}

impl SimulatedLink {
    async fn ask_one(&self, question: Question) -> Result<Response, Failure> {
        let mut responses =
            self.wire.ask(vec![question]).await.map_err(|error| Failure::Lost(self.here(&error)))?;
        responses.pop().ok_or_else(|| Failure::Lost(self.confused()))
    }

    fn here(&self, error: &Error) -> Error {
        Error::at(error.kind(), &self.id, error.message())
    }

    fn confused(&self) -> Error {
        Error::at(ErrorKind::Configuration, &self.id, "the simulation answered another question")
    }
}

impl Link for SimulatedLink {
    type Parcel = Vec<Question>;

    fn pack(&self, batches: &[Batch<'_>]) -> Vec<Question> {
        let requests =
            |batch: &Batch<'_>| batch.requests.iter().map(|waiting| waiting.request.clone()).collect();
        batches
            .iter()
            .map(|batch| Question::Batch { fence: *batch.fence, requests: requests(batch) })
            .collect()
    }

    async fn exchange(self, questions: Vec<Question>) -> Vec<BatchReply> {
        let count = questions.len();
        if self.wire.is_closed() {
            let error = Error::at(ErrorKind::Unavailable, &self.id, "the connection was closed");
            return (0..count).map(|_| BatchReply::Closed(error.clone())).collect();
        }
        match self.wire.ask(questions).await {
            Ok(responses) => responses
                .into_iter()
                .map(|response| match response {
                    Response::Batch(reply) => reply,
                    _ => BatchReply::Broken(Failure::Lost(self.confused())),
                })
                .collect(),
            Err(error) => {
                let lost = Failure::Lost(self.here(&error));
                (0..count).map(|_| BatchReply::Broken(lost.clone())).collect()
            }
        }
    }

    async fn probe(self) -> Result<Look, Error> {
        let asked = Instant::now();
        match self.ask_one(Question::Probe).await.map_err(Failure::into_error)? {
            Response::Looked { fence, time } => Ok(Look { fence, reading: self.clocks.read(time, asked) }),
            _ => Err(self.confused()),
        }
    }

    async fn control(self, control: Control) -> Result<ControlReply, Failure> {
        match self.ask_one(Question::Control(control)).await? {
            Response::Controlled(reply) => Ok(reply),
            _ => Err(Failure::Lost(self.confused())),
        }
    }

    async fn survey(self, survey: Survey) -> Result<Surveyed, Failure> {
        match self.ask_one(Question::Survey(survey)).await? {
            Response::Surveyed(surveyed) => Ok(surveyed),
            _ => Err(Failure::Lost(self.confused())),
        }
    }
}
