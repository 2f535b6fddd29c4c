//! What servers say about themselves.

use std::collections::BTreeMap;

use sessionring_testkit::RedisServer;

use crate::Result;

/// Processor time of all servers so far, user and system.
pub(crate) fn cpu_seconds(servers: &[RedisServer]) -> Result<f64> {
    let mut seconds = 0.0;
    for server in servers {
        let text = server.command(&["INFO", "cpu"])?.text().unwrap_or_default();
        for field in ["used_cpu_user:", "used_cpu_sys:"] {
            let value = text.lines().find_map(|line| line.strip_prefix(field));
            seconds += value.ok_or_else(|| format!("INFO cpu without {field}"))?.parse::<f64>()?;
        }
    }
    Ok(seconds)
}

/// Calls and microseconds of each command, of all servers since they were last forgotten; then forgets them.
pub(crate) fn command_statistics(servers: &[RedisServer]) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut commands: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for server in servers {
        let text = server.command(&["INFO", "commandstats"])?.text().unwrap_or_default();
        for (name, calls, micros) in text.lines().filter_map(statistics) {
            let sum = commands.entry(name.to_owned()).or_default();
            *sum = (sum.0 + calls, sum.1 + micros);
        }
        server.command(&["CONFIG", "RESETSTAT"])?;
    }
    Ok(commands)
}

/// `cmdstat_get:calls=3,usec=7,usec_per_call=2.33,…`
fn statistics(line: &str) -> Option<(&str, f64, f64)> {
    let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.parse().ok());
    Some((name, field("calls=")?, field("usec=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_command_statistics() {
        let line = "cmdstat_get:calls=3,usec=7,usec_per_call=2.33,rejected_calls=0,failed_calls=0";
        assert_eq!(statistics(line), Some(("get", 3.0, 7.0)));
        assert_eq!(statistics("# Commandstats"), None);
    }
}
