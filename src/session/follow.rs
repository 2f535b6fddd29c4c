//! From the id of a session to where the session is: an id that was replaced is good for a while yet.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Sessions;
use crate::{
    error::{Error, ErrorKind, Result},
    protocol::{Command, Outcome},
    record::{Key, Record, SessionId},
};

/// So many replacements, each within the grace of the one before, lead from an id to its session. Whoever can write to a
/// node could make a circle of them.
const HOPS: usize = 16;

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Executes what `command` makes for the key of this id, or for the key under which its session goes on; says which it
    /// was.
    pub(super) fn execute<'a>(
        &'a self,
        id: &SessionId,
        command: impl FnMut(&Key) -> Result<Command> + Send + 'a,
    ) -> impl Future<Output = Result<(Key, Outcome)>> + Send {
        self.execute_at(self.keyspace.key(id), command)
    }

    /// The same for a key.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would keep its arguments twice")]
    pub(super) fn execute_at<'a>(
        &'a self,
        key: Key,
        mut command: impl FnMut(&Key) -> Result<Command> + Send + 'a,
    ) -> impl Future<Output = Result<(Key, Outcome)>> + Send {
        async move {
            let first = command(&key)?;
            match self.ring.execute(key, first).await? {
                Outcome::Forwarded(record) => self.follow(key, record, command).await,
                outcome => Ok((key, outcome)),
            }
        }
    }

    /// Goes where this tombstone, and maybe others, say that the session is. In a box, as few have to.
    fn follow<'a>(
        &'a self,
        mut key: Key,
        mut tombstone: Bytes,
        mut command: impl FnMut(&Key) -> Result<Command> + Send + 'a,
    ) -> BoxFuture<'a, Result<(Key, Outcome)>> {
        Box::pin(async move {
            for _ in 0..HOPS {
                key = self.successor(&key, &tombstone)?;
                match self.ring.execute(key, command(&key)?).await? {
                    Outcome::Forwarded(record) => tombstone = record,
                    outcome => return Ok((key, outcome)),
                }
            }
            Err(self.replaced_too_often(&key))
        })
    }

    /// The same for many that were executed already: those that were forwarded are executed again, together.
    pub(super) async fn follow_many(
        &self,
        executed: Vec<Result<(Key, Outcome)>>,
        mut command: impl FnMut(usize, &Key) -> Result<Command> + Send,
    ) -> Vec<Result<(Key, Outcome)>> {
        let mut followed = executed;
        for _ in 0..HOPS {
            let (mut again, mut commands) = (Vec::new(), Vec::new());
            for (i, result) in followed.iter_mut().enumerate() {
                let Ok((key, Outcome::Forwarded(record))) = result else { continue };
                let next = self.successor(key, record).and_then(|key| Ok((key, command(i, &key)?)));
                match next {
                    Ok(next) => {
                        again.push(i);
                        commands.push(next);
                    }
                    Err(error) => *result = Err(error),
                }
            }
            if again.is_empty() {
                return followed;
            }
            let outcomes = self.ring.execute_many(&commands).await;
            for ((i, (key, _)), outcome) in again.into_iter().zip(commands).zip(outcomes) {
                followed[i] = outcome.map(|outcome| (key, outcome));
            }
        }
        let too_often = |(key, outcome)| match outcome {
            Outcome::Forwarded(_) => Err(self.replaced_too_often(&key)),
            outcome => Ok((key, outcome)),
        };
        followed.into_iter().map(|result| result.and_then(too_often)).collect()
    }

    /// Where the session goes on that this tombstone stands for.
    pub(super) fn successor(&self, key: &Key, tombstone: &[u8]) -> Result<Key> {
        let record = Record::decode(tombstone).map_err(|error| self.not_a_record(key, error))?;
        let payload = record.forward().map(|(_, successor)| successor).unwrap_or_default();
        let place = self.opened(key, &Record { header: record.header, payload })?;
        key.beside(&place).ok_or_else(|| self.astray(key))
    }

    fn replaced_too_often(&self, key: &Key) -> Error {
        let message = format!(
            "the id of the session was replaced more than {HOPS} times within the grace of each; nothing was changed; use \
             the newest id, or rotate less often"
        );
        self.error(key, ErrorKind::Conflict, message)
    }
}
