//! Join tokens: what a machine without a certificate shows once to become a node. Of the token's secret
//! only a digest is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::NodeName;

/// Most tokens of one installation that are neither used nor over.
pub const JOIN_TOKENS_MAX: usize = 1000;

/// The record of a join token. It is deleted when it is used, so it counts once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinTokenRecord {
    /// SHA-256 of the secret, lower-case hexadecimal.
    pub secret_sha256: String,
    /// The one node that it is for; empty for any new one.
    pub node: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Until when it counts.
    pub expires_at: Timestamp,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// Why nobody joins with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefused {
    /// Also of one whose secret is wrong: who does not have it learns nothing of the rest.
    #[error(
        "the join token does not count: it was used, has expired, was deleted, or is of another installation"
    )]
    Unknown,
    /// It names another node.
    #[error("the join token is for node {wanted}, not for {found}")]
    OtherNode {
        /// The node that it is for.
        wanted: String,
        /// The one that asked.
        found: String,
    },
    /// It names none, and neither does the request.
    #[error("the join token names no node: say which one with --node")]
    NoNode,
}

/// What a machine wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Named by whoever joins; empty if not.
    pub node: &'a str,
    /// What it is called if neither they nor the token name one; may be empty.
    pub suggested: &'a str,
}

impl JoinTokenRecord {
    /// True once it does not count any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// The name of the node that joins with this token, for somebody with a secret of this digest.
    ///
    /// # Errors
    /// [`JoinRefused`] with the reason. The name is not checked any further.
    pub fn admit(
        &self,
        digest: &str,
        wanted: Wanted<'_>,
        now: Timestamp,
    ) -> Result<NodeName, JoinRefused> {
        if self.is_over(now) || !equal(digest.as_bytes(), self.secret_sha256.as_bytes()) {
            return Err(JoinRefused::Unknown);
        }
        match (self.node.as_str(), wanted.node) {
            ("", "") if wanted.suggested.is_empty() => Err(JoinRefused::NoNode),
            ("", "") => Ok(wanted.suggested.into()),
            ("", named) => Ok(named.into()),
            (own, "") => Ok(own.into()),
            (own, named) if own == named => Ok(own.into()),
            (own, named) => {
                let (wanted, found) = (own.to_owned(), named.to_owned());
                Err(JoinRefused::OtherNode { wanted, found })
            }
        }
    }
}

/// Takes the same time wherever the digests differ.
fn equal(found: &[u8], expected: &[u8]) -> bool {
    let mut difference = u8::from(found.len() != expected.len() || expected.is_empty());
    for (index, byte) in expected.iter().enumerate() {
        difference |= byte ^ found.get(index).copied().unwrap_or_default();
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token(node: &str) -> JoinTokenRecord {
        JoinTokenRecord {
            secret_sha256: "ab12".to_owned(),
            node: node.to_owned(),
            expires_at: at(10),
            ..JoinTokenRecord::default()
        }
    }

    #[test]
    fn a_token_admits_the_node_that_it_is_for() {
        let ask = |token: &JoinTokenRecord, node, suggested| {
            token.admit("ab12", Wanted { node, suggested }, at(9)).map(|name| name.0)
        };
        let (any, n1) = (token(""), token("n1"));
        assert_eq!(ask(&n1, "n1", "").as_deref(), Ok("n1"));
        assert_eq!(ask(&n1, "", "host").as_deref(), Ok("n1"));
        assert_eq!(ask(&any, "n2", "host").as_deref(), Ok("n2"));
        assert_eq!(ask(&any, "", "host").as_deref(), Ok("host"));
        assert_eq!(ask(&any, "", ""), Err(JoinRefused::NoNode));
        let other = JoinRefused::OtherNode { wanted: "n1".to_owned(), found: "n2".to_owned() };
        assert_eq!(ask(&n1, "n2", ""), Err(other));
    }

    #[test]
    fn a_wrong_secret_or_a_late_one_learns_nothing() {
        let wanted = Wanted { node: "n2", suggested: "" };
        for (digest, second) in [("ab13", 9), ("ab1", 9), ("ab123", 9), ("", 9), ("ab12", 10)] {
            let refused = token("n1").admit(digest, wanted, at(second));
            assert_eq!(refused, Err(JoinRefused::Unknown), "{digest} {second}");
        }
        let empty = JoinTokenRecord { secret_sha256: String::new(), ..token("n2") };
        assert_eq!(empty.admit("", wanted, at(1)), Err(JoinRefused::Unknown));
    }
}
