use std::time::Duration;

use crate::{
    error::{Error, Result},
    record::Millis,
};

/// How long a session lives: until nobody has used it for the *idle* time, and never longer than the *absolute*
/// time since it was created. The server's clock decides both.
///
/// The default is [`NIST_AAL2`](Lifetime::NIST_AAL2).
///
/// | | idle | in all | asked for by |
/// |---|---|---|---|
/// | [`NIST_AAL1`](Lifetime::NIST_AAL1) | as long | 30 days | SP 800-63B-4, section 2.1.3 (the same in 800-63B, section 4.1.3) |
/// | [`NIST_AAL2`](Lifetime::NIST_AAL2) | 1 hour | 24 hours | SP 800-63B-4, section 2.2.3 |
/// | [`NIST_AAL3`](Lifetime::NIST_AAL3) | 15 minutes | 12 hours | SP 800-63B-4, section 2.3.3 (the same in 800-63B, section 4.3.3) |
/// | [`OWASP`](Lifetime::OWASP) | 30 minutes | 8 hours | Session Management Cheat Sheet, the longest of its ranges |
///
/// They are limits: a shorter lifetime meets them, too. Revision 4 of SP 800-63B is of August 2025, and withdrew revision 3,
/// which asked for 30 minutes and 12 hours at AAL2 (section 4.2.3): `Lifetime::new` makes that. For applications of high value
/// OWASP's range is 2 to 5 minutes idle. Which of them an application needs is a question of its risks, and a lifetime is one
/// part of what these documents ask for.
///
/// # Another lifetime for sessions that live already
///
/// - The **idle** part holds from the next write, touch or [`visit`](crate::Sessions::visit) of a session: then its idle deadline
///   is counted anew, by the lifetime of whoever writes or touches (a visit does so at once where that brings it forward). Nobody's deadline changes by the change alone, so a session that nobody uses goes when it
///   would have gone before. While its token moves between nodes, no deadline is brought forward.
/// - The **absolute** part is set when a session begins and holds until it ends. Another one is for sessions created from now
///   on: a longer one gives no living session a day more, a shorter one takes none away. To end those that began under the
///   old one, log them out.
/// - During a deploy both lifetimes are in use: the session has what the last program that used it so said.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
/// use sessionring::Lifetime;
///
/// let long = ring.sessions::<u64>("user").lifetime(Lifetime::NIST_AAL1);
/// let id = long.create(&7).await?;
///
/// let short = long.clone().lifetime(Lifetime::OWASP);
/// assert!(short.remaining(&id).await? > Some(Lifetime::OWASP.idle()), "nothing has changed yet");
/// short.touch(&id).await?;
/// assert!(short.remaining(&id).await? <= Some(Lifetime::OWASP.idle()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    idle: Duration,
    absolute: Duration,
}

/// Deadlines are 48-bit milliseconds since 1970; this leaves them room until the year 9000.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// As long as anything lives.
pub(super) const LONGEST_MS: Millis = LONGEST.as_millis() as Millis;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl Lifetime {
    /// NIST SP 800-63B-4, authenticator assurance level 1: at most 30 days. It asks for no idle time, so there is none.
    pub const NIST_AAL1: Lifetime = Lifetime::of(HOUR.saturating_mul(30 * 24), HOUR.saturating_mul(30 * 24));

    /// NIST SP 800-63B-4, authenticator assurance level 2: at most 24 hours, and 1 hour without use.
    pub const NIST_AAL2: Lifetime = Lifetime::of(HOUR, HOUR.saturating_mul(24));

    /// NIST SP 800-63B-4, authenticator assurance level 3: at most 12 hours, and 15 minutes without use.
    pub const NIST_AAL3: Lifetime = Lifetime::of(MINUTE.saturating_mul(15), HOUR.saturating_mul(12));

    /// OWASP's Session Management Cheat Sheet, for applications of low risk that are used for a working day: 30 minutes
    /// without use (of 15 to 30), 8 hours in all (of 4 to 8).
    pub const OWASP: Lifetime = Lifetime::of(MINUTE.saturating_mul(30), HOUR.saturating_mul(8));

    const fn of(idle: Duration, absolute: Duration) -> Lifetime {
        Lifetime { idle, absolute }
    }

    /// A lifetime of at least one millisecond and at most a hundred years, in whole milliseconds (more precise
    /// times are cut).
    ///
    /// # Errors
    /// [`is_configuration`](Error::is_configuration): shorter, longer, or idle above absolute.
    pub fn new(idle: Duration, absolute: Duration) -> Result<Lifetime> {
        if idle.as_millis() == 0 {
            return Err(Error::configuration("the idle lifetime must be at least one millisecond"));
        }
        if idle > absolute {
            return Err(Error::configuration(format!(
                "the idle lifetime ({idle:?}) must not be longer than the absolute one ({absolute:?})"
            )));
        }
        if absolute > LONGEST {
            return Err(Error::configuration("the absolute lifetime must be at most a hundred years"));
        }
        Ok(Lifetime { idle, absolute })
    }

    /// Ends the session when it was not used for this long.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Ends the session this long after it was created.
    pub fn absolute(&self) -> Duration {
        self.absolute
    }

    pub(crate) fn idle_ms(&self) -> Millis {
        milliseconds(self.idle)
    }

    pub(crate) fn absolute_ms(&self) -> Millis {
        milliseconds(self.absolute)
    }
}

impl Default for Lifetime {
    fn default() -> Lifetime {
        Lifetime::NIST_AAL2
    }
}

pub(super) fn milliseconds(duration: Duration) -> Millis {
    duration.min(LONGEST).as_millis() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the standards ask for, in seconds.
    #[test]
    fn presets_are_what_they_say() {
        for (preset, idle, absolute) in [
            (Lifetime::NIST_AAL1, 2_592_000, 2_592_000),
            (Lifetime::NIST_AAL2, 3_600, 86_400),
            (Lifetime::NIST_AAL3, 900, 43_200),
            (Lifetime::OWASP, 1_800, 28_800),
        ] {
            let (idle, absolute) = (Duration::from_secs(idle), Duration::from_secs(absolute));
            assert_eq!(Lifetime::new(idle, absolute).unwrap(), preset);
        }
        assert_eq!(Lifetime::default(), Lifetime::NIST_AAL2);
    }

    #[test]
    fn bad_lifetimes_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Lifetime::new(second, second).is_ok());
        for (idle, absolute) in [
            (Duration::ZERO, second),
            (Duration::from_micros(999), second),
            (2 * second, second),
            (second, Duration::MAX),
        ] {
            assert!(Lifetime::new(idle, absolute).unwrap_err().is_configuration());
        }
    }
}
