//! `rocketctl offsets show` and `reset`: where reading goes on.

use std::fmt::Write as _;
use std::str::FromStr;

use serde::Serialize;

use super::consent::{ConsentArgs, Decision};
use super::context::{Context, now_ms};
use super::output::{self, View, maybe, table, time};
use crate::checkpoint::newest_commit;
use crate::config::StreamMode;
use crate::daemon::Failure;
use crate::domain::{Mark, PartitionPosition, TopicPartition};
use crate::pipeline::{Move, Moved, PipelineError, Reset};
use crate::stream::{Holding, Loss, holdings, offsets_at};

#[derive(Debug, clap::Subcommand)]
pub(super) enum OffsetsCommand {
    /// Positions of the newest checkpoint beside what the broker holds; the daemon may be running or not.
    Show,
    /// Move positions; the daemon must not be running. Without --topic or --all, those that reading cannot go on from.
    Reset(ResetArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ResetArgs {
    /// Where reading goes on: `earliest`, `latest`, an offset, or a time like 2026-11-24T02:00:00Z (of sending).
    #[arg(long, value_name = "WHERE")]
    to: Target,
    /// Every partition of this topic, lost or not.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// This partition of it alone.
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Option<i32>,
    /// Every partition, lost or not.
    #[arg(long, conflicts_with = "topic")]
    all: bool,
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Where reading is to go on, as said by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// At the oldest record there is.
    Earliest,
    /// At the next record to come.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record sent then or later, milliseconds.
    Time(i64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Target::Earliest),
            "latest" => Ok(Target::Latest),
            _ => {
                let offset = text.parse().ok().filter(|offset| *offset >= 0).map(Target::Offset);
                let time = || text.parse::<jiff::Timestamp>().ok().map(|time| Target::Time(time.as_millisecond()));
                offset.or_else(time).ok_or_else(|| "write earliest, latest, an offset, or a time like 2026-11-24T02:00:00Z".to_owned())
            }
        }
    }
}

pub(super) fn run(context: &Context, command: OffsetsCommand) -> Result<(), Failure> {
    match command {
        OffsetsCommand::Show => show(context),
        OffsetsCommand::Reset(arguments) => reset(context, &arguments),
    }
}

/// JSON of `offsets show`.
#[derive(Debug, Serialize)]
struct Shown {
    /// The newest checkpoint; none before the first.
    checkpoint: Option<u64>,
    /// When it was committed, milliseconds.
    checkpoint_ms: Option<i64>,
    /// Why the broker could not be asked.
    broker_problem: Option<String>,
    /// Every partition of the event topics, and those that only the checkpoint knows.
    partitions: Vec<Line>,
}

/// One partition.
#[derive(Debug, Serialize)]
struct Line {
    /// Topic.
    topic: String,
    /// Partition of it.
    partition: i32,
    /// First offset that counted.
    start: Option<i64>,
    /// Reading goes on here.
    low: Option<i64>,
    /// Offsets above it that are done.
    done_above: Option<i64>,
    /// Offsets done in passes before an operator went back, or the topic was made anew.
    earlier: Option<u64>,
    /// First offset that the broker holds.
    held_from: Option<i64>,
    /// Offset after the last one it holds.
    held_to: Option<i64>,
    /// Offsets from `low` to `held_to`, those done above `low` included.
    lag: Option<i64>,
    /// Why reading cannot go on from `low`.
    loss: Option<Loss>,
}

impl Line {
    fn new(partition: &TopicPartition, position: Option<&PartitionPosition>, holding: Option<&Holding>) -> Self {
        let held = holding.filter(|holding| holding.exists);
        let above = |position: &PartitionPosition| position.done.iter().map(|(from, to)| to - from).sum();
        Line {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            start: position.map(|position| position.start),
            low: position.map(|position| position.low),
            done_above: position.map(above),
            earlier: position.map(|position| position.earlier),
            held_from: held.map(|holding| holding.low),
            held_to: held.map(|holding| holding.high),
            lag: position.zip(held).map(|(position, holding)| (holding.high - position.low).max(0)),
            loss: holding.and_then(|holding| holding.loss),
        }
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let commit = newest_commit(&context.config.state.dir).map_err(PipelineError::from)?;
    let positions = commit.as_ref().map_or(&[][..], |commit| &commit.positions);
    let (holdings, broker_problem) = match holdings(&context.config, positions) {
        Ok(holdings) => (holdings, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let held = holdings.iter().map(|holding| Line::new(&holding.partition, holding.position.as_ref(), Some(holding)));
    let unknown = positions.iter().filter(|position| holdings.iter().all(|holding| holding.partition != position.partition));
    let partitions = held.chain(unknown.map(|position| Line::new(&position.partition, Some(position), None))).collect();
    let shown = Shown {
        checkpoint: commit.as_ref().map(|commit| commit.number),
        checkpoint_ms: commit.as_ref().map(|commit| commit.created_ms),
        broker_problem,
        partitions,
    };
    output::print(context.format, &shown)
}

/// JSON of `offsets reset`.
#[derive(Debug, Serialize)]
struct Changed {
    /// The checkpoint whose positions are moved.
    from_checkpoint: u64,
    /// The one that has them moved, once it is written; the rest of it is as it was.
    checkpoint: Option<u64>,
    /// Nothing was to be written.
    dry_run: bool,
    /// What moves; empty: reading can go on from every position.
    partitions: Vec<Change>,
    /// What the operator should know.
    notes: Vec<String>,
}

/// One partition that moves.
#[derive(Debug, Serialize)]
struct Change {
    /// Topic.
    topic: String,
    /// Partition of it.
    partition: i32,
    /// Reading would have gone on here.
    from: Option<i64>,
    /// Reading goes on here.
    to: i64,
    /// Offsets that count as dropped, `skipped_by_operator`.
    skipped: u64,
    /// What is read from here on counts on top of what was counted before.
    new_pass: bool,
    /// Why reading cannot go on from `from`.
    loss: Option<Loss>,
}

fn reset(context: &Context, arguments: &ResetArgs) -> Result<(), Failure> {
    let config = &context.config;
    let dir = config.state.dir.display();
    let nothing = || Failure::failed(format!("{dir} has no checkpoint: where a first start begins is topics.start"));
    // Before anything is made: opening makes the directory.
    newest_commit(&config.state.dir).map_err(PipelineError::from)?.ok_or_else(nothing)?;
    let mut reset = Reset::open(config)?.ok_or_else(nothing)?;
    let known = holdings(config, &reset.commit().positions)?;
    let chosen: Vec<Holding> = known.into_iter().filter(|holding| arguments.chooses(holding)).collect();
    if let (Some(topic), true) = (&arguments.topic, chosen.is_empty()) {
        let partition = arguments.partition.map(|partition| format!("[{partition}]")).unwrap_or_default();
        return Err(Failure::usage(format!("{topic}{partition} is no partition of an event topic; `rocketctl offsets show` lists them")));
    }
    let moves = moves(context, arguments.to, &chosen)?;
    let moved = reset.apply(&moves).to_vec();
    let mut changed = Changed {
        from_checkpoint: reset.commit().number,
        checkpoint: None,
        dry_run: false,
        partitions: moved.iter().zip(&moves).map(|(moved, goal)| Change::new(moved, goal.loss)).collect(),
        notes: notes(context, &moved, &moves),
    };
    let needed = !changed.partitions.is_empty();
    match arguments.consent.decide(needed, &changed.text())? {
        Decision::DryRun => changed.dry_run = true,
        Decision::Act if needed => changed.checkpoint = Some(reset.write(now_ms())?),
        Decision::Act => {}
    }
    output::print(context.format, &changed)
}

impl ResetArgs {
    fn chooses(&self, holding: &Holding) -> bool {
        match &self.topic {
            Some(topic) => {
                *topic == *holding.partition.topic && self.partition.is_none_or(|partition| partition == holding.partition.partition)
            }
            None => self.all || holding.loss.is_some(),
        }
    }
}

fn moves(context: &Context, to: Target, chosen: &[Holding]) -> Result<Vec<Move>, Failure> {
    let goals: Vec<i64> = match to {
        Target::Earliest => chosen.iter().map(|holding| holding.low).collect(),
        Target::Latest => chosen.iter().map(|holding| holding.high).collect(),
        Target::Time(time_ms) => offsets_at(&context.config, chosen, time_ms)?,
        Target::Offset(offset) => {
            if let Some(holding) = chosen.iter().find(|holding| !(holding.low..=holding.high).contains(&offset)) {
                let Holding { partition, low, high, .. } = holding;
                return Err(Failure::usage(format!(
                    "--to {offset}: {partition} holds {low} to {high}; name one partition with --partition"
                )));
            }
            vec![offset; chosen.len()]
        }
    };
    let goals = chosen.iter().zip(goals);
    Ok(goals.map(|(holding, to)| Move { partition: holding.partition.clone(), to, loss: holding.loss }).collect())
}

/// What moves on its own and yet should not.
fn notes(context: &Context, moved: &[Moved], moves: &[Move]) -> Vec<String> {
    let mut notes = Vec::new();
    let back = |topic: &str| {
        moved.iter().zip(moves).any(|(moved, goal)| moved.new_pass && goal.loss.is_none() && *moved.partition.topic == *topic)
    };
    if context.config.topics.mode == StreamMode::Joined && back(&context.config.impressions_topic()) != back(&context.config.clicks_topic())
    {
        notes.push(
            "impressions and clicks are joined: go back to the same time in both, or impressions are trained without their clicks"
                .to_owned(),
        );
    }
    if moved.iter().zip(moves).any(|(moved, goal)| moved.new_pass && goal.loss.is_none()) {
        notes.push("events that were trained are trained and measured again".to_owned());
    }
    notes
}

impl Change {
    fn new(moved: &Moved, loss: Option<Loss>) -> Self {
        Change {
            topic: moved.partition.topic.to_string(),
            partition: moved.partition.partition,
            from: moved.from,
            to: moved.to,
            skipped: moved.skipped,
            new_pass: moved.new_pass,
            loss,
        }
    }
}

fn loss_name(loss: Option<Loss>) -> String {
    match loss {
        None => output::NONE.to_owned(),
        Some(Loss::Removed) => "removed unread".to_owned(),
        Some(Loss::Beyond) => "beyond the end".to_owned(),
        Some(Loss::OtherRecord(Mark { offset, .. })) => format!("another record at {offset}"),
    }
}

impl View for Shown {
    fn text(&self) -> String {
        let mut text = match (self.checkpoint, self.checkpoint_ms) {
            (Some(number), Some(ms)) => format!("checkpoint {number} at {}", time(ms)),
            _ => "no checkpoint yet".to_owned(),
        };
        if let Some(problem) = &self.broker_problem {
            let _ = write!(text, "\nbroker: {problem}");
        }
        let rows = self.partitions.iter().map(|line| {
            [
                format!("{}[{}]", line.topic, line.partition),
                maybe(line.start),
                maybe(line.low),
                maybe(line.done_above),
                maybe(line.held_from),
                maybe(line.held_to),
                maybe(line.lag),
                loss_name(line.loss),
            ]
        });
        let headings = ["partition", "start", "done below", "done beyond", "held from", "held to", "lag", "lost"];
        let _ = write!(text, "\n\n{}", table(headings, rows));
        text
    }
}

impl View for Changed {
    fn text(&self) -> String {
        if self.partitions.is_empty() {
            return format!("checkpoint {}: reading can go on from every position; nothing to reset", self.from_checkpoint);
        }
        let rows = self.partitions.iter().map(|change| {
            let pass = if change.new_pass { "new" } else { "goes on" };
            [
                format!("{}[{}]", change.topic, change.partition),
                loss_name(change.loss),
                maybe(change.from),
                change.to.to_string(),
                change.skipped.to_string(),
                pass.to_owned(),
            ]
        });
        let mut text = table(["partition", "lost", "from", "to", "skipped", "pass"], rows);
        for note in &self.notes {
            let _ = write!(text, "\nnote: {note}");
        }
        let state = match self.checkpoint {
            Some(number) => format!("done: checkpoint {number} is {} with these positions", self.from_checkpoint),
            None if self.dry_run => "dry run: nothing was changed".to_owned(),
            None => format!("checkpoint {} is not changed yet", self.from_checkpoint),
        };
        let _ = write!(text, "\n\n{state}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_an_offset_or_a_time() {
        let target = |text: &str| text.parse::<Target>().ok();
        assert_eq!(target("earliest"), Some(Target::Earliest));
        assert_eq!(target("latest"), Some(Target::Latest));
        assert_eq!(target("17"), Some(Target::Offset(17)));
        assert_eq!(target("1970-01-01T00:00:01Z"), Some(Target::Time(1000)));
        for wrong in ["-1", "yesterday", "", "2026-11-24"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }
}
