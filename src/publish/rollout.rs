//! How a published version comes to be served.

use super::Publisher;
use super::publisher::PublishError;
use crate::domain::Version;
use crate::wire::snapshot::{Act, AuditEntry, Key, PROTOCOL, Pointer};

/// Whom the audit log names for what the trainer does.
const ACTOR: &str = "trainer";

impl Publisher {
    /// Moves `current`; says who holds it back, if somebody does.
    pub(super) fn promote(&mut self, version: Version, now_ms: i64) -> Result<Option<String>, PublishError> {
        let catalog = self.topic.catalog();
        if let Some((pin, pinned)) = catalog.pinned(now_ms)
            && pinned != version
        {
            return Ok(Some(format!("version {pinned} is pinned by {}: {}", pin.actor, pin.reason)));
        }
        let current = catalog.current().map(|pointer| pointer.version);
        match catalog.highest_current() {
            _ if current == Some(version) => return Ok(None),
            Some(highest) if highest >= version => {
                return Ok(Some(format!("`current` has been at version {highest} already; only an operator goes back")));
            }
            _ => {}
        }
        self.point(version, format!("checkpoint {version} published"), now_ms)?;
        Ok(None)
    }

    fn point(&mut self, version: Version, reason: String, now_ms: i64) -> Result<(), PublishError> {
        // Of the pointer and the audit entry.
        let seq = self.topic.next_seq(2)?;
        let pointer = Pointer {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.epoch,
            version,
            highest: Some(version),
            actor: ACTOR.to_owned(),
            reason: reason.clone(),
            at_ms: now_ms,
        };
        let audit = self.audit(seq + 1, Act::Promote, Some(version), reason, now_ms);
        self.topic.append(&[self.topic.sealed(&Key::Current, &pointer), self.topic.sealed(&Key::Audit(audit.seq), &audit)])?;
        // Written too late, it does not count.
        self.check_lease()
    }

    fn audit(&self, seq: u64, act: Act, to: Option<Version>, reason: String, now_ms: i64) -> AuditEntry {
        AuditEntry {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            act,
            from: self.topic.catalog().target(now_ms),
            to,
            group: None,
            expires_ms: None,
            actor: ACTOR.to_owned(),
            reason,
            at_ms: now_ms,
        }
    }
}
