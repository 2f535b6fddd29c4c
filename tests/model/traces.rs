//! Interleavings that were once feared, or found: played step by step on the machine as it is, where they do no harm, and
//! on one with the fault that they show.

use Action::*;
use sessionring::record::Kind;

use crate::{
    machine::Action,
    mutant::Mutant,
    ring::{Initially, Op, Plan, Ring},
    world::{Seen, World, header, observed},
};

fn ring<const N: usize>(scripts: [&[Op]; N]) -> Ring {
    Ring { scripts: scripts.map(<[Op]>::to_vec).to_vec(), ..Ring::default() }
}

/// Every step must be possible, and none may break anything.
fn play(ring: &Ring, steps: &[Action]) -> World {
    go_on(ring, ring.start(), steps)
}

fn go_on(ring: &Ring, mut world: World, steps: &[Action]) -> World {
    for (at, step) in steps.iter().enumerate() {
        world = ring.step(&world, *step).unwrap_or_else(|| panic!("{step:?}, step {at}, cannot happen"));
        assert_eq!(world.violation, None, "after {step:?}, step {at}");
    }
    world
}

/// With the fault, the last step breaks an invariant.
fn breaks(mutant: Mutant, ring: &Ring, steps: &[Action]) {
    let ring = Ring { mutant: Some(mutant), ..ring.clone() };
    let (last, before) = steps.split_last().expect("a step");
    let world = play(&ring, before);
    let world = ring.step(&world, *last).expect("the last step happens");
    assert!(world.violation.is_some(), "{mutant:?} does no harm here");
}

fn is_deleted(world: &World) -> bool {
    world.session().is_some_and(|session| header(session).kind == Kind::Tombstone)
}

/// The client goes by the new document, and has fetched the session: its next message is the install.
const FETCHED: [Action; 6] = [Learn(0), Begin(0), Deliver(0), Deliver(0), Deliver(0), Deliver(0)];

#[test]
fn a_log_out_on_a_promoted_node_with_an_old_fence() {
    let ring = Ring { restores: [1, 0, 0], ..ring([&[Op::Delete]]) };
    let promoted = [
        Save(0),
        Change,
        MoverStart,
        MoverRaise(0),
        MoverRaise(1),
        MoverPass,
        MoverScan,
        MoverDeliver, // The mover has the session, and the source falls back to a replica that was not raised.
        Restore(0),
        Begin(0), // The client goes by the old document.
        Deliver(0),
    ];
    let world = play(&ring, &promoted);
    assert_eq!(world.clients[0].view, 2, "a process that it has not met makes the client ask the others");
    // The copy comes; the client finds it PENDING, raises and releases the source, and logs out.
    let world = go_on(&ring, world, &[MoverDeliver, Deliver(0), Deliver(0), Deliver(0), Deliver(0)]);
    assert!(is_deleted(&world) && world.clients[0].done == 1);

    let unasked = [&promoted[..], &[Deliver(0), MoverDeliver]].concat();
    breaks(Mutant::NoLook, &ring, &unasked);
}

#[test]
fn a_mover_that_fetches_before_the_target_is_raised() {
    let ring = Ring { restores: [1, 0, 0], ..ring([&[Op::Delete]]) };
    let raised = [Save(0), Change, MoverStart, MoverRaise(0)];
    let world = play(&ring, &raised);
    assert!(ring.step(&world, MoverPass).is_none());
    // Nobody but the source knew of the new document, and the source forgets it.
    let fetched = [MoverPass, MoverScan, MoverDeliver, Restore(0)];
    let logged_out = [Begin(0), Deliver(0), Deliver(0), MoverDeliver, MoverDeliver];
    breaks(Mutant::TargetNotRaised, &ring, &[&raised[..], &fetched, &logged_out].concat());
}

#[test]
fn a_late_install_of_an_expired_session() {
    let ring = Ring { losses: 1, ticks: 2, ..ring([&[Op::Set]]) };
    let late = [&[Change][..], &FETCHED, &[GiveUp(0), Tick, Tick, Arrive(0)]].concat();
    let world = play(&ring, &late);
    assert!(world.orphans.is_empty() && world.valid(1, 2).is_none());
    breaks(Mutant::InstallAnyTime, &ring, &late);
}

#[test]
fn a_late_install_of_a_session_whose_idle_time_was_shortened() {
    let ring = Ring { losses: 1, ticks: 2, ..ring([&[Op::Set], &[Op::TouchShort]]) };
    let late = [&[Change][..], &FETCHED, &[GiveUp(0), Learn(1), Begin(1)]].concat();
    // The other client carries the session over, and touches it.
    let touched = [&late[..], &[Deliver(1); 5]].concat();
    let world = play(&ring, &touched);
    assert_eq!(world.clients[1].done, 1);
    // The session lives on as long as the copy: the install finds it, and then comes too late.
    let world = go_on(&ring, world, &[Tick]);
    assert_eq!(observed(world.stored(1)), Seen::Live(100));
    let world = go_on(&ring, world, &[Tick, Arrive(0)]);
    assert!(world.orphans.is_empty() && world.stored(1).is_none());
    breaks(Mutant::EndsSooner, &ring, &touched);
}

#[test]
fn a_slow_reader_whose_source_was_released_meanwhile() {
    let ring = ring([&[Op::Get], &[Op::Set]]);
    let slow = [Change, Learn(0), Begin(0), Deliver(0), Deliver(0), Learn(1), Begin(1)];
    let moved = [Deliver(1); 6];
    let before = [&slow[..], &moved, &[Deliver(0)]].concat();
    let world = play(&ring, &[&before[..], &[Deliver(0)]].concat());
    assert_eq!((world.clients[0].done, world.clients[0].version), (1, 101));
    breaks(Mutant::NoLastLook, &ring, &before);
}

#[test]
fn an_operation_queued_before_a_change_and_sent_after() {
    let ring = ring([&[Op::Set]]);
    let queued = [Begin(0), Change, Raise(0), Raise(1)];
    let world = play(&ring, &[&queued[..], &[Deliver(0)]].concat());
    assert_eq!((world.clients[0].view, world.clients[0].done), (2, 0), "it begins again");
    let world = go_on(&ring, world, &[Deliver(0); 5]);
    assert_eq!((world.clients[0].done, observed(world.stored(1))), (1, Seen::Live(101)));
    // The mover has fetched when the old scope changes the source under the new fence.
    let fetched = [MoverStart, MoverPass, MoverScan, MoverDeliver, Learn(0), Deliver(0), MoverDeliver];
    breaks(Mutant::NewFenceOldScope, &ring, &[&queued[..], &fetched].concat());
}

#[test]
fn a_scan_that_goes_on_after_its_connection_broke() {
    let ring = Ring { restores: [1, 0, 0], ..ring([]) };
    let broken =
        [Change, MoverStart, MoverRaise(0), MoverRaise(1), Save(0), MoverPass, Restore(0), MoverScan];
    let world = play(&ring, &broken);
    assert!(ring.step(&world, Settle).is_none());
    let again = [MoverPass, MoverScan, MoverDeliver, MoverDeliver, MoverDeliver, Settle];
    let world = go_on(&ring, world, &again);
    assert_eq!(observed(world.stored(1)), Seen::Live(100));
    breaks(Mutant::ResumedCursor, &ring, &[&broken[..], &[Settle]].concat());
}

#[test]
fn a_full_target() {
    let ring = Ring { full: [false, true, false], ..ring([&[Op::Set], &[Op::Delete]]) };
    let world = play(&ring, &[&[Change][..], &FETCHED, &[Deliver(0)]].concat());
    assert_eq!((world.clients[0].done, observed(world.session())), (1, Seen::Live(100)), "nothing happened");
    let world = go_on(&ring, world, &[MoverStart, MoverPass, MoverScan, MoverDeliver]);
    assert!(ring.step(&world, MoverDeliver).is_none(), "the mover waits");
    let world = go_on(&ring, world, &[Learn(1), Begin(1)]);
    let world = go_on(&ring, world, &[Deliver(1); 5]);
    assert!(is_deleted(&world) && world.clients[1].done == 1);
    go_on(&ring, world, &[MoverDeliver, MoverDeliver, Settle]);
}

#[test]
fn a_full_source() {
    let ring = Ring { full: [true, false, false], ..ring([]) };
    let raised = [Change, MoverStart, MoverRaise(0), MoverRaise(1)];
    let moved = [MoverPass, MoverScan, MoverDeliver, MoverDeliver, MoverDeliver, Settle];
    let world = play(&ring, &[&raised[..], &moved].concat());
    assert_eq!((observed(world.stored(0)), observed(world.stored(1))), (Seen::Absent, Seen::Live(100)));
}

#[test]
fn a_blind_write_is_not_sent_again_over_another_clients_write() {
    let ring = Ring { losses: 1, ..ring([&[Op::Set], &[Op::Set]]) };
    let world = play(&ring, &[Begin(0), Lose(0), Begin(1), Deliver(1), Arrive(0)]);
    assert_eq!((world.clients[0].done, observed(world.session())), (1, Seen::Live(102)));
    breaks(Mutant::BlindTwice, &ring, &[Begin(0), Lose(0), Deliver(0), Begin(1), Deliver(1), Arrive(0)]);
}

#[test]
fn a_late_install_beside_the_new_emptiness() {
    let ring = Ring { wipes: [0, 1, 0], losses: 1, ..ring([&[Op::Set], &[Op::Set]]) };
    let late = [&[Change][..], &FETCHED, &[GiveUp(0), Learn(1), Begin(1)]].concat();
    let written = [&late[..], &[Deliver(1); 5], &[Wipe(1), Name(1)]].concat();
    let readmitted = [Readmit(1), Raise(0), Initialise(1, 3), Arrive(0)];
    let world = play(&ring, &[&written[..], &readmitted].concat());
    assert!(world.session().is_none() && world.stored(1).is_none());
    breaks(Mutant::InitialiseFirst, &ring, &[&written[..], &[Initialise(1, 2), Arrive(0)]].concat());
}

#[test]
fn a_tombstone_at_the_source_needs_no_second_opinion() {
    let ring = Ring { initially: Initially::Deleted, restores: [0, 1, 0], ..ring([&[Op::Upsert]]) };
    // Before: installed at the target, which forgot it, so that the upsert found nothing there.
    let world = play(&ring, &[&[Change][..], &FETCHED].concat());
    assert!(is_deleted(&world) && world.clients[0].done == 1);
}

#[test]
fn a_session_that_comes_back_meets_its_own_leftover() {
    let plan = vec![Plan::MoveTo(1), Plan::MoveTo(0)];
    let ring = Ring { plan, restores: [1, 0, 0], ..ring([&[Op::Delete]]) };
    let raised = [Save(0), Change, MoverStart, MoverRaise(0), MoverRaise(1)];
    let moved = [MoverPass, MoverScan, MoverDeliver, MoverDeliver, MoverDeliver, Settle];
    let there = [&raised[..], &moved, &[Learn(0), Begin(0), Deliver(0), Deliver(0), Restore(0)]].concat();
    let world = play(&ring, &there);
    assert!(is_deleted(&world) && observed(world.stored(0)) == Seen::Live(100));
    let back = [Change, Raise(1), Raise(0), MoverStart, MoverPass, MoverScan, MoverDeliver, MoverDeliver];
    let world = go_on(&ring, world, &back);
    assert_eq!(observed(world.stored(0)), Seen::Deleted);
    breaks(Mutant::ReturnKeepsSince, &ring, &[&there[..], &[Change, Raise(1)]].concat());
}
