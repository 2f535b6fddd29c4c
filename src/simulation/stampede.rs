use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    dice::Dice,
    network::Net,
    server::Server,
    world::{RING, World},
};
use crate::{
    client::{Builder, SessionRing},
    entropy,
    node::simulated,
    record::SessionId,
};

const NODES: usize = 100;
const PROCESSES: u64 = 1_000;
/// Documents that one node sends, at most; ten would be an even share.
const MOST: usize = 40;
/// What every process asks for at once.
const REQUESTS: usize = 8;

fn name(node: usize) -> String {
    format!("n{node}")
}

fn builder(nodes: impl IntoIterator<Item = usize>) -> Builder {
    let builder = SessionRing::builder().name(RING).probe_interval(Duration::from_secs(3_600));
    nodes.into_iter().fold(builder, |builder, node| builder.node(name(node), format!("sim:{}", name(node))))
}

async fn process(number: u64, builder: Builder) -> SessionRing {
    simulated::become_process(number);
    builder.connect().await.unwrap_or_else(|error| panic!("process {number}: {error}"))
}

/// A thousand processes with a hundred nodes, all of them busy when the ring changes under them: each loads the newer
/// document once, from the node that refused it, whatever number of its requests were refused; and none has a request
/// fail.
async fn processes_learn_of_a_resize() {
    let mut dice = Dice::new(1, 0);
    let servers: Vec<Server> = (0..NODES).map(|node| Server::new(&name(node), 1_750_000_000_000)).collect();
    let world = World::new(1, false, servers);
    simulated::plug_in(Some(Arc::new(Net(world.clone()))));
    let founder = process(1, builder(0..NODES)).await;
    let sessions = founder.sessions::<u64>("s");
    let ids: Vec<SessionId> = join_all((0..4 * NODES).map(|_| sessions.create(&7)))
        .await
        .into_iter()
        .map(|id| id.unwrap_or_else(|error| panic!("{error}")))
        .collect();

    // By process, and by server; counted from here on.
    let take_loads = || {
        let loads = world.with(|inner| std::mem::take(&mut inner.loads));
        let (mut processes, mut servers) = (BTreeMap::<u64, usize>::new(), BTreeMap::<String, usize>::new());
        for (process, server) in loads {
            *processes.entry(process).or_default() += 1;
            *servers.entry(server).or_default() += 1;
        }
        (processes, servers)
    };
    let mut rings = Vec::new();
    for number in 0..PROCESSES {
        // Any node that the ring has shows the way to all others.
        let ring = process(2 + number, builder([dice.below(NODES as u64) as usize])).await;
        assert_eq!(ring.ring().members().len(), NODES);
        let picked: Vec<SessionId> = (0..REQUESTS).filter_map(|_| dice.pick(&ids).cloned()).collect();
        rings.push((ring, picked));
    }
    let read_all = || async {
        let begun = Instant::now();
        let reads = rings.iter().map(|(ring, picked)| async {
            let sessions = ring.sessions::<u64>("s");
            join_all(picked.iter().map(|id| sessions.get(id))).await
        });
        for read in join_all(reads).await.into_iter().flatten() {
            assert_eq!(read.unwrap_or_else(|error| panic!("{error}")), Some(7));
        }
        begun.elapsed()
    };
    let (by_process, by_server) = take_loads();
    assert!(by_process.values().all(|&loads| loads == 1), "who starts loads one document, too");
    assert!(by_server.values().all(|&loads| loads <= MOST), "{by_server:?}");
    read_all().await;

    let change = founder.plan().reweight(name(0), 3).unwrap_or_else(|error| panic!("{error}"));
    let resize = change.start().await.unwrap_or_else(|error| panic!("{error}"));
    resize.wait().await.unwrap_or_else(|error| panic!("{error}"));
    take_loads();
    let took = read_all().await;
    let (by_process, by_server) = take_loads();
    assert_eq!(by_process.len() as u64, PROCESSES, "every process was behind");
    let mut spread = BTreeMap::<usize, usize>::new();
    by_process.values().for_each(|&loads| *spread.entry(loads).or_default() += 1);
    assert_eq!(spread, BTreeMap::from([(1, PROCESSES as usize)]), "one document each");
    assert!(by_server.values().all(|&loads| loads <= MOST), "no node is run over: {by_server:?}");
    assert!(rings.iter().all(|(ring, _)| ring.epoch() == founder.epoch()));
    // Refused, connected, loaded, asked again: not one of a thousand waits for another.
    assert!(took < Duration::from_millis(500), "{took:?}");

    read_all().await;
    assert!(take_loads().0.is_empty(), "nobody asks who knows");
}

#[test]
fn a_thousand_processes_learn_of_a_resize_without_a_stampede() {
    entropy::seed(Some(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(processes_learn_of_a_resize());
    simulated::plug_in(None);
    drop(runtime);
    entropy::seed(None);
}
