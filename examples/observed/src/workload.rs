//! Something to watch: log-ins, visits, changes and log-outs, and a node that joins meanwhile.

use std::fmt;

use serde::{Deserialize, Serialize};
use sessionring::{Lifetime, Result, SessionEvent, SessionEvents, SessionRing};

#[derive(Serialize, Deserialize)]
struct Login {
    user: u64,
    cart: Vec<String>,
}

const LOGINS: u64 = 3_000;

pub(crate) async fn run(ring: &SessionRing) -> Result<()> {
    let logins = ring.sessions::<Login>("login").lifetime(Lifetime::OWASP);
    let users: Vec<Login> = (0..LOGINS).map(|user| Login { user, cart: Vec::new() }).collect();
    let mut ids = Vec::new();
    for chunk in users.chunks(500) {
        for created in logins.create_many(chunk).await {
            ids.push(created?);
        }
    }
    let resize = ring.add_node("d", "memory:").await?;
    for id in ids.iter().take(1_000) {
        logins.visit(id).await?;
        logins.update(id, |login| login.cart.push("book".into())).await?;
    }
    for gone in logins.delete_many(&ids[..100]).await {
        gone?;
    }
    resize.wait().await?;

    let count = logins.count().await;
    eprintln!("observed: {} sessions on {} nodes", count.total(), count.nodes.len());
    for node in &count.nodes {
        eprintln!("observed:   {}: {}", node.node, node.sessions);
    }
    Ok(())
}

/// What was heard of sessions until the ring was closed.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    begun: u64,
    ended: u64,
    missed: u64,
}

pub(crate) async fn listen(mut events: SessionEvents) -> Heard {
    let mut heard = Heard::default();
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Created(_) => heard.begun += 1,
            SessionEvent::Deleted(_) => heard.ended += 1,
            SessionEvent::Missed(events) => heard.missed += events,
            _ => {}
        }
    }
    heard
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heard { begun, ended, missed } = self;
        write!(f, "{begun} sessions began, {ended} were logged out, {missed} events were missed")
    }
}
