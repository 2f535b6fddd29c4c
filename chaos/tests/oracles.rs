//! Each kind of harm is found, and nothing that may happen is taken for harm.

mod notation;

use chaos::{
    history::{Action, Answer, Operation, Reason},
    linearizability::{Loss, Memory},
    oracles::{Harm, examine},
};
use notation::history;

fn harms(text: &str, losses: &[Loss]) -> Vec<Harm> {
    examine(&history(text), losses).into_iter().map(|finding| finding.harm).collect()
}

#[test]
fn harm_is_found_and_named() {
    use Harm::{CameBack, FromNowhere, LiveAfterDelete, LostSession, LostWrite, WrittenTwice};
    let cases: [(&str, &[Harm]); 14] = [
        ("0-1 create 1: ok / 2-3 delete: ok / 4-5 get: 1", &[LiveAfterDelete]),
        ("0-1 create 1: ok / 2-3 delete: ok / 4-5 touch: ok", &[LiveAfterDelete]),
        ("0-1 create 1: ok / 2-3 delete: ok / 4-5 create 2: ok", &[LiveAfterDelete, WrittenTwice]),
        ("0-1 create 1: ok / 2-? delete: ? / 3-4 get: 1 / 5-6 get: none / 7-8 get: 1", &[CameBack]),
        ("0-1 create 1: ok / 2-? set 2: ? / 3-4 get: 1 / 5-6 get: 2 / 7-8 get: 1", &[CameBack]),
        ("0-1 create 1: ok / 2-3 set 2: ok / 4-5 get: 1", &[LostWrite]),
        ("0-1 create 1: ok / 2-3 set 2: ok / 4-5 update 3: ok 1", &[LostWrite]),
        ("0-1 create 1: ok / 2-3 set 2: ok / 4-5 set 3: ok / 6-7 get: 2", &[LostWrite]),
        ("0-1 create 1: ok / 2-3 get: none", &[LostSession]),
        ("0-1 create 1: ok / 2-3 set 2: absent / 4-? delete: ?", &[LostSession]),
        ("0-1 create 1: ok / 0-1 create 2: ok", &[WrittenTwice]),
        ("0-1 create 1: ok / 2-3 set 1: refused", &[WrittenTwice]),
        ("0-1 create 1: ok / 2-3 get: 2", &[FromNowhere]),
        ("0-1 create 1: ok / 2-3 set 2: refused / 4-5 get: 2", &[FromNowhere]),
    ];
    for (text, expected) in cases {
        assert_eq!(harms(text, &[]), expected, "{text}");
    }
}

#[test]
fn what_may_happen_is_no_harm() {
    for text in [
        "0-1 delete: ok / 2-3 create 1: ok / 4-5 get: 1",
        "0-1 create 1: ok / 2-5 delete: ok / 4-5 get: 1",
        "0-1 create 1: ok / 2-9 set 2: ok / 3-4 get: 1 / 5-6 get: 2",
        "0-1 create 1: ok / 2-9 set 2: ok / 3-10 set 3: ok / 11-12 get: 2",
        "0-1 create 1: ok / 2-? delete: ? / 3-4 get: 1 / 5-6 get: none",
        "0-1 create 1: ok / 2-? set 2: ? / 3-4 set 3: ok / 5-6 get: 3 / 7-8 get: 2",
        "0-1 create 1: ok / 2-3 delete: refused / 4-5 get: 1",
    ] {
        assert_eq!(harms(text, &[]), [], "{text}");
    }
}

#[test]
fn across_a_loss_nothing_is_claimed() {
    let losses = [Loss::new(20, 30, Memory::Empty)];
    for text in [
        "0-1 create 1: ok / 2-3 delete: ok / 40-41 create 2: ok / 42-43 get: 2",
        "0-1 create 1: ok / 40-41 get: none",
        "0-1 create 1: ok / 2-3 set 2: ok / 40-41 get: 1",
        "0-1 create 1: ok / 40-41 create 2: ok",
    ] {
        assert_eq!(harms(text, &losses), [], "{text}");
    }
    assert_eq!(harms("0-1 create 1: ok / 2-3 delete: ok / 4-5 get: 1", &losses), [Harm::LiveAfterDelete]);
    assert_eq!(harms("40-41 create 1: ok / 42-43 get: none", &losses), [Harm::LostSession]);
}

#[test]
fn errors_that_no_fault_explains_are_harm() {
    let answer = Answer::Refused(Reason::Unexpected);
    let history = [Operation::new(1, Action::Get, 0, answer, Some(1))];
    let findings = examine(&history, &[]);
    assert_eq!(findings[0].harm, Harm::UnexpectedError);
}
