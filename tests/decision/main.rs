//! A model of how documents are decided, checked in every order of events: the machines that the library runs
//! (`Proposal`, `govern`), on a network that delays, duplicates and loses, with proposers that stop anywhere and nodes
//! that lose their memories.
//!
//! What must hold: of one decision there is never more than one outcome, it is the document of the right epoch, and it
//! had the votes that it needs. Each mutant is a deliberate fault at one seam of the machines, and the model must find
//! what it breaks.

mod model;
mod mutant;
mod scenario;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{model::Decision, mutant::Mutant, scenario::Scenario};

/// Explores a scenario whole; answers how many states it has.
fn hold(scenario: Scenario) -> usize {
    let (name, begin) = (scenario.name, Instant::now());
    let checker = Decision { scenario, mutant: None }.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    println!("decision, {name}: {states} states in {:.1} s", begin.elapsed().as_secs_f64());
    states
}

#[test]
fn no_decision_has_two_outcomes() {
    let states: usize = Scenario::all().into_iter().map(hold).sum();
    println!("model decision: {states} states, no violation");
}

#[test]
fn every_mutant_is_caught() {
    let begin = Instant::now();
    for mutant in Mutant::ALL {
        let caught = mutant.scenarios().into_iter().find_map(|scenario| {
            let name = scenario.name;
            let model = Decision { scenario, mutant: Some(mutant) };
            let checker =
                model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
            let broken = checker.discoveries().into_keys().find(|name| *name != Decision::SOMETIMES);
            broken.map(|broken| (name, broken, checker.unique_state_count()))
        });
        let Some((name, broken, states)) = caught else { panic!("{mutant:?} is not caught") };
        println!("decision, {mutant:?}: \"{broken}\" is broken in {name} after {states} states");
    }
    let (count, seconds) = (Mutant::ALL.len(), begin.elapsed().as_secs_f64());
    println!("model decision: {count} of {count} mutants caught in {seconds:.1} s");
}
