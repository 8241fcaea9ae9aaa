//! `rocketctl history`: the audit log of the snapshot topic.

use serde::Serialize;

use super::context::Context;
use super::output::{self, View, maybe, table, time};
use crate::daemon::Failure;
use crate::domain::Version;
use crate::wire::snapshot::{Act, AuditEntry, Group};

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Only the newest N.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// JSON of `history`.
#[derive(Debug, Serialize)]
struct History {
    /// Model name.
    model: String,
    /// Oldest first.
    entries: Vec<Entry>,
}

/// One act.
#[derive(Debug, Serialize)]
struct Entry {
    /// Rises with every act.
    seq: u64,
    /// When, milliseconds.
    at_ms: i64,
    /// `promote`, `canary`, `fall_back`, `rollback`, `pin`, `unpin`.
    act: Act,
    /// Served before.
    from: Option<Version>,
    /// Served after.
    to: Option<Version>,
    /// Only for the servers of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    /// Until then, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    /// Who; `trainer` for the trainer.
    actor: String,
    /// Why.
    reason: String,
}

impl From<&AuditEntry> for Entry {
    fn from(entry: &AuditEntry) -> Self {
        Entry {
            seq: entry.seq,
            at_ms: entry.at_ms,
            act: entry.act,
            from: entry.from,
            to: entry.to,
            group: entry.group.clone(),
            expires_ms: entry.expires_ms,
            actor: entry.actor.clone(),
            reason: entry.reason.clone(),
        }
    }
}

pub(super) fn run(context: &Context, arguments: HistoryArgs) -> Result<(), Failure> {
    let operator = context.reader()?;
    let mut entries: Vec<Entry> = operator.catalog().audit().rev().take(arguments.limit.unwrap_or(usize::MAX)).map(Entry::from).collect();
    entries.reverse();
    output::print(context.format, &History { model: context.config.name.clone(), entries })
}

impl View for History {
    fn text(&self) -> String {
        let rows = self.entries.iter().map(|entry| {
            [time(entry.at_ms), described(entry), maybe(entry.from), maybe(entry.to), entry.actor.clone(), entry.reason.clone()]
        });
        table(["when", "act", "from", "to", "actor", "reason"], rows)
    }
}

/// `pin of eu until 2026-11-24T20:00:00Z`.
fn described(entry: &Entry) -> String {
    let group = entry.group.as_ref().map_or_else(String::new, |group| format!(" of {group}"));
    let until = entry.expires_ms.map_or_else(String::new, |ms| format!(" until {}", time(ms)));
    format!("{}{group}{until}", act_name(entry.act))
}

/// The name in tables and JSON.
pub(super) fn act_name(act: Act) -> &'static str {
    match act {
        Act::Promote => "promote",
        Act::Canary => "canary",
        Act::FallBack => "fall_back",
        Act::HoldBack => "hold_back",
        Act::Rollback => "rollback",
        Act::Pin => "pin",
        Act::Unpin => "unpin",
    }
}
