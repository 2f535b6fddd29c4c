//! Who we are at a node.

use std::{fmt, sync::Arc};

/// A user and a password, given apart from addresses. Cheap to clone; `Debug` shows no password.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sessionring::{Credentials, SessionRing};
///
/// let ring = SessionRing::builder()
///     .node("a", "memory:") // "rediss://10.0.0.1"
///     .node("b", "memory:")
///     .credentials(Credentials::new("app", "the password of most nodes"))
///     .node_credentials("b", Credentials::new("app", "the password of b"))
///     .connect()
///     .await?;
/// # assert!(!format!("{:?}", Credentials::new("app", "hunter2")).contains("hunter2"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Option<Arc<str>>,
    password: Arc<str>,
}

impl Credentials {
    /// An ACL user and its password.
    pub fn new(user: impl AsRef<str>, password: impl AsRef<str>) -> Credentials {
        Credentials::of(Some(user.as_ref()), password.as_ref())
    }

    /// The password of the server's default user (`requirepass`).
    pub fn password(password: impl AsRef<str>) -> Credentials {
        Credentials::of(None, password.as_ref())
    }

    pub(crate) fn of(user: Option<&str>, password: &str) -> Credentials {
        Credentials { user: user.map(Arc::from), password: password.into() }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password. Not to be shown to anybody but the server.
    pub(crate) fn secret(&self) -> &str {
        &self.password
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
