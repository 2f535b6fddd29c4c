//! The version that is being deployed: a login has a cart and a theme now, which it had not before.

use rolling_deploy::{Visited, run};
use serde::{Deserialize, Serialize};
use sessionring::{SessionData, Upgrades};

/// As the version before knows it.
#[derive(Serialize, Deserialize)]
struct LoginV1 {
    user: u64,
    visits: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Login {
    user: u64,
    cart: Vec<String>,
    theme: Theme,
    visits: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Theme {
    dark: bool,
}

impl SessionData for Login {
    const VERSION: u16 = 2;

    fn upgrades() -> Upgrades<Login> {
        Upgrades::from(1, |old: LoginV1| Login {
            user: old.user,
            cart: vec![],
            theme: Theme { dark: false },
            visits: old.visits,
        })
    }
}

impl Visited for Login {
    fn new(user: u64) -> Login {
        Login { user, cart: vec!["tea".into()], theme: Theme { dark: true }, visits: 0 }
    }

    fn visit(&mut self) {
        self.visits += 1;
        self.cart.push(format!("book {}", self.cart.len()));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run::<Login>().await
}
