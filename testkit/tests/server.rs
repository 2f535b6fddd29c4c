//! The servers that the other tests rely on.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sessionring_testkit::{Client, Error, RedisServer, Reply, find_server, require_redis};

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

#[test]
fn starts_on_its_own_port_and_leaves_nothing_behind() {
    let server = RedisServer::start().unwrap();
    assert_eq!(server.address(), format!("redis://127.0.0.1:{}", server.port()));
    assert_eq!(server.info("process_id").unwrap(), server.pid().map(|pid| pid.to_string()));
    assert_eq!(server.config_get("save").unwrap().as_deref(), Some(""));
    assert!(server.log().contains("Ready to accept"));
    let (address, dir) = (server.socket_address(), server.dir().to_path_buf());
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    assert!(!dir.exists());
}

#[test]
fn the_program_is_found_or_the_text_says_what_to_install() {
    assert_eq!(find_server(), Some(require_redis()));
    // Another process, because the environment belongs to all threads of this one.
    let output = holder().env("REDIS_SERVER", "/nonexistent/redis-server").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for word in
        ["/nonexistent/redis-server", "apt-get install redis-server", "dnf", "brew", "apk", "REDIS_SERVER"]
    {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn many_at_once() {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| RedisServer::start().unwrap())).collect();
        let servers: Vec<RedisServer> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        for server in &servers {
            assert_eq!(server.info("process_id").unwrap(), server.pid().map(|pid| pid.to_string()));
        }
    });
}

#[test]
fn options_arrive() {
    let server = RedisServer::builder().config("maxmemory", "3mb").config("timeout", "17").start().unwrap();
    assert_eq!(server.config_get("maxmemory").unwrap().as_deref(), Some("3145728"));
    assert_eq!(server.config_get("timeout").unwrap().as_deref(), Some("17"));
    server.config_set("timeout", "18").unwrap();
    assert_eq!(server.config_get("timeout").unwrap().as_deref(), Some("18"));
    assert_eq!(server.config_get("no-such-option").unwrap(), None);
    server.command(&["DEBUG", "SLEEP", "0"]).unwrap();
}

#[test]
fn a_wrong_option_fails_with_the_log() {
    match RedisServer::builder().config("no-such-option", "1").start() {
        Err(error @ Error::Start { .. }) => assert!(error.to_string().contains("no-such-option"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_hides_info_still_starts() {
    let server = RedisServer::builder().config("rename-command", "INFO \"\"").start().unwrap();
    assert!(matches!(server.info("run_id"), Err(Error::Reply { .. })));
}

#[test]
fn killed_restarted_emptied_and_set_back() {
    let server = RedisServer::start().unwrap();
    let (port, pid) = (server.port(), server.pid());
    server.command(&["SET", "k", "old"]).unwrap();
    let dump = server.dump().unwrap();
    server.command(&["SET", "k", "new"]).unwrap();
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(matches!(server.client(), Err(Error::Io { .. })));

    server.restart().unwrap(); // the dump is in the folder
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.command(&["GET", "k"]).unwrap(), bulk("old"));

    server.restart_empty().unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), Reply::Nil);
    server.restart_from(&dump).unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), bulk("old"));
}

#[test]
fn a_backup_of_either_kind_is_put_back() {
    for append_only in ["no", "yes"] {
        let server = RedisServer::builder().config("appendonly", append_only).start().unwrap();
        server.command(&["SET", "k", "old"]).unwrap();
        if append_only == "no" {
            server.dump().unwrap();
        }
        let backup = server.backup().unwrap();
        server.command(&["SET", "k", "new"]).unwrap();
        server.restore(&backup).unwrap();
        assert_eq!(server.command(&["GET", "k"]).unwrap(), bulk("old"));
        // Also in the place of another server's.
        let other = RedisServer::builder().config("appendonly", append_only).start().unwrap();
        other.restore(&backup).unwrap();
        assert_eq!(other.command(&["GET", "k"]).unwrap(), bulk("old"));
    }
}

#[test]
fn a_shutdown_saves_and_a_kill_does_not() {
    let server = RedisServer::builder().config("save", "3600 1000000").start().unwrap();
    server.command(&["SET", "k", "saved"]).unwrap();
    server.shutdown().unwrap();
    assert!(matches!(server.shutdown(), Err(Error::NotRunning)));
    server.restart().unwrap();
    server.command(&["SET", "k", "lost"]).unwrap();
    server.restart().unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), bulk("saved"));
}

#[test]
fn append_only_data_survives_a_kill() {
    let server =
        RedisServer::builder().config("appendonly", "yes").config("appendfsync", "always").start().unwrap();
    server.command(&["SET", "k", "v"]).unwrap();
    server.restart().unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), bulk("v"));
    server.restart_empty().unwrap();
    assert_eq!(server.command(&["GET", "k"]).unwrap(), Reply::Nil);
}

#[test]
fn stopped_it_accepts_and_says_nothing() {
    let server = RedisServer::start().unwrap();
    let mut client = server.client().unwrap();
    server.stop_process().unwrap();
    client.set_timeout(Some(Duration::from_millis(50))).unwrap();
    client.send(&["SET", "k", "v"]).unwrap();
    assert!(matches!(client.receive(), Err(Error::Io { .. })));
    server.continue_process().unwrap();
    client.set_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(client.receive().unwrap(), Reply::Simple("OK".into()));
    server.stop_process().unwrap();
    drop(server); // ends a stopped process, too
}

#[test]
fn passwords_and_accounts() {
    let server = RedisServer::builder()
        .password("se\"cret")
        .acl_user("app", "on >pw ~app:* +get +set +ping")
        .start()
        .unwrap();
    let mut stranger = Client::connect(server.socket_address()).unwrap();
    assert!(stranger.command(&["GET", "k"]).unwrap().is_error("NOAUTH"));
    assert!(matches!(stranger.auth("app", "wrong"), Err(Error::Reply { .. })));
    stranger.auth("app", "pw").unwrap();
    assert!(stranger.command(&["SET", "other", "v"]).unwrap().is_error("NOPERM"));
    assert_eq!(stranger.command(&["SET", "app:k", "v"]).unwrap(), Reply::Simple("OK".into()));
    assert_eq!(server.command(&["GET", "app:k"]).unwrap(), bulk("v"));
    assert_eq!(server.address_as("app", "pw"), format!("redis://app:pw@127.0.0.1:{}", server.port()));
}

#[test]
fn without_a_default_user_the_kit_still_gets_in() {
    let server = RedisServer::builder().acl_user("default", "off").start().unwrap();
    assert!(Client::connect(server.socket_address()).unwrap().command(&["PING"]).unwrap().is_error("NOAUTH"));
    assert_eq!(server.command(&["PING"]).unwrap(), Reply::Simple("PONG".into()));
}

#[test]
fn cluster_mode() {
    let server = RedisServer::builder().cluster().start().unwrap();
    assert_eq!(server.info("cluster_enabled").unwrap().as_deref(), Some("1"));
    let mut client = server.client().unwrap();
    assert!(client.command(&["GET", "k"]).unwrap().is_error("CLUSTERDOWN"));
}

#[test]
fn a_replica_follows_and_is_promoted() {
    let primary = RedisServer::builder().password("pw").start().unwrap();
    primary.command(&["SET", "k", "v"]).unwrap();
    let replica = RedisServer::builder().replica_of(&primary).start().unwrap();
    replica.wait_for_link().unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap(), bulk("v"));
    assert!(replica.client().unwrap().command(&["SET", "k", "w"]).unwrap().is_error("READONLY"));
    replica.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    replica.command(&["SET", "k", "w"]).unwrap();
}

#[test]
fn the_client_reads_every_kind_of_reply() {
    let server = RedisServer::start().unwrap();
    let mut client = server.client().unwrap();
    let script = "return {1, 'two', {'3'}, false, redis.status_reply('fine')}";
    let reply = client.command(&["EVAL", script, "0"]).unwrap();
    assert_eq!(
        reply.array().unwrap(),
        [Reply::Int(1), bulk("two"), Reply::Array(vec![bulk("3")]), Reply::Nil, Reply::Simple("fine".into())]
    );
    let binary: Vec<u8> = (0..=255).collect();
    client.command(&[b"SET".as_slice(), b"k", &binary]).unwrap().ok().unwrap();
    assert_eq!(client.command(&["GET", "k"]).unwrap().bytes(), Some(binary.as_slice()));
    assert!(matches!(client.command(&["NONSENSE"]).unwrap().ok(), Err(Error::Reply { .. })));
    client.send(&["INCR", "n"]).unwrap();
    client.send(&["INCR", "n"]).unwrap();
    assert_eq!((client.receive().unwrap().int(), client.receive().unwrap().int()), (Some(1), Some(2)));
}

#[test]
fn a_monitor_tells_who_sent_what() {
    let server = RedisServer::builder().password("pw").start().unwrap();
    let mut before = server.client().unwrap();
    before.command(&["SET", "early", "1"]).unwrap();
    let (mut a, mut b) = (server.client().unwrap(), server.client().unwrap());
    let mut monitor = server.monitor().unwrap();
    a.command(&[b"SET".as_slice(), b"k", b"\x00\"\r\n\xff"]).unwrap();
    b.command(&["GET", "k"]).unwrap();
    b.command(&["EVAL", "return redis.call('get', KEYS[1])", "1", "k"]).unwrap();
    let lines = monitor.take().unwrap();
    let of = |client: &Client| {
        lines
            .iter()
            .filter(|l| l.client_addr == Some(client.local_address()))
            .map(|l| l.name())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&a), ["SET"]);
    assert_eq!(of(&b), ["GET", "EVAL"]);
    assert_eq!(lines.iter().filter(|l| l.is_lua).count(), 1);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0].args[2], b"\x00\"\r\n\xff");

    for i in 0..1000 {
        a.command(&["INCR", &format!("n{i}")]).unwrap();
    }
    assert_eq!(monitor.take().unwrap().len(), 1000);
    assert_eq!(monitor.stop().unwrap(), []);
}

#[test]
fn a_monitor_notices_that_the_server_is_gone() {
    let server = RedisServer::start().unwrap();
    let monitor = server.monitor().unwrap();
    server.kill().unwrap();
    assert!(matches!(monitor.stop(), Err(Error::Io { .. })));
}

/// However a test process ends, its servers do too.
#[test]
fn a_server_does_not_outlive_a_killed_test() {
    let mut child = holder().stdin(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let (port, dir) = told.trim_end().split_once(' ').unwrap();
    let (port, dir): (u16, PathBuf) = (port.parse().unwrap(), dir.into());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() || dir.exists() {
        assert!(Instant::now() < deadline, "the server on {port} or {} is still there", dir.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that holds a server of its own.
fn holder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hold-a-server"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_folder_is_a_temporary_one() {
    let server = RedisServer::start().unwrap();
    assert!(server.dir().starts_with(Path::new(&std::env::temp_dir())));
}
