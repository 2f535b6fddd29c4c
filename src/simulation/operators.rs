use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{
    dice::Dice,
    history::Loss,
    network::Weather,
    server::Memory,
    workload::{App, Population},
    world::{RING, World},
};
use crate::{
    client::{Builder, SessionRing},
    error::{Error, Result},
    resize::{Resize, Returning},
};

/// What may happen in one simulation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Climate {
    pub(super) strict: bool,
    /// Nodes may lose what they hold: dumps, lagging replicas, FLUSHALL.
    pub(super) lossy: bool,
    /// A node may be gone for good, and be forgotten.
    pub(super) deadly: bool,
    /// How bad the network may be, in thousandths.
    pub(super) storms: u64,
    /// In milliseconds.
    pub(super) length: u64,
    pub(super) balanced: bool,
    /// Milliseconds between two operations of one worker, at most.
    pub(super) pace: u64,
    pub(super) apps: u64,
    pub(super) workers: u64,
    pub(super) sessions: u64,
    pub(super) nodes: u64,
}

impl Climate {
    pub(super) fn of(dice: &mut Dice) -> Climate {
        let lossy = dice.chance(400);
        Climate {
            strict: dice.chance(300),
            lossy,
            deadly: lossy && dice.chance(300),
            storms: [0, 10, 30, 80][dice.below(4) as usize],
            length: 6_000 + dice.below(14_000),
            balanced: dice.chance(4),
            pace: 40 + dice.below(160),
            apps: 2 + dice.below(3),
            workers: 1 + dice.below(2),
            sessions: 12 + dice.below(20),
            nodes: 1 + dice.below(4),
        }
    }
}

/// Names of all servers that there are; the first ones found the ring.
pub(super) const SERVERS: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", "n5"];

/// The processes of a simulation, and what operators know.
pub(super) struct Crew {
    pub(super) world: Arc<World>,
    pub(super) population: Arc<Population>,
    pub(super) climate: Climate,
    seed: u64,
    apps: Mutex<Vec<App>>,
    processes: Mutex<u64>,
    /// What has to be readmitted in a strict ring, and how.
    returning: Mutex<BTreeMap<&'static str, Returning>>,
    /// Gone for good, and not forgotten yet.
    gone: Mutex<Option<&'static str>>,
    pub(super) resizes: Mutex<u64>,
}

impl Crew {
    pub(super) fn new(
        world: Arc<World>,
        population: Arc<Population>,
        climate: Climate,
        seed: u64,
    ) -> Arc<Crew> {
        Arc::new(Crew {
            world,
            population,
            climate,
            seed,
            apps: Mutex::default(),
            processes: Mutex::default(),
            returning: Mutex::default(),
            gone: Mutex::default(),
            resizes: Mutex::default(),
        })
    }

    fn builder(&self) -> Builder {
        let mut builder = SessionRing::builder().name(RING).request_timeout(Duration::from_millis(1_000));
        builder = if self.climate.balanced { builder.balanced() } else { builder.hashed(8) };
        if self.climate.strict {
            builder = builder.strict();
        }
        match self.world.newest() {
            None => {
                for name in &SERVERS[..self.climate.nodes as usize] {
                    builder = builder.node(*name, format!("sim:{name}"));
                }
            }
            Some(document) => {
                for member in document.members() {
                    builder = builder.node(member.id.as_str(), &member.address);
                }
            }
        }
        builder
    }

    /// A new process.
    pub(super) async fn connect(self: &Arc<Crew>) -> Result<App> {
        let process = {
            let mut processes = self.processes.lock();
            *processes += 1;
            *processes
        };
        self.world.say(|| format!("process {process} starts"));
        let connected = App::connect(&self.world, &self.population, process, self.builder()).await;
        self.world.say(|| format!("process {process}: {:?}", connected.as_ref().map(|app| app.ring.epoch())));
        connected
    }

    /// A new process that uses the ring; it is started again until it can.
    pub(super) async fn join(self: &Arc<Crew>, until: Instant) {
        loop {
            if let Ok(app) = self.connect().await {
                for worker in 0..self.climate.workers {
                    let dice = Dice::new(self.seed, 1_000 + app.process * 10 + worker);
                    tokio::spawn(app.clone().work(dice, until, self.climate.pace));
                }
                self.apps.lock().push(app);
                return;
            }
            if Instant::now() > until {
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    pub(super) fn apps(&self) -> Vec<App> {
        self.apps.lock().clone()
    }

    fn some_app(&self, dice: &mut Dice) -> Option<App> {
        dice.pick(&self.apps.lock()).cloned()
    }

    /// A process ends where it stands.
    fn kill(&self, app: &App) {
        self.world.kill(app.process);
        self.apps.lock().retain(|other| other.process != app.process);
        let ring = app.ring.clone();
        // What is left of it here is to end, too; it can send nothing any more.
        tokio::spawn(async move { ring.close().await });
    }

    /// Changes the ring until it is time to stop.
    pub(super) async fn operate(self: Arc<Crew>, mut dice: Dice, until: Instant) {
        while Instant::now() < until {
            sleep(dice.millis(50, 2_500)).await;
            let Some(app) = self.some_app(&mut dice) else { continue };
            let Some(change) = self.change(&app, &mut dice).await else { continue };
            match dice.below(10) {
                // Whoever drives it dies.
                0..3 => {
                    sleep(dice.millis(0, 600)).await;
                    self.kill(&app);
                    tokio::spawn({
                        let crew = self.clone();
                        async move { crew.join(until).await }
                    });
                }
                3..6 => {}
                _ => {
                    let ended = timeout(dice.millis(100, 8_000), change.wait()).await;
                    if ended.is_ok_and(|ended| ended.is_ok()) {
                        self.world.say(|| "a resize has ended".into());
                    }
                }
            }
        }
    }

    /// Begins a change, or takes one up.
    async fn change(&self, app: &App, dice: &mut Dice) -> Option<Resize> {
        let ring = &app.ring;
        let process = app.process;
        let (what, begun) = if ring.is_resizing() && dice.chance(800) {
            ("resume".to_owned(), ring.resume_resize().await.map(|resize| (resize, false)))
        } else {
            let (what, plan) = self.plan(ring, dice);
            self.world.say(|| format!("process {process} plans: {what}"));
            let begun = match plan {
                Ok(plan) => plan.start().await.map(|resize| (Some(resize), true)),
                Err(error) => Err(error),
            };
            (what, begun)
        };
        self.world.say(|| format!("process {process}: {what}: {:?}", begun.as_ref().map(|(_, new)| *new)));
        let (resize, new) = begun.ok()?;
        *self.resizes.lock() += u64::from(new);
        resize
    }

    fn plan(&self, ring: &SessionRing, dice: &mut Dice) -> (String, Result<crate::resize::Plan>) {
        let members: Vec<String> = ring.ring().members().iter().map(|m| m.id().as_str().to_owned()).collect();
        let gone = *self.gone.lock();
        let strangers: Vec<&str> = SERVERS
            .into_iter()
            .filter(|name| !members.iter().any(|m| m == name) && gone != Some(*name))
            .collect();
        let mut plan = ring.plan();
        if dice.chance(300) {
            plan = plan.rate(2 + dice.below(30) as u32);
        }
        let mut what = String::new();
        let mut left = members.clone();
        for _ in 0..1 + dice.below(5) / 3 {
            let next = match dice.below(10) {
                0..5 => dice.pick(&strangers).map(|name| {
                    what += &format!("add {name} ");
                    plan.clone().add_weighted(name, format!("sim:{name}"), 1 + dice.below(3) as u32)
                }),
                5..8 if left.len() > 1 => {
                    let name = left.remove(dice.below(left.len() as u64) as usize);
                    what += &format!("remove {name} ");
                    Some(plan.clone().remove(name))
                }
                _ => dice.pick(&left).cloned().map(|name| {
                    let weight = 1 + dice.below(4) as u32;
                    what += &format!("reweight {name} {weight} ");
                    plan.clone().reweight(name, weight)
                }),
            };
            match next {
                Some(Ok(next)) => plan = next,
                Some(Err(error)) => return (what, Err(error)),
                None => {}
            }
        }
        (what, Ok(plan))
    }

    /// Things go wrong until it is time to stop.
    pub(super) async fn disturb(self: Arc<Crew>, mut dice: Dice, until: Instant) {
        let climate = self.climate;
        while Instant::now() < until {
            sleep(dice.millis(50, 1_500)).await;
            let Some(server) = dice.pick(&SERVERS).copied() else { continue };
            match dice.below(100) {
                0..30 if climate.storms > 0 => self.storm(&mut dice),
                30..45 => {
                    if let Some(app) = self.some_app(&mut dice) {
                        self.world.cut(app.process, server, dice.millis(100, 5_000));
                    }
                }
                45..55 => self.clone().later(dice.millis(50, 4_000), server, Fault::Pause),
                55..62 => self.clone().later(dice.millis(500, 5_000), server, Fault::Fill),
                62..72 => {
                    if self.is_gone(server) {
                        continue;
                    }
                    let memory = self.memory(&mut dice, server);
                    let back = dice.millis(20, 3_000);
                    self.clone().later(back, server, Fault::Crash(memory, dice.millis(200, 4_000)));
                }
                72..76
                    if climate.lossy
                        && self.others_are_well(server)
                        && !self.is_gone(server)
                        && !self.world.would_forget(server) =>
                {
                    self.world.flush(server);
                    self.returned(server, Returning::Discard);
                    let crew = self.clone();
                    let pause = dice.millis(200, 4_000);
                    tokio::spawn(async move {
                        sleep(pause).await;
                        crew.readmit(server).await;
                    });
                }
                76..79 if climate.deadly => self.end(server, until, &mut dice),
                79..86 => {
                    let apps = self.apps();
                    if apps.len() > 1
                        && let Some(app) = dice.pick(&apps)
                    {
                        self.kill(app);
                        let (crew, pause) = (self.clone(), dice.millis(10, 1_000));
                        tokio::spawn(async move {
                            sleep(pause).await;
                            crew.join(until).await;
                        });
                    }
                }
                _ => SERVERS.iter().for_each(|name| self.world.dump(name)),
            }
        }
    }

    fn storm(&self, dice: &mut Dice) {
        let most = self.climate.storms;
        let mut one = || dice.below(most + 1) * dice.below(2);
        let (request_lost, answer_lost, late, mute, refused) = (one(), one(), one(), one() / 4, 3 * one());
        let latency = [(1, 4), (1, 20), (5, 120), (20, 400)][dice.below(4) as usize];
        let weather = Weather { latency, request_lost, answer_lost, late, mute, refused };
        self.world.with(|inner| {
            inner.weather = if dice.chance(500) { weather } else { Weather::calm() };
            let weather = inner.weather;
            inner.trace.note(&[40], || format!("{weather:?}"));
        });
    }

    /// What a server has when it comes back.
    fn memory(&self, dice: &mut Dice, server: &str) -> Memory {
        if !self.climate.lossy || !self.others_are_well(server) || self.world.would_forget(server) {
            return Memory::Everything;
        }
        match dice.below(10) {
            0..5 => Memory::Everything,
            5..8 => Memory::Dump(dice.below(3)),
            _ => Memory::Nothing,
        }
    }

    fn others_are_well(&self, name: &str) -> bool {
        self.world.with(|inner| {
            inner.servers.iter().all(|(other, server)| other == name || (server.up && !server.paused))
        })
    }

    fn is_gone(&self, server: &str) -> bool {
        *self.gone.lock() == Some(server)
    }

    fn later(self: Arc<Crew>, time: Duration, server: &'static str, fault: Fault) {
        let world = self.world.clone();
        tokio::spawn(async move {
            match fault {
                Fault::Pause => {
                    world.pause(server, true);
                    sleep(time).await;
                    world.pause(server, false);
                }
                Fault::Fill => {
                    world.fill(server, true);
                    sleep(time).await;
                    world.fill(server, false);
                }
                Fault::Crash(memory, pause) => {
                    if !world.with(|inner| inner.servers[server].up) {
                        return;
                    }
                    world.crash(server);
                    sleep(time).await;
                    world.start(server, memory);
                    let returning = match memory {
                        Memory::Everything => Returning::Keep,
                        _ => Returning::Discard,
                    };
                    self.returned(server, returning);
                    sleep(pause).await;
                    self.readmit(server).await;
                }
            }
        });
    }

    /// A server came back; in a strict ring it is not used before an operator has said how.
    fn returned(&self, server: &'static str, returning: Returning) {
        if !self.climate.strict {
            return;
        }
        let mut all = self.returning.lock();
        let known = all.entry(server).or_insert(returning);
        if returning == Returning::Discard {
            *known = returning;
        }
    }

    /// An operator looks at what came back. Whether it was done.
    async fn readmit(&self, server: &'static str) -> bool {
        let Some(returning) = self.returning.lock().get(server).copied() else { return true };
        let Some(app) = self.apps().into_iter().next() else { return false };
        if self.is_gone(server) {
            return true;
        }
        let (since, before) = (self.world.with(|inner| inner.history.tick()), self.world.newest());
        let process = self.world.with(|inner| inner.servers[server].contents.process());
        let readmitted = app.ring.readmit(server, returning).await;
        self.world.say(|| format!("{server} is readmitted ({returning:?}): {readmitted:?}"));
        if returning == Returning::Discard {
            self.world.give_up(server, since, before.as_ref(), Loss::Everything);
        }
        let done = match readmitted {
            Ok(()) => true,
            Err(error) if error.to_string().contains("there is nothing to keep") => {
                // It had joined and was not yet used, so there is nothing to lose either.
                self.returning.lock().insert(server, Returning::Discard);
                return false;
            }
            // It is no member, so there is nothing to readmit; unless somebody who had it join is not yet at the end.
            Err(error) => return error.is_configuration() && error.to_string().contains("no such node"),
        };
        let same = process == self.world.with(|inner| inner.servers[server].contents.process());
        if done && same && !app.is_dead() {
            self.returning.lock().remove(server);
        }
        done
    }

    /// Looks at all that came back; and says which the ring goes on to refuse.
    pub(super) async fn readmit_all(&self) -> Vec<&'static str> {
        let names: Vec<_> = self.returning.lock().keys().copied().collect();
        let mut out = Vec::new();
        for name in names {
            if !self.readmit(name).await {
                out.push(name);
            }
        }
        out
    }

    /// A server is gone for good.
    fn end(self: &Arc<Crew>, server: &'static str, until: Instant, dice: &mut Dice) {
        let members = self.world.newest().map_or(0, |document| document.members().len());
        let is_member = || {
            self.world
                .newest()
                .is_some_and(|document| document.members().iter().any(|m| m.id.as_str() == server))
        };
        if members < 3 || !self.others_are_well(server) || self.gone.lock().is_some() || !is_member() {
            return;
        }
        if self.world.would_forget(server) {
            return;
        }
        *self.gone.lock() = Some(server);
        self.returning.lock().remove(server);
        self.world.crash(server);
        let (crew, pause) = (self.clone(), dice.millis(100, 3_000));
        tokio::spawn(async move {
            sleep(pause).await;
            while !crew.forget().await && Instant::now() < until {
                sleep(Duration::from_millis(500)).await;
            }
        });
    }

    /// The operator gives up a node that is gone. Whether there is none, any more.
    async fn forget(&self) -> bool {
        let Some(server) = *self.gone.lock() else { return true };
        let Some(app) = self.apps().into_iter().next() else { return false };
        let (since, before) = (self.world.with(|inner| inner.history.tick()), self.world.newest());
        let mut forgotten = app.ring.forget_node(server).await;
        self.world.say(|| format!("{server} is forgotten: {:?}", forgotten.as_ref().map(|f| f.share)));
        if forgotten.as_ref().is_err_and(Error::is_unavailable) && self.others_are_well(server) {
            // Too many others came back empty for a majority; but all are there.
            forgotten = app.ring.forget_node_by_force(server).await;
            self.world
                .say(|| format!("{server} is forgotten by force: {:?}", forgotten.as_ref().map(|f| f.share)));
        }
        self.world.give_up(server, since, before.as_ref(), Loss::Older);
        if forgotten.as_ref().is_err_and(|error: &Error| !error.is_configuration()) {
            return false;
        }
        let member = app.ring.ring().members().iter().any(|member| member.id().as_str() == server);
        if !member {
            *self.gone.lock() = None;
        }
        !member
    }

    /// Everything works again.
    pub(super) async fn heal(self: &Arc<Crew>) -> Result<(), String> {
        let gone = *self.gone.lock();
        self.world.with(|inner| {
            inner.weather = Weather::calm();
            inner.cut.clear();
            inner.trace.note(&[50], || "all faults end".into());
        });
        for name in SERVERS {
            self.world.fill(name, false);
            self.world.pause(name, false);
            let up = self.world.with(|inner| inner.servers[name].up);
            if !up && gone != Some(name) {
                self.world.start(name, Memory::Everything);
                self.returned(name, Returning::Keep);
            }
        }
        let until = Instant::now() + Duration::from_secs(60);
        while self.apps().is_empty() {
            self.join(Instant::now()).await;
            if Instant::now() > until {
                return Err("no process can connect though all nodes are up".into());
            }
        }
        loop {
            // One may have to wait for another.
            let out = self.readmit_all().await;
            if out.is_empty() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
            if Instant::now() > until {
                return Err(format!("{out:?} cannot be readmitted though all nodes are up"));
            }
        }
        while !self.forget().await {
            sleep(Duration::from_millis(200)).await;
            if Instant::now() > until {
                return Err("a node cannot be forgotten though all others are up".into());
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Pause,
    Fill,
    /// What it has when it comes back, and how long until an operator looks at it.
    Crash(Memory, Duration),
}
