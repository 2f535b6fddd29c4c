//! What the server's errors mean to us.

use std::{error::Error as StdError, fmt::Display, sync::Arc};

use redis::{RedisError, ServerError};

use crate::{
    error::{Error, ErrorKind},
    node::{BatchReply, Failure, explain},
    protocol::Outcome,
    ring::NodeId,
};

/// An error that the script caught for one operation. Those that are known come before anything was changed.
pub(super) fn of_operation(id: &NodeId, text: &str) -> Result<Outcome, Failure> {
    // Redis 6 puts words around the code, Redis 7 begins with it.
    if text.contains("WRONGTYPE") {
        return Ok(Outcome::WrongType);
    }
    if is_forbidden_inside(text) {
        return Err(Failure::Unsent(of_code(id, "NOPERM", text)));
    }
    let known = ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM"];
    match known.into_iter().find(|code| text.contains(code)) {
        Some(code) => Err(Failure::Unsent(of_code(id, code, text))),
        None => Err(Failure::Lost(of_code(id, "ERR", text))),
    }
}

/// An error in place of a whole batch.
pub(super) fn of_batch(id: &NodeId, error: &ServerError) -> BatchReply {
    let text = error.details().unwrap_or_default();
    // What ends the script as a whole is what it asks for before the first operation.
    let code = if is_forbidden_inside(text) { "NOPERM" } else { error.code() };
    let said = of_code(id, code, text);
    match code {
        // The command was refused before it began. Whoever we are talking to, it is not the node that was
        // greeted: connect again, which looks closer.
        "LOADING" | "READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "CLUSTERDOWN"
        | "MOVED" => BatchReply::Broken(Failure::Unsent(said)),
        "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "NOSCRIPT" => BatchReply::Failed(Failure::Unsent(said)),
        _ => BatchReply::Failed(Failure::Lost(said)),
    }
}

/// An error in place of the answer to a command of the control plane.
pub(super) fn of_control(id: &NodeId, error: &ServerError) -> Failure {
    let (code, text) = (error.code(), error.details().unwrap_or_default());
    if is_forbidden_inside(text) {
        return Failure::Unsent(of_code(id, "NOPERM", text));
    }
    // Redis 6 puts words around the code of what failed inside a script.
    let known = ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM", "WRONGTYPE", "CORRUPT"];
    match known.into_iter().find(|known| code == *known || text.contains(known)) {
        Some(code) => Failure::Unsent(of_code(id, code, text)),
        None => Failure::Lost(of_code(id, code, text)),
    }
}

/// Whether a script was refused a command that the user may not use. It has no code of its own, and Redis 7.2 says it otherwise
/// than those before.
fn is_forbidden_inside(text: &str) -> bool {
    ["ACL failure in script", "executing the script can't run"].iter().any(|said| text.contains(said))
}

/// The error for a server that refused a write because it is a replica.
pub(super) fn read_only(id: &NodeId, text: &str) -> Error {
    of_code(id, "READONLY", text)
}

/// The error for an answer of the server that is an error.
pub(super) fn of_server(id: &NodeId, error: &ServerError) -> Error {
    of_code(id, error.code(), error.details().unwrap_or_default())
}

fn of_code(id: &NodeId, code: &str, text: &str) -> Error {
    let said = if text.starts_with(code) { text.to_owned() } else { format!("{code} {text}") };
    let (kind, advice) = match code {
        "OOM" => (
            ErrorKind::Full,
            "the node has reached maxmemory: log-outs, touches and reads still work, new sessions and updates \
             are refused; raise maxmemory or add a node",
        ),
        "MISCONF" => (
            ErrorKind::Full,
            "the node cannot save to its disk and refuses every write, log-outs included; free the disk, or \
             set stop-writes-on-bgsave-error no",
        ),
        "NOREPLICAS" => {
            (ErrorKind::Unavailable, "the node misses the replicas that min-replicas-to-write asks for")
        }
        "LOADING" => (ErrorKind::Unavailable, "the server is still loading its data; wait for it"),
        "BUSY" => (ErrorKind::Unavailable, "another script blocks the server (SCRIPT KILL ends it)"),
        "READONLY" | "MASTERDOWN" => {
            (ErrorKind::Unavailable, "the server is a read-only replica; give the address of its primary")
        }
        "NOAUTH" => (
            ErrorKind::Configuration,
            "the server wants a password; write redis://user:password@host or redis://:password@host",
        ),
        "WRONGPASS" => (ErrorKind::Configuration, "the server refuses this user or password"),
        "NOPERM" => (
            ErrorKind::Configuration,
            "the ACL of this user does not allow what sessionring needs; docs/operations.md lists the rules",
        ),
        // SELECT, as part of connecting.
        "ERR" if text.contains("DB index") => {
            (ErrorKind::Configuration, "the server has no database of this number; check the address")
        }
        "ERR" if text.contains("max number of clients") => (
            ErrorKind::Unavailable,
            "the server has as many connections as its maxclients allows; raise it, or look who holds them (CLIENT LIST)",
        ),
        "DENIED" => (
            ErrorKind::Configuration,
            "the server is in protected mode and lets in nobody from another machine; give it a password or ACL users",
        ),
        "WRONGTYPE" | "CORRUPT" => (
            ErrorKind::Configuration,
            "something else wrote to one of the ring's own keys (sessionring:RING:…); remove the key by hand",
        ),
        "CLUSTERDOWN" | "MOVED" | "CROSSSLOT" => (
            ErrorKind::Configuration,
            "the server is a member of a Redis Cluster; sessionring needs plain servers",
        ),
        _ => (ErrorKind::Unavailable, "the server answered with an error"),
    };
    // The first sentence says it; Redis goes on to explain its own options.
    let said = said.split_once(". ").map_or(said.as_str(), |(first, _)| first);
    Error::at(kind, id, format!("{advice} ({})", said.trim()))
}

/// What came is not what Redis answers to the command.
pub(super) fn of_garbage(id: &NodeId, place: &impl Display) -> Error {
    let message = format!("{place} gave an answer that Redis does not give; check the address");
    Error::at(ErrorKind::Configuration, id, message)
}

/// No connection came about.
pub(super) fn of_opening(id: &NodeId, place: &impl Display, error: &std::io::Error) -> Error {
    match explain(error) {
        Some(why) => Error::at(ErrorKind::Configuration, id, format!("no connection to {place}: {why}")),
        None => Error::at(ErrorKind::Unavailable, id, format!("no connection to {place}: {error}")),
    }
}

/// An error of the connection before anything was answered.
pub(super) fn of_login(id: &NodeId, place: &str, error: &RedisError) -> Error {
    // A server that wants a certificate says so only now.
    let cause = error.source().and_then(|cause| cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>());
    if let Some(why) = cause.and_then(|cause| explain(&**cause)) {
        return Error::at(ErrorKind::Configuration, id, format!("no connection to {place}: {why}"));
    }
    let broke = of_connection(id, place, error);
    if error.is_connection_dropped() {
        let message = format!("{}; if the server speaks TLS there, write rediss://", broke.message());
        return Error::at(broke.kind(), id, message);
    }
    broke
}

/// The error for an answer to AUTH that is one.
pub(super) fn of_authentication(id: &NodeId, place: &impl Display, error: &ServerError) -> Error {
    match error.code() {
        // The second one: a server that has no password for this user.
        "WRONGPASS" => of_password(id, place),
        "ERR" if error.details().is_some_and(|said| said.contains("AUTH")) => of_password(id, place),
        _ => of_server(id, error),
    }
}

fn of_password(id: &NodeId, place: &impl Display) -> Error {
    let message = format!(
        "the server at {place} refuses this user or password; check the address, or the credentials given apart from it"
    );
    Error::at(ErrorKind::Configuration, id, message)
}

/// An error of the connection itself, before or during an exchange.
pub(super) fn of_connection(id: &NodeId, place: &str, error: &RedisError) -> Error {
    use redis::ErrorKind as Kind;
    match error.kind() {
        Kind::Parse => Error::at(
            ErrorKind::Configuration,
            id,
            format!("what answers at {place} does not speak the Redis protocol; check host and port"),
        ),
        Kind::AuthenticationFailed => of_password(id, &place),
        Kind::Server(_) | Kind::Extension => {
            let code = error.code().unwrap_or("ERR");
            of_code(id, code, error.detail().unwrap_or_default())
        }
        _ if error.is_connection_dropped() => {
            let message = format!("the connection to {place} ended before the answer came");
            Error::at(ErrorKind::Unavailable, id, message)
        }
        _ => Error::at(ErrorKind::Unavailable, id, format!("the connection to {place} broke: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Redis 6.2 and 7.0, Redis 7.2 and later, and Valkey say it to the script.
    #[test]
    fn a_command_that_is_forbidden_inside_a_script_was_not_done() {
        let id = NodeId::new("a").unwrap();
        for said in [
            "ERR The user executing the script can't run this command or subcommand",
            "@user_script: 105: The user executing the script can't run this command or subcommand",
            "ERR ACL failure in script: User app has no permissions to run the 'set' command",
            "NOPERM ACL failure in script: User app has no permissions to run the 'set' command",
        ] {
            match of_operation(&id, said) {
                Err(Failure::Unsent(error)) => assert!(error.is_configuration(), "{error}"),
                other => panic!("{said}: {other:?}"),
            }
        }
        // What nobody knows may have changed something.
        assert!(matches!(of_operation(&id, "ERR user_script:105: too much"), Err(Failure::Lost(_))));
    }
}
