//! Where a primary is that Sentinels watch, and when it is elsewhere.
//!
//! All Sentinels are asked at once. Each says where the primary is, and the number of the promotion that made it so (its
//! configuration epoch, which a majority of Sentinels has given to no other promotion): the newest counts. So one that is cut off
//! from the others, or has not heard yet, misleads nobody as long as another answers, and one that is dead costs nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered, Stream},
};
use redis::{
    Cmd, ProtocolVersion, RedisConnectionInfo,
    aio::{PubSub, PubSubStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use super::{
    address::{Place, RedisAddress, login},
    answers::Value,
    bounded::{Allowance, Bounded},
    failure,
    handshake::{admitted, dial, text},
    link::pipeline,
    sentinels::{Host, Sentinels},
    wire::Wire,
};
use crate::{
    error::{Error, ErrorKind},
    node::{Access, Credentials, Driver, Tls, about, run},
    ring::NodeId,
};

/// So long the others may take when one Sentinel has answered: they may know of a newer promotion. And so long at least, about,
/// until they are asked again.
const GRACE: Duration = Duration::from_millis(100);
/// How often Sentinels are asked about a primary that is in use, about, besides listening to them: what they say may be lost on
/// a connection that leads nowhere.
const INTERVAL: Duration = Duration::from_secs(10);
/// Until a Sentinel that cannot be listened to is tried again, about.
const PAUSE: Duration = Duration::from_secs(1);

/// What a connection begins with that only listens, for which the driver's own is right.
fn listener(credentials: Option<&Credentials>) -> RedisConnectionInfo {
    let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2);
    let Some(credentials) = credentials else { return login };
    let login = login.set_password(credentials.secret());
    match credentials.user() {
        Some(user) => login.set_username(user),
        None => login,
    }
}

/// The way to the primary of that name.
#[derive(Clone)]
pub(super) struct Primary {
    pub(super) id: NodeId,
    pub(super) sentinels: Arc<Sentinels>,
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: Option<Tls>,
}

/// What a Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// The primary is there, since the promotion of that number.
    At(u64, Place),
    /// It watches none of that name.
    Unknown,
}

impl Primary {
    /// The primary that this address names, if it names one.
    pub(super) fn of(id: &NodeId, address: &RedisAddress, access: &Access) -> Result<Option<Primary>, Error> {
        let Place::Named(sentinels) = &address.place else { return Ok(None) };
        let (tls, credentials) = (access.tls(id, address)?, access.sentinel_credentials(id, address));
        Ok(Some(Primary { id: id.clone(), sentinels: sentinels.clone(), credentials, tls }))
    }

    /// Where it is, says who knows best of those Sentinels that answer.
    pub(super) async fn find(&self) -> Result<Place, Error> {
        let hosts = self.sentinels.hosts.iter();
        let mut asking: FuturesUnordered<_> = hosts.map(|host| self.ask(host)).collect();
        let (mut said, mut silent) = (Vec::new(), Vec::new());
        while let Some(answer) = match said.is_empty() {
            true => asking.next().await,
            false => timeout(GRACE, asking.next()).await.unwrap_or(None),
        } {
            match answer {
                Ok(one) => said.push(one),
                Err(error) => silent.push(error),
            }
        }
        self.judge(said, silent)
    }

    /// Returns when the Sentinels say that it is elsewhere than here.
    pub(super) async fn moved(&self, here: &Place) {
        let hosts = self.sentinels.hosts.iter();
        let mut heard = stream::select_all(hosts.map(|host| Box::pin(self.listen(host))));
        loop {
            let _ = timeout(about(INTERVAL), heard.next()).await;
            // Somebody may be late: what counts is what all of them say.
            if let Ok(Ok(place)) = timeout(INTERVAL, self.find()).await
                && place != *here
            {
                return;
            }
            // One that announces without end is not answered with as many questions.
            sleep(about(GRACE)).await;
        }
    }

    /// Yields whenever this Sentinel may know something new: it can be listened to again, or has announced a promotion.
    fn listen<'a>(&'a self, host: &'a Host) -> impl Stream<Item = ()> + Send + 'a {
        stream::unfold(None, move |mut listening: Option<PubSubStream>| async move {
            loop {
                match &mut listening {
                    None => match self.subscribe(host).await {
                        Ok(stream) => return Some(((), Some(stream))),
                        Err(_) => sleep(about(PAUSE)).await,
                    },
                    Some(stream) => match stream.next().await {
                        Some(message) if self.concerns(message.get_payload_bytes()) => {
                            return Some(((), listening));
                        }
                        Some(_) => {}
                        None => {
                            listening = None;
                            sleep(about(PAUSE)).await;
                        }
                    },
                }
            }
        })
    }

    /// `<name> <old host> <old port> <new host> <new port>`
    fn concerns(&self, announced: &[u8]) -> bool {
        announced.split(|&byte| byte == b' ').next() == Some(self.sentinels.name.as_bytes())
    }

    async fn subscribe(&self, host: &Host) -> Result<PubSubStream, Error> {
        let opening = async {
            let stream = Bounded::new(self.open(host).await?, Allowance::of_handshake());
            let broken = |error| failure::of_login(&self.id, &host.to_string(), &error);
            let mut listening =
                PubSub::new(&listener(self.credentials.as_ref()), stream).await.map_err(broken)?;
            listening.subscribe("+switch-master").await.map_err(broken)?;
            Ok(listening.into_on_message())
        };
        let silent = |_| Err(Error::at(ErrorKind::Unavailable, &self.id, "the Sentinel does not answer"));
        timeout(INTERVAL, opening).await.unwrap_or_else(silent)
    }

    async fn ask(&self, host: &Host) -> Result<Said, Error> {
        let stream = self.open(host).await?;
        let broken = |error| failure::of_login(&self.id, &host.to_string(), &error);
        let login = login(0, self.credentials.as_ref());
        let introduction = login.len();
        // The place after the number: what changes in between is only taken for older than it is.
        let questions = [self.question("MASTER"), self.question("GET-MASTER-ADDR-BY-NAME")];
        let commands = pipeline(login.into_iter().chain(questions));
        let (wire, moving) = Wire::over(stream, Allowance::of_handshake());
        let mut moving: Driver = Box::pin(moving);
        let answers = run(&mut moving, wire.call((&commands).into())).await;
        let mut answers = answers.map_err(broken)?;
        let questions = answers.split_off(introduction);
        admitted(&self.id, host, commands.cmd_iter().zip(&answers))?;
        self.understand(host, questions)
    }

    fn question(&self, word: &str) -> Cmd {
        redis::cmd("SENTINEL").arg(word).arg(&self.sentinels.name).to_owned()
    }

    async fn open(&self, host: &Host) -> Result<Box<dyn Socket>, Error> {
        let broken = |error: std::io::Error| failure::of_opening(&self.id, host, &error);
        let stream = dial(&host.name, host.port).await.map_err(broken)?;
        Ok(match &self.tls {
            Some(tls) => Box::new(tls.secure(&host.name, stream).await.map_err(broken)?),
            None => Box::new(stream),
        })
    }

    fn understand(&self, host: &Host, answers: Vec<Value>) -> Result<Said, Error> {
        let wrong = |what: &str| Err(Error::at(ErrorKind::Configuration, &self.id, format!("{host} {what}")));
        let mut answers = answers.into_iter();
        let fields = match answers.next() {
            Some(Value::Array(fields)) => fields,
            Some(Value::ServerError(error)) => {
                let details = error.details().unwrap_or_default();
                return match error.code() {
                    "ERR" if details.contains("No such master") => Ok(Said::Unknown),
                    "ERR" if details.contains("unknown command") => {
                        wrong("is no Sentinel, but a server: check its port (that of Sentinels is 26379)")
                    }
                    _ => Err(failure::of_server(&self.id, &error)),
                };
            }
            _ => return wrong("gave an answer that no Sentinel gives"),
        };
        let place = match answers.next() {
            Some(Value::Nil) => return Ok(Said::Unknown),
            Some(Value::Array(place)) => place,
            _ => return wrong("gave an answer that no Sentinel gives"),
        };
        let number = fields.chunks_exact(2).find_map(|field| match field {
            [Value::BulkString(name), Value::BulkString(value)] if name == &b"config-epoch"[..] => {
                std::str::from_utf8(value).ok()?.parse().ok()
            }
            _ => None,
        });
        let mut parts = place.into_iter().map(text);
        let (name, port) = (parts.next().flatten(), parts.next().flatten());
        match (number, name, port.and_then(|port| port.parse().ok())) {
            (Some(number), Some(name), Some(port)) if !name.is_empty() => {
                Ok(Said::At(number, self.sentinels.place(name, port)))
            }
            _ => wrong("gave an answer that no Sentinel gives"),
        }
    }

    /// The newest place that was said.
    fn judge(&self, said: Vec<Said>, silent: Vec<Error>) -> Result<Place, Error> {
        let newest = said.iter().filter_map(|one| match one {
            Said::At(number, _) => Some(*number),
            Said::Unknown => None,
        });
        let newest = newest.max();
        let places: BTreeSet<String> =
            said.iter().filter_map(|one| one.since(newest?)).map(Place::to_string).collect();
        let name = &self.sentinels.name;
        let configuration = |message: String| Err(Error::at(ErrorKind::Configuration, &self.id, message));
        if places.len() > 1 {
            let places = places.into_iter().collect::<Vec<_>>().join(" and at ");
            return configuration(format!(
                "the Sentinels disagree: {name} is at {places}, since the same promotion; let all of them watch one \
                 server under this name"
            ));
        }
        let found = said.iter().find_map(|one| one.since(newest?));
        if let Some(place) = found {
            return Ok(place.clone());
        }
        if !said.is_empty() && silent.is_empty() {
            return configuration(format!(
                "the Sentinels watch no primary that is called {name}; check the name (SENTINEL MASTERS lists those that \
                 they watch)"
            ));
        }
        let mut reasons: Vec<&str> = silent.iter().map(Error::message).collect();
        if !said.is_empty() {
            reasons.push("the others watch none of that name");
        }
        // One that is merely down may come back and know the way.
        let wrong = silent.iter().all(|error| error.kind() == ErrorKind::Configuration);
        let kind = if wrong { ErrorKind::Configuration } else { ErrorKind::Unavailable };
        let message = format!("no Sentinel says where {name} is: {}", reasons.join("; "));
        Err(Error::at(kind, &self.id, message))
    }
}

/// Encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

impl Said {
    /// The place, if it is that of this promotion.
    fn since(&self, number: u64) -> Option<&Place> {
        match self {
            Said::At(at, place) if *at == number => Some(place),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::mpsc::channel};

    use sessionring_testkit::{FakeServer, Script};
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::node::Address;

    /// Time alone would be a reason to ask, too, but here none passes.
    #[tokio::test(start_paused = true)]
    async fn a_sentinel_is_listened_to_and_asked_at_once() {
        // The clock stands still while anybody works outside of the runtime.
        let (end, ended) = channel::<()>();
        let _still = spawn_blocking(move || ended.recv_timeout(Duration::from_secs(60)));
        let in_time = INTERVAL / 2;
        let announced = "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n\
                         *3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$25\r\np 127.0.0.1 1 127.0.0.1 2\r\n";
        let sentinel = FakeServer::start(Script::respond(move |command| match &*command[0] {
            b"SUBSCRIBE" => announced.into(),
            b"SENTINEL" if command[1] == b"MASTER" => b"*2\r\n$12\r\nconfig-epoch\r\n$1\r\n1\r\n".to_vec(),
            b"SENTINEL" => b"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n2\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        }))
        .unwrap();
        let address = format!("redis+sentinel://{}/p", sentinel.socket_address());
        let Address::Redis(address) = Address::parse(&address).unwrap() else { panic!("{address}") };
        let primary = Primary::of(&NodeId::new("a").unwrap(), &address, &Access::default()).unwrap().unwrap();
        let mut heard = pin!(primary.listen(&primary.sentinels.hosts[0]));
        for what in ["that it can be listened to", "what it announces"] {
            let heard = timeout(in_time, heard.next()).await;
            assert_eq!(heard, Ok(Some(())), "nobody hears {what}");
        }
        let before = primary.sentinels.place("127.0.0.1".into(), 1);
        timeout(in_time, primary.moved(&before)).await.expect("what was heard is no reason to ask");
        drop(end);
    }
}
