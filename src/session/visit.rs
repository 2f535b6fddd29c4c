//! Reading a session on behalf of who uses it: the idle time begins anew, and hardly anything is written for that.

use std::time::Duration;

use super::Sessions;
use crate::{
    entropy,
    error::Result,
    protocol::{Command, Outcome},
    record::{Header, Key, Kind, Millis, SessionId},
};

/// How much later than asked for a slide may come, as a part of that: so that sessions which began together do not
/// slide together for ever.
const JITTER: f64 = 0.25;

/// What a slide has to gain, as a part of the idle time. Where a node is busy a deadline is read some milliseconds too early, and
/// a session that cannot slide any further would be written with each visit.
const GAIN: f64 = 0.001;

/// Options of visits.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// The share of the idle time, from 0 to 1, that must have passed before [`visit`](Sessions::visit) slides a session:
    /// a tenth unless set. A session that is in constant use then ends up to that share earlier than one whose every
    /// use is written down, and costs its node one write in that time instead of one per request. 0 slides with every
    /// visit. Values outside are brought to the nearest one, and what is not a number counts as 0.
    #[must_use]
    pub fn slide_after(self, share: f64) -> Sessions<T> {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.with(|options| options.slide_after = share)
    }
}

/// Visits.
impl<T: Send + Sync + 'static> Sessions<T> {
    /// Reads a session that is being used. `None`: it was logged out, expired, or never was.
    ///
    /// Once the share of the idle time that [`slide_after`](Sessions::slide_after) asks for has passed (and up to a quarter
    /// of it more, at random), the idle deadline slides as with [`touch`](Sessions::touch). Before that a visit is one round
    /// trip and writes nothing; a visit that slides is two, and the body is not written either way. When the session was
    /// read and the slide cannot be done, the session is what counts: a later visit slides it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// let carts = ring.sessions::<Vec<String>>("cart").slide_after(0.2);
    /// let id = carts.create(&vec!["book".into()]).await?;
    /// assert_eq!(carts.visit(&id).await?.unwrap(), ["book"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`get`](Sessions::get).
    pub async fn visit(&self, id: &SessionId) -> Result<Option<T>> {
        let (key, outcome) = match self.execute(id, |_| Ok(Command::Visit)).await {
            Ok(found) => found,
            Err(error) => return self.or_reset(Err(error)),
        };
        let visited = self.visited(&key, outcome)?;
        let Some((value, true)) = visited else { return Ok(visited.map(|(value, _)| value)) };
        let slid = self.execute_at(key, |_| Ok(self.touch_command())).await;
        Ok(Some(value).filter(|_| !ended(&slid)))
    }

    /// [`visit`](Sessions::visit) for many.
    pub async fn visit_many(&self, ids: &[SessionId]) -> Vec<Result<Option<T>>> {
        let mut due = Vec::new();
        let visited = self.run_each(ids, Command::Visit, |i, visited| {
            let (key, outcome) = match visited {
                Ok(visited) => visited,
                Err(error) => return self.or_reset(Err(error)),
            };
            let visited = self.visited(&key, outcome)?;
            if let Some((_, true)) = visited {
                due.push((i, key));
            }
            Ok(visited.map(|(value, _)| value))
        });
        let mut values = visited.await;
        let touches = due.iter().map(|(_, key)| Ok((*key, self.touch_command())));
        let slid = self.run_many(touches.collect(), |_, _| Ok(self.touch_command())).await;
        for ((i, _), slid) in due.into_iter().zip(slid) {
            if ended(&slid) {
                values[i] = Ok(None);
            }
        }
        values
    }

    /// The session, and whether it is time to slide it.
    fn visited(&self, key: &Key, outcome: Outcome) -> Result<Option<(T, bool)>> {
        let Outcome::Visited { record, deadline, left } = outcome else {
            return Ok(self.read(key, outcome)?.map(|value| (value, false)));
        };
        let slides = Header::decode(&record).is_ok_and(|header| {
            // One that ends with its absolute deadline cannot slide any further.
            let most = header.max_deadline.saturating_sub(deadline);
            header.kind == Kind::Live
                && Duration::from_millis(most) > self.options.lifetime.idle().mul_f64(GAIN)
                && self.is_due(left)
        });
        Ok(self.read(key, Outcome::Record(record))?.map(|value| (value, slides)))
    }

    fn is_due(&self, left: Millis) -> bool {
        let idle = self.options.lifetime.idle();
        if Duration::from_millis(left) > idle {
            // It was last used under a longer idle time.
            return true;
        }
        let used = idle.saturating_sub(Duration::from_millis(left));
        let share = self.options.slide_after;
        used >= idle.mul_f64(share)
            && used >= idle.mul_f64((share * (1.0 + JITTER * entropy::fraction())).min(1.0))
    }
}

/// Whether a slide found that the session has ended since it was read.
fn ended(slid: &Result<(Key, Outcome)>) -> bool {
    matches!(slid, Ok((_, Outcome::Deleted | Outcome::Absent)))
}
