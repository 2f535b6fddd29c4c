//! Stores for the session middleware of web frameworks. They use nothing of this crate that an application could not use.
//!
//! - [`tower_sessions`]: tower-sessions 0.14 and 0.15, and with it axum and axum-login
//!   (features `tower-sessions-0-14`, `tower-sessions-0-15`)
//! - [`actix_session`]: actix-session 0.11 (feature `actix-session-0-11`)
//! - [`BothChanged`]: requests of one browser run at the same time, and what each of them changed is merged

#[cfg(feature = "actix-session-0-11")]
#[cfg_attr(docsrs, doc(cfg(feature = "actix-session-0-11")))]
pub mod actix_session;
mod merge;
#[cfg(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "tower-sessions-0-14", feature = "tower-sessions-0-15"))))]
pub mod tower_sessions;

pub use merge::BothChanged;

use std::time::Duration;

/// How long a session may go on, however often it is used: the longest that browsers keep a cookie. The frameworks know
/// an idle time only, and whoever slides it expects that to work.
const ABSOLUTE: Duration = Duration::from_secs(400 * 24 * 3600);

/// Which of these crates' lifetimes a write asks for: none is shorter than a millisecond or longer than the session may go on.
fn lifetime(idle: Duration, absolute: Duration) -> crate::Result<crate::Lifetime> {
    crate::Lifetime::new(idle.max(Duration::from_millis(1)).min(absolute), absolute)
}
