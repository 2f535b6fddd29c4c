//! What becomes of sessions that cannot be read.

use super::Sessions;
use crate::error::Result;

/// What reading a [corrupt](crate::Error::is_corrupt) session answers: one whose bytes are no record, do not decode as the
/// type asked for, or are not what was sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCorrupt {
    /// The error, on every read until somebody logs the session out or it expires. The default: whoever deploys a type that
    /// does not fit its sessions finds out, and can go back with nobody logged out.
    #[default]
    Fail,
    /// No session. The user logs in again, and gets a new id. The old record stays where it is: it can still be read by a
    /// program that it fits, [`delete`](Sessions::delete) ends it, [`set`](Sessions::set) replaces it where its envelope is
    /// whole, and it goes when it expires. A log-out is a log-out under both.
    ///
    /// Sessions that need a newer program ([`is_upgrade_required`](crate::Error::is_upgrade_required)) or a higher limit
    /// are errors all the same: they are whole.
    Reset,
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// What reading a corrupt session answers: [`OnCorrupt::Fail`] unless set. [`exists`](Sessions::exists),
    /// [`remaining`](Sessions::remaining) and [`touch`](Sessions::touch) do not read it, and find it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::OnCorrupt;
    ///
    /// let id = ring.sessions::<String>("login").create(&"of another type".to_owned()).await?;
    /// let logins = ring.sessions::<(u64, u64)>("login");
    /// assert!(logins.get(&id).await.unwrap_err().is_corrupt());
    /// let logins = logins.on_corrupt(OnCorrupt::Reset);
    /// assert!(logins.get(&id).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_corrupt(self, answer: OnCorrupt) -> Sessions<T> {
        self.with(|options| options.on_corrupt = answer)
    }

    pub(super) fn or_reset<R>(&self, read: Result<Option<R>>) -> Result<Option<R>> {
        match read {
            Err(error) if error.is_corrupt() && self.options.on_corrupt == OnCorrupt::Reset => Ok(None),
            read => read,
        }
    }
}
