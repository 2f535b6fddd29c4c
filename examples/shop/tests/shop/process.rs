//! The command, as a user starts it, and the end of all that it has started.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// For what must happen soon, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Shop {
    process: Child,
    /// `http://127.0.0.1:PORT`
    pub address: String,
    pub operator: String,
}

impl Shop {
    /// On free ports, and with no invented visitors unless these arguments ask for some.
    pub fn open(arguments: &[&str]) -> Shop {
        let mut process = Command::new(env!("CARGO_BIN_EXE_shop"))
            .args(["--port", "0", "--operator-port", "0"])
            .args(if arguments.contains(&"--visitors") { &[][..] } else { &["--visitors", "0"] })
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut address = |name: &str| {
            let line = lines.next().expect("the shop ended before it said where it is").unwrap();
            let address = line.strip_prefix(name).and_then(|line| line.strip_prefix(": "));
            address.unwrap_or_else(|| panic!("{name}: {line}")).trim_end_matches('/').to_owned()
        };
        let (address, operator) = (address("shop"), address("operator"));
        Shop { process, address, operator }
    }

    /// Servers and applications.
    pub fn children(&self) -> Vec<Process> {
        let of_ours = |process: &Process| process.parent == self.process.id();
        Process::all().into_iter().filter(of_ours).collect()
    }

    /// As Ctrl-C does.
    pub fn interrupt(mut self) -> ExitStatus {
        signal("INT", self.process.id());
        self.process.wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The standard library has no signals.
fn signal(name: &str, id: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
    assert!(sent.unwrap().success());
}

/// A process that Linux shows in /proc.
#[derive(Debug, PartialEq)]
pub struct Process {
    id: u32,
    pub name: String,
    parent: u32,
    /// Two processes of one id differ in this.
    began: String,
}

impl Process {
    fn all() -> Vec<Process> {
        let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
        entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    fn read(id: u32) -> Option<Process> {
        let stat = fs::read_to_string(PathBuf::from(format!("/proc/{id}/stat"))).ok()?;
        // "ID (name) STATE PARENT …", and the 22nd field is when it began.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        if fields[0] == "Z" {
            return None;
        }
        Some(Process { id, name: name.into(), parent: fields[1].parse().ok()?, began: fields[19].into() })
    }

    /// SIGKILL.
    pub fn kill(&self) {
        signal("KILL", self.id);
    }

    fn is_there(&self) -> bool {
        // Its parent is another one when that has ended.
        Process::read(self.id).is_some_and(|now| now.began == self.began)
    }

    pub fn wait_until_gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_there() {
            assert!(Instant::now() < deadline, "{self:?} is still there");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks again until the answer is yes.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} has not happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
