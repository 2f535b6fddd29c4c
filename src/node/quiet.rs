//! Wake-ups inside a task that stay inside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Polls so often before it yields to other tasks.
const ROUNDS: usize = 16;

/// Polls several futures of one task that wake each other: a flight hands its command to the connection, the connection
/// hands the answer to the flight. To the runtime each of these would look like a task that yields, which is put behind
/// all others and wakes another thread to steal it. Here they only lead to another round.
pub(super) struct Quietly {
    inner: Arc<Inner>,
    waker: Waker,
}

struct Inner {
    /// Somebody woke one of the futures since the last round began.
    woken: AtomicBool,
    /// A round is under way, and will see that.
    polling: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Inner {
    fn wake(self: Arc<Inner>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Inner>) {
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Quietly {
    pub(super) fn new() -> Quietly {
        let inner = Arc::new(Inner {
            woken: AtomicBool::new(false),
            polling: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        Quietly { waker: Waker::from(inner.clone()), inner }
    }

    /// Polls with `poll` until it is ready, or nothing has been woken meanwhile.
    ///
    /// No wake-up is lost: one that comes while `polling` is set is found in `woken`, by the next round or after `polling`
    /// is cleared; one that comes later finds it cleared and wakes the task.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Inner { woken, polling, task } = &*self.inner;
        task.register(context.waker());
        polling.store(true, SeqCst);
        let mut polled = Poll::Pending;
        for _ in 0..ROUNDS {
            woken.store(false, SeqCst);
            polled = poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() || !woken.load(SeqCst) {
                break;
            }
        }
        polling.store(false, SeqCst);
        if polled.is_pending() && woken.load(SeqCst) {
            context.waker().wake_by_ref();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use tokio::sync::mpsc;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_wake_up_from_inside_is_another_round_and_wakes_nobody() {
        let (quietly, count) = (Quietly::new(), Arc::new(Count(AtomicUsize::new(0))));
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let mut rounds = 0;
        let polled = quietly.poll(&mut context, |inner| {
            rounds += 1;
            if rounds < 3 {
                inner.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(SeqCst)), (3, 0));
    }

    #[test]
    fn what_never_rests_yields_to_other_tasks() {
        let (quietly, count) = (Quietly::new(), Arc::new(Count(AtomicUsize::new(0))));
        let waker = Waker::from(count.clone());
        let mut rounds = 0;
        let polled = quietly.poll(&mut Context::from_waker(&waker), |inner| {
            rounds += 1;
            inner.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(SeqCst)), (ROUNDS, 1));
    }

    #[test]
    fn a_wake_up_from_outside_wakes_the_task() {
        let (quietly, count) = (Quietly::new(), Arc::new(Count(AtomicUsize::new(0))));
        let waker = Waker::from(count.clone());
        let mut kept = None;
        let _ = quietly.poll(&mut Context::from_waker(&waker), |inner| {
            kept = Some(inner.waker().clone());
            Poll::<()>::Pending
        });
        kept.unwrap().wake();
        assert_eq!(count.0.load(SeqCst), 1);
    }

    /// Another thread sends while this one polls, at every possible moment: nothing is lost, or this never ends.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost_between_two_threads() {
        const MESSAGES: usize = 200_000;
        let (there, mut arrived) = mpsc::unbounded_channel();
        let (back, mut answers) = mpsc::unbounded_channel();
        let echo = tokio::spawn(async move {
            while let Some(message) = arrived.recv().await {
                if back.send(message).is_err() {
                    break;
                }
            }
        });
        let quietly = Quietly::new();
        for message in 0..MESSAGES {
            there.send(message).unwrap();
            let answer = poll_fn(|context| quietly.poll(context, |inner| answers.poll_recv(inner))).await;
            assert_eq!(answer, Some(message));
        }
        drop(there);
        echo.await.unwrap();
    }
}
