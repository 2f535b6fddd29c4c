//! What a session holds: any type of yours that serde can encode.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sessionring::Lifetime;

/// Sessions of different kinds are kept apart by namespaces.
pub(crate) const NAMESPACE: &str = "login";

/// A user who is logged in.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) user: u64,
    pub(crate) name: String,
    pub(crate) cart: Vec<Article>,
}

/// Something in a shopping cart.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Article {
    pub(crate) title: String,
    pub(crate) pieces: u32,
    pub(crate) cents: u64,
}

impl Login {
    /// The session of the user with this number: always the same, so that it can be told from another one when
    /// it is read back.
    pub(crate) fn of(number: usize) -> Login {
        let user = number as u64;
        let article = |i: u64| Article {
            title: format!("Volume {} of the encyclopaedia", user * 7 % 1000 + i),
            pieces: (user % 3) as u32 + 1,
            cents: 1995 + user * 31 % 5000 + i,
        };
        Login {
            user,
            name: format!("user-{user}@example.org"),
            cart: (0..user % 4 + 1).map(article).collect(),
        }
    }

    /// The same session after so many changes.
    pub(crate) fn changed(number: usize, changes: u32) -> Login {
        let mut login = Login::of(number);
        if changes > 0 {
            login.change(changes);
        }
        login
    }

    /// A change that shows which one it is: so many atlases are in the cart from now on.
    pub(crate) fn change(&mut self, changes: u32) {
        self.cart.retain(|article| article.title != ATLAS);
        self.cart.push(Article { title: ATLAS.into(), pieces: changes, cents: 4900 });
    }
}

const ATLAS: &str = "Atlas";

/// A session ends when it was not used for the idle time, and at the latest after the absolute time. Both are
/// short here: should the demo be killed while it works on your servers, its sessions are soon gone.
pub(crate) fn lifetime() -> sessionring::Result<Lifetime> {
    Lifetime::new(Duration::from_secs(10 * 60), Duration::from_secs(30 * 60))
}
