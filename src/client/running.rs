//! Operations under way: from the first step to an answer, over whatever happens to the ring meanwhile.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::Instant;

use super::{keeper::Keeper, view::View};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Answer, Failure, Node, Refusal, Request},
    protocol::{Command, Operation, Outcome, Place, Send, Step},
    record::Key,
    telemetry::Span,
    topology::{Epoch, Fence},
};

/// An operation under way.
pub(super) struct Running {
    key: Key,
    operation: Operation,
    /// The next step, decided under `epoch`.
    next: Option<Send>,
    /// The epoch under which the last request was routed, if there was one.
    epoch: Option<Epoch>,
    last: Option<Error>,
}

/// What an answer leads to.
pub(super) enum Then {
    /// The next step is set.
    Continue,
    /// A node obeys another fence than the request carried.
    Settle(Arc<Refusal>),
    /// Nothing was sent; it may be worth to look where else to send it.
    Unsent(Error),
    Done(Result<Outcome>),
}

/// Executes one command.
pub(crate) async fn execute(
    keeper: &Arc<Keeper>,
    key: Key,
    command: Command,
    deadline: Instant,
    span: &Span,
) -> Result<Outcome> {
    let mut running = Running::new(key, command);
    loop {
        let (fence, renewals, submitted, foreseen) = {
            let view = keeper.view();
            let (node, request) = running.request(&view, deadline)?;
            span.routed(view.nodes[node].id(), view.document.epoch());
            let (fence, submitted) = (request.fence, view.nodes[node].submit(request));
            let foreseen = running.operation.foresee().map(|send| {
                let (node, request) = view.route(key, send, deadline);
                view.nodes[node].submit(request)
            });
            (fence, view.renewals, submitted, foreseen)
        };
        let mut then = running.answered(submitted.await);
        if let (Then::Continue, Some(foreseen)) = (&then, foreseen)
            && running.looks_at_the_source()
            && let Ok(outcome) = foreseen.await
            && let Some(step) = running.operation.foreseen(outcome)
        {
            then = running.take(step);
        }
        match then {
            Then::Continue => {}
            Then::Done(result) => return result,
            Then::Unsent(error) => {
                if !has_moved_on(keeper, &fence, renewals, deadline) {
                    return running.unsent(error);
                }
            }
            Then::Settle(refusal) => {
                if let Err(error) = keeper.settle(&refusal, &fence, deadline).await {
                    return running.unsent(error);
                }
            }
        }
    }
}

/// Executes many commands: all nodes at once, one round trip each for every step that a command takes. `each` is given the
/// place of each command and its result: those of one node together, and as soon as they are there, so that something is made of them
/// while other nodes still work.
pub(crate) async fn execute_each(
    keeper: &Arc<Keeper>,
    commands: &[(Key, Command)],
    deadline: Instant,
    mut each: impl FnMut(usize, Result<Outcome>) + std::marker::Send,
) {
    let view = keeper.view_for_long();
    let fair = commands.len() / view.nodes.len();
    let mut firsts: Vec<First> =
        view.nodes.iter().map(|_| First::with_capacity(fair + fair / 8 + 8)).collect();
    for (i, (key, command)) in commands.iter().enumerate() {
        match Running::new(*key, command.clone()).request(&view, deadline) {
            Ok((node, request)) => {
                firsts[node].places.push(i);
                firsts[node].requests.push(request);
            }
            Err(error) => each(i, Err(error)),
        }
    }
    let firsts = view.nodes.iter().zip(firsts).filter(|(_, first)| !first.places.is_empty());
    let finished = firsts.map(|(node, first)| {
        let answers = node.submit_many(first.requests);
        let view = &view;
        async move {
            let answered = first.places.into_iter().zip(answers.await).map(|(i, answer)| {
                // What was asked first follows from the command and the view, so an operation that is done with one
                // answer never has to be kept.
                let (key, command) = &commands[i];
                let mut running = Running::new(*key, command.clone());
                running.start(view);
                let then = running.answered(answer);
                (i, running, then)
            });
            let mut round = Round::default();
            round.take(keeper, &view.document.fence(), view.renewals, answered, deadline);
            round.settle(keeper, &view.document.fence(), deadline).await;
            if round.again.is_empty() { round.results } else { finish(keeper, round, deadline).await }
        }
    });
    let mut finished: FuturesUnordered<_> = finished.collect();
    while let Some(results) = finished.next().await {
        results.into_iter().for_each(|(i, result)| each(i, result));
    }
}

/// The first requests of many operations to one node.
struct First {
    /// Of each operation, its place among the results.
    places: Vec<usize>,
    requests: Vec<Request>,
}

impl First {
    fn with_capacity(capacity: usize) -> First {
        First { places: Vec::with_capacity(capacity), requests: Vec::with_capacity(capacity) }
    }
}

/// Operations that go to one node together.
struct Group {
    node: Node,
    fence: Fence,
    renewals: u64,
    /// With the place of each among the results.
    running: Vec<(usize, Running)>,
    requests: Vec<Request>,
}

/// What the answers to a round of requests lead to.
#[derive(Default)]
struct Round {
    results: Vec<(usize, Result<Outcome>)>,
    /// These go on.
    again: Vec<(usize, Running)>,
    /// These were refused, for one reason.
    refused: Vec<(usize, Running)>,
    refusal: Option<Arc<Refusal>>,
}

impl Round {
    fn take(
        &mut self,
        keeper: &Keeper,
        fence: &Fence,
        renewals: u64,
        answered: impl Iterator<Item = (usize, Running, Then)>,
        deadline: Instant,
    ) {
        self.results.reserve(answered.size_hint().0);
        for (i, mut running, then) in answered {
            match then {
                Then::Done(result) => self.results.push((i, result)),
                Then::Continue => self.again.push((i, running)),
                Then::Unsent(error) if !has_moved_on(keeper, fence, renewals, deadline) => {
                    self.results.push((i, running.unsent(error)));
                }
                Then::Unsent(_) => self.again.push((i, running)),
                Then::Settle(refusal) => {
                    self.refusal = Some(refusal);
                    self.refused.push((i, running));
                }
            }
        }
    }

    /// Those that were refused go on when it is worth to route them again.
    async fn settle(&mut self, keeper: &Arc<Keeper>, fence: &Fence, deadline: Instant) {
        let Some(refusal) = self.refusal.take() else { return };
        match keeper.settle(&refusal, fence, deadline).await {
            Ok(()) => self.again.append(&mut self.refused),
            Err(error) => self
                .results
                .extend(self.refused.drain(..).map(|(i, mut running)| (i, running.unsent(error.clone())))),
        }
    }
}

/// Carries on with the operations of one node until all have a result. What has to be sent again goes together, too,
/// and waits for no other node.
///
/// In a box, as few have to go on.
fn finish(
    keeper: &Arc<Keeper>,
    mut round: Round,
    deadline: Instant,
) -> BoxFuture<'_, Vec<(usize, Result<Outcome>)>> {
    Box::pin(async move {
        while !round.again.is_empty() {
            let (groups, failed) = route_all(keeper, round.again.drain(..), deadline);
            round.results.extend(failed);
            let exchanged = groups.into_iter().map(|group| async move {
                let Group { node, fence, renewals, running, requests } = group;
                (fence, renewals, running, node.submit_many(requests).await)
            });
            for (fence, renewals, running, answers) in join_all(exchanged).await {
                let answered = running.into_iter().zip(answers).map(|((i, mut running), answer)| {
                    let then = running.answered(answer);
                    (i, running, then)
                });
                round.take(keeper, &fence, renewals, answered, deadline);
                round.settle(keeper, &fence, deadline).await;
            }
        }
        round.results
    })
}

/// Routes the next step of each operation, one group per node; and the results of those that have no next step.
fn route_all(
    keeper: &Arc<Keeper>,
    commands: impl IntoIterator<Item = (usize, Running)>,
    deadline: Instant,
) -> (Vec<Group>, Vec<(usize, Result<Outcome>)>) {
    let view = keeper.view();
    let group = |node: &Node| Group {
        node: node.clone(),
        fence: view.document.fence(),
        renewals: view.renewals,
        running: Vec::new(),
        requests: Vec::new(),
    };
    let mut groups: Vec<Group> = view.nodes.iter().map(group).collect();
    let mut ended = Vec::new();
    for (i, mut running) in commands {
        match running.request(&view, deadline) {
            Ok((node, request)) => {
                groups[node].running.push((i, running));
                groups[node].requests.push(request);
            }
            Err(error) => ended.push((i, Err(error))),
        }
    }
    groups.retain(|group| !group.requests.is_empty());
    (groups, ended)
}

impl Running {
    pub(super) fn new(key: Key, command: Command) -> Running {
        Running { key, operation: Operation::new(command), next: None, epoch: None, last: None }
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Begins under this view; answers what to send first.
    fn start(&mut self, view: &View) -> Send {
        self.epoch = Some(view.document.epoch());
        self.operation.start(view.sinces(&self.key))
    }

    /// The request for the next step. What was decided under another topology begins anew under this one.
    pub(super) fn request(&mut self, view: &View, deadline: Instant) -> Result<(usize, Request)> {
        let epoch = view.document.epoch();
        let send = match (self.next.take(), self.epoch) {
            (Some(send), Some(decided)) if decided == epoch => send,
            (_, None) => self.start(view),
            (_, Some(_)) => match self.operation.restart(view.sinces(&self.key)) {
                Step::Send(send) => send,
                _ => return Err(indeterminate(self.last.take())),
            },
        };
        self.epoch = Some(epoch);
        Ok(view.route(self.key, send, deadline))
    }

    fn looks_at_the_source(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.place == Place::Source)
    }

    pub(super) fn answered(&mut self, answer: Answer) -> Then {
        let step = match answer {
            Ok(outcome) => self.operation.answered(outcome),
            Err(Failure::Refused(refusal)) => return Then::Settle(refusal),
            Err(Failure::Lost(error)) => {
                self.last = Some(error);
                self.operation.lost()
            }
            Err(Failure::Unsent(error)) => return Then::Unsent(error),
        };
        self.take(step)
    }

    /// The operation ends, since this request could not be sent.
    fn unsent(&mut self, error: Error) -> Result<Outcome> {
        // Why it was lost says more than why it could not be sent again.
        self.last.get_or_insert(error);
        match self.operation.unsent() {
            Step::Indeterminate => Err(indeterminate(self.last.take())),
            _ => Err(self.last.take().unwrap_or_else(|| indeterminate(None))),
        }
    }

    fn take(&mut self, step: Step) -> Then {
        match step {
            Step::Send(send) => {
                self.next = Some(send);
                Then::Continue
            }
            Step::Done(outcome) => Then::Done(Ok(outcome)),
            Step::Failed => Then::Done(Err(self.last.take().unwrap_or_else(|| indeterminate(None)))),
            Step::Indeterminate => Then::Done(Err(indeterminate(self.last.take()))),
        }
    }
}

/// Whether the ring, or the handle of a node, is another one since a request was routed, so that its next owner, or the
/// next handle, may be well.
fn has_moved_on(keeper: &Keeper, fence: &Fence, renewals: u64, deadline: Instant) -> bool {
    let view = keeper.view();
    let same = view.document.fence() == *fence && view.renewals == renewals;
    !same && Instant::now() < deadline && !keeper.is_closed()
}

/// What is known of a request whose answer was lost for this reason.
fn indeterminate(cause: Option<Error>) -> Error {
    let reason = cause.as_ref().map(|error| format!(" ({})", error.message())).unwrap_or_default();
    let message = format!(
        "the request was sent and its answer was lost{reason}: it may or may not have happened, or happen \
         yet; read the session before you decide"
    );
    match cause.as_ref().and_then(Error::node) {
        Some(node) => Error::at(ErrorKind::Indeterminate, node, message),
        None => Error::new(ErrorKind::Indeterminate, message),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        client::SessionRing,
        record::{Keyspace, SessionId},
    };

    #[tokio::test]
    async fn a_request_that_came_too_late_to_an_old_connection_is_routed_again() {
        let ring = SessionRing::builder().node("a", "memory:").connect().await.unwrap();
        let keeper = ring.keeper();
        let (old, deadline) = (keeper.view_for_long(), Instant::now() + Duration::from_secs(10));
        let fence = old.document.fence();
        assert!(!has_moved_on(keeper, &fence, old.renewals, deadline));
        keeper.reconnect().await.unwrap();
        let key = Keyspace::new("sessionring", "test").key(&SessionId::generate().unwrap());
        let (node, request) = Running::new(key, Command::Read).request(&old, deadline).unwrap();
        let Err(Failure::Unsent(error)) = old.nodes[node].submit(request).await else {
            panic!("it was sent")
        };
        assert!(error.is_closed());
        assert!(has_moved_on(keeper, &fence, old.renewals, deadline));
        assert!(!has_moved_on(keeper, &fence, keeper.view().renewals, deadline));
        assert!(!has_moved_on(keeper, &fence, old.renewals, Instant::now()));
        ring.close().await;
        assert!(!has_moved_on(keeper, &fence, old.renewals, deadline));
    }
}
