//! What each operation answers for a session that is live, one that was logged out, and one that never was.

use std::{collections::BTreeMap, fmt::Debug};

use comfy_table::Table;
use sessionring::{SessionId, Sessions};

use crate::{
    Result,
    login::{Article, Login},
    report,
};

pub(crate) async fn ask(logins: &Sessions<Login>) -> Result<Answers> {
    let live = logins.create(&Login::of(0)).await?;
    let logged_out = logins.create(&Login::of(0)).await?;
    logins.delete(&logged_out).await?;
    // An id that nobody has. A session that has expired answers the same.
    let unknown = SessionId::generate()?;

    let mut answers = Answers::default();
    for id in [&live, &logged_out, &unknown] {
        // `None` is an answer, not an error. A node that is down would be an error, for which `is_unavailable()`
        // holds: then nobody knows whether there is a session, and nobody should be logged out.
        answers.add("get(&id)", logins.get(id).await.map(in_cart));

        // Replaces the whole session, whoever wrote it last.
        answers.add("set(&id, &login)", logins.set(id, &Login::of(1)).await);

        // Reads, changes, and writes back if nobody else wrote meanwhile; otherwise starts again from what the
        // other wrote. So of two requests that put something into the same cart, both do.
        let change = |login: &mut Login| {
            login.cart.push(Article { title: "Atlas".into(), pieces: 1, cents: 4900 });
            login.cart.len()
        };
        answers.add("update(&id, …)", logins.update(id, change).await);

        // Gives the session its full idle time again, without reading or writing it.
        answers.add("touch(&id)", logins.touch(id).await);

        // Logs out, for good. What is not there, or not there any more, is fine too.
        answers.add("delete(&id)", logins.delete(id).await);
        answers.add("get(&id) after that", logins.get(id).await.map(in_cart));
    }
    Ok(answers)
}

fn in_cart(login: Option<Login>) -> Option<String> {
    login.map(|login| format!("cart of {}", login.cart.len()))
}

#[derive(Default)]
pub(crate) struct Answers {
    /// An operation, and its answers for each of the three sessions.
    rows: Vec<(&'static str, Vec<String>)>,
    /// A message for each kind of error.
    errors: BTreeMap<String, String>,
}

impl Answers {
    fn add(&mut self, operation: &'static str, answer: sessionring::Result<impl Debug>) {
        let shown = match answer {
            // Without the quotes of a text.
            Ok(value) => format!("Ok({value:?})").replace('"', ""),
            // The kind of an error, and what it says. To each kind belongs a predicate, such as `is_deleted()`.
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                let shown = format!("Err({kind})");
                self.errors.entry(kind).or_insert(error.to_string());
                shown
            }
        };
        match self.rows.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, answers)) => answers.push(shown),
            None => self.rows.push((operation, vec![shown])),
        }
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = report::table(["", "live", "logged out", "never there"]);
        for (operation, answers) in &self.rows {
            table.add_row([*operation].into_iter().chain(answers.iter().map(String::as_str)));
        }
        table
    }

    pub(crate) fn errors(&self) -> String {
        self.errors.iter().map(|(kind, message)| format!("{kind}: {message}\n")).collect()
    }
}
