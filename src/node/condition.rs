//! How a node is, for those who look from outside. Written when that changes, never per request.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Hello;
use crate::{
    error::{Error, ErrorKind},
    ring::NodeId,
    topology::{Epoch, Fence},
};

/// How a node is, as far as this application knows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeHealth {
    /// Which one.
    pub node: NodeId,
    /// Whether requests go to it.
    pub state: NodeState,
    /// What went wrong last, also if it is well by now.
    pub last_error: Option<Error>,
    /// Requests that wait for their turn. Those that are under way to the node are not among them.
    pub waiting: usize,
    /// The epoch that the node was seen to obey, when it was connected to or last looked at.
    pub epoch: Option<Epoch>,
    /// The version of the server.
    pub version: Option<String>,
    /// A number for the running process of the server: another one after a restart or a promotion.
    pub process: Option<u64>,
}

/// Whether requests go to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeState {
    /// A connection is being opened, and requests wait for it.
    Connecting,
    /// Connected, for so long.
    Up(Duration),
    /// It has not answered for so long: requests fail at once, and it is tried again every two seconds or sooner.
    Down(Duration),
    /// The same of one that answers and cannot be used: something is set up wrongly, `last_error` says what.
    Refused(Duration),
}

/// What has become of a node.
pub(crate) enum News {
    Up,
    Down(Error),
}

/// The condition of one node, shared between its dispatcher and whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Condition(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    state: State,
    last_error: Option<Error>,
    fence: Option<Vec<u8>>,
    version: Option<String>,
    process: Option<u64>,
    /// What was told last: up or down.
    told: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Connecting,
    Up(Instant),
    Down(Instant),
}

impl Condition {
    pub(super) fn connecting(&self) {
        self.0.lock().state = State::Connecting;
    }

    pub(super) fn up(&self, hello: &Hello) {
        let mut known = self.0.lock();
        known.state = State::Up(Instant::now());
        known.fence.clone_from(&hello.standing.fence);
        known.version.clone_from(&hello.version);
        known.process = Some(hello.process);
    }

    pub(super) fn down(&self, since: Instant, error: &Error) {
        let mut known = self.0.lock();
        known.state = State::Down(since);
        known.last_error = Some(error.clone());
    }

    /// This stood on the node in the place of the fence.
    pub(super) fn seen(&self, fence: Option<&[u8]>) {
        self.0.lock().fence = fence.map(<[u8]>::to_vec);
    }

    /// Tells what has changed since the last time, in order whoever calls: a connection that is replaced by another one at
    /// once is no news.
    pub(crate) fn tell(&self, tell: impl FnOnce(News)) {
        let mut known = self.0.lock();
        let (up, news) = match (known.state, &known.last_error) {
            (State::Up(_), _) => (true, News::Up),
            (State::Down(_), Some(error)) => (false, News::Down(error.clone())),
            _ => return,
        };
        if known.told.replace(up) != Some(up) {
            tell(news);
        }
    }

    /// Takes the place of another handle's: what that one told is no news any more.
    pub(crate) fn succeed(&self, former: &Condition) {
        let told = former.0.lock().told;
        self.0.lock().told = told;
    }

    pub(super) fn health(&self, node: &NodeId, waiting: usize) -> NodeHealth {
        let known = self.0.lock();
        let refused = known.last_error.as_ref().is_some_and(|error| error.kind() != ErrorKind::Unavailable);
        NodeHealth {
            node: node.clone(),
            state: match known.state {
                State::Connecting => NodeState::Connecting,
                State::Up(since) => NodeState::Up(since.elapsed()),
                State::Down(since) if refused => NodeState::Refused(since.elapsed()),
                State::Down(since) => NodeState::Down(since.elapsed()),
            },
            last_error: known.last_error.clone(),
            waiting,
            epoch: known
                .fence
                .as_deref()
                .and_then(|fence| Fence::decode(fence).ok())
                .map(|fence| fence.epoch),
            version: known.version.clone(),
            process: known.process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_has_changed_is_news() {
        let condition = Condition::default();
        let told = |condition: &Condition| {
            let mut told = None;
            condition.tell(|news| told = Some(matches!(news, News::Up)));
            told
        };
        let up = |condition: &Condition| condition.0.lock().state = State::Up(Instant::now());
        let error = Error::new(ErrorKind::Unavailable, "down");
        assert_eq!(told(&condition), None);
        up(&condition);
        assert_eq!((told(&condition), told(&condition)), (Some(true), None));
        condition.connecting();
        assert_eq!(told(&condition), None);
        up(&condition);
        assert_eq!(told(&condition), None, "another connection at once is no news");
        condition.down(Instant::now(), &error);
        assert_eq!((told(&condition), told(&condition)), (Some(false), None));
        let next = Condition::default();
        next.succeed(&condition);
        next.down(Instant::now(), &error);
        assert_eq!(told(&next), None);
        up(&next);
        assert_eq!(told(&next), Some(true));
    }
}
