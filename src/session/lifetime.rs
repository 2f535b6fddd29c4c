use std::time::Duration;

use crate::{
    error::{Error, Result},
    record::Millis,
};

/// How long a session lives: until nobody has used it for the *idle* time, and never longer than the *absolute*
/// time since it was created. The server's clock decides both.
///
/// The default, 1 hour idle and 24 hours in all, is what NIST SP 800-63B-4 asks for at AAL2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    idle: Duration,
    absolute: Duration,
}

/// Deadlines are 48-bit milliseconds since 1970; this leaves them room until the year 9000.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

impl Lifetime {
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
        Lifetime { idle: Duration::from_secs(3600), absolute: Duration::from_secs(24 * 3600) }
    }
}

pub(super) fn milliseconds(duration: Duration) -> Millis {
    duration.min(LONGEST).as_millis() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

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
