use serde::{Deserialize, Serialize};

use super::Group;
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

/// Overrides `current`, for every server or for those of the group that its key names, until unpinned or expired.
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
    /// It no longer counts from then on, milliseconds; `None`: it counts until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

impl Pin {
    /// What it holds servers at, by a clock.
    #[must_use]
    pub fn holds(&self, now_ms: i64) -> Option<Version> {
        self.version.filter(|_| self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms))
    }
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
    /// The trainer made a version current, or an operator did.
    Promote,
    /// The trainer gave a version to a share of the servers.
    Canary,
    /// The trainer took that back.
    FallBack,
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
            Act::Promote | Act::Canary | Act::FallBack => &[Role::Trainer, Role::Operator],
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
    /// Only for the servers of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// Until then, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}
