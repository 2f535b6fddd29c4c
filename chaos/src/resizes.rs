//! Changes of membership: what may be asked of a ring, and how it is asked.

use std::{fmt, str::FromStr, time::Duration};

use sessionring::{Error, Returning, SessionRing};
use tokio::time::sleep;

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A node joins.
    Add(String, u32),
    /// A node leaves.
    Remove(String),
    /// A node gets another share.
    Reweight(String, u32),
    /// A node is gone for good.
    Forget(String),
    /// A node that was restarted is used again; nothing that it holds counts.
    Readmit(String),
    /// A node that was restarted is used again, with all that it holds.
    Vouch(String),
    /// What somebody else began is finished.
    Resume,
}

impl Change {
    /// Carries it out. Additions, removals and other weights are followed to their ends; a forgotten node is gone when
    /// that is decided. `address` says where nodes that join are found.
    ///
    /// # Errors
    /// The library's error, as a text.
    pub async fn make(&self, ring: &SessionRing, address: impl Fn(&str) -> String) -> Result<(), String> {
        let text = |error: Error| format!("{error:?}");
        // Another change may have been decided meanwhile, of which this ring has not heard.
        let plan = || ring.plan().unthrottled();
        let plan = match self {
            Change::Add(name, weight) => plan().add_weighted(name, address(name), *weight),
            Change::Remove(name) => plan().remove(name),
            Change::Reweight(name, weight) => plan().reweight(name, *weight),
            Change::Forget(name) => return ring.forget_node(name).await.map(drop).map_err(text),
            Change::Readmit(name) => return ring.readmit(name, Returning::Discard).await.map_err(text),
            Change::Vouch(name) => return ring.readmit(name, Returning::Keep).await.map_err(text),
            Change::Resume => {
                resume(ring).await;
                return Ok(());
            }
        };
        plan.map_err(text)?.start().await.map_err(text)?.wait().await.map_err(text)
    }
}

/// Until a node that is to be asked has answered that nothing is under way.
async fn resume(ring: &SessionRing) {
    loop {
        match ring.resume_resize().await {
            Ok(None) => return,
            Ok(Some(resize)) => drop(resize.wait().await),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add(name, weight) => write!(f, "add {name} {weight}"),
            Change::Remove(name) => write!(f, "remove {name}"),
            Change::Reweight(name, weight) => write!(f, "reweight {name} {weight}"),
            Change::Forget(name) => write!(f, "forget {name}"),
            Change::Readmit(name) => write!(f, "readmit {name}"),
            Change::Vouch(name) => write!(f, "vouch {name}"),
            Change::Resume => f.write_str("resume"),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Change, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let weight = |weight: &str| weight.parse().map_err(|error| format!("{text:?}: {error}"));
        match words[..] {
            ["add", name, by] => Ok(Change::Add(name.into(), weight(by)?)),
            ["remove", name] => Ok(Change::Remove(name.into())),
            ["reweight", name, by] => Ok(Change::Reweight(name.into(), weight(by)?)),
            ["forget", name] => Ok(Change::Forget(name.into())),
            ["readmit", name] => Ok(Change::Readmit(name.into())),
            ["vouch", name] => Ok(Change::Vouch(name.into())),
            ["resume"] => Ok(Change::Resume),
            _ => Err(format!("{text:?} is no change")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written() {
        for change in [
            Change::Add("d".into(), 2),
            Change::Remove("a".into()),
            Change::Reweight("b".into(), 0),
            Change::Forget("c".into()),
            Change::Readmit("c".into()),
            Change::Vouch("c".into()),
            Change::Resume,
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        for bad in ["", "add", "add d x", "resume now", "explode"] {
            assert!(bad.parse::<Change>().is_err(), "{bad}");
        }
    }
}
