//! What a write in a script costs a server at least: the ceiling of what any fenced, versioned `set` can reach that looks
//! at a record before it replaces it, as long as servers are plain Redis.

use redis::{Cmd, Connection, Pipeline};
use sessionring_testkit::RedisServer;

use crate::{Result, data::Data, goals::SIZE, servers::cpu_seconds, statistics::Spread};

/// Writes in one batch: about what travels together at 256 in flight.
const BATCH: usize = 48;
/// Batches of each step in one round.
const BATCHES: usize = 400;
const ROUNDS: usize = 9;

/// Each does what the one before it does, and something more.
const STEPS: [(&str, Option<&str>); 4] = [
    ("`SET PX`, as many in a pipeline", None),
    ("a script that gets all that a write carries and does nothing", Some("return 1")),
    (
        "… and a `SET` of each",
        Some(
            "for i = 3, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i - 3], 'PXAT', '4000000000000') end return 1",
        ),
    ),
    (
        "… and before it a `GETRANGE` of its header",
        Some(
            "for i = 3, #KEYS do redis.call('GETRANGE', KEYS[i], '0', '34') \
             redis.call('SET', KEYS[i], ARGV[2 * i - 3], 'PXAT', '4000000000000') end return 1",
        ),
    ),
];

/// Server microseconds for each write.
pub(crate) fn steps() -> Result<Vec<(&'static str, Spread)>> {
    let server = RedisServer::start()?;
    let mut connection = redis::Client::open(server.address())?.get_connection()?;
    let data = Data::new(SIZE);
    let servers = [server];
    let mut micros = STEPS.map(|_| Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        for ((_, script), micros) in STEPS.iter().zip(&mut micros) {
            let before = cpu_seconds(&servers)?;
            for batch in 0..BATCHES {
                let first = (round * BATCHES + batch) * BATCH % (data.len() - BATCH);
                write(&mut connection, &data, first, *script)?;
            }
            if round > 0 {
                micros.push((cpu_seconds(&servers)? - before) * 1e6 / (BATCH * BATCHES) as f64);
            }
        }
    }
    let spread = |((title, _), micros): (&(&'static str, _), Vec<f64>)| {
        Spread::of(micros).map(|spread| (*title, spread)).ok_or_else(|| "a step without a round".into())
    };
    STEPS.iter().zip(micros).map(spread).collect()
}

fn write(connection: &mut Connection, data: &Data, first: usize, script: Option<&str>) -> Result<()> {
    let sessions = data.keys[first..first + BATCH].iter().zip(&data.values[first..first + BATCH]);
    let Some(script) = script else {
        let mut pipeline = Pipeline::new();
        for (key, value) in sessions {
            pipeline.cmd("SET").arg(key).arg(value).arg("PX").arg(3_600_000).ignore();
        }
        return Ok(pipeline.query(connection)?);
    };
    let mut command = Cmd::new();
    command.arg("EVAL").arg(script).arg(2 + BATCH).arg("fence").arg("seq");
    sessions.clone().for_each(|(key, _)| {
        command.arg(key);
    });
    command.arg([0u8; 25].as_slice());
    for (_, value) in sessions {
        // What is to be done, in 50 bytes.
        command.arg([0u8; 50].as_slice()).arg(value);
    }
    let () = command.query(connection)?;
    Ok(())
}
