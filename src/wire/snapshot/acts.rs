use serde::{Deserialize, Serialize};

use crate::domain::Version;
use crate::keys::Role;

/// Which version is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// The publisher's epoch the writer saw.
    pub epoch: u64,
    /// Target.
    pub version: Version,
    /// Highest version that `current` has ever named, this one included: the topic keeps the latest pointer alone, and after a rollback a
    /// trainer must not point again at what it was rolled back from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<Version>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// Overrides `current` until unpinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// The publisher's epoch the writer saw.
    pub epoch: u64,
    /// Target; `None` unpins.
    pub version: Option<Version>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// Who publishes: the highest epoch does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// Rises with every publisher start.
    pub epoch: u64,
    /// Host, process and start time.
    pub instance: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// What an audit entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The trainer made a version current.
    Promote,
    /// The trainer held versions back, from this one on, until it promotes one.
    HoldBack,
    /// An operator went back.
    Rollback,
    /// An operator pinned.
    Pin,
    /// An operator unpinned.
    Unpin,
}

impl Act {
    /// Whose signature its audit entry may bear.
    #[must_use]
    pub const fn signers(self) -> &'static [Role] {
        match self {
            Act::Promote => &[Role::Trainer, Role::Operator],
            Act::HoldBack => &[Role::Trainer],
            Act::Rollback | Act::Pin | Act::Unpin => &[Role::Operator],
        }
    }
}

/// One act of an operator or the trainer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// What.
    pub act: Act,
    /// What was served before.
    pub from: Option<Version>,
    /// What is served now.
    pub to: Option<Version>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}
