//! The version that is being replaced.

use rolling_deploy::{Visited, run};
use serde::{Deserialize, Serialize};
use sessionring::SessionData;

#[derive(Debug, Serialize, Deserialize)]
struct Login {
    user: u64,
    visits: u32,
}

impl SessionData for Login {
    const VERSION: u16 = 1;
}

impl Visited for Login {
    fn new(user: u64) -> Login {
        Login { user, visits: 0 }
    }

    fn visit(&mut self) {
        self.visits += 1;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run::<Login>().await
}
