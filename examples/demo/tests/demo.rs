//! Runs the demo as a user does, and holds it to its last line and to leaving nothing behind.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use sessionring_testkit::{Client, RedisServer, require_redis};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env_remove("NODES").env("SESSIONS", "2000");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It went well; answers what it printed.
fn printed(output: &Output, last_line: &str) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(out.lines().last(), Some(last_line), "{out}\n{err}");
    out
}

/// The keys of a server and what they hold.
fn contents(server: &RedisServer) -> Result<String> {
    let mut client = server.client()?;
    let size = client.command(&["DBSIZE"])?.ok()?;
    let mine = client.command(&["GET", "mine"])?.ok()?;
    Ok(format!("{size:?} {mine:?}"))
}

#[test]
fn three_servers_of_its_own() -> Result {
    let server = require_redis();
    let folder = tempfile::tempdir()?;
    let output = demo().env("REDIS_SERVER", server).env("TMPDIR", folder.path()).output()?;
    let out = printed(&output, "demo: sessions=2000 nodes=3 read_back=2000 lost=0");

    assert!(out.contains("2,000 of 2,000 sessions lie where ring.owner(&id) says"), "{out}");
    assert!(out.contains("2,000 are what was written, 0 are not"), "{out}");
    assert!(out.contains(" KiB "), "{out}");
    assert!(out.contains("the session was logged out, and that is final"), "{out}");
    assert!(out.contains("sessions that still answer after their log-out: 0"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    // Progress goes to stderr, in plain lines where that is no terminal.
    assert!(text(&output.stderr).contains("demo: logged in: 2,000 of 2,000"), "{output:?}");

    assert_eq!(folder.path().read_dir()?.count(), 0, "a folder was left behind");
    for line in out.lines().filter_map(|line| line.split_once("127.0.0.1:")) {
        assert!(Client::connect(format!("127.0.0.1:{}", line.1)).is_err(), "a server was left behind");
    }
    Ok(())
}

#[test]
fn memory_nodes_where_no_server_program_is() -> Result {
    for name_one in [false, true] {
        let empty = tempfile::tempdir()?;
        let mut command = demo();
        if name_one {
            command.env("REDIS_SERVER", "/nonexistent/redis-server");
        } else {
            command.env_remove("REDIS_SERVER").env("PATH", empty.path());
        }
        let out = printed(&command.output()?, "demo: sessions=2000 nodes=3 read_back=2000 lost=0");
        assert!(out.contains("memory:"), "{out}");
        assert!(out.contains("no Redis or Valkey server program was found"), "{out}");
    }
    Ok(())
}

#[test]
fn servers_of_yours_are_left_as_they_were() -> Result {
    let servers = [RedisServer::start()?, RedisServer::builder().password("secret").start()?];
    for server in &servers {
        server.command(&["SET", "mine", "stays"])?;
    }
    let before = [contents(&servers[0])?, contents(&servers[1])?];
    let nodes = format!("{}/0  {}/0", servers[0].address(), servers[1].address_as("default", "secret"));
    let output = demo().env("NODES", nodes).output()?;
    let out = printed(&output, "demo: sessions=2000 nodes=2 read_back=2000 lost=0");
    assert!(out.contains("2,000 of 2,000 sessions lie where"), "{out}");
    assert!(out.contains("adding a third node, c,"), "{out}");
    assert!(!out.contains("secret"), "{out}");
    assert_eq!([contents(&servers[0])?, contents(&servers[1])?], before);
    Ok(())
}

#[test]
fn servers_of_yours_are_cleaned_when_one_is_missing() -> Result {
    let (server, gone) = (RedisServer::start()?, RedisServer::start()?);
    gone.kill()?;
    let output = demo().env("NODES", format!("{} {}", server.address(), gone.address())).output()?;
    assert!(!output.status.success());
    let err = text(&output.stderr);
    assert!(err.starts_with("demo: node b: ") && err.contains("start the node and connect again"), "{err}");
    assert_eq!(server.command(&["DBSIZE"])?.int(), Some(0));
    Ok(())
}

#[test]
fn servers_of_yours_are_cleaned_when_it_is_interrupted() -> Result {
    let server = RedisServer::start()?;
    let address = server.address();
    let mut demo = demo()
        .env("SESSIONS", "5000000")
        .env("NODES", &address)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    while server.command(&["DBSIZE"])?.int() < Some(5000) {
        assert!(demo.try_wait()?.is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal("INT", demo.id())?;
    let output = demo.wait_with_output()?;
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("demo: interrupted"), "{output:?}");
    assert_eq!(server.command(&["DBSIZE"])?.int(), Some(0));
    Ok(())
}

/// The demo is stopped in the middle of the log-ins, the server forgets everything, and the demo goes on.
#[test]
fn what_is_lost_is_counted_and_fails() -> Result {
    let server = RedisServer::start()?;
    let held = || Ok::<_, Box<dyn std::error::Error>>(server.command(&["DBSIZE"])?.int().unwrap_or(0));
    let output = loop {
        let demo = demo()
            .env("SESSIONS", "20000")
            .env("NODES", server.address())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        while held()? < 1000 {
            std::thread::sleep(Duration::from_micros(200));
        }
        signal("STOP", demo.id())?;
        let in_time = held()? < 20_000;
        if in_time {
            server.command(&["FLUSHALL"])?;
        }
        signal("CONT", demo.id())?;
        let output = demo.wait_with_output()?;
        if in_time {
            break output;
        }
    };
    let out = text(&output.stdout);
    assert!(!output.status.success(), "{out}");
    assert!(out.contains("the first: the session of user "), "{out}");
    let last = out.lines().last().unwrap_or_default();
    let numbers: Vec<u32> =
        last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [sessions, nodes, read_back, lost] = numbers[..] else { panic!("{out}") };
    assert_eq!((sessions, nodes, read_back + lost), (20_000, 1, 20_000), "{out}");
    assert!(lost >= 900, "{out}");
    assert_eq!(held()?, 0);
    Ok(())
}

fn signal(name: &str, pid: u32) -> Result {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status()?;
    assert!(status.success(), "kill -{name} {pid}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused() -> Result {
    for (name, value, says) in [
        ("SESSIONS", "many", "a number from 1 to"),
        ("SESSIONS", "0", "a number from 1 to"),
        ("NODES", "localhost:6379", "the address does not parse"),
    ] {
        let output = demo().env("REDIS_SERVER", "/nonexistent").env(name, value).output()?;
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    Ok(())
}
