//! The protocol of `docs/resize.md`, checked: every state that a small ring can get into, or as many as there is time for.
//!
//! One session, two or three nodes, a few clients with a short script each, a mover and a controller. What they send is what
//! `protocol::Operation` and `protocol::Transfer` say, and nodes execute it with `protocol::apply`. Requests come late, after
//! whoever sent them has given up; nodes lose their memory, come back with old data, or never; time goes by. All along the
//! session is kept as one node that never moves would hold it, and every transition is compared with it: answers, what is
//! stored, and when it ends.
//!
//! - `ring`, `scenarios`: what is explored
//! - `world`: a state, and the invariants; `document`: what of a document matters
//! - `machine`: what can happen; `node`, `client`, `mover`, `controller`, `misfortune`: what comes of it
//! - `mutant`: deliberate faults, each of which must be found
//! - `traces`: interleavings by name
//!
//! `make model` goes on for longer: `MODEL_STATES` is how many states are generated for each scenario.

mod client;
mod controller;
mod document;
mod machine;
mod misfortune;
mod mover;
mod mutant;
mod node;
mod ring;
mod scenarios;
mod traces;
mod world;

use std::fmt::Write;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{machine::Action, mutant::Mutant, ring::Ring, world::World};

/// Enough for an ordinary run of the tests; the smaller scenarios are done before.
const STATES: usize = 40_000;

/// More than any mutant takes to be found.
const STATES_OF_A_MUTANT: usize = 400_000;

fn states(otherwise: usize) -> usize {
    let asked = std::env::var("MODEL_STATES").ok();
    asked.map_or(otherwise, |asked| asked.parse().expect("MODEL_STATES is a number"))
}

fn explore(ring: Ring, most: usize, end: HasDiscoveries) -> impl Checker<Ring> {
    ring.checker().target_state_count(most).finish_when(end).spawn_bfs().join()
}

fn told(path: Path<World, Action>) -> String {
    let mut told = String::new();
    let last = path.last_state().violation.clone();
    for action in path.into_actions() {
        let _ = write!(told, "{action:?}, ");
    }
    format!("{told}and then: {}", last.unwrap_or_else(|| "nothing more can happen".into()))
}

fn holds(name: &str, ring: Ring) {
    let most = states(STATES);
    let checker = explore(ring, most, HasDiscoveries::AnyFailures);
    let whole = if checker.state_count() < most { "all" } else { "some" };
    let (found, discoveries) = (checker.unique_state_count(), checker.discoveries());
    println!("scenario {name}: states={found} ({whole}) violations={}", discoveries.len());
    if let Some((property, path)) = discoveries.into_iter().next() {
        panic!("{name}: {property} does not hold: {}", told(path));
    }
}

fn is_found(name: &str, mutant: Mutant, ring: Ring) {
    let ring = Ring { mutant: Some(mutant), ..ring };
    let checker = explore(ring, STATES_OF_A_MUTANT, HasDiscoveries::AnyOf(["safety"].into()));
    let found = checker.discovery("safety");
    println!("mutant {name}: found={} states={}", u8::from(found.is_some()), checker.unique_state_count());
    let path = found.unwrap_or_else(|| panic!("{mutant:?} breaks nothing"));
    println!("  {}", told(path));
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        mod explored {
            $(
                #[test]
                fn $name() {
                    crate::holds(stringify!($name), crate::scenarios::$name());
                }
            )*
        }
    };
}

scenarios! {
    usual one_loss two_losses three_clients set_and_delete set_and_set create foreign deleted update
    updates_and_a_log_out expiry late_and_expired touches shortened back back_with_a_loss back_to_old_data source_wiped
    source_wiped_with_a_loss target_wiped target_wiped_with_a_loss target_wiped_twice source_restored
    source_restored_small target_restored source_restored_strict source_restored_strict_small
    target_restored_strict source_dies target_dies target_full
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident in $scenario:ident,)*) => {
        mod mutants {
            use crate::mutant::Mutant;

            $(
                #[test]
                fn $name() {
                    crate::is_found(stringify!($name), Mutant::$mutant, crate::scenarios::$scenario());
                }
            )*

            #[test]
            fn every_mutant_has_its_test() {
                assert_eq!(Mutant::ALL, [$(Mutant::$mutant),*]);
            }
        }
    };
}

mutants! {
    no_fence_for_reads: NoFenceForReads in source_restored_small,
    no_fence_for_writes: NoFenceForWrites in usual,
    no_fence_for_fetch: NoFenceForFetch in usual,
    no_raise_for_reads: NoRaiseForReads in source_restored_strict_small,
    no_pending: NoPending in usual,
    release_first: ReleaseFirst in usual,
    no_stamp: NoStamp in usual,
    no_tombstone: NoTombstone in usual,
    install_over_tombstone: InstallOverTombstone in set_and_delete,
    install_over_live: InstallOverLive in late_and_expired,
    install_any_time: InstallAnyTime in late_and_expired,
    unchecked_creates: UncheckedCreates in late_and_expired,
    ends_sooner: EndsSooner in shortened,
    touch_pending: TouchPending in shortened,
    settle_without_pass: SettleWithoutPass in usual,
    resumed_cursor: ResumedCursor in source_restored_small,
    target_not_raised: TargetNotRaised in source_restored_small,
    clean_up_without_fence: CleanUpWithoutFence in back_with_a_loss,
    settle_forgets: SettleForgets in late_and_expired,
    return_keeps_since: ReturnKeepsSince in back_to_old_data,
    readmit_keeps_since: ReadmitKeepsSince in source_restored_strict_small,
    initialise_first: InitialiseFirst in target_wiped_with_a_loss,
    no_partner_fences: NoPartnerFences in target_wiped_with_a_loss,
    any_incarnation: AnyIncarnation in target_wiped_with_a_loss,
    no_look: NoLook in source_restored_small,
    no_last_look: NoLastLook in back_with_a_loss,
    foreseen_alone: ForeseenAlone in target_wiped_with_a_loss,
    foreseen_kept: ForeseenKept in target_wiped_with_a_loss,
    blind_twice: BlindTwice in set_and_delete,
    lost_forgotten: LostForgotten in update,
    new_fence_old_scope: NewFenceOldScope in set_and_delete,
    goes_on_midway: GoesOnMidway in set_and_delete,
}
