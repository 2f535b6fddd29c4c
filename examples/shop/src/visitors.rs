//! Visitors who never were, so that nodes have something to hold and a resize something to move.

use std::sync::Arc;

use sessionring::{SessionRing, web::tower_sessions::RingStore};
use tokio::task::JoinSet;
use tower_sessions::Session;

use crate::{
    Result,
    app::SESSIONS,
    catalogue::{CATALOGUE, Product},
};

/// So many save at the same time.
const AT_ONCE: usize = 32;

/// Each with a thing in the cart, stored as the session layer would have stored it.
pub(crate) async fn invent(ring: &SessionRing, count: usize) -> Result<()> {
    let store = Arc::new(RingStore::new(ring, SESSIONS));
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE {
        let store = store.clone();
        tasks.spawn(async move {
            for number in (task..count).step_by(AT_ONCE) {
                let Product { slug, .. } = CATALOGUE[number % CATALOGUE.len()];
                let session = Session::new(None, store.clone(), None);
                session.insert("cart", [slug]).await?;
                session.save().await?;
            }
            Ok::<(), tower_sessions::session::Error>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}
