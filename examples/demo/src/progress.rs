//! Progress, on stderr: a bar on a terminal, a few plain lines anywhere else.

use std::{
    cell::Cell,
    fmt,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::report::Count;

/// Plain lines, at most.
const LINES: u64 = 4;

pub(crate) struct Progress {
    what: &'static str,
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: usize) -> Progress {
        let bar = ProgressBar::new(total as u64).with_message(what);
        let template =
            "   {msg:10} {wide_bar:.cyan/dim} {human_pos:>9} of {human_len}  {rate:>8} a second  {eta:>3} ";
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            // The bar shows what it can.
            let _ = write!(text, "{}", Count(state.per_sec() as usize));
        };
        // A template that did not parse would leave the plain default.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─").with_key("rate", rate));
        }
        Progress { what, bar, began: Instant::now() }
    }

    /// So many more are done. Lets others run, too: when no answer has to be waited for, nothing else would, and
    /// a Ctrl-C would not be noticed.
    pub(crate) async fn add(&self, count: usize) {
        self.bar.inc(count as u64);
        // Hidden: stderr is no terminal.
        if self.bar.is_hidden() {
            let (total, now) = (self.bar.length().unwrap_or(0).max(1), self.bar.position());
            if now * LINES / total > (now - count as u64) * LINES / total {
                eprintln!("demo: {}: {} of {}", self.what, Count(now as usize), Count(total as usize));
            }
        }
        tokio::task::yield_now().await;
    }

    /// Takes the bar away; answers what there is to say about it.
    pub(crate) fn done(self) -> impl fmt::Display {
        self.bar.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.bar.position() as f64 / seconds.max(1e-9);
        // Not more digits than mean something.
        let rate = (rate / 100.0).round() * 100.0;
        let done = Count(self.bar.position() as usize);
        format!("{} {done} in {seconds:.2} s, {} a second", self.what, Count(rate as usize))
    }
}

/// What is going on now: a line that is written over and over on a terminal, one every now and then anywhere else.
pub(crate) struct Live {
    bar: ProgressBar,
    shown: Cell<Option<Instant>>,
}

impl Live {
    pub(crate) fn new() -> Live {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("   {spinner:.cyan} {wide_msg}") {
            bar.set_style(style);
        }
        Live { bar, shown: Cell::new(None) }
    }

    pub(crate) fn show(&self, what: impl fmt::Display) {
        let now = Instant::now();
        if !self.bar.is_hidden() {
            self.bar.set_message(what.to_string());
            self.bar.tick();
        } else if self.shown.get().is_none_or(|shown| now - shown >= Duration::from_millis(500)) {
            self.shown.set(Some(now));
            eprintln!("demo: {what}");
        }
    }

    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }
}
