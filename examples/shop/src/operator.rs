//! The operator's page: how the nodes are, what they hold, how far a resize is; and buttons that change all of it.
//!
//! None of it is told to the applications. They learn from the nodes that the ring has changed, with their next requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use askama::Template;
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    middleware,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use sessionring::{Count, NodeState, Phase, Progress, Resize, SessionRing};

use crate::{
    Result,
    app::SESSIONS,
    nodes::{Node, Nodes},
    same_origin,
};

/// For so long the server of a node that has left runs on: an application without traffic looks every five seconds.
const HEARD_BY_ALL: Duration = Duration::from_secs(10);

pub(crate) struct Operator {
    ring: SessionRing,
    nodes: Nodes,
    /// Sessions per second.
    rate: u32,
    resize: Mutex<Option<Resize>>,
    /// What the last button has done.
    notice: Mutex<String>,
}

pub(crate) fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/nodes", post(add))
        .route("/nodes/{name}/remove", post(remove))
        .route("/nodes/{name}/kill", post(kill))
        .route("/nodes/{name}/start", post(start))
        .route("/style.css", get(crate::pages::style))
        .layer(middleware::from_fn(same_origin::same_origin))
        .with_state(operator)
}

async fn add(State(operator): State<Arc<Operator>>) -> Redirect {
    noted(operator.clone(), operator.add()).await
}

async fn remove(State(operator): State<Arc<Operator>>, Path(name): Path<String>) -> Redirect {
    noted(operator.clone(), operator.remove(name)).await
}

async fn kill(State(operator): State<Arc<Operator>>, Path(name): Path<String>) -> Redirect {
    noted(operator.clone(), operator.kill(name)).await
}

async fn start(State(operator): State<Arc<Operator>>, Path(name): Path<String>) -> Redirect {
    noted(operator.clone(), operator.start(name)).await
}

/// Shows what came of it. It is done to its end, and noted, also when the browser does not wait for the answer: left half done,
/// a server might run that no ring has.
async fn noted(
    operator: Arc<Operator>,
    doing: impl Future<Output = Result<String>> + Send + 'static,
) -> Redirect {
    to_its_end(async move {
        let done = doing.await.unwrap_or_else(|error| error.to_string());
        *lock(&operator.notice) = done;
    })
    .await;
    Redirect::to("/")
}

/// Goes on when nobody waits for it any more.
async fn to_its_end(doing: impl Future<Output = ()> + Send + 'static) {
    // A panic has been told on stderr.
    let _ = tokio::spawn(doing).await;
}

impl Operator {
    pub(crate) fn new(ring: SessionRing, nodes: Nodes, rate: u32) -> Operator {
        Operator { ring, nodes, rate, resize: Mutex::default(), notice: Mutex::default() }
    }

    async fn add(self: Arc<Operator>) -> Result<String> {
        // It would be refused, and need not be started for that.
        if self.ring.is_resizing() {
            return Err("another resize is under way; wait until it is done".into());
        }
        let node = self.nodes.add().await?;
        let resize = async { self.ring.plan().add(&node.name, &node.address)?.rate(self.rate).start().await };
        match resize.await {
            Ok(resize) => {
                *lock(&self.resize) = Some(resize);
                Ok(format!("{} joins", node.name))
            }
            Err(error) => {
                self.nodes.switch_off(&node.name).await;
                Err(error.into())
            }
        }
    }

    async fn remove(self: Arc<Operator>, name: String) -> Result<String> {
        let resize = self.ring.plan().remove(&name)?.rate(self.rate).start().await?;
        *lock(&self.resize) = Some(resize.clone());
        let said = format!("{name} leaves");
        tokio::spawn(async move {
            if resize.wait().await.is_ok() {
                tokio::time::sleep(HEARD_BY_ALL).await;
                self.nodes.switch_off(&name).await;
            }
        });
        Ok(said)
    }

    async fn kill(self: Arc<Operator>, name: String) -> Result<String> {
        self.nodes.kill(&name).await.map(|()| format!("{name} was killed"))
    }

    async fn start(self: Arc<Operator>, name: String) -> Result<String> {
        self.nodes.start_again(&name).await.map(|()| format!("{name} was started again"))
    }

    fn progress(&self) -> Option<Progress> {
        lock(&self.resize).as_ref().map(Resize::now)
    }

    /// One for each node that the ring has, or is about to lose.
    fn rows(&self, counted: &Count) -> Vec<Row> {
        let (nodes, ring) = (self.nodes.all(), self.ring.ring());
        let rows = self.ring.health().into_iter().map(|health| {
            let name = health.node.as_str().to_owned();
            let runs = nodes.get(&name).and_then(Node::runs);
            let is_up = matches!(health.state, NodeState::Up(_)) && runs != Some(false);
            let sessions = counted.nodes.iter().find(|there| there.node == health.node);
            let sessions = sessions.filter(|there| there.error.is_none());
            // Until the resize is done, who leaves is still there, and owns nothing.
            let share = ring.share(&health.node);
            Row {
                state: if is_up { "up" } else { "down" },
                address: nodes.get(&name).map(|node| node.address.clone()).unwrap_or_default(),
                share: share.filter(|share| share.as_f64() > 0.0).map(|share| share.to_string()),
                sessions: sessions.map_or("?".into(), |there| there.sessions.to_string()),
                runs,
                why: (!is_up).then(|| health.last_error.map(|error| error.to_string())).flatten(),
                name,
            }
        });
        rows.map(|row| (row.name.clone(), row)).collect::<BTreeMap<_, _>>().into_values().collect()
    }
}

#[derive(Template)]
#[template(path = "operator.html")]
struct Page {
    /// It renews itself.
    is_live: bool,
    rows: Vec<Row>,
    total: u64,
    is_resizing: bool,
    progress: Option<Progress>,
    notice: String,
}

struct Row {
    name: String,
    state: &'static str,
    address: String,
    /// `None`: it is leaving.
    share: Option<String>,
    sessions: String,
    /// Whether its server does, where it has one.
    runs: Option<bool>,
    why: Option<String>,
}

async fn show(State(operator): State<Arc<Operator>>, RawQuery(query): RawQuery) -> Response {
    let counted = operator.ring.sessions::<()>(SESSIONS).list().unthrottled().count().await;
    let progress = operator.progress();
    let is_under_way = progress.as_ref().is_some_and(|progress| progress.phase != Phase::Done);
    let page = Page {
        is_live: query.as_deref() != Some("still"),
        rows: operator.rows(&counted),
        total: counted.total(),
        is_resizing: is_under_way || operator.ring.is_resizing(),
        progress,
        notice: lock(&operator.notice).clone(),
    };
    match page.render() {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_done_though_nobody_waits_for_it() {
        let (go, going) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let click = to_its_end(async {
            going.await.unwrap();
            ended.send(()).unwrap();
        });
        assert!(click.now_or_never().is_none(), "and with that it is dropped");
        go.send(()).unwrap();
        end.await.unwrap();
    }
}
