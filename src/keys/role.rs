use serde::{Deserialize, Serialize};

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Leases, manifests, and pointers that go forward.
    Trainer,
    /// Pins, and pointers that go anywhere.
    Operator,
}

impl Role {
    /// As trust files have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Trainer => "trainer",
            Role::Operator => "operator",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
