//! What of a session is stored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::loaded::Loaded;
use crate::web::merge::Merge;

/// A session of tower-sessions, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) data: Map<String, Value>,
    /// When it ends by the clock of the application that wrote it: microseconds since 1970. What decides is the node's clock.
    pub(super) expires: i64,
    /// The request that wrote last.
    pub(super) writer: u64,
}

impl Stored {
    /// Brings what a request has made of what it had loaded into what is there now.
    pub(super) fn take_in(&mut self, loaded: &Loaded, mine: &Stored, merge: &Merge) {
        if self.writer == loaded.writer {
            // It saves for the second time and nobody came in between: what is there is what it had.
            self.data.clone_from(&mine.data);
        } else {
            merge.merge(&loaded.base(), &mine.data, &mut self.data);
        }
        (self.expires, self.writer) = (mine.expires, mine.writer);
    }
}
