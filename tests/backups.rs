//! A backup is put back under applications that run: what that does to sessions and to log-outs, as docs/operations.md says it.

mod support;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use sessionring::{Error, Result, Returning, SessionId, SessionRing, Sessions};
use sessionring_testkit::{Backup, FaultProxy, RedisServer};
use support::{Login, id_at, login, logins, nodes, on, server, servers};

/// How the server writes down what it has.
#[derive(Debug, Clone, Copy)]
enum Persistence {
    Snapshots,
    AppendOnly,
}

const BOTH: [Persistence; 2] = [Persistence::Snapshots, Persistence::AppendOnly];

impl Persistence {
    fn server(self) -> RedisServer {
        let append_only = if matches!(self, Persistence::AppendOnly) { "yes" } else { "no" };
        // What was answered is in the files: with `everysec` a busy server may write it down seconds later.
        let builder =
            RedisServer::builder().config("appendonly", append_only).config("appendfsync", "always");
        builder.start().unwrap_or_else(|error| panic!("{error}"))
    }

    fn back_up(self, server: &RedisServer) -> Backup {
        if matches!(self, Persistence::Snapshots) {
            server.command(&["SAVE"]).unwrap().ok().unwrap();
        }
        server.backup().unwrap()
    }
}

async fn log_in(ring: &SessionRing, sessions: &Sessions<Login>, node: &str, user: u64) -> SessionId {
    let id = id_at(ring, node);
    sessions.create_with_id(&id, &login(user)).await.unwrap();
    id
}

/// What comes of it when the node is used again, with the connections that there are.
async fn again<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> T {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(error.is_unavailable() && begin.elapsed().as_secs() < 30, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Node a is backed up, goes on being used, and is set back: a session of each kind that this makes.
struct SetBack {
    server: RedisServer,
    other: RedisServer,
    ring: SessionRing,
    sessions: Sessions<Login>,
    /// Logged in before the backup, and since then left alone, changed, logged out, given another id.
    kept: SessionId,
    changed: SessionId,
    out: SessionId,
    rotated: SessionId,
    /// Logged out before the backup.
    long_out: SessionId,
    /// Logged in after it, and the id that `rotated` goes on under.
    new: SessionId,
    successor: SessionId,
    /// At the other node.
    elsewhere: SessionId,
}

impl SetBack {
    async fn new(persistence: Persistence, strict: bool) -> SetBack {
        let (server, other) = (persistence.server(), server());
        let builder = nodes([server.address(), other.address()]);
        let ring = if strict { builder.strict() } else { builder }.connect().await.unwrap();
        let sessions = logins(&ring);
        let log_in = |node, user| log_in(&ring, &sessions, node, user);
        let (kept, changed, out) = (log_in("a", 1).await, log_in("a", 2).await, log_in("a", 3).await);
        let (rotated, long_out, elsewhere) =
            (log_in("a", 4).await, log_in("a", 5).await, log_in("b", 6).await);
        sessions.delete(&long_out).await.unwrap();

        let backup = persistence.back_up(&server);
        sessions.set(&changed, &login(22)).await.unwrap();
        sessions.delete(&out).await.unwrap();
        let successor = sessions.rotate_at_once(&rotated).await.unwrap();
        let new = log_in("a", 7).await;
        assert_eq!(sessions.get(&out).await.unwrap(), None);
        server.restore(&backup).unwrap();
        SetBack {
            server,
            other,
            ring,
            sessions,
            kept,
            changed,
            out,
            rotated,
            long_out,
            new,
            successor,
            elsewhere,
        }
    }

    async fn get(&self, id: &SessionId) -> Option<Login> {
        again(|| self.sessions.get(id)).await
    }

    /// Everything is as it was when the backup was made: what was changed since, and who logged out since, too.
    async fn is_as_it_was(&self) {
        assert_eq!(self.get(&self.kept).await, Some(login(1)));
        assert_eq!(self.get(&self.changed).await, Some(login(2)));
        assert_eq!(self.get(&self.out).await, Some(login(3)), "a log-out of after the backup is undone");
        assert_eq!(self.get(&self.rotated).await, Some(login(4)), "and so is the end of an id");
        for id in [&self.new, &self.successor] {
            assert_eq!(self.get(id).await, None);
        }
        // A log-out of before the backup is in it.
        assert_eq!(self.get(&self.long_out).await, None);
        assert!(self.sessions.set(&self.long_out, &login(9)).await.unwrap_err().is_deleted());
        self.elsewhere_nothing_has_changed().await;
    }

    async fn nothing_is_left(&self) {
        for id in [&self.kept, &self.changed, &self.out, &self.rotated, &self.new, &self.successor] {
            assert_eq!(self.get(id).await, None);
            assert!(self.sessions.set(id, &login(9)).await.unwrap_err().is_not_found());
        }
        assert_eq!(self.get(&self.long_out).await, None);
        self.elsewhere_nothing_has_changed().await;
    }

    async fn elsewhere_nothing_has_changed(&self) {
        assert_eq!(self.sessions.get(&self.elsewhere).await.unwrap(), Some(login(6)));
        assert!(self.other.pid().is_some());
    }

    /// New users log in, and those that log out are logged out.
    async fn works(&self) {
        let id = log_in(&self.ring, &self.sessions, "a", 8).await;
        assert_eq!(self.get(&id).await, Some(login(8)));
        self.sessions.delete(&id).await.unwrap();
        assert!(self.sessions.set(&id, &login(9)).await.unwrap_err().is_deleted());
    }

    /// What is said of the node, as long as nobody has readmitted it.
    async fn waits_for_an_operator(&self) {
        let begin = Instant::now();
        loop {
            for id in [&self.kept, &self.out] {
                let error: Error = self.sessions.get(id).await.expect_err("it was believed");
                assert!(error.is_unavailable() && error.node().unwrap().as_str() == "a", "{error}");
                if error.to_string().contains("has to readmit it") {
                    return;
                }
                assert!(begin.elapsed().as_secs() < 30, "{error}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_that_trusts_is_set_back_log_outs_included() {
    for persistence in BOTH {
        let set_back = SetBack::new(persistence, false).await;
        set_back.is_as_it_was().await;
        set_back.works().await;
        // What must not live can be ended, for good.
        set_back.sessions.delete(&set_back.out).await.unwrap();
        assert_eq!(set_back.get(&set_back.out).await, None);
        assert!(set_back.sessions.set(&set_back.out, &login(9)).await.unwrap_err().is_deleted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_that_trusts_and_is_given_an_empty_server_undoes_no_log_out() {
    let set_back = SetBack::new(Persistence::Snapshots, false).await;
    set_back.server.restart_empty().unwrap();
    set_back.nothing_is_left().await;
    set_back.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ring_uses_nothing_of_it_before_an_operator_has_spoken() {
    for persistence in BOTH {
        let set_back = SetBack::new(persistence, true).await;
        set_back.waits_for_an_operator().await;
        set_back.elsewhere_nothing_has_changed().await;
        again(|| set_back.ring.readmit("a", Returning::Discard)).await;
        set_back.nothing_is_left().await;
        set_back.works().await;
    }
}

/// `Keep` vouches that nothing is missing. Who says so of a backup has undone what came after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ring_takes_its_operator_at_his_word() {
    let set_back = SetBack::new(Persistence::AppendOnly, true).await;
    set_back.waits_for_an_operator().await;
    again(|| set_back.ring.readmit("a", Returning::Keep)).await;
    set_back.is_as_it_was().await;
    set_back.works().await;
}

/// The backup of a ring that nobody used any more is whole, and may be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_made_when_the_ring_was_stopped_has_everything() {
    for persistence in BOTH {
        let server = persistence.server();
        let ring = nodes([server.address()]).strict().connect().await.unwrap();
        let sessions = logins(&ring);
        let (live, out) = (log_in(&ring, &sessions, "a", 1).await, log_in(&ring, &sessions, "a", 2).await);
        sessions.delete(&out).await.unwrap();
        ring.close().await;
        server.restore(&persistence.back_up(&server)).unwrap();
        let ring = nodes([server.address()]).strict().connect().await.unwrap();
        let sessions = logins(&ring);
        assert!(sessions.get(&live).await.unwrap_err().is_unavailable());
        ring.readmit("a", Returning::Keep).await.unwrap();
        assert_eq!(again(|| sessions.get(&live)).await, Some(login(1)));
        assert_eq!(sessions.get(&out).await.unwrap(), None);
        assert!(sessions.set(&out, &login(9)).await.unwrap_err().is_deleted());
    }
}

/// The ring has changed since: what has moved to another node counts there, and not in the backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_before_a_resize_brings_nothing_back_that_has_moved_away() {
    for persistence in BOTH {
        let (server, others) = (persistence.server(), servers(2));
        let ring = nodes([server.address(), others[0].address()]).connect().await.unwrap();
        let sessions = logins(&ring);
        let mut ids = Vec::new();
        for user in 0..60 {
            ids.push(log_in(&ring, &sessions, "a", user).await);
        }
        let backup = persistence.back_up(&server);
        ring.add_node("c", others[1].address()).await.unwrap().wait().await.unwrap();
        let (moved, stayed): (Vec<_>, Vec<_>) =
            (0_u64..).zip(&ids).partition(|(_, id)| ring.owner(id).as_str() == "c");
        assert!(moved.len() > 2 && stayed.len() > 2);
        for (user, id) in &moved {
            match user % 2 {
                0 => sessions.delete(id).await.unwrap(),
                _ => sessions.set(id, &login(user + 100)).await.unwrap(),
            }
        }
        server.restore(&backup).unwrap();
        for (user, id) in &stayed {
            assert_eq!(again(|| sessions.get(id)).await, Some(login(*user)));
        }
        let epoch = ring.epoch();
        for (user, id) in &moved {
            let expected = (user % 2 == 1).then(|| login(user + 100));
            assert_eq!(sessions.get(id).await.unwrap(), expected);
        }
        // Nor when the ring changes once more, and asks the node again that has the old copies.
        assert_eq!(ring.epoch(), epoch, "the node is brought up to the topology that there is");
        ring.remove_node("c").await.unwrap().wait().await.unwrap();
        for (user, id) in &moved {
            let expected = (user % 2 == 1).then(|| login(user + 100));
            assert_eq!(sessions.get(id).await.unwrap(), expected, "user {user}");
        }
    }
}

/// No restart gives it away: the same process, without its data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ring_takes_up_no_node_that_was_emptied_while_it_ran() {
    let servers = servers(2);
    let ring = on(&servers).strict().connect().await.unwrap();
    let sessions = logins(&ring);
    let (a, b) = (log_in(&ring, &sessions, "a", 1).await, log_in(&ring, &sessions, "b", 2).await);
    servers[0].command(&["FLUSHALL"]).unwrap().ok().unwrap();
    for _ in 0..3 {
        let error = sessions.get(&a).await.expect_err("it was taken up");
        assert!(error.is_unavailable() && error.to_string().contains("has to readmit it"), "{error}");
    }
    assert_eq!(sessions.get(&b).await.unwrap(), Some(login(2)));
    again(|| ring.readmit("a", Returning::Discard)).await;
    assert_eq!(again(|| sessions.get(&a)).await, None);
}

/// An address leads to another server, with a backup of before a resize that this application has not heard of: it obeys the
/// topology that the application believes in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_heard_of_a_resize_is_not_misled_by_a_backup_of_before_it() {
    let persistence = Persistence::Snapshots;
    let (server, old, others) = (persistence.server(), persistence.server(), servers(2));
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let connect = || nodes([proxy.address(), others[0].address()]).connect();
    let (idle, busy) = (connect().await.unwrap(), connect().await.unwrap());
    let sessions = logins(&busy);
    let mut ids = Vec::new();
    for user in 0..40 {
        ids.push(log_in(&busy, &sessions, "a", user).await);
    }
    old.restore(&persistence.back_up(&server)).unwrap();
    busy.add_node("c", others[1].address()).await.unwrap().wait().await.unwrap();
    ids.retain(|id| busy.owner(id).as_str() == "c");
    assert!(ids.len() > 2);
    for id in &ids {
        sessions.delete(id).await.unwrap();
    }
    busy.close().await;
    assert!(idle.epoch() < busy.epoch());
    proxy.retarget(old.socket_address());
    proxy.cut();
    let sessions = logins(&idle);
    for id in &ids {
        assert_eq!(again(|| sessions.get(id)).await, None, "a log-out is undone");
    }
    assert_eq!(idle.epoch(), busy.epoch());
}

/// The file of another node is in the wrong place: none of its sessions is shown here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_another_node_is_refused() {
    let servers = [Persistence::Snapshots.server(), Persistence::Snapshots.server()];
    let ring = nodes(servers.iter().map(RedisServer::address)).connect().await.unwrap();
    let sessions = logins(&ring);
    let (a, b) = (log_in(&ring, &sessions, "a", 1).await, log_in(&ring, &sessions, "b", 2).await);
    let (own, of_b) =
        (Persistence::Snapshots.back_up(&servers[0]), Persistence::Snapshots.back_up(&servers[1]));
    servers[0].restore(&of_b).unwrap();
    let begin = Instant::now();
    loop {
        let error = sessions.get(&a).await.expect_err("it was believed");
        if error.is_configuration() {
            assert!(error.to_string().contains("its database belongs to node b already"), "{error}");
            break;
        }
        assert!(error.is_unavailable() && begin.elapsed().as_secs() < 30, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sessions.get(&b).await.unwrap(), Some(login(2)));
    servers[0].restore(&own).unwrap();
    let begin = Instant::now();
    while sessions.get(&a).await.ok().flatten() != Some(login(1)) {
        assert!(begin.elapsed().as_secs() < 30, "the right one is not taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
