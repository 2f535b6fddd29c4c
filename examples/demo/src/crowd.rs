//! Many sessions at once.
//!
//! The operations called `…_many` go to all nodes at the same time, one round trip to each, and answer for each
//! session by itself: one node that is down does not spoil the answers of the others. The results stand in the
//! order of what was given.

use futures_util::{StreamExt, TryStreamExt, stream};
use sessionring::{SessionId, Sessions};

use crate::{Result, login::Login, progress::Progress, report::Count};

/// Sessions in one call.
pub(crate) const CHUNK: usize = 1000;
/// Calls under way at the same time.
pub(crate) const AT_ONCE: usize = 8;

/// Creates the sessions of the users 0, 1, 2, …; answers their ids in this order.
pub(crate) async fn log_in(
    logins: &Sessions<Login>,
    count: usize,
    progress: &Progress,
) -> Result<Vec<SessionId>> {
    let calls = (0..count).step_by(CHUNK).map(async |first| {
        let users: Vec<Login> = (first..count.min(first + CHUNK)).map(Login::of).collect();
        // A log-in that fails ends the demo; an application would tell that one user.
        let ids = logins.create_many(&users).await.into_iter().collect::<sessionring::Result<Vec<_>>>()?;
        progress.add(ids.len()).await;
        Ok(ids)
    });
    stream::iter(calls).buffered(AT_ONCE).try_concat().await
}

/// What came of reading everything back.
#[derive(Default)]
pub(crate) struct ReadBack {
    /// For each id: whether exactly what was written came back.
    pub(crate) same: Vec<bool>,
    /// The first thing that was wrong.
    problem: Option<String>,
}

/// Reads every session and compares it with what was written.
pub(crate) async fn read_back(logins: &Sessions<Login>, ids: &[SessionId], progress: &Progress) -> ReadBack {
    let calls = ids.chunks(CHUNK).enumerate().map(async |(chunk, ids)| {
        let answers = logins.get_many(ids).await;
        progress.add(answers.len()).await;
        let users = chunk * CHUNK..;
        users.zip(answers).map(|(user, answer)| problem(user, answer)).collect::<Vec<_>>()
    });
    let mut calls = stream::iter(calls).buffered(AT_ONCE);
    let mut read_back = ReadBack::default();
    while let Some(problems) = calls.next().await {
        read_back.same.extend(problems.iter().map(Option::is_none));
        read_back.problem = read_back.problem.or(problems.into_iter().flatten().next());
    }
    read_back
}

/// What is wrong with the answer for this user, if anything is.
fn problem(user: usize, answer: sessionring::Result<Option<Login>>) -> Option<String> {
    match answer {
        Ok(Some(login)) if login == Login::of(user) => None,
        Ok(Some(_)) => Some(format!("the session of user {user} holds something else")),
        Ok(None) => Some(format!("the session of user {user} is gone")),
        Err(error) => Some(format!("the session of user {user}: {error}")),
    }
}

impl ReadBack {
    /// How many came back as they were written.
    pub(crate) fn good(&self) -> usize {
        self.same.iter().filter(|&&same| same).count()
    }

    pub(crate) fn verdict(&self) -> String {
        let good = self.good();
        let bad = self.same.len() - good;
        let first =
            self.problem.as_ref().map(|problem| format!("; the first: {problem}")).unwrap_or_default();
        format!("{} are what was written, {} are not{first}", Count(good), Count(bad))
    }
}

/// Logs everyone out; answers how many sessions are there all the same.
pub(crate) async fn log_out(
    logins: &Sessions<Login>,
    ids: &[SessionId],
    progress: &Progress,
) -> Result<usize> {
    let calls = ids.chunks(CHUNK).map(async |ids| -> Result<usize> {
        logins.delete_many(ids).await.into_iter().collect::<sessionring::Result<()>>()?;
        let there = logins.exists_many(ids).await.into_iter().collect::<sessionring::Result<Vec<_>>>()?;
        progress.add(ids.len()).await;
        Ok(there.into_iter().filter(|&there| there).count())
    });
    stream::iter(calls).buffered(AT_ONCE).try_fold(0, async |sum, there| Ok(sum + there)).await
}
