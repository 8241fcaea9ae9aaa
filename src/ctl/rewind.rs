//! `rocketctl rollback --rewind-trainer`: the trainer goes back with the servers.

use serde::Serialize;

use super::context::{Context, now_ms};
use super::output::time;
use crate::checkpoint::{self, CheckpointError, CheckpointStore};
use crate::daemon::Failure;
use crate::domain::{Quarantine, Version};
use crate::telemetry::admin::Request;

#[derive(Debug, clap::Args)]
pub(super) struct RewindArgs {
    /// The trainer goes back too, to the checkpoint that the version came from; a running daemon does so in place, on its own machine.
    #[arg(long)]
    rewind_trainer: bool,
    /// Events whose time lies in FROM..TO (RFC 3339, TO left out) are skipped for good; may be repeated. What the checkpoint has learnt from
    /// such events stays learnt.
    #[arg(long, value_name = "FROM..TO", value_parser = range, requires = "rewind_trainer")]
    quarantine: Vec<(i64, i64)>,
}

/// What of the trainer's state is to change. Part of the JSON of `rollback`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rewind {
    /// The checkpoint gone back to.
    checkpoint: u64,
    /// Committed when, milliseconds.
    created_ms: i64,
    /// Samples that were trained since; those whose events are not in quarantine and still on the broker are trained again.
    samples_undone: i64,
    /// Ranges of event times that are skipped from now on, milliseconds.
    quarantine: Quarantine,
    /// The new commit.
    number: Option<u64>,
}

impl RewindArgs {
    /// Looks whether the trainer can go back to where this version came from; nothing changes.
    pub(super) fn prepare(&self, context: &Context, version: Version) -> Result<Option<Rewind>, Failure> {
        if !self.rewind_trainer {
            return Ok(None);
        }
        let dir = &context.config.state.dir;
        let commit = checkpoint::commit(dir, version.0)?;
        let wrong = checkpoint::verify(dir, &commit)?;
        if !wrong.is_empty() {
            return Err(Failure::failed(format!("checkpoint {version} is damaged: {}; nothing was changed", wrong.join("; "))));
        }
        let newest = checkpoint::newest_commit(dir)?.map_or(0, |newest| newest.books.samples.cast_signed());
        Ok(Some(Rewind {
            checkpoint: version.0,
            created_ms: commit.created_ms,
            samples_undone: newest.saturating_sub(commit.books.samples.cast_signed()),
            quarantine: self.quarantine.clone().into(),
            number: None,
        }))
    }
}

impl Rewind {
    /// Does it: through the daemon where one runs, else in the state directory.
    pub(super) fn perform(&mut self, context: &Context) -> Result<(), Failure> {
        let config = &context.config;
        let number = match CheckpointStore::open(&config.state.dir, config.checkpoint.keep) {
            Ok(mut store) => store.restore_skipping(self.checkpoint, &self.quarantine, now_ms())?.number,
            Err(CheckpointError::Locked { .. }) => {
                context.ask(&Request::Rewind { checkpoint: self.checkpoint, quarantine: self.quarantine.clone() })?
            }
            Err(error) => return Err(error.into()),
        };
        self.number = Some(number);
        Ok(())
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("trainer goes back to", format!("{} of {}", self.checkpoint, time(self.created_ms))),
            ("samples undone", self.samples_undone.to_string()),
        ];
        let ranges = self.quarantine.ranges().iter();
        lines.extend(ranges.map(|(from, to)| ("skipped for good", format!("events from {} to {}", time(*from), time(*to)))));
        lines.extend(self.number.map(|number| ("new checkpoint", number.to_string())));
        lines
    }
}

fn range(text: &str) -> Result<(i64, i64), String> {
    let example = "write it like 2026-11-24T02:00:00Z..2026-11-24T03:00:00Z";
    let (from, to) = text.split_once("..").ok_or_else(|| example.to_owned())?;
    let parse =
        |text: &str| text.parse::<jiff::Timestamp>().map(|time| time.as_millisecond()).map_err(|error| format!("{error}; {example}"));
    let (from, to) = (parse(from)?, parse(to)?);
    if from < to { Ok((from, to)) } else { Err(format!("it is empty: FROM has to be before TO; {example}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_two_times_the_earlier_first() {
        assert_eq!(range("1970-01-01T00:00:01Z..1970-01-01T01:00:02+01:00"), Ok((1000, 2000)));
        for wrong in
            ["", "..", "1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z..", "yesterday..today", "1970-01-01T00:00:02Z..1970-01-01T00:00:02Z"]
        {
            assert!(range(wrong).unwrap_err().contains("write it like"), "{wrong}");
        }
    }
}
