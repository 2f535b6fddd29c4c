//! The faults, each in one place from its beginning to its end.

use std::{thread, time::Duration};

use rustix::process::Signal;
use sessionring_testkit::{Direction, FaultProxy, RedisServer};

use crate::{
    cluster::{Cluster, FEWEST, Injected, Node, Note, Result, lock, text},
    history::{Nanos, now},
    linearizability::{Loss, Memory},
    resizes::Change,
    schedule::{Fault, Kind},
};

/// So long the run waits for a resize while faults go on.
const LONGEST: Nanos = 6_000_000_000;
/// So long after the end of the run a server may take to be in use again.
const PATIENCE: Nanos = 30_000_000_000;

/// Injects the faults at their times, and returns when all are over.
pub(crate) fn haunt(cluster: &Cluster, faults: &[Fault]) {
    thread::scope(|scope| {
        for &fault in faults {
            cluster.wait_until(cluster.begin + fault.at.as_nanos() as Nanos);
            scope.spawn(move || match inject(cluster, &fault) {
                Ok(None) => {}
                Ok(Some(Effect { kind, from, loss, note })) => {
                    let fault = Fault { kind, ..fault };
                    let injected = Injected { fault, note, from, until: now(), loss };
                    lock(&cluster.injected).push(injected);
                }
                Err(error) => cluster.failed(format!("{}: {error}", fault.kind.name())),
            });
        }
    });
}

/// What a fault came to.
struct Effect {
    /// As it turned out.
    kind: Kind,
    /// Since when; it may have had to wait for others.
    from: Nanos,
    loss: Option<Loss>,
    note: Option<Note>,
}

/// `None` if it could not happen, or it is too late for it.
///
/// What is decided is remembered by a majority of the members: the library promises nothing if so many lose their memories
/// before they have told the others. So a memory is lost only while fewer than half of them are missing, this one included.
fn inject(cluster: &Cluster, fault: &Fault) -> Result<Option<Effect>> {
    if !fault.kind.loses_memory() {
        return inject_alone(cluster, fault);
    }
    let name = &cluster.nodes[fault.node].name;
    let given_up = cluster.quiet().min(now() + LONGEST);
    while !may_forget(cluster, name) {
        if now() >= given_up {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let injected = inject_alone(cluster, fault);
    if let Ok(Some(Effect { loss: Some(_), .. })) = &injected {
        let (back, deadline) = (now(), cluster.end + PATIENCE);
        let is_member = || cluster.members().iter().any(|(member, _)| member == name);
        while is_member() && !lock(&cluster.chronicle).is_up_to_date(name, back) && now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
    lock(&cluster.forgetful).remove(name);
    injected
}

fn may_forget(cluster: &Cluster, name: &str) -> bool {
    let members = cluster.members();
    let mut forgetful = lock(&cluster.forgetful);
    let missing = members.iter().filter(|(member, _)| *member == name || forgetful.contains(member)).count();
    2 * missing < members.len() && forgetful.insert(name.to_owned())
}

fn inject_alone(cluster: &Cluster, fault: &Fault) -> Result<Option<Effect>> {
    let mut effect = Effect { kind: fault.kind, from: now(), loss: None, note: None };
    match fault.kind {
        Kind::ResizeByWorker
        | Kind::ResizeByOperator
        | Kind::KillOperator
        | Kind::FreezeOperator
        | Kind::DieAt(_) => match resize(cluster, fault)? {
            Some((kind, from)) => (effect.kind, effect.from) = (kind, from),
            None => return Ok(None),
        },
        Kind::DrainFull => match drain_full(cluster, fault)? {
            Some((note, from)) => (effect.note, effect.from) = (Some(note), from),
            None => return Ok(None),
        },
        Kind::Forget => match forget(cluster, &cluster.nodes[fault.node], fault.lasts)? {
            Some(loss) => effect.loss = Some(loss),
            None => return Ok(None),
        },
        _ => effect.loss = hit(cluster, fault)?,
    }
    if let Some(loss) = effect.loss {
        effect.from = loss.from;
    }
    if cluster.is_strict() {
        match (fault.kind, &mut effect.loss) {
            (Kind::KillDurable, None) => return_to_use(cluster, fault, Change::Vouch)?,
            (_, Some(loss)) => {
                return_to_use(cluster, fault, Change::Readmit)?;
                loss.until = now();
            }
            _ => {}
        }
    }
    Ok(Some(effect))
}

/// An operator takes a server up again, if it is a member: a strict ring does not use it before.
fn return_to_use(cluster: &Cluster, fault: &Fault, how: fn(String) -> Change) -> Result<()> {
    let name = &cluster.nodes[fault.node].name;
    let deadline = cluster.end + PATIENCE;
    loop {
        match cluster.change(&how(name.clone()), deadline) {
            Ok(()) => return Ok(()),
            Err(_) if cluster.members().iter().all(|(member, _)| member != name) => return Ok(()),
            Err(error) if now() >= deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn hit(cluster: &Cluster, fault: &Fault) -> Result<Option<Loss>> {
    let node = &cluster.nodes[fault.node];
    let way = &node.ways[fault.way];
    match fault.kind {
        Kind::KillEmpty => {
            let server = lock(&node.server);
            let from = now();
            server.kill().map_err(text)?;
            cluster.wait(fault.lasts);
            server.restart_empty().map_err(text)?;
            return Ok(Some(Loss::new(from, now(), Memory::Empty)));
        }
        Kind::KillDurable => {
            let server = lock(&node.server);
            server.kill().map_err(text)?;
            cluster.wait(fault.lasts);
            server.restart().map_err(text)?;
        }
        Kind::KillOldDump => {
            let server = lock(&node.server);
            let dump = server.dump().map_err(text)?;
            cluster.wait(fault.lasts / 2);
            let from = now();
            server.kill().map_err(text)?;
            cluster.wait(fault.lasts / 2);
            server.restart_from(&dump).map_err(text)?;
            return Ok(Some(Loss::new(from, now(), Memory::Old)));
        }
        Kind::PromoteLagging => return promote(cluster, node, fault.lasts).map(Some),
        Kind::FreezeServer => {
            let server = lock(&node.server);
            server.stop_process().map_err(text)?;
            cluster.wait(fault.lasts);
            server.continue_process().map_err(text)?;
        }
        Kind::Flush => {
            let server = lock(&node.server);
            let from = now();
            server.command(&["FLUSHALL"]).map_err(text)?;
            return Ok(Some(Loss::new(from, now(), Memory::Empty)));
        }
        Kind::ForgetScripts => {
            lock(&node.server).command(&["SCRIPT", "FLUSH"]).map_err(text)?;
        }
        Kind::OutOfMemory => {
            let server = lock(&node.server);
            server.command(&["CONFIG", "SET", "maxmemory", "1"]).map_err(text)?;
            cluster.wait(fault.lasts);
            server.command(&["CONFIG", "SET", "maxmemory", "0"]).map_err(text)?;
        }
        Kind::CutOff => {
            node.ways.iter().for_each(|way| way.blackhole(true));
            cluster.wait(fault.lasts);
            node.ways.iter().for_each(|way| way.blackhole(false));
            // What has vanished is missing in the streams.
            node.ways.iter().for_each(FaultProxy::cut);
        }
        Kind::SlowServer => {
            let by = Duration::from_millis(5 + fault.choice % 60);
            node.ways.iter().for_each(|way| delay(way, by));
            cluster.wait(fault.lasts);
            node.ways.iter().for_each(|way| delay(way, Duration::ZERO));
        }
        Kind::CutAll => node.ways.iter().for_each(FaultProxy::cut),
        Kind::FreezeWorker => {
            let worker = lock(&cluster.workers[fault.worker]);
            worker.signal(Signal::STOP)?;
            cluster.wait(fault.lasts);
            worker.signal(Signal::CONT)?;
        }
        Kind::KillWorker => {
            let mut worker = lock(&cluster.workers[fault.worker]);
            worker.kill()?;
            cluster.wait(fault.lasts);
            *worker = cluster.start_worker(fault.worker)?;
        }
        Kind::SwallowRequests => swallow(cluster, way, Direction::ToServer, fault.lasts),
        Kind::SwallowAnswers => swallow(cluster, way, Direction::ToClient, fault.lasts),
        Kind::LateRequests => hold(cluster, way, Direction::ToServer, fault.lasts),
        Kind::LateAnswers => hold(cluster, way, Direction::ToClient, fault.lasts),
        Kind::Slow => {
            delay(way, Duration::from_millis(5 + fault.choice % 60));
            cluster.wait(fault.lasts);
            delay(way, Duration::ZERO);
        }
        Kind::CutBeforeAnswer => cut_before_answers(cluster, way, b"EVALSHA", fault),
        Kind::CutBeforeRead => cut_before_answers(cluster, way, b"MGET", fault),
        // Those are no server's, worker's or way's alone.
        _ => {}
    }
    Ok(None)
}

/// Somebody begins a resize, perhaps dies or hangs, and an operator sees to it that it ends. What does not end while faults
/// go on must end when all is well again: the driver sees to that.
fn resize(cluster: &Cluster, fault: &Fault) -> Result<Option<(Kind, Nanos)>> {
    let _turn = lock(&cluster.changing);
    // What others left behind.
    let _ = cluster.change(&Change::Resume, cluster.quiet());
    let Some(change) = cluster.some_change(fault.choice).filter(|_| now() < cluster.quiet()) else {
        return Ok(None);
    };
    let (mut kind, from) = (fault.kind, now());
    if kind == Kind::ResizeByWorker {
        lock(&cluster.workers[fault.worker]).tell(&change)?;
        cluster.wait(fault.lasts / 4);
        let _ = cluster.change(&Change::Resume, cluster.quiet());
        return Ok(Some((kind, from)));
    }
    let dies = match kind {
        Kind::DieAt(moment) => Some((moment, 1 + fault.choice / 64 % moment.times())),
        _ => None,
    };
    let mut operator = cluster.start_operator(dies)?;
    operator.tell(&change)?;
    match kind {
        Kind::DieAt(_) => {
            if !operator.dies(cluster.quiet().min(now() + LONGEST))? {
                // It came to no such moment.
                kind = Kind::KillOperator;
            }
            operator.kill()?;
        }
        Kind::KillOperator => {
            cluster.wait(fault.lasts / 3);
            operator.kill()?;
        }
        Kind::FreezeOperator => {
            cluster.wait(fault.lasts / 3);
            operator.signal(Signal::STOP)?;
        }
        _ => {
            let _ = operator.outcome(&change, cluster.quiet().min(now() + LONGEST));
        }
    }
    let _ = cluster.change(&Change::Resume, cluster.quiet());
    if kind == Kind::FreezeOperator {
        // It goes on where it was, in a ring that has gone on without it.
        operator.signal(Signal::CONT)?;
        cluster.wait(fault.lasts / 3);
    }
    Ok(Some((kind, from)))
}

/// A server takes no more data, and is removed: what it holds must be able to leave.
fn drain_full(cluster: &Cluster, fault: &Fault) -> Result<Option<(Note, Nanos)>> {
    let _turn = lock(&cluster.changing);
    let _ = cluster.change(&Change::Resume, cluster.quiet());
    let node = &cluster.nodes[fault.node];
    let server = lock(&node.server);
    let members = cluster.members();
    if members.len() <= FEWEST
        || members.iter().all(|(name, _)| *name != node.name)
        || now() >= cluster.quiet()
    {
        return Ok(None);
    }
    let from = now();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).map_err(text)?;
    let drained = cluster.change(&Change::Remove(node.name.clone()), cluster.quiet().min(now() + LONGEST));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).map_err(text)?;
    drop(server);
    if drained.is_err() {
        let _ = cluster.change(&Change::Resume, cluster.quiet());
    }
    Ok(Some((if drained.is_ok() { Note::Drained } else { Note::NotDrained }, from)))
}

/// A server dies and is forgotten, in the middle of a resize or not. Then there is an empty server of its name.
fn forget(cluster: &Cluster, node: &Node, lasts: Duration) -> Result<Option<Loss>> {
    let server = lock(&node.server);
    let members = cluster.members();
    if members.len() <= FEWEST
        || members.iter().all(|(name, _)| *name != node.name)
        || now() >= cluster.quiet()
    {
        return Ok(None);
    }
    let from = now();
    server.kill().map_err(text)?;
    cluster.wait(lasts);
    // Where it cannot be decided it has only been away.
    let deadline = cluster.quiet().min(now() + LONGEST);
    let is_member = || cluster.members().iter().any(|(name, _)| *name == node.name);
    while is_member() && now() < deadline {
        let _ = cluster.change(&Change::Forget(node.name.clone()), deadline);
        thread::sleep(Duration::from_millis(50));
    }
    server.restart_empty().map_err(text)?;
    Ok(Some(Loss::new(from, now(), Memory::Empty)))
}

/// Afterwards the streams are out of step.
fn swallow(cluster: &Cluster, way: &FaultProxy, direction: Direction, time: Duration) {
    way.swallow(direction, true);
    cluster.wait(time);
    way.swallow(direction, false);
    way.cut();
}

fn hold(cluster: &Cluster, way: &FaultProxy, direction: Direction, time: Duration) {
    way.hold(direction, true);
    cluster.wait(time);
    way.hold(direction, false);
}

fn delay(way: &FaultProxy, by: Duration) {
    way.delay_direction(Direction::ToServer, by);
    way.delay_direction(Direction::ToClient, by);
}

/// Several in a row, so that what is sent again is hit, too; half of the times it is slow to come again, and others are
/// faster.
fn cut_before_answers(cluster: &Cluster, way: &FaultProxy, request: &[u8], fault: &Fault) {
    let choice = fault.choice / 8;
    if fault.choice.is_multiple_of(2) {
        delay(way, Duration::from_millis(choice % 20));
    }
    for _ in 0..5 + choice % 10 {
        way.cut_after_request_with(request);
        cluster.wait(fault.lasts / 10);
    }
    delay(way, Duration::ZERO);
}

/// A replica falls behind, the primary dies, and the replica takes its place for everybody at once: whoever is let
/// through to the old one afterwards would be served by two.
fn promote(cluster: &Cluster, node: &Node, lag: Duration) -> Result<Loss> {
    let mut server = lock(&node.server);
    let stream = FaultProxy::in_front_of(&server).map_err(text)?;
    let replica = RedisServer::start().map_err(text)?;
    let port = stream.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]).map_err(text)?;
    replica.wait_for_link().map_err(text)?;
    stream.hold(Direction::ToClient, true);
    cluster.wait(lag);
    let from = now();
    for way in &node.ways {
        way.refuse(true).map_err(text)?;
        way.cut();
    }
    server.kill().map_err(text)?;
    drop(stream);
    replica.command(&["REPLICAOF", "NO", "ONE"]).map_err(text)?;
    for way in &node.ways {
        way.retarget(replica.socket_address());
        way.refuse(false).map_err(text)?;
    }
    *server = replica;
    Ok(Loss::new(from, now(), Memory::Old))
}
