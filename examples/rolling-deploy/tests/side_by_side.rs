//! Both versions at once on one ring of real servers, in processes of their own: nobody is logged out, and nothing of what
//! the new one stores is lost to the old one.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use sessionring_testkit::RedisServer;

struct Program {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(path: &str, codec: &str, servers: &[RedisServer]) -> Program {
        let mut process = Command::new(path)
            .arg(codec)
            .args(servers.iter().map(RedisServer::address))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program");
        let input = process.stdin.take().expect("its input");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        Program { process, input, output }
    }

    fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("it reads");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn both(codec: &str, servers: &[RedisServer]) -> [Program; 2] {
    [env!("CARGO_BIN_EXE_old"), env!("CARGO_BIN_EXE_new")].map(|path| Program::start(path, codec, servers))
}

fn servers() -> Vec<RedisServer> {
    (0..2).map(|_| RedisServer::start().unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn with_named_codecs_both_serve_all_sessions() {
    let servers = servers();
    for codec in ["message-pack", "json"] {
        let [mut old, mut new] = both(codec, &servers);

        // Made by the old one: upgraded by the new one, and the old one goes on with it and loses nothing.
        let id = old.ask("login 7");
        assert_eq!(old.ask(&format!("visit {id} 1")), "Login { user: 7, visits: 1 }");
        let cart = r#"cart: ["book 0"], theme: Theme { dark: false }"#;
        assert_eq!(new.ask(&format!("visit {id} 1")), format!("Login {{ user: 7, {cart}, visits: 2 }}"));
        assert_eq!(old.ask(&format!("visit {id} 1")), "Login { user: 7, visits: 3 }");
        assert_eq!(old.ask(&format!("loaded-visit {id}")), "Login { user: 7, visits: 4 }");
        let cart = r#"cart: ["book 0", "book 1"], theme: Theme { dark: false }"#;
        assert_eq!(new.ask(&format!("visit {id} 1")), format!("Login {{ user: 7, {cart}, visits: 5 }}"));

        // Made by the new one: the old one serves it.
        let id = new.ask("login 8");
        assert_eq!(old.ask(&format!("visit {id} 2")), "Login { user: 8, visits: 2 }");
        let cart = r#"cart: ["tea", "book 1"], theme: Theme { dark: true }"#;
        assert_eq!(new.ask(&format!("loaded-visit {id}")), format!("Login {{ user: 8, {cart}, visits: 3 }}"));
    }
}

#[test]
fn both_at_the_same_time_lose_no_visit() {
    let servers = servers();
    for codec in ["message-pack", "json"] {
        let [mut old, mut new] = both(codec, &servers);
        let ids: Vec<String> =
            (0..10).map(|user| if user % 2 == 0 { &mut old } else { &mut new }.ask("login 7")).collect();
        for id in &ids {
            // Both are at it before either has answered.
            old.send(&format!("visit {id} 50"));
            new.send(&format!("visit {id} 50"));
        }
        for _ in &ids {
            for program in [&mut old, &mut new] {
                let answer = program.answer();
                assert!(answer.starts_with("Login { user: 7, "), "{answer}");
            }
        }
        for (user, id) in ids.iter().enumerate() {
            assert_eq!(old.ask(&format!("visit {id} 0")), "Login { user: 7, visits: 100 }");
            let session = new.ask(&format!("visit {id} 0"));
            // The cart is the new one's alone: it has all that the new one put there since it first wrote.
            assert_eq!(session.matches("book").count(), 50, "{session}");
            assert_eq!(session.contains("dark: true"), user % 2 == 1, "{session}");
        }
    }
}

/// bincode has no names: the old version cannot serve what the new one wrote. It says so, changes nothing, and the session
/// goes on.
#[test]
fn with_bincode_the_old_one_says_that_it_must_be_upgraded() {
    let servers = servers();
    let [mut old, mut new] = both("bincode", &servers);
    let id = old.ask("login 7");
    assert_eq!(old.ask(&format!("visit {id} 1")), "Login { user: 7, visits: 1 }");
    assert_eq!(
        new.ask(&format!("visit {id} 1")),
        r#"Login { user: 7, cart: ["book 0"], theme: Theme { dark: false }, visits: 2 }"#
    );
    for command in ["visit {id} 1", "visit {id} 0", "loaded-visit {id}"] {
        assert_eq!(old.ask(&command.replace("{id}", &id)), "UpgradeRequired");
    }
    assert_eq!(
        new.ask(&format!("visit {id} 1")),
        r#"Login { user: 7, cart: ["book 0", "book 1"], theme: Theme { dark: false }, visits: 3 }"#
    );
}
