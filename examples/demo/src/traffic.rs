//! Applications that use their sessions without a pause, and check every answer.
//!
//! Two handles, connected each on its own, stand for two processes. Every operation goes through either, as it
//! comes: what one has written, the other must read, whichever of them has heard of a change of the ring.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use futures_util::{StreamExt, stream};
use sessionring::{SessionId, Sessions};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Result,
    crowd::{AT_ONCE, CHUNK},
    login::Login,
    progress::Progress,
    report::Count,
};

/// Each uses sessions of its own, one after the other.
const WORKERS: usize = 32;

/// What is known for certain of a session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: usize,
    /// How often it was changed since the log-in.
    pub(crate) changes: u32,
    pub(crate) logged_out: bool,
    /// The step of the story before which it was there for certain.
    pub(crate) step: usize,
    /// While it was live, an answer was not what it had to be.
    pub(crate) lost: bool,
    /// After its log-out, something was there.
    pub(crate) resurrected: bool,
}

impl Session {
    pub(crate) fn new(id: SessionId, user: usize) -> Session {
        Session { id, user, changes: 0, logged_out: false, step: 0, lost: false, resurrected: false }
    }

    /// Exactly what must be read.
    fn login(&self) -> Option<Login> {
        (!self.logged_out).then(|| Login::changed(self.user, self.changes))
    }
}

/// What was done so far.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) reads: AtomicUsize,
    /// `update` and `set`.
    pub(crate) writes: AtomicUsize,
    pub(crate) log_ins: AtomicUsize,
    pub(crate) log_outs: AtomicUsize,
    /// A session that was logged out was read, and written to: the one must find nothing, the other be refused.
    pub(crate) looks: AtomicUsize,
    pub(crate) errors: AtomicUsize,
    pub(crate) wrong: AtomicUsize,
    users: AtomicUsize,
    step: AtomicUsize,
    stop: AtomicBool,
}

impl Done {
    /// Operations that failed, or whose answer was wrong.
    pub(crate) fn failed(&self) -> usize {
        self.errors.load(SeqCst) + self.wrong.load(SeqCst)
    }

    pub(crate) fn summary(&self) -> String {
        let count = |counter: &AtomicUsize| Count(counter.load(SeqCst));
        format!(
            "{} reads, {} writes, {} log-outs, {} log-ins; errors: {}, wrong answers: {}",
            count(&self.reads),
            count(&self.writes),
            count(&self.log_outs),
            count(&self.log_ins),
            count(&self.errors),
            count(&self.wrong)
        )
    }
}

/// Traffic that goes on until it is told to stop.
pub(crate) struct Traffic {
    workers: JoinSet<Vec<Session>>,
    done: Arc<Done>,
    problem: watch::Receiver<Option<String>>,
}

impl Traffic {
    pub(crate) fn start(
        applications: &[Sessions<Login>; 2],
        users: usize,
        sessions: Vec<Session>,
    ) -> Traffic {
        let done = Arc::new(Done { users: AtomicUsize::new(users), ..Done::default() });
        let (report, problem) = watch::channel(None);
        let mut parts: Vec<Vec<Session>> = (0..WORKERS).map(|_| Vec::new()).collect();
        for (i, session) in sessions.into_iter().enumerate() {
            parts[i % WORKERS].push(session);
        }
        let mut workers = JoinSet::new();
        for (number, live) in parts.into_iter().enumerate() {
            let worker = Worker {
                applications: applications.clone(),
                done: done.clone(),
                problem: report.clone(),
                live,
                logged_out: Vec::new(),
                random: number as u64,
            };
            workers.spawn(worker.work());
        }
        Traffic { workers, done, problem }
    }

    pub(crate) fn done(&self) -> &Done {
        &self.done
    }

    /// The next step of the story: who logs in from now on may do so in the middle of it.
    pub(crate) fn next_step(&self) {
        self.done.step.fetch_add(1, SeqCst);
    }

    /// The first error or wrong answer.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Ends the traffic; answers all sessions that there ever were, and what is known of them.
    pub(crate) async fn stop(&mut self) -> Result<Vec<Session>> {
        self.done.stop.store(true, SeqCst);
        let mut sessions = Vec::new();
        while let Some(ended) = self.workers.join_next().await {
            sessions.append(&mut ended?);
        }
        Ok(sessions)
    }
}

struct Worker {
    applications: [Sessions<Login>; 2],
    done: Arc<Done>,
    problem: watch::Sender<Option<String>>,
    live: Vec<Session>,
    logged_out: Vec<Session>,
    random: u64,
}

impl Worker {
    async fn work(mut self) -> Vec<Session> {
        while !self.done.stop.load(SeqCst) {
            let dice = self.dice(16);
            match (dice, self.live.len(), self.logged_out.len()) {
                (13, ..) | (_, 0, _) => self.log_in().await,
                (14, ..) => self.log_out().await,
                (15, _, 1..) => self.look_at_one_that_is_logged_out().await,
                (11 | 12, ..) => self.set().await,
                (6..=10, ..) => self.update().await,
                _ => self.read().await,
            }
        }
        self.live.append(&mut self.logged_out);
        self.live
    }

    async fn read(&mut self) {
        let (logins, at) = (self.application(), self.dice(self.live.len()));
        let session = &self.live[at];
        let answer = logins.get(&session.id).await;
        let right = answer.map(|login| login == session.login());
        self.done.reads.fetch_add(1, SeqCst);
        if self.check(self.live[at].user, "read", right) == Some(false) {
            self.live[at].lost = true;
        }
    }

    async fn update(&mut self) {
        let (logins, at) = (self.application(), self.dice(self.live.len()));
        let session = &self.live[at];
        let (before, changes) = (session.login(), session.changes + 1);
        let answer = logins.update(&session.id, |login| {
            let right = Some(&*login) == before.as_ref();
            login.change(changes);
            right
        });
        let right = answer.await;
        self.written(at, "updated", right);
    }

    async fn set(&mut self) {
        let (logins, at) = (self.application(), self.dice(self.live.len()));
        let session = &self.live[at];
        let login = Login::changed(session.user, session.changes + 1);
        let right = logins.set(&session.id, &login).await.map(|()| true);
        self.written(at, "set", right);
    }

    fn written(&mut self, at: usize, how: &str, right: sessionring::Result<bool>) {
        self.done.writes.fetch_add(1, SeqCst);
        let right = self.check(self.live[at].user, how, right);
        let session = &mut self.live[at];
        session.changes += u32::from(right.is_some());
        session.lost |= right == Some(false);
    }

    async fn log_in(&mut self) {
        let (logins, user) = (self.application(), self.done.users.fetch_add(1, SeqCst));
        let answer = logins.create(&Login::of(user)).await;
        let step = self.done.step.load(SeqCst);
        match answer {
            Ok(id) => {
                self.done.log_ins.fetch_add(1, SeqCst);
                self.live.push(Session { step, ..Session::new(id, user) });
            }
            Err(error) => drop(self.check(user, "created", Err(error))),
        }
    }

    async fn log_out(&mut self) {
        let (logins, at) = (self.application(), self.dice(self.live.len()));
        let right = logins.delete(&self.live[at].id).await.map(|()| true);
        if self.check(self.live[at].user, "logged out", right).is_some() {
            self.done.log_outs.fetch_add(1, SeqCst);
            let mut session = self.live.swap_remove(at);
            session.logged_out = true;
            self.logged_out.push(session);
        }
    }

    async fn look_at_one_that_is_logged_out(&mut self) {
        let (logins, at) = (self.application(), self.dice(self.logged_out.len()));
        let (id, user) = (self.logged_out[at].id.clone(), self.logged_out[at].user);
        let absent = logins.get(&id).await.map(|login| login.is_none());
        let refused = refused(logins.set(&id, &Login::of(user)).await);
        self.done.looks.fetch_add(1, SeqCst);
        for right in [absent, refused] {
            if self.check(user, "looked at after its log-out", right) == Some(false) {
                self.logged_out[at].resurrected = true;
            }
        }
    }

    /// Whether an answer was right; `None` for an error.
    fn check(&self, user: usize, how: &str, right: sessionring::Result<bool>) -> Option<bool> {
        let (counter, what) = match &right {
            Ok(true) => return Some(true),
            Ok(false) => (&self.done.wrong, "a wrong answer".to_owned()),
            // These are about the session, and it should be there.
            Err(error) if error.is_not_found() || error.is_deleted() => (&self.done.wrong, error.to_string()),
            Err(error) => (&self.done.errors, error.to_string()),
        };
        counter.fetch_add(1, SeqCst);
        self.problem.send_if_modified(|problem| {
            let first = problem.is_none();
            problem.get_or_insert_with(|| format!("the session of user {user}, {how}: {what}"));
            first
        });
        match right {
            Err(error) if error.is_not_found() || error.is_deleted() => Some(false),
            right => right.ok(),
        }
    }

    fn application(&mut self) -> Sessions<Login> {
        let at = self.dice(self.applications.len());
        self.applications[at].clone()
    }

    /// A number below `sides`.
    fn dice(&mut self, sides: usize) -> usize {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as usize % sides.max(1)
    }
}

/// Whether a `set` was refused as it must be after a log-out.
fn refused(answer: sessionring::Result<()>) -> sessionring::Result<bool> {
    match answer {
        Ok(()) => Ok(false),
        Err(error) if error.is_deleted() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Every session, looked at once more.
#[derive(Default)]
pub(crate) struct Checked {
    /// For each session: whether everything about it is and always was right.
    pub(crate) good: Vec<bool>,
    pub(crate) live: usize,
    pub(crate) read_back: usize,
    pub(crate) logged_out: usize,
    pub(crate) stayed_out: usize,
    pub(crate) lost: usize,
    pub(crate) resurrected: usize,
    problem: Option<String>,
}

/// Looks at every session: a live one must hold exactly its last value, one that was logged out must be absent and
/// refuse a `set`.
pub(crate) async fn check(logins: &Sessions<Login>, sessions: &[Session], progress: &Progress) -> Checked {
    let calls = sessions.chunks(CHUNK).map(async |sessions| {
        let (live, out): (Vec<_>, Vec<_>) = sessions.iter().enumerate().partition(|(_, s)| !s.logged_out);
        let ids: Vec<_> = live.iter().map(|(_, session)| session.id.clone()).collect();
        let out_ids: Vec<_> = out.iter().map(|(_, session)| session.id.clone()).collect();
        let writes: Vec<_> = out.iter().map(|(_, s)| (s.id.clone(), Login::of(s.user))).collect();
        let mut right: Vec<sessionring::Result<bool>> = sessions.iter().map(|_| Ok(true)).collect();
        for ((at, session), answer) in live.iter().zip(logins.get_many(&ids).await) {
            right[*at] = answer.map(|login| login == session.login());
        }
        let absent = logins.get_many(&out_ids).await;
        let written = logins.set_many(&writes).await;
        for (((at, _), absent), written) in out.iter().zip(absent).zip(written) {
            right[*at] = match absent {
                Ok(None) => refused(written),
                Ok(Some(_)) => Ok(false),
                Err(error) => Err(error),
            };
        }
        progress.add(sessions.len()).await;
        sessions.iter().zip(right).collect::<Vec<_>>()
    });
    let mut calls = stream::iter(calls).buffered(AT_ONCE);
    let mut checked = Checked::default();
    while let Some(answers) = calls.next().await {
        for (session, right) in answers {
            checked.add(session, right);
        }
    }
    checked
}

impl Checked {
    fn add(&mut self, session: &Session, right: sessionring::Result<bool>) {
        let right_now = matches!(right, Ok(true));
        let lost = session.lost || !session.logged_out && !right_now;
        let resurrected = !lost && (session.resurrected || !right_now);
        let good = !lost && !resurrected;
        if !good && self.problem.is_none() {
            let why = match right {
                Err(error) => error.to_string(),
                Ok(false) => "not what it has to be".into(),
                Ok(true) => "a wrong answer while the ring changed".into(),
            };
            self.problem = Some(format!("the session of user {}: {why}", session.user));
        }
        self.lost += usize::from(lost);
        self.resurrected += usize::from(resurrected);
        let (all, right) = match session.logged_out {
            false => (&mut self.live, &mut self.read_back),
            true => (&mut self.logged_out, &mut self.stayed_out),
        };
        *all += 1;
        *right += usize::from(good);
        self.good.push(good);
    }

    pub(crate) fn verdict(&self) -> String {
        let first =
            self.problem.as_ref().map(|problem| format!("\nthe first: {problem}")).unwrap_or_default();
        format!(
            "{} live: {} hold exactly what was written last\n\
             {} logged out: {} are absent and refuse a set\n\
             {} lost, {} resurrected{first}",
            Count(self.live),
            Count(self.read_back),
            Count(self.logged_out),
            Count(self.stayed_out),
            Count(self.lost),
            Count(self.resurrected)
        )
    }
}
