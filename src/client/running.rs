//! Operations under way: from the first step to an answer, over whatever happens to the ring meanwhile.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{keeper::Keeper, view::View};
use crate::{
    error::{Error, ErrorKind, Result},
    node::{Answer, Failure, Node, Request},
    protocol::{Command, Operation, Outcome, Place, Send, Step},
    record::Key,
    ring::NodeId,
    topology::{Epoch, Fence},
};

/// An operation under way.
struct Running {
    key: Key,
    operation: Operation,
    /// The next step, and the epoch under which it was decided.
    next: Option<(Send, Epoch)>,
    /// The epoch under which the last request was routed, if there was one.
    epoch: Option<Epoch>,
    last: Option<Error>,
}

/// What an answer leads to.
enum Then {
    /// The next step is set.
    Continue,
    /// The node obeys another fence than the request carried.
    Settle(Option<Vec<u8>>),
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
) -> Result<Outcome> {
    let mut running = Running::new(key, command);
    loop {
        let (node, fence, renewals, submitted, foreseen) = {
            let view = keeper.view();
            let (node, request) = running.request(&view, deadline)?;
            let (fence, submitted) = (request.fence, view.nodes[node].submit(request));
            let foreseen = running.operation.foresee().map(|send| {
                let (node, request) = view.route(key, send, deadline);
                view.nodes[node].submit(request)
            });
            (view.nodes[node].id().clone(), fence, view.renewals, submitted, foreseen)
        };
        let mut then = running.answered(&node, submitted.await);
        if let (Then::Continue, Some(foreseen)) = (&then, foreseen)
            && running.looks_at_the_source()
            && let Ok(outcome) = foreseen.await
            && let Some(step) = running.operation.foreseen(outcome)
        {
            then = running.take(&node, step);
        }
        match then {
            Then::Continue => {}
            Then::Done(result) => return result,
            Then::Unsent(error) => {
                if !has_moved_on(keeper, &fence, renewals, deadline) {
                    return running.unsent(&node, error);
                }
            }
            Then::Settle(stored) => {
                if let Err(error) = keeper.settle(&node, &fence, stored, deadline).await {
                    return running.unsent(&node, error);
                }
            }
        }
    }
}

/// Executes many commands: all nodes at once, one round trip each for every step that a command takes. One result
/// per command, in order.
pub(crate) async fn execute_many(
    keeper: &Arc<Keeper>,
    commands: Vec<(Key, Command)>,
    deadline: Instant,
) -> Vec<Result<Outcome>> {
    let mut results: Vec<Result<Outcome>> = vec![Ok(Outcome::Absent); commands.len()];
    let started = commands.into_iter().enumerate().map(|(i, (key, command))| (i, Running::new(key, command)));
    let (groups, _) = route_all(keeper, started, deadline);
    let groups = groups.into_iter();
    let finished = join_all(groups.map(|group| finish(keeper, group, deadline))).await;
    for (i, result) in finished.into_iter().flatten() {
        results[i] = result;
    }
    results
}

/// Operations that go to one node together.
struct Group {
    node: Node,
    fence: Fence,
    renewals: u64,
    /// With the place of each in the answer.
    running: Vec<(usize, Running)>,
    requests: Vec<Request>,
}

/// Carries on with the operations of one node until all have a result. What has to be sent again goes together, too,
/// and waits for no other node.
async fn finish(keeper: &Arc<Keeper>, group: Group, deadline: Instant) -> Vec<(usize, Result<Outcome>)> {
    let mut results = Vec::with_capacity(group.running.len());
    let mut groups = vec![group];
    while !groups.is_empty() {
        let mut again = Vec::new();
        let exchanged = groups.into_iter().map(|group| async move {
            let Group { node, fence, renewals, running, requests } = group;
            let answers = node.submit_many(requests).await;
            (node.id().clone(), fence, renewals, running, answers)
        });
        for (node, fence, renewals, running, answers) in join_all(exchanged).await {
            let mut refused = Vec::new();
            let mut refusal = None;
            for ((i, mut running), answer) in running.into_iter().zip(answers) {
                match running.answered(&node, answer) {
                    Then::Continue => again.push((i, running)),
                    Then::Done(result) => results.push((i, result)),
                    Then::Unsent(error) if !has_moved_on(keeper, &fence, renewals, deadline) => {
                        results.push((i, running.unsent(&node, error)));
                    }
                    Then::Unsent(_) => again.push((i, running)),
                    Then::Settle(stored) => {
                        refusal = Some(stored);
                        refused.push((i, running));
                    }
                }
            }
            let Some(stored) = refusal else { continue };
            match keeper.settle(&node, &fence, stored, deadline).await {
                Ok(()) => again.append(&mut refused),
                Err(error) => results.extend(
                    refused.into_iter().map(|(i, mut running)| (i, running.unsent(&node, error.clone()))),
                ),
            }
        }
        let failed;
        (groups, failed) = route_all(keeper, again, deadline);
        results.extend(failed);
    }
    results
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
    fn new(key: Key, command: Command) -> Running {
        Running { key, operation: Operation::new(command), next: None, epoch: None, last: None }
    }

    /// The request for the next step. What was decided under another topology begins anew under this one.
    fn request(&mut self, view: &View, deadline: Instant) -> Result<(usize, Request)> {
        let epoch = view.document.epoch();
        let send = match (self.next.take(), self.epoch) {
            (Some((send, decided)), _) if decided == epoch => send,
            (_, None) => self.operation.start(view.sinces(&self.key)),
            (_, Some(_)) => match self.operation.restart(view.sinces(&self.key)) {
                Step::Send(send) => send,
                _ => return Err(indeterminate(view.owner(&self.key), self.last.take())),
            },
        };
        self.epoch = Some(epoch);
        Ok(view.route(self.key, send, deadline))
    }

    fn looks_at_the_source(&self) -> bool {
        self.next.as_ref().is_some_and(|(next, _)| next.place == Place::Source)
    }

    fn answered(&mut self, node: &NodeId, answer: Answer) -> Then {
        let step = match answer {
            Ok(outcome) => self.operation.answered(outcome),
            Err(Failure::Refused(stored)) => return Then::Settle(stored),
            Err(Failure::Lost(error)) => {
                self.last = Some(error);
                self.operation.lost()
            }
            Err(Failure::Unsent(error)) => return Then::Unsent(error),
        };
        self.take(node, step)
    }

    /// The operation ends, since this request could not be sent.
    fn unsent(&mut self, node: &NodeId, error: Error) -> Result<Outcome> {
        // Why it was lost says more than why it could not be sent again.
        self.last.get_or_insert(error);
        match self.operation.unsent() {
            Step::Indeterminate => Err(indeterminate(node, self.last.take())),
            _ => Err(self.last.take().unwrap_or_else(|| indeterminate(node, None))),
        }
    }

    fn take(&mut self, node: &NodeId, step: Step) -> Then {
        match step {
            Step::Send(send) => {
                self.next = self.epoch.map(|epoch| (send, epoch));
                Then::Continue
            }
            Step::Done(outcome) => Then::Done(Ok(outcome)),
            Step::Failed => Then::Done(Err(self.last.take().unwrap_or_else(|| indeterminate(node, None)))),
            Step::Indeterminate => Then::Done(Err(indeterminate(node, self.last.take()))),
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

fn indeterminate(node: &NodeId, cause: Option<Error>) -> Error {
    let cause = cause.map(|error| format!(" ({})", error.message())).unwrap_or_default();
    Error::at(
        ErrorKind::Indeterminate,
        node,
        format!(
            "the request was sent and its answer was lost{cause}: it may or may not have happened, or happen \
             yet; read the session before you decide"
        ),
    )
}
