//! Names of nodes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ring::RingError;

/// The stable name of a node: 1 to 64 bytes of printable ASCII without space.
///
/// The name alone decides which tokens a node gets, so its address may change without moving a session, and
/// a name must never be given to another server that still holds sessions. Names are compared byte by byte:
/// `a` and `A` are two nodes. Cloning shares the text.
///
/// ```
/// use sessionring::ring::NodeId;
///
/// let id: NodeId = "redis-eu-1".parse()?;
/// assert_eq!(id.as_str(), "redis-eu-1");
/// assert!(NodeId::new("two words").is_err());
/// # Ok::<(), sessionring::ring::RingError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`RingError::BadName`] if it is empty, longer than [`NodeId::MAX_LEN`] bytes, or holds anything but
    /// the bytes `0x21..=0x7e`.
    pub fn new(name: impl Into<Arc<str>>) -> Result<NodeId, RingError> {
        let name = name.into();
        let fits = (1..=NodeId::MAX_LEN).contains(&name.len());
        if fits && name.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(NodeId(name))
        } else {
            // A bad name may be of any size: the error keeps what a message can show.
            Err(RingError::BadName { name: name.chars().take(NodeId::MAX_LEN).collect() })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = RingError;

    fn from_str(name: &str) -> Result<NodeId, RingError> {
        NodeId::new(name)
    }
}

impl TryFrom<&str> for NodeId {
    type Error = RingError;

    fn try_from(name: &str) -> Result<NodeId, RingError> {
        NodeId::new(name)
    }
}

impl TryFrom<String> for NodeId {
    type Error = RingError;

    fn try_from(name: String) -> Result<NodeId, RingError> {
        NodeId::new(name)
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_ascii_of_64_bytes_at_most() {
        for good in ["a", "!", "~", "redis://10.0.0.1:6379", &"x".repeat(64)] {
            assert_eq!(NodeId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\n", "\u{7f}", "é", &"x".repeat(65)] {
            let error = NodeId::new(bad).unwrap_err();
            assert_eq!(error, RingError::BadName { name: bad.chars().take(64).collect() });
        }
    }
}
