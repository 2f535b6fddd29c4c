//! What can go wrong with a server, and where.

use std::{fmt, io};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the context that a failed test should print.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No server program was found; the text says what to install.
    NoServer {
        /// What was looked for.
        looked_for: String,
    },
    /// The server did not start, or did not come back.
    Start {
        /// What happened.
        reason: String,
        /// The end of the server's log.
        log: String,
    },
    /// The operating system refused something.
    Io {
        /// What was attempted.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server is not running (it was killed or shut down).
    NotRunning,
    /// Something did not happen in time.
    Timeout {
        /// What was waited for.
        what: String,
    },
    /// Bytes that are no reply of the Redis protocol.
    Protocol {
        /// What was wrong with them.
        what: String,
    },
    /// A certificate could not be made.
    Certificate {
        /// Why.
        what: String,
    },
    /// The server answered with an error where an answer was needed.
    Reply {
        /// The server's text, for example `ERR unknown command`.
        text: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Error {
        Error::Protocol { what: what.into() }
    }

    #[cfg(feature = "certificates")]
    pub(crate) fn certificate(error: impl fmt::Display) -> Error {
        Error::Certificate { what: error.to_string() }
    }

    pub(crate) fn timeout(what: impl Into<String>) -> Error {
        Error::Timeout { what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoServer { looked_for } => write!(
                f,
                "no Redis or Valkey server found (looked for {looked_for}).\n\
                 These tests start their own servers. `make test` installs one, or do it yourself:\n\
                 \x20 Debian, Ubuntu   apt-get install redis-server\n\
                 \x20 Fedora, RHEL     dnf install redis      (or valkey)\n\
                 \x20 Alpine           apk add redis          (or valkey)\n\
                 \x20 Arch             pacman -S valkey\n\
                 \x20 macOS            brew install redis\n\
                 or name the program: REDIS_SERVER=/path/to/redis-server"
            ),
            Error::Start { reason, log } => write!(f, "the server did not start: {reason}\n{log}"),
            Error::Io { what, source } => write!(f, "{what}: {source}"),
            Error::NotRunning => write!(f, "the server is not running"),
            Error::Timeout { what } => write!(f, "waited in vain for {what}"),
            Error::Protocol { what } => write!(f, "not a Redis reply: {what}"),
            Error::Certificate { what } => write!(f, "no certificate: {what}"),
            Error::Reply { text } => write!(f, "the server answered: {text}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
