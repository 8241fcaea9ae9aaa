//! `rocketctl rollout status`: which version each server serves, by its own report, and which it should.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::context::{Context, now_ms};
use super::output::{self, Format, View, maybe, table};
use super::snapshot::CanaryLine;
use crate::daemon::Failure;
use crate::domain::Version;
use crate::serving::{Catalog, Reports};
use crate::wire::snapshot::{Group, ServerReport, ServerState};

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);
/// Servers report every half minute: who is silent for so long has missed three of them, and is not waited for.
const SILENT_MS: i64 = 120_000;
/// Who was heard of longest ago is not listed.
const FORGOTTEN_MS: i64 = 86_400_000;
/// Puts the cursor at the top and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, clap::Subcommand)]
pub(super) enum RolloutCommand {
    /// Target, canary and where each server stands, by its own report.
    Status {
        /// Look again and again until every server that reports serves its target.
        #[arg(long)]
        watch: bool,
        /// With --watch: give up after so long, with exit code 1.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5m", requires = "watch")]
        timeout: Duration,
    },
}

/// JSON of `rollout status`.
#[derive(Debug, Serialize)]
struct Status {
    /// Model name.
    model: String,
    /// What a server serves that is in no group and not in the canary's share.
    target: Option<Version>,
    /// What a share of the servers serves ahead of the others.
    canary: Option<CanaryLine>,
    /// Servers heard of lately.
    reporting: usize,
    /// Those of them that serve their target.
    on_target: usize,
    /// By name.
    servers: Vec<Server>,
}

/// One server.
#[derive(Debug, Serialize)]
struct Server {
    /// Its name.
    host: String,
    /// The group that it is pinned with.
    group: Option<Group>,
    /// What it serves.
    version: Option<Version>,
    /// What it should serve, by pins, canary and `current`.
    target: Option<Version>,
    /// `serving`, `waiting`, `refused`, or `silent`: not heard of for two minutes.
    state: &'static str,
    /// Why it has refused it.
    reason: Option<String>,
    /// It is in the canary's share.
    canary: bool,
    /// It serves its target.
    on_target: bool,
    /// When it reported, milliseconds, by its clock.
    at_ms: i64,
    /// Age of the report by ours, seconds.
    age_s: f64,
}

pub(super) fn run(context: &Context, command: RolloutCommand) -> Result<(), Failure> {
    let RolloutCommand::Status { watch, timeout } = command;
    let mut operator = context.reader()?;
    let mut reports = context.reports()?;
    let deadline = Instant::now() + timeout;
    let live = watch && context.format == Format::Table && std::io::stdout().is_terminal();
    loop {
        let status = Status::new(&context.config.name, operator.refresh()?, reports.refresh()?, now_ms());
        let late = Instant::now() >= deadline;
        if !watch || status.is_done() || late {
            output::print(context.format, &status)?;
            let (there, all) = (status.on_target, status.reporting);
            if watch && !status.is_done() {
                let what = if all == 0 { "no server reports".to_owned() } else { format!("{there} of {all} servers serve their target") };
                return Err(Failure::failed(format!("{what} after {}", humantime::format_duration(timeout))));
            }
            return Ok(());
        }
        if live {
            print!("{CLEAR}");
            output::print(context.format, &status)?;
        }
        std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
}

impl Status {
    fn new(model: &str, catalog: &Catalog, reports: &Reports, now_ms: i64) -> Self {
        let heard = |report: &&ServerReport| now_ms.saturating_sub(report.at_ms) < FORGOTTEN_MS;
        let servers: Vec<Server> = reports.servers().filter(heard).map(|report| Server::new(catalog, report, now_ms)).collect();
        let reporting = || servers.iter().filter(|server| server.state != "silent");
        Status {
            model: model.to_owned(),
            target: catalog.target(now_ms),
            canary: catalog.canary().map(CanaryLine::new),
            reporting: reporting().count(),
            on_target: reporting().filter(|server| server.on_target).count(),
            servers,
        }
    }

    fn is_done(&self) -> bool {
        self.reporting > 0 && self.on_target == self.reporting
    }
}

impl Server {
    /// Its target is ours to say: it may not have heard yet.
    fn new(catalog: &Catalog, report: &ServerReport, now_ms: i64) -> Self {
        let target = catalog.target_of(&report.host, report.group.as_ref(), now_ms);
        let on_target = report.version.is_some() && report.version == target;
        let (state, reason) = match &report.state {
            _ if now_ms.saturating_sub(report.at_ms) >= SILENT_MS => ("silent", None),
            _ if on_target => ("serving", None),
            ServerState::Refused { reason } if report.target == target => ("refused", Some(reason.clone())),
            _ => ("waiting", None),
        };
        Server {
            host: report.host.clone(),
            group: report.group.clone(),
            version: report.version,
            target,
            state,
            reason,
            canary: catalog.canary().is_some_and(|canary| canary.takes(&report.host)),
            on_target,
            at_ms: report.at_ms,
            age_s: seconds(now_ms.saturating_sub(report.at_ms)),
        }
    }
}

fn seconds(ms: i64) -> f64 {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64()
}

impl View for Status {
    fn text(&self) -> String {
        let rows = self.servers.iter().map(|server| {
            let mark = if server.canary { "canary" } else { "" };
            [
                server.host.clone(),
                maybe(server.group.as_ref()),
                maybe(server.version),
                maybe(server.target),
                server.reason.as_ref().map_or_else(|| server.state.to_owned(), |reason| format!("{}: {reason}", server.state)),
                format!("{:.0} s", server.age_s),
                mark.to_owned(),
            ]
        });
        let servers = table(["server", "group", "serves", "should", "state", "reported", ""], rows);
        let canary = self.canary.as_ref().map_or_else(String::new, |canary| format!("\n{}", canary.text()));
        let target = maybe(self.target);
        format!("{servers}\n\n{} of {} servers serve their target; target {target}{canary}", self.on_target, self.reporting)
    }
}
