use serde::{Deserialize, Serialize};

/// Longest name of a group.
const LENGTH_MAX: usize = 32;
/// Stands for every server in keys and on command lines, so that no group may be called so.
const EVERY_SERVER: &str = "all";

/// A group of servers that can be pinned apart from the others: 1 to 32 of `a` to `z`, `0` to `9` and `-`, and not `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Group(String);

/// Not the name of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no group of servers: expected 1 to {LENGTH_MAX} of a to z, 0 to 9 and `-`, and not `{EVERY_SERVER}`")]
pub struct NoGroup(String);

impl Group {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Group {
    type Error = NoGroup;

    fn try_from(name: String) -> Result<Self, NoGroup> {
        let legal = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if legal && (1..=LENGTH_MAX).contains(&name.len()) && name != EVERY_SERVER { Ok(Group(name)) } else { Err(NoGroup(name)) }
    }
}

impl std::str::FromStr for Group {
    type Err = NoGroup;

    fn from_str(name: &str) -> Result<Self, NoGroup> {
        Group::try_from(name.to_owned())
    }
}

impl From<Group> for String {
    fn from(group: Group) -> String {
        group.0
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        for name in ["eu", "a", "eu-west-1", &"x".repeat(32)] {
            assert_eq!(name.parse::<Group>().map(String::from), Ok(name.to_owned()));
        }
        for name in ["", "all", "EU", "eu/west", "eu_west", "é", " eu", &"x".repeat(33)] {
            assert_eq!(name.parse::<Group>(), Err(NoGroup(name.to_owned())));
        }
        assert!(serde_json::from_str::<Group>("\"eu west\"").is_err());
    }
}
