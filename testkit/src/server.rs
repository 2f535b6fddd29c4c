//! One real server, from its start to its end.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::port::Port;
use crate::watchdog::Watchdog;
use crate::{Client, Error, Monitor, Reply, Result, lock};

/// How long a server may take to answer, to end or to catch up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at something that tells nobody when it changes.
const PAUSE: Duration = Duration::from_millis(2);
/// The programs that are looked for, in this order.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// The account with which the kit looks at a server whose default user a test has taken away.
const ADMIN: (&str, &str) = ("testkit-admin", "testkit-admin");

/// The server program: what `REDIS_SERVER` names, or else `redis-server` or `valkey-server` on the `PATH`.
#[must_use]
pub fn find_server() -> Option<PathBuf> {
    find().ok()
}

/// The server program.
///
/// # Panics
/// Says which package to install where there is none. A test that needs a server fails; it is never skipped.
#[must_use]
pub fn require_redis() -> PathBuf {
    match find() {
        Ok(program) => program,
        Err(error) => panic!("{error}"),
    }
}

fn find() -> Result<PathBuf> {
    let named = std::env::var_os("REDIS_SERVER").filter(|name| !name.is_empty());
    let candidates: Vec<&OsStr> = match &named {
        Some(name) => vec![name],
        None => PROGRAMS.iter().map(OsStr::new).collect(),
    };
    candidates.iter().find_map(|name| on_path(name)).ok_or_else(|| Error::NoServer {
        looked_for: match &named {
            Some(name) => format!("{}, which REDIS_SERVER names", name.to_string_lossy()),
            None => PROGRAMS.join(" and "),
        },
    })
}

fn on_path(name: &OsStr) -> Option<PathBuf> {
    let name = Path::new(name);
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_path_buf());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// A server that is about to start: [`RedisServer::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `start`"]
pub struct RedisServerBuilder {
    config: Vec<String>,
    password: Option<String>,
    cluster: bool,
    own_default_user: bool,
    sentinel: bool,
    tls: Option<Tls>,
}

/// A certificate and its key, as PEM text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// How a server with TLS proves who it is, and whom it lets in.
#[derive(Debug, Clone)]
struct Tls {
    identity: Identity,
    authority: String,
    wants_certificates: bool,
}

impl RedisServerBuilder {
    /// Adds a line to the configuration file, such as `("maxmemory", "3mb")`. A later line wins, over the
    /// kit's own ones too. The value is written as it is: quote it where the file needs quotes.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push(format!("{name} {value}"));
        self
    }

    /// The password of the default user.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self.config("requirepass", &quoted(password))
    }

    /// An account, such as `("app", "on >secret ~* +@all")`. Where `"default"` itself is changed, the kit
    /// looks at the server with an account of its own.
    pub fn acl_user(mut self, name: &str, rules: &str) -> Self {
        if name == "default" && !self.own_default_user {
            self.own_default_user = true;
            let (admin, password) = ADMIN;
            self = self.config("user", &format!("{admin} on >{password} allkeys allchannels allcommands"));
        }
        self.config("user", &format!("{name} {rules}"))
    }

    /// Cluster mode, which a plain client must recognise and refuse. No slots are assigned.
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self.config("cluster-enabled", "yes")
    }

    /// A Sentinel: the same program, which holds no data and watches what [`watch`](RedisServerBuilder::watch) names.
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Watches the primary on this port under this name, and takes it for dead when so many Sentinels have heard nothing from
    /// it for so long. After [`sentinel`](RedisServerBuilder::sentinel).
    pub fn watch(self, name: &str, port: u16, quorum: usize, down_after: Duration) -> Self {
        let down_after = down_after.as_millis();
        self.config("sentinel", &format!("monitor {name} {} {port} {quorum}", Ipv4Addr::LOCALHOST))
            .config("sentinel", &format!("down-after-milliseconds {name} {down_after}"))
            // Until a promotion that came to nothing is tried again.
            .config("sentinel", &format!("failover-timeout {name} {}", 4 * down_after))
    }

    /// Listens with TLS, too, on [a port of its own](RedisServer::tls_port), and shows this certificate there. `authority` is
    /// the certificate (PEM text) of whoever issues those of clients.
    pub fn tls(mut self, authority: &str, identity: &Identity) -> Self {
        let (identity, authority) = (identity.clone(), authority.to_owned());
        self.tls = Some(Tls { identity, authority, wants_certificates: false });
        self
    }

    /// Lets in over TLS only who shows a certificate of the authority (mutual TLS). After [`tls`](RedisServerBuilder::tls).
    pub fn client_certificates(mut self) -> Self {
        self.tls.iter_mut().for_each(|tls| tls.wants_certificates = true);
        self
    }

    /// A replica of `primary`. See [`RedisServer::wait_for_link`].
    pub fn replica_of(mut self, primary: &RedisServer) -> Self {
        if let Some(password) = &primary.builder.password {
            self = self.config("masterauth", &quoted(password));
        }
        self.config("replicaof", &format!("{} {}", Ipv4Addr::LOCALHOST, primary.port()))
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// No program is installed ([`Error::NoServer`]), or it did not come up within ten seconds
    /// ([`Error::Start`], with the end of its log).
    pub fn start(self) -> Result<RedisServer> {
        let program = find()?;
        let dir = tempfile::Builder::new()
            .prefix("sessionring-redis-")
            .tempdir()
            .map_err(Error::io("make a temporary folder"))?;
        let watchdog = Watchdog::start(dir.path())?;
        let port = Port::reserve(self.cluster)?;
        let tls_port = self.tls.as_ref().map(|_| Port::reserve(false)).transpose()?;
        let recent = major_version(&program)? >= 7;
        let process = Mutex::new(Process { child: None, watchdog });
        let mut server = RedisServer { builder: self, program, recent, port, tls_port, process, dir };
        if let Some(tls) = &server.builder.tls {
            fs::write(server.authority_path(), &tls.authority).map_err(Error::io("write the authority"))?;
            server.write_identity(&tls.identity)?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            server.write_config()?;
            let mut process = lock(&server.process);
            match server.spawn(&mut process, deadline)? {
                Spawned::Ready => {
                    drop(process);
                    return Ok(server);
                }
                // Somebody else was faster: take another port.
                Spawned::PortTaken => drop(process),
            }
            server.port = Port::reserve(server.builder.cluster)?;
            server.tls_port = server.builder.tls.as_ref().map(|_| Port::reserve(false)).transpose()?;
        }
    }
}

/// In a configuration file, in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The 7 of `Redis server v=7.0.15 …`.
fn major_version(program: &Path) -> Result<u32> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(Error::io(format!("run {} --version", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("v=")
        .nth(1)
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse().ok())
        .ok_or_else(|| Error::protocol(format!("{text:?} as a version")))
}

/// A Redis or Valkey server of our own, on a free loopback port and in a temporary folder.
///
/// It persists nothing unless asked to (`save ""`, `appendonly no`), synchronises replicas at once and allows
/// `DEBUG`. Dropping it ends the process (SIGKILL, which also ends a stopped one: there is nothing to save)
/// and removes the folder; if this process is killed, a watchdog does both. All methods take `&self`, so that
/// one task can kill a server that others use.
#[derive(Debug)]
pub struct RedisServer {
    builder: RedisServerBuilder,
    program: PathBuf,
    /// Version 7 or later.
    recent: bool,
    port: Port,
    tls_port: Option<Port>,
    process: Mutex<Process>,
    // Removed last.
    dir: TempDir,
}

/// What a server had written down at some moment: [`RedisServer::backup`].
#[derive(Debug, Clone)]
pub struct Backup {
    dir: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Debug)]
struct Process {
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Process {
    /// SIGKILL, and waits for the end.
    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().map_err(Error::io("kill the server"))?;
            child.wait().map_err(Error::io("wait for the server's end"))?;
            self.watchdog.rest()?;
        }
        Ok(())
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait().map_err(Error::io("look at the server's process")),
            None => Err(Error::NotRunning),
        }
    }

    fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).ok_or(Error::NotRunning)
    }
}

enum Spawned {
    Ready,
    PortTaken,
}

impl RedisServer {
    /// A server with the defaults.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`].
    pub fn start() -> Result<RedisServer> {
        RedisServer::builder().start()
    }

    /// A server with options.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The port; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("redis://{}", self.socket_address())
    }

    /// The port with TLS; 0 where there is none.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.as_ref().map_or(0, Port::number)
    }

    /// `rediss://127.0.0.1:PORT`
    #[must_use]
    pub fn tls_address(&self) -> String {
        format!("rediss://{}:{}", Ipv4Addr::LOCALHOST, self.tls_port())
    }

    /// Shows another certificate to whoever connects from now on.
    ///
    /// # Errors
    /// See [`command`](RedisServer::command).
    pub fn set_identity(&self, identity: &Identity) -> Result<()> {
        self.write_identity(identity)?;
        // Naming the files again makes the server read them.
        self.config_set("tls-cert-file", &self.certificate_path().to_string_lossy())
    }

    /// Trusts other authorities (PEM text of one or more) when clients show certificates from now on.
    ///
    /// # Errors
    /// See [`command`](RedisServer::command).
    pub fn set_authority(&self, certificates: &str) -> Result<()> {
        fs::write(self.authority_path(), certificates).map_err(Error::io("write the authority"))?;
        self.config_set("tls-ca-cert-file", &self.authority_path().to_string_lossy())
    }

    /// `redis://USER:PASSWORD@127.0.0.1:PORT`; both must be made of characters that a URL allows there.
    #[must_use]
    pub fn address_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.socket_address())
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.process).pid().ok()
    }

    /// The folder with its configuration, log and data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// A new connection, logged in where a password is needed.
    ///
    /// # Errors
    /// The server does not run or refuses.
    pub fn client(&self) -> Result<Client> {
        let mut client = Client::connect(self.socket_address())?;
        if self.builder.own_default_user {
            client.auth(ADMIN.0, ADMIN.1)?;
        } else if let Some(password) = &self.builder.password {
            client.auth("default", password)?;
        }
        Ok(client)
    }

    /// One command over a new connection. An error reply is an `Err`.
    ///
    /// # Errors
    /// The server does not run or answers with an error.
    pub fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Result<Reply> {
        self.client()?.command(args)?.ok()
    }

    /// One value of `CONFIG GET`; `None` where the server does not know the name.
    ///
    /// # Errors
    /// See [`command`](RedisServer::command).
    pub fn config_get(&self, name: &str) -> Result<Option<String>> {
        Ok(match self.command(&["CONFIG", "GET", name])? {
            Reply::Array(pair) => pair.get(1).and_then(Reply::text),
            _ => None,
        })
    }

    /// `CONFIG SET`, which lasts until the next restart.
    ///
    /// # Errors
    /// See [`command`](RedisServer::command).
    pub fn config_set(&self, name: &str, value: &str) -> Result<()> {
        self.command(&["CONFIG", "SET", name, value]).map(drop)
    }

    /// One field of `INFO`, such as `run_id`.
    ///
    /// # Errors
    /// See [`command`](RedisServer::command).
    pub fn info(&self, field: &str) -> Result<Option<String>> {
        let text = self.command(&["INFO", "everything"])?.text().unwrap_or_default();
        Ok(info_field(&text, field).map(str::to_owned))
    }

    /// Begins to collect what the server executes.
    ///
    /// # Errors
    /// See [`client`](RedisServer::client).
    pub fn monitor(&self) -> Result<Monitor> {
        let marker = self.client()?;
        Monitor::start(self.client()?, marker)
    }

    /// Ends the process with SIGKILL and waits for its end: what it has not saved is lost.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&self) -> Result<()> {
        lock(&self.process).kill()
    }

    /// Ends the process with SIGTERM and waits for its end: it saves, if it is configured to.
    ///
    /// # Errors
    /// It does not run, or does not end within ten seconds (then it is killed).
    pub fn shutdown(&self) -> Result<()> {
        let mut process = lock(&self.process);
        signal("TERM", process.pid()?)?;
        let ended = wait_for("the server's end", || process.exited().map(|status| status.is_some()));
        // Reaps it, or ends it.
        process.kill()?;
        ended
    }

    /// Stops the process (SIGSTOP): connections stay open and nobody answers. Returns when it has stopped.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_process(&self) -> Result<()> {
        let pid = lock(&self.process).pid()?;
        signal("STOP", pid)?;
        let stat = PathBuf::from(format!("/proc/{pid}/stat"));
        if !stat.exists() {
            return Ok(()); // not Linux: nobody tells, and it takes microseconds
        }
        wait_for("the server to stop", || {
            let text = fs::read_to_string(&stat).map_err(Error::io("read the server's state"))?;
            // "PID (name) T …"
            Ok(text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        })
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// It does not run.
    pub fn continue_process(&self) -> Result<()> {
        signal("CONT", lock(&self.process).pid()?)
    }

    /// Starts it again on the same port, with whatever its folder holds. A process that still runs is killed
    /// first, so nothing is saved that was not saved before.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`].
    pub fn restart(&self) -> Result<()> {
        self.restart_after(|| Ok(()))
    }

    /// Starts it again without its data.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`].
    pub fn restart_empty(&self) -> Result<()> {
        self.restart_after(|| self.remove_data())
    }

    /// Saves a snapshot and returns it.
    ///
    /// # Errors
    /// The server does not run or cannot save.
    pub fn dump(&self) -> Result<Vec<u8>> {
        self.command(&["SAVE"])?;
        fs::read(self.dump_path()).map_err(Error::io("read the dump"))
    }

    /// Starts it again from a snapshot, usually an older one.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`].
    pub fn restart_from(&self, dump: &[u8]) -> Result<()> {
        self.restart_after(|| {
            self.remove_data()?;
            fs::write(self.dump_path(), dump).map_err(Error::io("write the dump"))
        })
    }

    /// Copies the files that hold the data, as they are now: the snapshot if there is one, and the append-only files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn backup(&self) -> Result<Backup> {
        let mut files = Vec::new();
        for path in self.data()? {
            let inside = if path.is_dir() { entries(&path)? } else { vec![path] };
            for path in inside {
                let bytes = fs::read(&path).map_err(Error::io(format!("read {}", path.display())))?;
                files.push((path, bytes));
            }
        }
        Ok(Backup { dir: self.dir().to_owned(), files })
    }

    /// Kills it, puts the files of a backup in the place of those that are there, and starts it again.
    ///
    /// # Errors
    /// See [`RedisServerBuilder::start`].
    pub fn restore(&self, backup: &Backup) -> Result<()> {
        self.restart_after(|| {
            self.remove_data()?;
            for (path, bytes) in &backup.files {
                let path = self.dir().join(path.strip_prefix(&backup.dir).unwrap_or(path));
                let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
                let written = folder.and_then(|()| fs::write(&path, bytes));
                written.map_err(Error::io(format!("write {}", path.display())))?;
            }
            Ok(())
        })
    }

    /// Waits until a replica is connected to its primary and has its data.
    ///
    /// # Errors
    /// [`Error::Timeout`] after ten seconds.
    pub fn wait_for_link(&self) -> Result<()> {
        wait_for("the replica's link", || Ok(self.info("master_link_status")?.as_deref() == Some("up")))
    }

    fn restart_after(&self, meanwhile: impl Fn() -> Result<()>) -> Result<()> {
        let mut process = lock(&self.process);
        process.kill()?;
        meanwhile()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.spawn(&mut process, deadline)? {
                Spawned::Ready => return Ok(()),
                // The port is ours, so this passes: the old process' sockets, or a look at which ports are free.
                Spawned::PortTaken => thread::sleep(PAUSE),
            }
        }
    }

    /// What is in the folder beside what the server was started with.
    fn data(&self) -> Result<Vec<PathBuf>> {
        let kept = [
            self.log_path(),
            self.config_path(),
            self.authority_path(),
            self.certificate_path(),
            self.key_path(),
        ];
        let mut paths = entries(self.dir())?;
        paths.retain(|path| !kept.contains(path));
        Ok(paths)
    }

    fn remove_data(&self) -> Result<()> {
        for path in self.data()? {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io(format!("remove {}", path.display())))?;
        }
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.dir().join("server.log")
    }

    fn config_path(&self) -> PathBuf {
        self.dir().join("server.conf")
    }

    fn authority_path(&self) -> PathBuf {
        self.dir().join("authority.pem")
    }

    fn certificate_path(&self) -> PathBuf {
        self.dir().join("certificate.pem")
    }

    fn key_path(&self) -> PathBuf {
        self.dir().join("key.pem")
    }

    fn write_identity(&self, identity: &Identity) -> Result<()> {
        let written = fs::write(self.certificate_path(), &identity.certificate)
            .and_then(|()| fs::write(self.key_path(), &identity.key));
        written.map_err(Error::io("write the certificate"))
    }

    fn dump_path(&self) -> PathBuf {
        self.dir().join("dump.rdb")
    }

    fn write_config(&self) -> Result<()> {
        let mut lines = vec![
            format!("bind {}", Ipv4Addr::LOCALHOST),
            format!("port {}", self.port()),
            format!("dir {}", quoted(&self.dir().to_string_lossy())),
            "daemonize no".into(),
            "save \"\"".into(),
            "appendonly no".into(),
            "repl-diskless-sync-delay 0".into(),
        ];
        if self.recent {
            lines.push("enable-debug-command local".into());
        }
        if let Some(tls) = &self.builder.tls {
            let file = |path: PathBuf| quoted(&path.to_string_lossy());
            lines.extend([
                format!("tls-port {}", self.tls_port()),
                format!("tls-cert-file {}", file(self.certificate_path())),
                format!("tls-key-file {}", file(self.key_path())),
                format!("tls-ca-cert-file {}", file(self.authority_path())),
                format!("tls-auth-clients {}", if tls.wants_certificates { "yes" } else { "no" }),
            ]);
        }
        lines.extend(self.builder.config.iter().cloned());
        lines.push(String::new());
        fs::write(self.config_path(), lines.join("\n")).map_err(Error::io("write the configuration"))
    }

    /// Starts the process and waits until it answers; on failure nothing is left running.
    fn spawn(&self, process: &mut Process, deadline: Instant) -> Result<Spawned> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(Error::io("open the server's log"))?;
        let begin = log.metadata().map_err(Error::io("look at the server's log"))?.len() as usize;
        let clone = |file: &File| file.try_clone().map_err(Error::io("open the server's log"));
        let child = Command::new(&self.program)
            .arg(self.config_path())
            .args(self.builder.sentinel.then_some("--sentinel"))
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(clone(&log)?)
            .stderr(log)
            // Ctrl-C is for the tests; the watchdog ends the server.
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", self.program.display())))?;
        process.watchdog.watch(child.id())?;
        let pid = child.id();
        process.child = Some(child);
        let log = || self.log().get(begin..).unwrap_or_default().to_owned();
        loop {
            if let Some(status) = process.exited()? {
                process.child = None;
                process.watchdog.rest()?;
                let log = log();
                if log.contains("Address already in use") && Instant::now() < deadline {
                    return Ok(Spawned::PortTaken);
                }
                return Err(Error::Start { reason: format!("it ended with {status}"), log: tail(&log) });
            }
            if self.answers(pid, &log) {
                return Ok(Spawned::Ready);
            }
            if Instant::now() >= deadline {
                process.kill()?;
                let reason = format!("no answer on port {} within {PATIENCE:?}", self.port());
                return Err(Error::Start { reason, log: tail(&log()) });
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether *this* process answers there, and has loaded its data.
    fn answers(&self, pid: u32, log: &impl Fn() -> String) -> bool {
        let Ok(mut client) = self.client() else { return false };
        match client.command(&["PING"]) {
            Ok(reply) if !reply.is_error("LOADING") => {}
            _ => return false,
        }
        match client.command(&["INFO", "server"]) {
            Ok(Reply::Bulk(text)) => {
                info_field(&String::from_utf8_lossy(&text), "process_id") == Some(&pid.to_string())
            }
            // Renamed, forbidden, hidden: then the log has to do.
            Ok(_) => log().contains("eady to accept connections"),
            Err(_) => false,
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Nobody to tell here, and the watchdog tries again.
        let _ = lock(&self.process).kill();
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let broken = || Error::io(format!("read {}", folder.display()));
    fs::read_dir(folder).map_err(broken())?.map(|entry| Ok(entry.map_err(broken())?.path())).collect()
}

fn info_field<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Through the shell's own `kill`: the standard library has no signals.
fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "sh", name])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .status()
        .map_err(Error::io("run kill"))?;
    if status.success() { Ok(()) } else { Err(Error::NotRunning) }
}

fn wait_for(what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(PATIENCE, what, condition)
}

pub(crate) fn wait_within(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !condition()? {
        if Instant::now() >= deadline {
            return Err(Error::timeout(what));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
