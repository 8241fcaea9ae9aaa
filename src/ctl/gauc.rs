//! `rocketctl gauc`: metrics of the running daemon, and the users that weigh most.

use serde::{Deserialize, Serialize};

use super::context::Context;
use super::metrics_table;
use super::output::{self, View, figure, pairs, table, time};
use crate::daemon::Failure;
use crate::domain::Head;
use crate::evaluate::{DriftReport, Report, Rise, UserLine};
use crate::telemetry::admin::Request;

/// Users listed unless told otherwise: a screenful.
const TOP: usize = 10;

#[derive(Debug, clap::Args)]
pub(super) struct GaucArgs {
    /// How many of the users with most impressions.
    #[arg(long, value_name = "N", default_value_t = TOP)]
    top: usize,
}

/// JSON of `gauc`.
#[derive(Debug, Serialize, Deserialize)]
struct Gauc {
    /// Metrics since start and by window.
    report: Report,
    /// Users with most impressions, as of the last commit.
    top_users: Vec<UserLine>,
}

pub(super) fn run(context: &Context, arguments: GaucArgs) -> Result<(), Failure> {
    output::print(context.format, &context.ask::<Gauc>(&Request::Gauc { top: arguments.top })?)
}

impl View for Gauc {
    fn text(&self) -> String {
        let report = &self.report;
        let counted = pairs([
            ("impressions", report.rows.to_string()),
            ("clicks", report.clicks.to_string()),
            ("users", report.users.to_string()),
            ("skipped", format!("{} users with one class only", report.gauc_users_skipped)),
            ("truncated", format!("{} users of whom only the newest impressions are kept", report.gauc_users_truncated)),
            ("hint mse", figure(report.hint.mse)),
            ("hint share", figure(report.hint.gradient_share)),
            ("drift", drift(&report.drift)),
        ]);
        let users = self.top_users.iter().map(|user| {
            let auc = Head::ALL.map(|head| figure(user.auc.get(head.name()).copied()));
            [vec![user.user.clone(), user.impressions.to_string(), user.clicks.to_string()], auc.to_vec()].concat()
        });
        let headings =
            ["user", "impressions", "clicks"].into_iter().map(str::to_owned).chain(Head::ALL.map(|head| format!("{} auc", head.name())));
        [counted, metrics_table::heads(&report.heads), metrics_table::windows(&report.windows), table(headings, users)].join("\n\n")
    }
}

fn drift(drift: &DriftReport) -> String {
    match drift.last {
        Some(Rise { time_ms, before, after }) => {
            format!("{} rises of the log loss, the last at {}, from {before:.4} to {after:.4}", drift.rises, time(time_ms))
        }
        None => "none".to_owned(),
    }
}
