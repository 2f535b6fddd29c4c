//! The store inside tower-sessions, in both versions, on real servers and in memory.

#![allow(clippy::duplicate_mod, reason = "both versions of the framework run the same tests")]

mod support;

#[path = "tower_sessions"]
mod v0_14 {
    use tower_sessions_0_14 as tower_sessions;

    #[path = "properties.rs"]
    mod properties;
    #[path = "routes.rs"]
    mod routes;
}

#[path = "tower_sessions"]
mod v0_15 {
    use ::tower_sessions;

    #[path = "properties.rs"]
    mod properties;
    #[path = "routes.rs"]
    mod routes;
}
