use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    dice::Dice,
    network::{LATEST, Net},
    operators::{Climate, Crew, SERVERS},
    oracle::{Verdict, judge},
    server::Server,
    workload::Population,
    world::World,
};
use crate::{entropy, node::simulated};

/// What came of a seed.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) hash: u64,
    pub(super) operations: u64,
    pub(super) resizes: u64,
    pub(super) epoch: u64,
    /// Sessions of which an injected fault destroyed something.
    pub(super) destroyed: u64,
    pub(super) lost: u64,
    pub(super) resurrected: u64,
    pub(super) violations: Vec<String>,
    /// What happened, if it was to be readable.
    pub(super) lines: Vec<String>,
}

/// A day in 2025.
const NOW: u64 = 1_750_000_000_000;

/// Runs one seed.
pub(super) fn run(seed: u64, readable: bool) -> Report {
    entropy::seed(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    let report = runtime.block_on(simulate(seed, readable));
    simulated::plug_in(None);
    drop(runtime);
    entropy::seed(None);
    report
}

async fn simulate(seed: u64, readable: bool) -> Report {
    let mut dice = Dice::new(seed, 0);
    let climate = Climate::of(&mut dice);
    let servers: Vec<Server> = SERVERS.iter().map(|name| Server::new(name, NOW + dice.below(800))).collect();
    let world = World::new(seed, readable, servers);
    simulated::plug_in(Some(Arc::new(Net(world.clone()))));
    world.say(|| format!("{climate:?}"));
    let population = Population::new(&world, &mut dice, climate.sessions as usize);
    let crew = Crew::new(world.clone(), population, climate, seed);
    let mut problem = scenario(&crew, &mut dice).await.err();
    if problem.is_none() {
        problem = finish(&crew).await.err();
    }
    let report = world.with(|inner| {
        let mut report = Report {
            operations: inner.history.calls() as u64,
            resizes: *crew.resizes.lock(),
            violations: std::mem::take(&mut inner.violations),
            ..Report::default()
        };
        for session in inner.history.sessions() {
            report.destroyed += u64::from(session.losses() > 0);
            if let Err(violation) = judge(session) {
                report.lost += u64::from(violation.verdict == Verdict::Lost);
                report.resurrected += u64::from(violation.verdict == Verdict::Resurrected);
                report.violations.push(format!("{:?}: {}", violation.verdict, violation.text));
            }
        }
        report.violations.extend(problem);
        report.hash = inner.trace.hash();
        report.lines = inner.trace.lines();
        report
    });
    Report { epoch: world.newest().map_or(0, |document| document.epoch().get()), ..report }
}

/// Applications use the ring, operators change it, and things go wrong.
async fn scenario(crew: &Arc<Crew>, dice: &mut Dice) -> Result<(), String> {
    let until = Instant::now() + Duration::from_millis(crew.climate.length);
    for _ in 0..crew.climate.apps {
        crew.join(until).await;
    }
    if crew.apps().is_empty() {
        return Err("the ring could not be founded".into());
    }
    tokio::spawn(crew.clone().operate(Dice::new(dice.roll(), 2), until));
    tokio::spawn(crew.clone().disturb(Dice::new(dice.roll(), 3), until));
    sleep_until(until).await;
    Ok(())
}

/// Faults end; so must every resize, and every session is looked at.
async fn finish(crew: &Arc<Crew>) -> Result<(), String> {
    // What was begun before the end is ended: servers come back, operators get their answers.
    sleep(Duration::from_secs(6)).await;
    crew.heal().await?;
    let limit = Instant::now() + Duration::from_secs(90);
    let late = |what: &str| format!("{what} though all faults have ended");
    let fresh = loop {
        match crew.connect().await {
            Ok(app) => break app,
            Err(error) if Instant::now() > limit => {
                return Err(late(&format!("no process can connect ({error})")));
            }
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    };
    loop {
        match fresh.ring.resume_resize().await {
            Ok(None) => break,
            Ok(Some(resize)) => {
                let ended = timeout(Duration::from_secs(10), resize.wait()).await;
                if ended.is_err() && Instant::now() > limit {
                    return Err(late(&format!("a resize does not end: {}", resize.now())));
                }
                // A node that joined only now may be another process than the one that was to join.
                crew.readmit_all().await;
            }
            Err(_) => {}
        }
        if Instant::now() > limit {
            return Err(late("a resize does not end"));
        }
        sleep(Duration::from_millis(200)).await;
    }
    // Everybody looks at a connection now and then.
    sleep(Duration::from_secs(15)).await;
    let epoch = fresh.ring.epoch();
    for app in crew.apps() {
        if app.ring.epoch() != epoch {
            return Err(format!("process {} is left behind at epoch {}", app.process, app.ring.epoch()));
        }
    }
    for round in 0..2 {
        let apps = crew.apps();
        for app in apps.iter().take(1).chain([&fresh]) {
            let failed = app.read_all().await;
            if failed > 0 {
                return Err(late(&format!("{failed} sessions cannot be read by process {}", app.process)));
            }
        }
        if round == 0 {
            // Nothing of what is still under way may change anything; and what can expire, expires.
            sleep(2 * LATEST + Duration::from_secs(20)).await;
        }
    }
    Ok(())
}
