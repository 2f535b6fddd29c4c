//! Ours, as an application uses it: default placement, default codec, one ring handle.

use std::{ops::Range, sync::Arc};

use sessionring::{Lifetime, SealingKeys, SessionRing, Sessions};

use super::{LIFETIME, PATIENCE, Store, change};
use crate::{Result, data::Data};

#[derive(Clone)]
pub(super) struct Ours(Arc<Inner>);

struct Inner {
    ring: SessionRing,
    sessions: Sessions<String>,
    data: Arc<Data>,
}

pub(super) async fn connect(
    addresses: &[String],
    data: Arc<Data>,
    keys: Option<SealingKeys>,
) -> Result<Ours> {
    let mut builder =
        SessionRing::builder().name(format!("of-{}", addresses.len())).request_timeout(PATIENCE);
    for (i, address) in addresses.iter().enumerate() {
        builder = builder.node(format!("node-{i}"), address);
    }
    let ring = builder.connect().await?;
    let mut sessions = ring
        .sessions::<String>(if keys.is_some() { "sealed" } else { "compare" })
        .lifetime(Lifetime::new(LIFETIME, 24 * LIFETIME)?)
        // The largest values are exactly as long as the usual bound, before they are encoded.
        .max_bytes(1 << 20);
    if let Some(keys) = keys {
        sessions = sessions.seal(keys);
    }
    Ok(Ours(Arc::new(Inner { ring, sessions, data })))
}

impl Store for Ours {
    fn data(&self) -> &Data {
        &self.0.data
    }

    async fn get(&self, i: usize) -> Result<Option<String>> {
        Ok(self.0.sessions.get(&self.0.data.ids[i]).await?)
    }

    async fn set(&self, i: usize) -> Result<()> {
        Ok(self.0.sessions.set(&self.0.data.ids[i], &self.0.data.values[i]).await?)
    }

    /// As an application does it, with the default: a session slides once a tenth of its idle time has passed.
    async fn visit(&self, i: usize) -> Result<Option<String>> {
        Ok(self.0.sessions.visit(&self.0.data.ids[i]).await?)
    }

    async fn update(&self, i: usize) -> Result<()> {
        Ok(self.0.sessions.update(&self.0.data.ids[i], change).await?)
    }

    async fn get_many(&self, range: Range<usize>) -> Result<Vec<Option<String>>> {
        let values = self.0.sessions.get_many(&self.0.data.ids[range]).await;
        values.into_iter().map(|value| Ok(value?)).collect()
    }

    async fn fill(&self) -> Result<()> {
        let Data { ids, values, size, .. } = &*self.0.data;
        let sessions: Vec<_> = ids.iter().cloned().zip(values.iter().cloned()).collect();
        // A megabyte at a time.
        for some in sessions.chunks(((1 << 20) / size).clamp(1, 1000)) {
            for created in self.0.sessions.create_with_id_many(some).await {
                created?;
            }
        }
        Ok(())
    }

    async fn close(&self) {
        self.0.ring.close().await;
    }
}
