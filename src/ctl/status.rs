//! `rocketctl status`: one look at the running daemon. JSON: [`Status`].

use std::fmt::Write as _;

use super::context::Context;
use super::metrics_table;
use super::output::{self, View, maybe, pairs, table, time};
use crate::daemon::Failure;
use crate::pipeline::Status;
use crate::publish::Trial;
use crate::telemetry::admin::Request;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    output::print(context.format, &context.ask::<Status>(&Request::Status)?)
}

impl View for Status {
    fn text(&self) -> String {
        let uptime = std::time::Duration::from_secs_f64(self.uptime_s.max(0.0).trunc());
        let checkpoint = match (self.checkpoint, self.checkpoint_ms) {
            (Some(number), Some(ms)) => format!("{number} at {}", time(ms)),
            (number, _) => maybe(number),
        };
        let published = match self.published {
            Some(version) if self.promoted => format!("{version}, current"),
            Some(version) => format!("{version}, not current"),
            None => maybe(None::<u64>),
        };
        let mut text = pairs([
            ("model", self.model.clone()),
            ("state", if self.ready { "ready" } else { "not ready" }.to_owned()),
            ("device", self.device.clone()),
            ("uptime", humantime::format_duration(uptime).to_string()),
            ("samples/s", format!("{:.0}", self.samples_per_s)),
            ("read", self.read.to_string()),
            ("trained", format!("{} events in {} samples", self.books.trained, self.books.samples)),
            ("dropped", dropped(self)),
            ("dead letters", self.books.dead_lettered.to_string()),
            ("pending", self.pending.to_string()),
            ("table rows", self.table_rows.to_string()),
            ("checkpoint", checkpoint),
            ("published", published),
            ("freshness", maybe(self.freshness)),
        ]);
        for (what, why) in
            [("checkpoint", &self.checkpoint_problem), ("went back", &self.went_back), ("metrics restarted", &self.metrics_restarted)]
        {
            if let Some(why) = why {
                let _ = write!(text, "\n{what}: {why}");
            }
        }
        for (from, to) in self.quarantine.ranges() {
            let _ = write!(text, "\nquarantine: events from {} to {} are skipped", time(*from), time(*to));
        }
        if let Some(trial) = &self.rollout.trial {
            let _ = write!(text, "\ntried: {}", described(trial));
        }
        if let Some(why) = &self.rollout.fell_back {
            let _ = write!(text, "\ntaken back: {why}");
        }
        for line in &self.warm_started {
            let _ = write!(text, "\nwarm start: {line}");
        }
        if let Some(problem) = &self.publish_problem {
            let _ = write!(text, "\npublishing: {problem}");
        }
        let _ = write!(text, "\n\n{}", metrics_table::heads(&self.report.heads));
        let positions = self.positions.iter().map(|position| {
            let beyond: i64 = position.done.iter().map(|(from, to)| to - from).sum();
            [position.partition.to_string(), position.start.to_string(), position.low.to_string(), beyond.to_string()]
        });
        let _ = write!(text, "\n\n{}", table(["partition", "start", "done below", "done beyond"], positions));
        text
    }
}

fn described(trial: &Trial) -> String {
    let next = trial.next.map_or_else(String::new, |next| format!("; version {next} is next"));
    let pinned = if trial.pinned { "; every server is pinned meanwhile" } else { "" };
    let Trial { version, share, since_ms, serving, refused, .. } = trial;
    format!("version {version} by a share of {share} since {}; {serving} serve it, {refused} refused it{next}{pinned}", time(*since_ms))
}

fn dropped(status: &Status) -> String {
    let reasons: Vec<String> = status.books.dropped.iter().map(|(reason, events)| format!("{} {events}", reason.name())).collect();
    let total: u64 = status.books.dropped.values().sum();
    if reasons.is_empty() { total.to_string() } else { format!("{total} ({})", reasons.join(", ")) }
}
