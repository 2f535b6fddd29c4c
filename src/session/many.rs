//! The operations of [`Sessions`] for many sessions at once: all nodes at the same time, one round trip to each,
//! and a result of its own for every session, in the order given.

use std::time::Duration;

use tokio::time::Instant;

use super::{SaveError, Session, Sessions, UPDATE_ATTEMPTS, give_way, new_id};
use crate::{
    error::Result,
    protocol::{Command, Condition, Outcome},
    record::{Key, SessionId},
};

impl<T: Send + Sync + 'static> Sessions<T> {
    /// [`create`](Sessions::create) for many.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let users = ring.sessions::<u64>("user");
    /// let ids: Vec<_> = users.create_many(&[1, 2, 3]).await.into_iter().collect::<Result<_, _>>()?;
    /// for (user, result) in [1, 2, 3].into_iter().zip(users.get_many(&ids).await) {
    ///     assert_eq!(result?, Some(user));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_many(&self, values: &[T]) -> Vec<Result<SessionId>> {
        let mut ids = Vec::with_capacity(values.len());
        let commands = values.iter().map(|value| {
            let id = new_id();
            ids.push(id.clone());
            let key = self.keyspace.key(id.as_ref().map_err(Clone::clone)?);
            Ok((key, self.write(&key, Condition::Absent, value)?))
        });
        let results = self.execute_all(commands.collect()).await;
        results
            .into_iter()
            .zip(ids)
            .map(|(result, id)| {
                let (key, outcome) = result?;
                self.expect_created(&key, outcome)?;
                id
            })
            .collect()
    }

    /// [`create_with_id`](Sessions::create_with_id) for many.
    pub async fn create_with_id_many(&self, sessions: &[(SessionId, T)]) -> Vec<Result<()>> {
        let commands = sessions.iter().map(|(id, value)| {
            let key = self.keyspace.key(id);
            Ok((key, self.write(&key, Condition::Absent, value)?))
        });
        let create = |i: usize, key: &Key| self.write(key, Condition::Absent, &sessions[i].1);
        let results = self.run_many(commands.collect(), create).await;
        results
            .into_iter()
            .map(|result| result.and_then(|(key, outcome)| self.expect_created(&key, outcome)))
            .collect()
    }

    /// [`get`](Sessions::get) for many.
    pub async fn get_many(&self, ids: &[SessionId]) -> Vec<Result<Option<T>>> {
        self.run_each(ids, Command::Read, |_, read| {
            self.or_reset(read.and_then(|(key, outcome)| self.read(&key, outcome)))
        })
        .await
    }

    /// [`set`](Sessions::set) for many.
    pub async fn set_many(&self, sessions: &[(SessionId, T)]) -> Vec<Result<()>> {
        let write = |i: usize, key: &Key| {
            let (id, value) = &sessions[i];
            self.write(key, self.set_condition(id), value)
        };
        self.apply_many(sessions.iter().map(|(id, _)| id), write).await
    }

    /// [`update`](Sessions::update) for many; `change` is told which of the ids it is working on.
    pub async fn update_many<R, F>(&self, ids: &[SessionId], mut change: F) -> Vec<Result<R>>
    where
        F: FnMut(&SessionId, &mut T) -> R + Send,
        R: Send,
    {
        let deadline = Instant::now() + self.ring.request_timeout();
        let mut answers: Vec<Option<Result<R>>> = ids.iter().map(|_| None).collect();
        let seen = self.run_each(ids, Command::Read, |_, read| read).await;
        let mut open: Vec<(usize, Result<(Key, Outcome)>)> = seen.into_iter().enumerate().collect();
        for attempt in 0..UPDATE_ATTEMPTS {
            let (mut tried, mut commands, mut moved) = (Vec::new(), Vec::new(), Vec::new());
            for (i, seen) in open.drain(..) {
                let changed = seen.and_then(|(key, seen)| {
                    let mut change = |value: &mut T| change(&ids[i], value);
                    self.change(&key, seen, &mut change).map(|changed| (key, changed))
                });
                match changed {
                    Ok((key, (command, answer))) => {
                        tried.push((i, answer));
                        commands.push(Ok((key, command)));
                    }
                    Err(error) => answers[i] = Some(Err(error)),
                }
            }
            for ((i, answer), result) in tried.into_iter().zip(self.execute_all(commands).await) {
                match result {
                    Ok((key, Outcome::Conflict(record))) => {
                        open.push((i, Ok((key, Outcome::Record(record)))))
                    }
                    Ok((key, Outcome::Forwarded(record))) => match self.successor(&key, &record) {
                        Ok(key) => moved.push((i, key)),
                        Err(error) => answers[i] = Some(Err(error)),
                    },
                    result => {
                        answers[i] = Some(
                            result
                                .and_then(|(key, outcome)| self.expect_applied(&key, outcome))
                                .map(|_| answer),
                        );
                    }
                }
            }
            if !moved.is_empty() {
                let reads = moved.iter().map(|(_, key)| Ok((*key, Command::Read))).collect();
                let seen = self.run_many(reads, |_, _| Ok(Command::Read)).await;
                open.extend(moved.into_iter().map(|(i, _)| i).zip(seen));
            }
            if open.is_empty() || Instant::now() >= deadline {
                break;
            }
            give_way(attempt).await;
        }
        // Whoever has no answer yet lost every race.
        let conflict = |i: usize| Err(self.conflict(&self.keyspace.key(&ids[i])));
        answers.into_iter().enumerate().map(|(i, answer)| answer.unwrap_or_else(|| conflict(i))).collect()
    }

    /// [`load`](Sessions::load) for many.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// # let carts = ring.sessions::<Vec<String>>("cart");
    /// # let ids = [carts.create(&vec![]).await?, carts.create(&vec!["tea".into()]).await?];
    /// let mut loaded = Vec::new();
    /// for cart in carts.load_many(&ids).await {
    ///     loaded.extend(cart?);
    /// }
    /// loaded.iter_mut().for_each(|cart| cart.push("book".into()));
    /// for saved in carts.save_many(&mut loaded).await {
    ///     saved?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Session<T>>>> {
        self.run_each(ids, Command::Read, |i, read| {
            read.and_then(|(key, outcome)| self.in_hand(&ids[i], &key, outcome))
        })
        .await
    }

    /// [`save`](Sessions::save) for many: what others have changed meanwhile is a [`SaveError::Conflict`] of its own, and
    /// the rest is saved.
    pub async fn save_many(&self, sessions: &mut [Session<T>]) -> Vec<Result<(), SaveError<T>>> {
        let commands = sessions.iter().map(|session| self.save_command(session)).collect();
        let again = |i: usize, key: &Key| self.write_back(key, &sessions[i].seen);
        let results = self.run_many(commands, again).await;
        sessions
            .iter_mut()
            .zip(results)
            .map(|(session, result)| {
                let (key, outcome) = result?;
                self.expect_saved(session, &key, outcome)
            })
            .collect()
    }

    /// [`touch`](Sessions::touch) for many.
    pub async fn touch_many(&self, ids: &[SessionId]) -> Vec<Result<()>> {
        self.apply_many(ids.iter(), |_, _| Ok(self.touch_command())).await
    }

    /// [`delete`](Sessions::delete) for many.
    pub async fn delete_many(&self, ids: &[SessionId]) -> Vec<Result<()>> {
        let commands = ids.iter().map(|id| Ok((self.keyspace.key(id), self.delete_command(id))));
        let results = self.run_many(commands.collect(), |i, _| Ok(self.delete_command(&ids[i]))).await;
        results
            .into_iter()
            .map(|result| result.and_then(|(key, outcome)| self.expect_deleted(&key, outcome)))
            .collect()
    }

    /// [`exists`](Sessions::exists) for many.
    pub async fn exists_many(&self, ids: &[SessionId]) -> Vec<Result<bool>> {
        let remaining = self.remaining_many(ids).await;
        remaining.into_iter().map(|result| result.map(|remaining| remaining.is_some())).collect()
    }

    /// [`remaining`](Sessions::remaining) for many.
    pub async fn remaining_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Duration>>> {
        self.run_each(ids, Command::Inspect, |_, inspected| {
            inspected.and_then(|(key, outcome)| self.expect_inspected(&key, outcome))
        })
        .await
    }

    /// Runs one command on many sessions, and gives what `make` makes of each: as soon as its node has answered, while others
    /// still work.
    pub(super) async fn run_each<R: Send>(
        &self,
        ids: &[SessionId],
        command: Command,
        mut make: impl FnMut(usize, Result<(Key, Outcome)>) -> R + Send,
    ) -> Vec<R> {
        let commands: Vec<_> = ids.iter().map(|id| (self.keyspace.key(id), command.clone())).collect();
        let mut made: Vec<Option<R>> = ids.iter().map(|_| None).collect();
        let (mut places, mut forwarded) = (Vec::new(), Vec::new());
        let each = |i: usize, outcome: Result<Outcome>| {
            let executed = outcome.map(|outcome| (commands[i].0, outcome));
            if let Ok((_, Outcome::Forwarded(_))) = executed {
                places.push(i);
                forwarded.push(executed);
            } else {
                made[i] = Some(make(i, executed));
            }
        };
        self.ring.execute_each(&commands, each).await;
        if !places.is_empty() {
            let followed = self.follow_many(forwarded, |_, _| Ok(command.clone())).await;
            for (i, executed) in places.into_iter().zip(followed) {
                made[i] = Some(make(i, executed));
            }
        }
        // Each command has had its result.
        made.into_iter().flatten().collect()
    }

    async fn apply_many<'a>(
        &self,
        ids: impl Iterator<Item = &'a SessionId>,
        mut command: impl FnMut(usize, &Key) -> Result<Command> + Send,
    ) -> Vec<Result<()>> {
        let commands = ids.enumerate().map(|(i, id)| {
            let key = self.keyspace.key(id);
            Ok((key, command(i, &key)?))
        });
        let commands = commands.collect();
        let results = self.run_many(commands, command).await;
        results
            .into_iter()
            .map(|result| result.and_then(|(key, outcome)| self.expect_applied(&key, outcome)).map(drop))
            .collect()
    }

    /// Runs those that are commands; those that are errors already stay where they are. What was forwarded is run again, as
    /// `command` makes it for the other key.
    pub(super) async fn run_many(
        &self,
        commands: Vec<Result<(Key, Command)>>,
        command: impl FnMut(usize, &Key) -> Result<Command> + Send,
    ) -> Vec<Result<(Key, Outcome)>> {
        let executed = self.execute_all(commands).await;
        self.follow_many(executed, command).await
    }

    async fn execute_all(&self, commands: Vec<Result<(Key, Command)>>) -> Vec<Result<(Key, Outcome)>> {
        let mut good = Vec::with_capacity(commands.len());
        let places: Vec<Result<Key>> = commands
            .into_iter()
            .map(|command| {
                let (key, command) = command?;
                good.push((key, command));
                Ok(key)
            })
            .collect();
        let mut outcomes = self.ring.execute_many(&good).await.into_iter();
        places
            .into_iter()
            .map(|place| {
                let key = place?;
                let outcome = outcomes.next().unwrap_or(Ok(Outcome::Absent))?;
                Ok((key, outcome))
            })
            .collect()
    }
}
