//! `rocketctl backtest`: one pass over a file through the daemon's own pipeline, without a broker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::context::Context;
use super::output::{self, View, figure, pairs};
use super::progress::Progress;
use super::{metrics_table, one_pass};
use crate::daemon::Failure;
use crate::domain::DropReason;
use crate::evaluate::{HeadReport, HintReport, WindowReport};
use crate::pipeline::Summary;

#[derive(Debug, clap::Args)]
pub(super) struct BacktestArgs {
    /// TSV, CSV or JSONL; .gz too.
    file: PathBuf,
    /// Measure only impressions from this time on; training covers all. RFC 3339, e.g. 2022-04-27T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = rfc3339)]
    eval_from: Option<String>,
    /// Print progress where there is no terminal, too.
    #[arg(long)]
    progress: bool,
}

/// JSON of `backtest`.
#[derive(Debug, Serialize)]
struct Backtest {
    /// Samples trained.
    rows: u64,
    /// Of them measured (`--eval-from`, `evaluate.from`).
    rows_measured: u64,
    /// Clicks among the measured.
    clicks: u64,
    /// Users among the measured.
    users: u64,
    /// Users with one class only: not in GAUC.
    gauc_users_skipped: u64,
    /// Users of whom only the newest impressions are kept.
    gauc_users_truncated: u64,
    /// Wall time.
    seconds: f64,
    /// Rows over seconds.
    samples_per_s: f64,
    /// By head name.
    heads: BTreeMap<String, HeadReport>,
    /// Hint health.
    hint: HintReport,
    /// Tumbling windows, oldest first.
    windows: Vec<WindowReport>,
    /// Events read.
    events: u64,
    /// Events trained, dropped by reason, and not decodable; they sum to `events`.
    trained: u64,
    /// By reason.
    dropped: BTreeMap<DropReason, u64>,
    /// Events that could not be used.
    dead_letters: u64,
}

pub(super) fn rfc3339(text: &str) -> Result<String, String> {
    text.parse::<jiff::Timestamp>().map(|_| text.to_owned()).map_err(|error| format!("{error}; write it like 2022-04-27T00:00:00Z"))
}

pub(super) fn run(context: &Context, arguments: BacktestArgs) -> Result<(), Failure> {
    let mut config = context.config.clone();
    config.evaluate.from = arguments.eval_from.or(config.evaluate.from);
    let (summary, letters) = one_pass::run(config, &arguments.file, Progress::new("backtest", arguments.progress))?;
    one_pass::say_unusable(&letters);
    output::print(context.format, &Backtest::new(summary))
}

impl Backtest {
    fn new(summary: Summary) -> Self {
        let Summary { status, seconds } = summary;
        let report = status.report;
        Backtest {
            rows: status.books.samples,
            rows_measured: report.rows,
            clicks: report.clicks,
            users: report.users,
            gauc_users_skipped: report.gauc_users_skipped,
            gauc_users_truncated: report.gauc_users_truncated,
            seconds,
            samples_per_s: status.books.samples as f64 / seconds.max(f64::EPSILON),
            heads: report.heads,
            hint: report.hint,
            windows: report.windows,
            events: status.read,
            trained: status.books.trained,
            dropped: status.books.dropped,
            dead_letters: status.books.dead_lettered,
        }
    }
}

impl View for Backtest {
    fn text(&self) -> String {
        let dropped: Vec<String> = self.dropped.iter().map(|(reason, events)| format!("{} {events}", reason.name())).collect();
        let facts = pairs([
            ("rows", format!("{} trained, {} measured", self.rows, self.rows_measured)),
            ("clicks", self.clicks.to_string()),
            ("users", format!("{}, {} with one class only", self.users, self.gauc_users_skipped)),
            ("events", format!("{} read, {} trained", self.events, self.trained)),
            ("dropped", if dropped.is_empty() { "0".to_owned() } else { dropped.join(", ") }),
            ("dead letters", self.dead_letters.to_string()),
            ("seconds", format!("{:.1}, {:.0} samples/s", self.seconds, self.samples_per_s)),
            ("hint mse", figure(self.hint.mse)),
            ("hint share", figure(self.hint.gradient_share)),
        ]);
        [facts, metrics_table::heads(&self.heads), metrics_table::windows(&self.windows)].join("\n\n")
    }
}
