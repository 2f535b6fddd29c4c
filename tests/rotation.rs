//! Passwords and certificates are replaced while an application works, and no request fails of it.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use sessionring::{Credentials, Error, SessionRing};
use sessionring_testkit::{Counts, Direction, FakeServer, FaultProxy, RedisServer, Script};
use support::{login, logins, nodes};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Callers at work. Every answer that is an error, or not the right one, ends the test.
struct Traffic {
    callers: JoinSet<()>,
    done: watch::Receiver<u64>,
    stop: Arc<AtomicBool>,
}

impl Traffic {
    fn start(ring: &SessionRing) -> Traffic {
        let (count, done) = watch::channel(0);
        let (count, stop) = (Arc::new(count), Arc::new(AtomicBool::new(false)));
        let mut callers = JoinSet::new();
        for caller in 0..32 {
            let (sessions, count, stop) = (logins(ring), count.clone(), stop.clone());
            callers.spawn(async move {
                while !stop.load(SeqCst) {
                    let id = sessions.create(&login(caller)).await.unwrap();
                    sessions.set(&id, &login(caller + 1)).await.unwrap();
                    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(caller + 1)));
                    let ids = [id.clone(), id.clone()];
                    for found in sessions.get_many(&ids).await {
                        assert_eq!(found.unwrap(), Some(login(caller + 1)));
                    }
                    sessions.delete(&id).await.unwrap();
                    assert_eq!(sessions.get(&id).await.unwrap(), None);
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        Traffic { callers, done, stop }
    }

    /// Waits until every caller has gone through everything once more, or nearly.
    async fn goes_on(&mut self) {
        let before = *self.done.borrow();
        self.done.wait_for(|done| *done >= before + 64).await.unwrap();
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, SeqCst);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        *self.done.borrow()
    }
}

fn with_user(password: &str) -> RedisServer {
    RedisServer::builder().acl_user("app", &format!("on >{password} ~* +@all")).start().unwrap()
}

/// The connections of the library, by what the server calls them.
fn connections(server: &RedisServer, user: &str) -> Vec<String> {
    let clients = server.command(&["CLIENT", "LIST"]).unwrap().text().unwrap();
    let ours = clients.lines().filter(|line| line.contains(&format!(" user={user} ")));
    ours.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_replaced_under_load() {
    let servers: Vec<_> = (0..3).map(|_| with_user("first")).collect();
    let builder = nodes(servers.iter().map(RedisServer::address));
    let ring = builder.credentials(Credentials::new("app", "first")).connect().await.unwrap();
    let mut traffic = Traffic::start(&ring);
    traffic.goes_on().await;
    for round in 0..10 {
        let (old, new) = if round % 2 == 0 { ("first", "second") } else { ("second", "first") };
        let before: Vec<_> = servers.iter().map(|server| connections(server, "app")).collect();
        for server in &servers {
            server.command(&["ACL", "SETUSER", "app", &format!(">{new}")]).unwrap();
        }
        ring.set_credentials(Credentials::new("app", new));
        ring.reconnect().await.unwrap();
        for (server, before) in servers.iter().zip(before) {
            server.command(&["ACL", "SETUSER", "app", &format!("<{old}")]).unwrap();
            // The old connections are gone, or about to be noticed as gone: nothing is asked on them any more.
            let now = connections(server, "app");
            assert!(now.iter().any(|id| !before.contains(id)), "{before:?} {now:?}");
        }
        traffic.goes_on().await;
    }
    // Another user altogether, and the old one is deleted, with all of his connections.
    for server in &servers {
        server.command(&["ACL", "SETUSER", "next", "on", ">third", "~*", "+@all"]).unwrap();
    }
    ring.set_credentials(Credentials::new("next", "third"));
    ring.reconnect().await.unwrap();
    for server in &servers {
        server.command(&["ACL", "DELUSER", "app"]).unwrap();
    }
    traffic.goes_on().await;
    assert!(traffic.end().await > 64 * 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_the_address_is_replaced_for_that_node() {
    let server = with_user("first");
    let ring = nodes([server.address_as("app", "first")]).connect().await.unwrap();
    server.command(&["ACL", "SETUSER", "app", ">second", "<first"]).unwrap();
    ring.set_node_credentials("a", Credentials::new("app", "second")).unwrap();
    ring.reconnect().await.unwrap();
    let id = logins(&ring).create(&login(1)).await.unwrap();
    // Also for a connection that breaks later.
    server.command(&["CLIENT", "KILL", "USER", "app"]).unwrap();
    assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(1)));
    assert!(ring.set_node_credentials("", Credentials::password("x")).unwrap_err().is_configuration());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_refuses_the_new_password_keeps_its_old_connection() {
    let (willing, refusing) = (with_user("first"), with_user("first"));
    let builder = nodes([willing.address(), refusing.address()]);
    let ring = builder.credentials(Credentials::new("app", "first")).connect().await.unwrap();
    let mut traffic = Traffic::start(&ring);
    let kept = connections(&refusing, "app");
    willing.command(&["ACL", "SETUSER", "app", ">hunter2"]).unwrap();
    ring.set_credentials(Credentials::new("app", "hunter2"));
    let error = ring.reconnect().await.unwrap_err();
    assert!(error.is_configuration() && error.node().unwrap().as_str() == "b", "{error}");
    assert!(!format!("{error} {error:?} {ring:?}").contains("hunter2"));
    traffic.goes_on().await;
    let now = connections(&refusing, "app");
    assert!(!now.is_empty() && now.iter().all(|id| kept.contains(id)), "{kept:?} {now:?}");
    // When the server knows it, too, the next attempt succeeds.
    refusing.command(&["ACL", "SETUSER", "app", ">hunter2"]).unwrap();
    ring.reconnect().await.unwrap();
    traffic.goes_on().await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_connection_serves_until_the_new_one_is_ready() {
    let server = support::server();
    let proxy = Arc::new(FaultProxy::in_front_of(&server).unwrap());
    let ring = nodes([server.address()]).route("a", proxy.address()).connect().await.unwrap();
    let id = logins(&ring).create(&login(1)).await.unwrap();
    let opened = proxy.counts().connections;
    // A server that does not answer, but only to new connections.
    let silent = FakeServer::start(Script::Silence).unwrap();
    proxy.retarget(silent.socket_address());
    let reconnecting = renewal(&ring);
    happens(&proxy, move |counts| counts.connections > opened).await;
    for user in 2..20 {
        logins(&ring).set(&id, &login(user)).await.unwrap();
        assert_eq!(logins(&ring).get(&id).await.unwrap(), Some(login(user)));
    }
    assert!(!reconnecting.is_finished());
    // The proxy has passed the new connection on.
    let arrived = async {
        while silent.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
    silent.cut();
    assert!(reconnecting.await.unwrap().unwrap_err().is_unavailable());
    logins(&ring).set(&id, &login(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_on_the_old_connection_is_answered() {
    let server = support::server();
    // Old connections lead through the slow proxy, new ones past it.
    let slow = Arc::new(FaultProxy::in_front_of(&server).unwrap());
    let proxy = FaultProxy::start(slow.socket_address()).unwrap();
    let ring = nodes([server.address()]).route("a", proxy.address()).connect().await.unwrap();
    let ids: Vec<_> = logins(&ring).create_many(&[login(1), login(1)]).await;
    let ids: Vec<_> = ids.into_iter().collect::<Result<_, _>>().unwrap();
    proxy.retarget(server.socket_address());
    slow.hold(Direction::ToClient, true);
    let sent = slow.counts().requests;
    let late = tokio::spawn({
        let (sessions, id) = (logins(&ring), ids[0].clone());
        async move { sessions.set(&id, &login(2)).await }
    });
    happens(&slow, move |counts| counts.requests > sent).await;
    let reconnecting = renewal(&ring);
    // From some moment on, requests go over the new connection.
    let mut asked = JoinSet::new();
    let answer = loop {
        let (sessions, id) = (logins(&ring), ids[1].clone());
        asked.spawn(async move { sessions.get(&id).await });
        tokio::select! {
            Some(answer) = asked.join_next() => break answer.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(answer, Some(login(1)));
    assert!(!late.is_finished() && !reconnecting.is_finished());
    slow.hold(Direction::ToClient, false);
    late.await.unwrap().unwrap();
    reconnecting.await.unwrap().unwrap();
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), Some(login(1)));
    }
    // The old connection is closed; the proxy hears of it a moment later.
    let closed = async {
        while slow.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.unwrap();
    assert_eq!(logins(&ring).get(&ids[0]).await.unwrap(), Some(login(2)));
}

fn renewal(ring: &SessionRing) -> JoinHandle<Result<(), Error>> {
    let ring = ring.clone();
    tokio::spawn(async move { ring.reconnect().await })
}

async fn happens(proxy: &Arc<FaultProxy>, what: impl Fn(&Counts) -> bool + Send + 'static) {
    let proxy = proxy.clone();
    let waited = tokio::task::spawn_blocking(move || proxy.wait_for(what, Duration::from_secs(10)));
    assert!(waited.await.unwrap());
}

#[tokio::test]
async fn a_closed_ring_does_not_come_back() {
    let ring = nodes(["memory:".to_owned()]).connect().await.unwrap();
    ring.close().await;
    assert!(ring.reconnect().await.unwrap_err().is_closed());
    assert!(logins(&ring).create(&login(1)).await.unwrap_err().is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_renewals_at_once_in_a_ring_that_changes() {
    let ring = nodes(["memory:".to_owned(), "memory:".to_owned()]).connect().await.unwrap();
    let mut traffic = Traffic::start(&ring);
    let done = Arc::new(AtomicU64::new(0));
    let mut renewals = JoinSet::new();
    for _ in 0..4 {
        let (ring, done) = (ring.clone(), done.clone());
        renewals.spawn(async move {
            for _ in 0..20 {
                ring.reconnect().await.unwrap();
                done.fetch_add(1, SeqCst);
            }
        });
    }
    ring.add_node("c", "memory:").await.unwrap().wait().await.unwrap();
    ring.remove_node("a").await.unwrap().wait().await.unwrap();
    while let Some(ended) = renewals.join_next().await {
        ended.unwrap();
    }
    assert_eq!(done.load(SeqCst), 80);
    traffic.goes_on().await;
    traffic.end().await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load() {
    use sessionring::Tls;
    use sessionring_testkit::Authority;

    let names = ["127.0.0.1"];
    let authorities = [Authority::new().unwrap(), Authority::new().unwrap()];
    // What both sides trust for a while: the old authority and the new one.
    let both = authorities.each_ref().map(Authority::certificate).concat();
    let identity = |of: usize| authorities[of].issue(&names).unwrap();
    let start = || {
        RedisServer::builder().tls(&authorities[0].certificate(), &identity(0)).client_certificates().start()
    };
    let servers: Vec<_> = (0..3).map(|_| start().unwrap()).collect();
    let showing = |trusted: &str, of: usize| {
        let identity = authorities[of].issue(&["app"]).unwrap();
        Tls::private_ca(trusted).unwrap().client_certificate(identity.certificate, identity.key).unwrap()
    };
    let first = authorities[0].certificate();
    let builder = nodes(servers.iter().map(RedisServer::tls_address)).tls(showing(&first, 0));
    let ring = builder.connect().await.unwrap();
    let mut traffic = Traffic::start(&ring);
    traffic.goes_on().await;
    for round in 0..3 {
        let (old, new) = (round % 2, (round + 1) % 2);
        // Trust both, then show the new one, then trust only that: first here, then there, then here again.
        ring.set_tls(showing(&both, old));
        ring.reconnect().await.unwrap();
        for server in &servers {
            server.set_authority(&both).unwrap();
            server.set_identity(&identity(new)).unwrap();
        }
        traffic.goes_on().await;
        ring.set_tls(showing(&authorities[new].certificate(), new));
        ring.reconnect().await.unwrap();
        for server in &servers {
            server.set_authority(&authorities[new].certificate()).unwrap();
        }
        traffic.goes_on().await;
        // Whoever still believes in the old one alone is kept out.
        let late = nodes([servers[0].tls_address()]).tls(showing(&authorities[old].certificate(), old));
        assert!(late.connect().await.unwrap_err().is_configuration());
        ring.reconnect().await.unwrap();
    }
    traffic.goes_on().await;
    traffic.end().await;
}
