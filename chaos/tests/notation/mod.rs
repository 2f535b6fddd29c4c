//! Histories as text: `FROM-TO ACTION [VALUE]: ANSWER`, with ` / ` between operations. `?` as a time is no answer at
//! all, as an answer it is one that leaves open what happened.

use chaos::history::{Action, Answer, Operation, Reason};

pub(crate) fn history(text: &str) -> Vec<Operation> {
    let parts = text.split('/').map(str::trim).filter(|part| !part.is_empty());
    parts.enumerate().map(|(i, part)| operation(i as u32, part)).collect()
}

fn operation(process: u32, text: &str) -> Operation {
    let (question, answer) = text.split_once(": ").unwrap_or_else(|| panic!("no answer in {text:?}"));
    let words: Vec<&str> = question.split(' ').collect();
    let (from, to) = words[0].split_once('-').unwrap_or_else(|| panic!("no time in {text:?}"));
    let value = words.get(2).map(|value| value.parse().unwrap_or_else(|e| panic!("{e} in {text:?}")));
    let action = match (words[1], value) {
        ("create", Some(value)) => Action::Create(value),
        ("set", Some(value)) => Action::Set(value),
        ("update", Some(value)) => Action::Update(value),
        ("get", None) => Action::Get,
        ("exists", None) => Action::Exists,
        ("touch", None) => Action::Touch,
        ("delete", None) => Action::Delete,
        _ => panic!("no action in {text:?}"),
    };
    let answer = match answer {
        "ok" => Answer::Done,
        "none" => Answer::Found(None),
        "absent" => Answer::NotFound,
        "deleted" => Answer::Deleted,
        "exists" => Answer::AlreadyThere,
        "true" => Answer::There(true),
        "false" => Answer::There(false),
        "refused" => Answer::Refused(Reason::Unavailable),
        "?" => Answer::Indeterminate,
        other => match other.strip_prefix("ok ") {
            Some(seen) => Answer::Updated(seen.parse().unwrap_or_else(|e| panic!("{e} in {text:?}"))),
            None => Answer::Found(Some(other.parse().unwrap_or_else(|e| panic!("{e} in {text:?}")))),
        },
    };
    let to = (to != "?").then(|| to.parse().unwrap_or_else(|e| panic!("{e} in {text:?}")));
    let from = from.parse().unwrap_or_else(|e| panic!("{e} in {text:?}"));
    Operation::new(process, action, from, answer, to)
}
