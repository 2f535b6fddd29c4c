//! Errors of this crate as texts, which is all that those of the framework can carry.

use std::fmt::Display;

use crate::{Error, ErrorKind, record::IdError};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Ring(#[from] Error),
    #[error(transparent)]
    Id(#[from] IdError),
}

/// What the framework tells apart. Its errors are texts.
pub(super) enum Category {
    Encode,
    Decode,
    Backend,
}

impl Failure {
    pub(super) fn category(&self) -> Category {
        match self {
            Failure::Ring(error) => match error.kind() {
                ErrorKind::Encode => Category::Encode,
                ErrorKind::Corrupt => Category::Decode,
                _ => Category::Backend,
            },
            Failure::Id(_) => Category::Backend,
        }
    }
}

impl Failure {
    /// What the framework's error says. It ends with the kind, which cannot be seen from the text otherwise.
    pub(super) fn text(&self) -> String {
        match self {
            Failure::Ring(error) => format!("{error}{}", ending(error.kind())),
            Failure::Id(error) => error.to_string(),
        }
    }
}

fn ending(kind: ErrorKind) -> String {
    format!(" [sessionring: {kind:?}]")
}

/// What kind of [`Error`](crate::Error) it was that a store of this crate has failed with: errors of tower-sessions are texts, so an
/// application cannot ask them whether a node is down or a session was logged out. `None`: it came from elsewhere.
///
#[cfg_attr(
    feature = "tower-sessions-0-15",
    doc = r#"
```
use sessionring::{ErrorKind, web::tower_sessions::error_kind};
use tower_sessions_core_0_15 as tower_sessions; // in an application it has this name

/// The status of a page whose session could not be read.
fn status(error: &tower_sessions::session::Error) -> u16 {
    match error_kind(error) {
        Some(ErrorKind::Unavailable | ErrorKind::Overloaded) => 503, // keep the cookie: he is still logged in
        _ => 500,
    }
}
```
"#
)]
pub fn error_kind(error: &impl Display) -> Option<ErrorKind> {
    // The end is always ours: what a server has said stands before it.
    let text = error.to_string();
    ErrorKind::ALL.into_iter().find(|kind| text.ends_with(&ending(*kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_text() {
        for kind in ErrorKind::ALL {
            let said = format!("node a: a server may say anything{}", ending(ErrorKind::Deleted));
            let text = Failure::Ring(Error::new(kind, said)).text();
            assert_eq!(error_kind(&text), Some(kind), "{text}");
            assert_eq!(error_kind(&format!("{text} and more")), None);
        }
        assert_eq!(error_kind(&"node a: of elsewhere"), None);
    }

    #[test]
    fn no_kind_is_missing() {
        let known = ErrorKind::ALL.map(|kind| match kind {
            // A kind that is added here is one that `ALL` needs.
            ErrorKind::Unavailable => 0,
            ErrorKind::Overloaded => 1,
            ErrorKind::Full => 2,
            ErrorKind::Deleted => 3,
            ErrorKind::NotFound => 4,
            ErrorKind::Exists => 5,
            ErrorKind::Conflict => 6,
            ErrorKind::Corrupt => 7,
            ErrorKind::TooLarge => 8,
            ErrorKind::Encode => 9,
            ErrorKind::Indeterminate => 10,
            ErrorKind::Configuration => 11,
            ErrorKind::UpgradeRequired => 12,
            ErrorKind::Closed => 13,
        });
        assert_eq!(known, std::array::from_fn(|at| at));
    }
}
