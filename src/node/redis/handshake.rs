//! Is this the right server, and is it fit to hold sessions?

use std::{
    fmt::Display,
    future::pending,
    sync::{Arc, atomic::AtomicU64},
};

use redis::Cmd;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};

use super::{
    address::{Place, RedisAddress},
    answers::Value,
    bounded::Allowance,
    control, failure,
    link::{RedisLink, Shared, pipeline},
    primary::Primary,
    script,
    wire::Wire,
};
use crate::{
    error::{Error, ErrorKind},
    node::{Access, Clocks, Connection, Driver, Hello, Transport, run},
    record::Millis,
    ring::{NodeId, Token},
    telemetry,
    topology::MetaKeys,
};

/// GETEX, PXAT and the rest that the scripts rely on.
const OLDEST: (u32, u32) = (6, 2);

/// The way to one Redis server.
#[derive(Debug, Clone)]
pub(crate) struct RedisTransport {
    pub(crate) id: NodeId,
    pub(crate) address: Box<RedisAddress>,
    pub(crate) access: Arc<Access>,
    pub(crate) keys: Arc<MetaKeys>,
    pub(crate) clocks: Clocks,
    pub(crate) allow_eviction: bool,
}

impl Transport for RedisTransport {
    type Link = RedisLink;

    async fn connect(self) -> Result<Connection<RedisLink>, Error> {
        let Some(primary) = Primary::of(&self.id, &self.address, &self.access)? else {
            return self.open().await;
        };
        let credentials = self.access.credentials(&self.id, &self.address);
        loop {
            let place = primary.find().await?;
            let address = self.address.found(place.clone(), &primary.sentinels.name, credentials.clone());
            let there = RedisTransport { address: Box::new(address), ..self.clone() };
            let Connection { link, hello, driver } = tokio::select! {
                biased;
                opened = there.open() => opened?,
                // A server that hangs is waited for only until it is replaced.
                () = primary.moved(&place) => continue,
            };
            // A connection to a server that is the primary no longer ends: nothing is written there from then on, even if
            // it has not heard of that itself.
            let driver = Box::pin(async move {
                tokio::select! {
                    biased;
                    () = driver => {}
                    () = primary.moved(&place) => {}
                }
            });
            return Ok(Connection { link, hello, driver });
        }
    }

    async fn moved(self) {
        if let Ok(Some(primary)) = Primary::of(&self.id, &self.address, &self.access)
            && let Ok(place) = primary.find().await
        {
            return primary.moved(&place).await;
        }
        pending().await
    }
}

/// A connection over TCP.
pub(super) async fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl RedisTransport {
    async fn open(&self) -> Result<Connection<RedisLink>, Error> {
        let broken = |error: std::io::Error| failure::of_opening(&self.id, &self.address, &error);
        // Before anything is sent.
        let tls = self.access.tls(&self.id, &self.address)?;
        match &self.address.place {
            Place::Tls(host, port) | Place::Tcp(host, port) => {
                let stream = dial(host, *port).await.map_err(broken)?;
                match tls {
                    Some(tls) => self.greet(tls.secure(host, stream).await.map_err(broken)?).await,
                    None => self.greet(stream).await,
                }
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(broken)?;
                self.greet(stream).await
            }
            Place::Named(_) => {
                let message = format!("{} is no server; its Sentinels are asked for one", self.address);
                Err(Error::at(ErrorKind::Configuration, &self.id, message))
            }
        }
    }

    /// Says who we are and asks everything in one round trip.
    async fn greet<S>(&self, stream: S) -> Result<Connection<RedisLink>, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let place = self.address.to_string();
        let allowance = Allowance::of_handshake();
        let (wire, driver) = Wire::over(stream, allowance.clone());
        let mut driver: Driver = Box::pin(driver);

        let login = self.address.login(self.access.credentials(&self.id, &self.address).as_ref());
        let (introduction, asked) = (login.len(), Instant::now());
        let commands = pipeline(login.into_iter().chain(self.questions()));
        let answers = run(&mut driver, wire.call((&commands).into())).await;
        let mut answers = answers.map_err(|error| failure::of_login(&self.id, &place, &error))?;
        let questions = answers.split_off(introduction);
        admitted(&self.id, &self.address, commands.cmd_iter().zip(&answers))?;
        let ([script_hash, control_hash], hello) = self.examine(questions, asked)?;
        let shared = Arc::new(Shared {
            id: self.id.clone(),
            place,
            keys: self.keys.clone(),
            clocks: self.clocks.clone(),
            allow_eviction: self.allow_eviction,
            script_hash,
            control_hash,
            seq: AtomicU64::new(0),
            allowance,
        });
        Ok(Connection { link: RedisLink { shared, wire }, hello, driver })
    }

    fn questions(&self) -> [Cmd; 7] {
        [
            redis::cmd("INFO"),
            redis::cmd("TIME"),
            redis::cmd("SCRIPT").arg("LOAD").arg(script::SOURCE).to_owned(),
            redis::cmd("SCRIPT").arg("LOAD").arg(control::SOURCE).to_owned(),
            redis::cmd("GET").arg(&self.keys.node).to_owned(),
            redis::cmd("GET").arg(&self.keys.incarnation).to_owned(),
            redis::cmd("GET").arg(&self.keys.fence).to_owned(),
        ]
    }

    /// Judges what came back, worst first.
    fn examine(&self, answers: Vec<Value>, asked: Instant) -> Result<([String; 2], Hello), Error> {
        let garbage = || failure::of_garbage(&self.id, &self.address);
        let mut answers = answers.into_iter();
        let mut next = || match answers.next() {
            Some(Value::ServerError(error)) => Err(failure::of_server(&self.id, &error)),
            Some(value) => Ok(value),
            None => Err(garbage()),
        };
        let info = text(next()?).ok_or_else(garbage)?;
        self.judge(&Info(&info))?;
        let process = Info(&info).process();
        let version = Info(&info).version_name();
        let time = milliseconds(next()?).ok_or_else(garbage)?;
        let reading = self.clocks.read(time, asked);
        let mut hash = || text(next()?).ok_or_else(garbage);
        let hashes = [hash()?, hash()?];
        let mut stored = || {
            next().map(|value| match value {
                Value::BulkString(bytes) => Some(Vec::from(bytes)),
                _ => None,
            })
        };
        let standing = control::standing(stored()?, stored()?, stored()?);
        Ok((hashes, Hello { standing, process, version, reading }))
    }

    pub(super) fn judge(&self, info: &Info<'_>) -> Result<(), Error> {
        let place = &self.address;
        let configuration = |message: String| Err(Error::at(ErrorKind::Configuration, &self.id, message));
        match info.field("redis_mode") {
            Some("cluster") => {
                return configuration(format!(
                    "{place} is a member of a Redis Cluster; sessionring spreads sessions itself and needs plain \
                     servers (cluster-enabled no)"
                ));
            }
            Some("sentinel") => {
                return configuration(format!(
                    "{place} is a Sentinel, not a server that holds data; write redis+sentinel://{place}/name with the name \
                     of the primary that it watches"
                ));
            }
            _ => {}
        }
        let Some(version) = info.field("redis_version") else {
            return configuration(format!(
                "{place} does not say which Redis it is (INFO lacks redis_version)"
            ));
        };
        if Info::version(version) < OLDEST {
            return configuration(format!(
                "{place} is Redis {version}; sessionring needs {}.{} or later",
                OLDEST.0, OLDEST.1
            ));
        }
        if info.field("role") == Some("slave") {
            if let Some(name) = self.address.primary() {
                let message = format!(
                    "the Sentinels say that {place} is the primary, and it is a replica: {name} is being promoted; they \
                     are asked again"
                );
                return Err(Error::at(ErrorKind::Unavailable, &self.id, message));
            }
            return configuration(format!(
                "{place} is a read-only replica of {}:{}; give the address of the primary",
                info.field("master_host").unwrap_or("?"),
                info.field("master_port").unwrap_or("?")
            ));
        }
        if info.field("loading") == Some("1") {
            let message = format!("{place} is still loading its data; wait for it and connect again");
            return Err(Error::at(ErrorKind::Unavailable, &self.id, message));
        }
        check_eviction(&self.id, &place.to_string(), info, self.allow_eviction)
    }
}

/// Whether the server took us for who we say we are, and has the database.
pub(super) fn admitted<'a>(
    id: &NodeId,
    place: &impl Display,
    login: impl Iterator<Item = (&'a Cmd, &'a Value)>,
) -> Result<(), Error> {
    for (command, answer) in login {
        let Value::ServerError(error) = answer else { continue };
        match command.args_iter().next() {
            Some(redis::Arg::Simple(b"AUTH")) => return Err(failure::of_authentication(id, place, error)),
            Some(redis::Arg::Simple(b"SELECT")) => return Err(failure::of_server(id, error)),
            // A server that does not want to know what we are called does not have to.
            _ => {}
        }
    }
    Ok(())
}

/// A server that throws keys away is refused, unless that was asked for.
pub(super) fn check_eviction(id: &NodeId, place: &str, info: &Info<'_>, allow: bool) -> Result<(), Error> {
    match info.field("maxmemory_policy") {
        Some(policy) if policy != "noeviction" && !allow => {
            telemetry::warned(id, "eviction");
            let message = format!(
                "{place} has maxmemory-policy {policy}: it would throw sessions and log-outs away when memory runs \
                 short; set maxmemory-policy noeviction, or accept the loss with allow_eviction(true)"
            );
            Err(Error::at(ErrorKind::Configuration, id, message))
        }
        _ => Ok(()),
    }
}

/// The text that INFO answers.
pub(super) struct Info<'a>(pub(super) &'a str);

impl<'a> Info<'a> {
    fn field(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Another number after a restart, and after a promotion.
    fn process(&self) -> u64 {
        let identity = ["run_id", "master_replid"].map(|name| self.field(name).unwrap_or_default());
        Token::of(identity.join(" ").as_bytes()).get()
    }

    /// What the server calls itself, as Valkey and Redis say it.
    fn version_name(&self) -> Option<String> {
        let valkey = self.field("valkey_version").map(|version| format!("Valkey {version}"));
        valkey.or_else(|| self.field("redis_version").map(|version| format!("Redis {version}")))
    }

    fn version(text: &str) -> (u32, u32) {
        let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.into()).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(super) fn milliseconds(value: Value) -> Option<Millis> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter().map(|part| text(part)?.parse::<u64>().ok());
    let (seconds, micros) = (parts.next()??, parts.next()??);
    let time = seconds.checked_mul(1000)?.checked_add(micros / 1000)?;
    // Records have 48 bits for a time, and differences of times must be computable.
    (time < 1 << 48).then_some(time)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_time_beyond_all_records_is_no_answer_of_redis() {
        let bulk = |number: &str| Value::BulkString(Bytes::copy_from_slice(number.as_bytes()));
        let time = |seconds, micros| milliseconds(Value::Array(vec![bulk(seconds), bulk(micros)]));
        assert_eq!(time("1700000000", "123456"), Some(1_700_000_000_123));
        assert_eq!(time("281474976710", "655999"), Some((1 << 48) - 1));
        assert_eq!(time("281474976710", "656000"), None);
        assert_eq!(time("9223372036854775", "808000"), None);
        assert_eq!(time("18446744073709551615", "0"), None);
    }

    #[test]
    fn info_fields_are_whole_names() {
        let info = Info("# Server\r\nredis_version:7.0.15\r\nrole_x:no\r\nrole:master\r\n");
        assert_eq!(info.field("role"), Some("master"));
        assert_eq!(info.field("redis"), None);
        let of =
            |run, replication| Info(&format!("run_id:{run}\r\nmaster_replid:{replication}\r\n")).process();
        assert_eq!(of("a", "b"), of("a", "b"));
        assert!(of("a", "b") != of("a", "c") && of("a", "b") != of("c", "b"));
        assert_eq!(Info::version("7.0.15"), (7, 0));
        assert_eq!(Info::version("x"), (0, 0));
    }
}
