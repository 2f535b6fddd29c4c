//! Runs the demo as a user does, and holds it to its last line and to leaving nothing behind.

use std::{
    io::{BufRead, BufReader, Read},
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

/// It went well, with these nodes; answers what it printed and the numbers of its last line.
fn printed(output: &Output, nodes: &str) -> (String, Last) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    let last = Last::of(&out);
    let Last { sessions, read_back, moved, .. } = last;
    let line = format!(
        "demo: sessions={sessions} nodes={nodes} read_back={read_back} moved={moved} lost=0 resurrected=0"
    );
    assert_eq!(out.lines().last(), Some(line.as_str()), "{out}\n{err}");
    assert!(out.contains(&format!("{} hold exactly what was written last", thousands(read_back))));
    assert!(out.contains("\n   0 lost, 0 resurrected\n"), "{out}");
    assert!(out.contains("errors: 0, wrong answers: 0"), "{out}");
    (out, last)
}

/// The numbers of the last line.
#[derive(Debug, Clone, Copy)]
struct Last {
    sessions: usize,
    nodes: [usize; 3],
    read_back: usize,
    moved: usize,
    lost: usize,
    resurrected: usize,
}

impl Last {
    fn of(out: &str) -> Last {
        let last = out.lines().last().unwrap_or_default();
        let numbers: Vec<usize> =
            last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let [sessions, founded, joined, left, read_back, moved, lost, resurrected] = numbers[..] else {
            panic!("{out}")
        };
        Last { sessions, nodes: [founded, joined, left], read_back, moved, lost, resurrected }
    }
}

fn thousands(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
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
    let (out, last) = printed(&output, "3+1-1");
    // A quarter moves to the new node, and a third of the others' from the one that leaves.
    assert!(last.sessions == 2000 && last.moved >= 600, "{last:?}");
    assert!(out.contains("from  to   share\n   a     d    8.33%"), "{out}");
    assert!(out.contains("The other application has learnt of it by itself: epoch 5."), "{out}");
    assert!(out.contains("The server of a was switched off."), "{out}");
    let still = out.lines().filter(|line| line.contains("lie where ring.owner(&id) says"));
    for line in still {
        let numbers = line.trim_start_matches([' ', '│']).strip_prefix("Counted at the servers. ");
        let words: Vec<&str> = numbers.unwrap_or_default().split(' ').collect();
        assert_eq!(words[0], words[2], "{line}");
    }

    assert!(out.contains("2,000 of 2,000 sessions lie where ring.owner(&id) says"), "{out}");
    assert!(out.contains("2,000 are what was written, 0 are not"), "{out}");
    assert!(out.contains(" KiB "), "{out}");
    assert!(out.contains("the session was logged out, and that is final"), "{out}");
    assert!(out.contains("sessions that still answer after their log-out: 0"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    // Progress goes to stderr, in plain lines where that is no terminal.
    assert!(text(&output.stderr).contains("demo: logged in: 2,000 of 2,000"), "{output:?}");
    assert!(text(&output.stderr).contains("demo: epoch 2, moving: "), "{output:?}");
    assert!(text(&output.stderr).contains("demo: epoch 4, moving: "), "{output:?}");

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
        let (out, last) = printed(&command.output()?, "3+1-1");
        assert!(last.moved >= 600, "{last:?}");
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
    let (out, last) = printed(&output, "2+0-1");
    // Everything that was on the first one.
    assert!(last.moved >= 600, "{last:?}");
    assert!(out.contains("No node joins"), "{out}");
    assert!(out.contains("2,000 of 2,000 sessions lie where"), "{out}");
    assert!(out.contains("adding a third node, c,"), "{out}");
    assert!(!out.contains("secret"), "{out}");
    assert_eq!([contents(&servers[0])?, contents(&servers[1])?], before);
    Ok(())
}

#[test]
fn the_last_of_four_servers_of_yours_joins() -> Result {
    let servers: Vec<_> = (0..4).map(|_| RedisServer::start()).collect::<std::result::Result<_, _>>()?;
    let nodes: Vec<String> = servers.iter().map(RedisServer::address).collect();
    let output = demo().env("NODES", nodes.join(" ")).output()?;
    let (out, last) = printed(&output, "3+1-1");
    assert!(last.moved >= 600, "{last:?}");
    assert!(!out.contains("switched off"), "{out}");
    for server in &servers {
        assert_eq!(server.command(&["DBSIZE"])?.int(), Some(0), "{out}");
    }
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
    let last = Last::of(&out);
    assert_eq!((last.sessions, last.nodes), (20_000, [1, 0, 0]), "{out}");
    assert!(last.lost >= 900 && last.lost <= 20_000 && last.resurrected == 0, "{out}");
    assert_eq!(held()?, 0);
    Ok(())
}

/// While the applications use the ring, one session is taken away, and those that were logged out come back.
#[test]
fn what_is_lost_or_comes_back_while_the_ring_is_used_is_counted_and_fails() -> Result {
    let server = RedisServer::start()?;
    let mut client = server.client()?;
    let (mut demo, mut out, mut meddled, mut back) = (None, String::new(), false, 0);
    while !meddled {
        let mut started = self::demo()
            .env("NODES", server.address())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdout = BufReader::new(started.stdout.take().ok_or("no stdout")?);
        out.clear();
        while !out.contains("No node joins") {
            assert!(stdout.read_line(&mut out)? > 0, "{out}");
        }
        let kind = |client: &mut Client, key: &[u8]| -> Result<Option<Vec<u8>>> {
            let value = client.command(&[b"GET".as_slice(), key])?;
            Ok(value.bytes().map(<[u8]>::to_vec).filter(|value| value.len() >= 35))
        };
        // Two log-outs are from before: those that show what the operations answer.
        let (mut live, mut out_keys) = (Vec::new(), Vec::new());
        while live.len() < 2 || out_keys.len() < 3 {
            signal("CONT", started.id())?;
            std::thread::sleep(Duration::from_millis(20));
            signal("STOP", started.id())?;
            (live, out_keys) = (Vec::new(), Vec::new());
            for key in keys(&mut client)? {
                match kind(&mut client, &key)? {
                    Some(value) if value[1] == b'L' => live.push((key, value)),
                    Some(value) if value[1] == b'T' => out_keys.push(key),
                    _ => {}
                }
            }
            if live.is_empty() {
                break;
            }
        }
        // Too late: it is cleaning up already.
        meddled = live.len() >= 2;
        if meddled {
            client.command(&[b"DEL".as_slice(), &live[0].0])?.ok()?;
            for key in &out_keys {
                client.command(&[b"SET".as_slice(), key, &live[1].1, b"PX", b"60000"])?.ok()?;
            }
            back = out_keys.len() - 2;
        }
        signal("CONT", started.id())?;
        stdout.read_to_string(&mut out)?;
        demo = Some(started);
    }
    let status = demo.ok_or("it was started")?.wait()?;
    assert!(!status.success(), "{out}");
    let last = Last::of(&out);
    // If the next thing that happens to the lost one is its log-out, then what is found is that nobody remembers that.
    assert_eq!(last.lost + last.resurrected, 1 + back, "{out}");
    assert!(last.resurrected >= back, "{out}");
    assert!(out.contains("the first: the session of user "), "{out}");
    Ok(())
}

/// The keys of sessions.
fn keys(client: &mut Client) -> Result<Vec<Vec<u8>>> {
    let found = client.command(&["KEYS", "*"])?.ok()?;
    let found = found.array().ok_or("no keys")?.iter().filter_map(|key| key.bytes());
    Ok(found.filter(|key| key.len() == 30).map(<[u8]>::to_vec).collect())
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
