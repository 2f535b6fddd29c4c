//! Operations under way: from the first step to an answer, over whatever happens to the ring meanwhile.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{task::yield_now, time::Instant};

use super::{keeper::Keeper, view::View};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Answer, Failure, Node, Refusal, Request, Submitted},
    protocol::{Command, Operation, Outcome, Place, Send, Step},
    record::Key,
    telemetry::Span,
    topology::{Epoch, Fence},
};

/// A node that is asked for so many gets to work before the requests to the next one are made.
const EARLY: usize = 64;

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

/// Executes one command: submits it at once, and gives its result to whoever waits.
///
/// Nearly every operation is done with the first answer. What it may have to remember besides is made when it has to: thousands of
/// operations wait at a time, and what each of them keeps is memory that all have to go through.
pub(crate) fn execute<'a>(
    keeper: &'a Arc<Keeper>,
    key: Key,
    command: Command,
    deadline: Instant,
    span: &Span,
) -> impl Future<Output = Result<Outcome>> + std::marker::Send + use<'a> {
    let mut operation = Operation::new(command);
    let mut sent = {
        let view = keeper.view();
        let send = operation.start(view.sinces(&key));
        Sent::submit(&view, key, &operation, send, deadline, span)
    };
    let span = span.clone();
    async move {
        match conclude(&mut operation, (&mut sent.submitted).await) {
            Ok(outcome) => Ok(outcome),
            Err(unfinished) => go_on(keeper, key, operation, unfinished, sent, span).await,
        }
    }
}

/// What the first answer to an operation is, where that is not the end.
type Unfinished = Result<Step, Failure>;

/// Takes the first answer; nearly always that is the end.
fn conclude(operation: &mut Operation, answer: Answer) -> Result<Outcome, Unfinished> {
    match operation.answered(answer.map_err(Err)?) {
        Step::Done(outcome) => Ok(outcome),
        step => Err(Ok(step)),
    }
}

/// Carries on with an operation that was not done with its first answer.
fn go_on(
    keeper: &Arc<Keeper>,
    key: Key,
    operation: Operation,
    unfinished: Unfinished,
    mut sent: Sent,
    span: Span,
) -> BoxFuture<'_, Result<Outcome>> {
    Box::pin(async move {
        let (mut running, mut then) = Running::after(key, operation, sent.fence.epoch, unfinished);
        loop {
            if let (Then::Continue, Some(foreseen)) = (&then, &mut sent.foreseen)
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
                    if !has_moved_on(keeper, &sent.fence, sent.renewals, sent.deadline) {
                        return running.unsent(error);
                    }
                }
                Then::Settle(refusal) => {
                    if let Err(error) = keeper.settle(&refusal, &sent.fence, sent.deadline).await {
                        return running.unsent(error);
                    }
                }
            }
            sent = {
                let view = keeper.view();
                let send = running.send(&view)?;
                Sent::submit(&view, key, &running.operation, send, sent.deadline, &span)
            };
            then = running.answered((&mut sent.submitted).await);
        }
    })
}

/// A step of an operation that was sent, and under what.
struct Sent {
    fence: Fence,
    renewals: u64,
    deadline: Instant,
    submitted: Submitted,
    /// The step that most likely comes next, where that is known: then it does not wait for the answer.
    foreseen: Option<Submitted>,
}

impl Sent {
    fn submit(
        view: &View,
        key: Key,
        operation: &Operation,
        send: Send,
        deadline: Instant,
        span: &Span,
    ) -> Sent {
        let (node, request) = view.route(key, send, deadline);
        span.routed(view.nodes[node].id(), view.document.epoch());
        let (fence, submitted) = (request.fence, view.nodes[node].submit(request));
        let foreseen = operation.foresee().map(|send| {
            let (node, request) = view.route(key, send, deadline);
            view.nodes[node].submit(request)
        });
        Sent { fence, renewals: view.renewals, deadline, submitted, foreseen }
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
    let mut owned: Vec<Vec<usize>> = view.nodes.iter().map(|_| Vec::new()).collect();
    for (i, (key, _)) in commands.iter().enumerate() {
        owned[view.document.tenure(key.token()).owner.get()].push(i);
    }
    let mut finished = FuturesUnordered::new();
    for (node, places) in owned.into_iter().enumerate().filter(|(_, places)| !places.is_empty()) {
        let requests = places.iter().map(|&i| {
            let (key, (_, send)) = (commands[i].0, begin(&commands[i], &view));
            // What is asked first is asked of the owner.
            view.route(key, send, deadline).1
        });
        let answers = view.nodes[node].submit_many(requests.collect());
        let (view, early) = (&view, places.len() >= EARLY);
        finished.push(async move {
            let mut round = Round::default();
            round.take_first(keeper, view, commands, places.into_iter().zip(answers.await), deadline);
            round.settle(keeper, &view.document.fence(), deadline).await;
            if round.again.is_empty() { round.results } else { finish(keeper, round, deadline).await }
        });
        if early {
            // What is submitted departs, and the server works while the next requests are made.
            yield_now().await;
        }
    }
    while let Some(results) = finished.next().await {
        results.into_iter().for_each(|(i, result)| each(i, result));
    }
}

/// An operation, and what it sends first.
fn begin((key, command): &(Key, Command), view: &View) -> (Operation, Send) {
    let mut operation = Operation::new(command.clone());
    let send = operation.start(view.sinces(key));
    (operation, send)
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
    /// Takes the first answers, by place.
    fn take_first(
        &mut self,
        keeper: &Keeper,
        view: &View,
        commands: &[(Key, Command)],
        answered: impl Iterator<Item = (usize, Answer)>,
        deadline: Instant,
    ) {
        let (fence, mut unfinished) = (view.document.fence(), Vec::new());
        self.results.reserve(answered.size_hint().0);
        for (i, answer) in answered {
            // It follows from the command and the view, so that nothing is kept of it while the node works.
            let (mut operation, _) = begin(&commands[i], view);
            match conclude(&mut operation, answer) {
                Ok(outcome) => self.results.push((i, Ok(outcome))),
                Err(rest) => {
                    let (running, then) = Running::after(commands[i].0, operation, fence.epoch, rest);
                    unfinished.push((i, running, then));
                }
            }
        }
        self.take(keeper, &fence, view.renewals, unfinished.into_iter(), deadline);
    }

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

    /// An operation that was not done with its first answer.
    fn after(key: Key, operation: Operation, epoch: Epoch, unfinished: Unfinished) -> (Running, Then) {
        let mut running = Running { key, operation, next: None, epoch: Some(epoch), last: None };
        let then = match unfinished {
            Ok(step) => running.take(step),
            Err(failure) => running.failed(failure),
        };
        (running, then)
    }

    /// The request for the next step.
    pub(super) fn request(&mut self, view: &View, deadline: Instant) -> Result<(usize, Request)> {
        Ok(view.route(self.key, self.send(view)?, deadline))
    }

    /// The next step. What was decided under another topology begins anew under this one.
    fn send(&mut self, view: &View) -> Result<Send> {
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
        Ok(send)
    }

    fn looks_at_the_source(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.place == Place::Source)
    }

    pub(super) fn answered(&mut self, answer: Answer) -> Then {
        match answer {
            Ok(outcome) => {
                let step = self.operation.answered(outcome);
                self.take(step)
            }
            Err(failure) => self.failed(failure),
        }
    }

    fn failed(&mut self, failure: Failure) -> Then {
        match failure {
            Failure::Refused(refusal) => Then::Settle(refusal),
            Failure::Lost(error) => {
                self.last = Some(error);
                let step = self.operation.lost();
                self.take(step)
            }
            Failure::Unsent(error) => Then::Unsent(error),
        }
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
    async fn a_node_has_its_requests_before_those_to_the_next_one_are_made() {
        let ring = SessionRing::builder().node("a", "memory:").node("b", "memory:").connect().await.unwrap();
        let (keyspace, deadline) =
            (Keyspace::new("sessionring", "test"), Instant::now() + Duration::from_secs(10));
        let waiting = || ring.health().iter().map(|node| node.waiting).collect::<Vec<_>>();
        // Half of them go to each node, about.
        for (count, early) in [(4 * EARLY, true), (EARLY / 2, false)] {
            let ids = (0..count).map(|_| SessionId::generate().unwrap());
            let commands: Vec<_> = ids.map(|id| (keyspace.key(&id), Command::Read)).collect();
            let mut results = Vec::new();
            let work =
                execute_each(ring.keeper(), &commands, deadline, |i, result| results.push((i, result)));
            // It is polled, and comes to where it lets others work; nobody does before this task ends its turn.
            let (_, waited) = tokio::join!(work, async { waiting() });
            assert_eq!((waited[0] > 0, waited[1] > 0), (true, !early));
            results.sort_by_key(|(i, _)| *i);
            assert!(results.iter().map(|(i, _)| *i).eq(0..count));
            assert!(results.iter().all(|(_, result)| matches!(result, Ok(Outcome::Absent))));
        }
    }

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
