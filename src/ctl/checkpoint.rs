//! `rocketctl checkpoint ls`, `show`, `verify` and `restore`: what the daemon committed, read from its state directory.
//!
//! The first three work beside a running daemon; a checkpoint that it collects meanwhile is gone, not damaged.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::consent::{ConsentArgs, Decision};
use super::context::{Context, now_ms};
use super::metrics_table;
use super::output::{self, View, length, maybe, pairs, table, time};
use crate::checkpoint::{self, CheckpointStore, Commit, Kept};
use crate::daemon::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum CheckpointCommand {
    /// The kept checkpoints, oldest first.
    Ls,
    /// What one holds: positions, books, metrics, files.
    Show {
        /// Its number.
        number: u64,
    },
    /// Hash every file of one and decode it whole.
    Verify {
        /// Its number [default: the newest].
        number: Option<u64>,
    },
    /// Make one the state to go on from. The daemon must not run.
    Restore {
        /// Its number.
        number: u64,
        #[command(flatten)]
        consent: ConsentArgs,
    },
}

/// JSON of `checkpoint ls`.
#[derive(Debug, Serialize)]
struct Listing {
    /// State directory.
    state: String,
    /// Oldest first.
    checkpoints: Vec<Line>,
}

/// One checkpoint.
#[derive(Debug, Serialize)]
struct Line {
    /// Number.
    number: u64,
    /// Why its record cannot be read; all below is absent then.
    problem: Option<String>,
    /// What its record says.
    #[serde(flatten)]
    known: Option<Known>,
}

/// What a readable record says.
#[derive(Debug, Serialize)]
struct Known {
    /// When it was committed, milliseconds.
    created_ms: i64,
    /// Samples trained.
    samples: u64,
    /// Length of all files it needs.
    bytes: u64,
    /// Files it needs.
    files: usize,
    /// All rows are in one file; else they are in increments on a full one.
    full: bool,
    /// The snapshot topic got it, as far as the kept records know: the newest cannot know of itself.
    published: bool,
    /// It was to be published, and no record says that it was.
    to_publish: bool,
    /// Every file is there, in its length. `verify` hashes them.
    whole: bool,
    /// The checkpoint whose content it is, where an operator went back to one.
    restores: Option<u64>,
}

/// JSON of `checkpoint show`.
#[derive(Debug, Serialize)]
struct Shown {
    /// Every file is there, in its length.
    whole: bool,
    /// The record.
    commit: Commit,
}

/// JSON of `checkpoint verify`; one that fails is an error instead.
#[derive(Debug, Serialize)]
struct Verified {
    /// Number.
    number: u64,
    /// Always true.
    ok: bool,
    /// Files hashed and decoded.
    files: usize,
    /// Their length.
    bytes: u64,
}

/// JSON of `checkpoint restore`.
#[derive(Debug, Serialize)]
struct Restored {
    /// The checkpoint gone back to.
    restores: u64,
    /// Committed when, milliseconds.
    created_ms: i64,
    /// The checkpoint gone on from before.
    before: u64,
    /// Samples trained by `before` and not by `restores`; those whose events the broker still has are trained again.
    samples_undone: i64,
    /// The new commit.
    number: Option<u64>,
    /// Nothing was to be written.
    dry_run: bool,
    /// It was written.
    written: bool,
}

pub(super) fn run(context: &Context, command: CheckpointCommand) -> Result<(), Failure> {
    let dir = &context.config.state.dir;
    match command {
        CheckpointCommand::Ls => output::print(context.format, &Listing::new(dir)?),
        CheckpointCommand::Show { number } => {
            let commit = checkpoint::commit(dir, number)?;
            output::print(context.format, &Shown { whole: checkpoint::is_whole(dir, &commit), commit })
        }
        CheckpointCommand::Verify { number } => output::print(context.format, &verify(dir, number)?),
        CheckpointCommand::Restore { number, consent } => restore(context, number, consent),
    }
}

fn verify(dir: &Path, number: Option<u64>) -> Result<Verified, Failure> {
    let newest = || checkpoint::list(dir).map(|kept| kept.last().map(|kept| kept.number));
    let number = match number {
        Some(number) => number,
        None => newest()?.ok_or_else(|| Failure::failed(format!("{}: nothing has been committed yet", dir.display())))?,
    };
    let commit = checkpoint::commit(dir, number)?;
    let wrong = checkpoint::verify(dir, &commit)?;
    if !wrong.is_empty() {
        let way_out = "the daemon goes on from the newest checkpoint that is whole";
        return Err(Failure::failed(format!("checkpoint {number} is damaged: {}; {way_out}", wrong.join("; "))));
    }
    let (files, bytes) = size(&commit);
    Ok(Verified { number, ok: true, files, bytes })
}

fn restore(context: &Context, number: u64, consent: ConsentArgs) -> Result<(), Failure> {
    let dir = &context.config.state.dir;
    verify(dir, Some(number))?;
    let commit = checkpoint::commit(dir, number)?;
    let kept = checkpoint::list(dir)?;
    let before = kept.iter().rev().filter_map(|kept| kept.commit.as_ref().ok()).find(|commit| checkpoint::is_whole(dir, commit));
    let before = before.filter(|before| before.number != number && before.restores != Some(number));
    let before = before.ok_or_else(|| Failure::failed(format!("checkpoint {number} is what the daemon goes on from already")))?;
    let mut restored = Restored {
        restores: number,
        created_ms: commit.created_ms,
        before: before.number,
        samples_undone: before.books.samples.cast_signed().saturating_sub(commit.books.samples.cast_signed()),
        number: None,
        dry_run: false,
        written: false,
    };
    match consent.decide(true, &restored.text())? {
        Decision::DryRun => restored.dry_run = true,
        Decision::Act => {
            let mut store = CheckpointStore::open(dir, context.config.checkpoint.keep)?;
            restored.number = Some(store.restore(number, now_ms())?.number);
            restored.written = true;
        }
    }
    output::print(context.format, &restored)
}

/// Files and bytes that a commit needs.
fn size(commit: &Commit) -> (usize, u64) {
    commit.files().fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.bytes))
}

impl Listing {
    fn new(dir: &Path) -> Result<Self, Failure> {
        let kept = checkpoint::list(dir)?;
        let published: Vec<u64> = kept.iter().filter_map(|kept| Some(kept.commit.as_ref().ok()?.published?.version.0)).collect();
        let line = |Kept { number, commit }: Kept| match commit {
            Ok(commit) => Line { number, problem: None, known: Some(Known::new(dir, &commit, &published)) },
            Err(error) => Line { number, problem: Some(error.to_string()), known: None },
        };
        Ok(Listing { state: dir.display().to_string(), checkpoints: kept.into_iter().map(line).collect() })
    }
}

impl Known {
    fn new(dir: &Path, commit: &Commit, published: &[u64]) -> Self {
        let (files, bytes) = size(commit);
        let published = published.contains(&commit.number);
        let is_marked = commit.publish_mark.is_some_and(|mark| mark.number == Some(commit.number));
        Known {
            created_ms: commit.created_ms,
            samples: commit.books.samples,
            bytes,
            files,
            full: commit.rows.len() == 1,
            published,
            to_publish: is_marked && !published,
            whole: checkpoint::is_whole(dir, commit),
            restores: commit.restores,
        }
    }
}

impl View for Listing {
    fn text(&self) -> String {
        let rows = self.checkpoints.iter().map(|line| {
            let Some(known) = &line.known else {
                let problem = line.problem.clone().unwrap_or_default();
                return [line.number.to_string(), maybe(None::<u64>), problem].into_iter().chain(vec![String::new(); 6]).collect();
            };
            let rows = match known.restores {
                Some(number) => format!("those of {number}"),
                None => if known.full { "full" } else { "increment" }.to_owned(),
            };
            let publication = if known.published {
                "published"
            } else if known.to_publish {
                "to be published"
            } else {
                output::NONE
            };
            let cells = [
                line.number.to_string(),
                time(known.created_ms),
                known.samples.to_string(),
                length(known.bytes),
                known.files.to_string(),
                rows,
                publication.to_owned(),
                if known.whole { "whole" } else { "damaged" }.to_owned(),
            ];
            cells.to_vec()
        });
        table(["number", "time", "samples", "size", "files", "rows", "snapshot", "state"], rows)
    }
}

impl View for Shown {
    fn text(&self) -> String {
        let commit = &self.commit;
        let published = commit
            .published
            .map(|published| format!("{}, {}", published.version, if published.promoted { "made current" } else { "not made current" }));
        let dropped: u64 = commit.books.dropped.values().sum();
        let mut text = pairs([
            ("number", commit.number.to_string()),
            ("time", time(commit.created_ms)),
            ("state", if self.whole { "whole" } else { "damaged: see `rocketctl checkpoint verify`" }.to_owned()),
            ("restores", maybe(commit.restores)),
            ("trained", format!("{} events in {} samples", commit.books.trained, commit.books.samples)),
            ("dropped", dropped.to_string()),
            ("dead letters", commit.books.dead_lettered.to_string()),
            ("last published", maybe(published)),
            ("config", commit.config_hash.clone()),
        ]);
        let _ = write!(text, "\n\n{}", metrics_table::heads(&commit.report.heads));
        let positions = commit.positions.iter().map(|position| {
            let beyond: i64 = position.done.iter().map(|(from, to)| to - from).sum();
            [position.partition.to_string(), position.start.to_string(), position.low.to_string(), beyond.to_string()]
        });
        let _ = write!(text, "\n\n{}", table(["partition", "start", "done below", "done beyond"], positions));
        let files = commit.files().map(|file| [file.name.clone(), length(file.bytes), file.blake3.clone()]);
        let _ = write!(text, "\n\n{}", table(["file", "size", "blake3"], files));
        text
    }
}

impl View for Verified {
    fn text(&self) -> String {
        format!("checkpoint {} is whole: {} files, {}", self.number, self.files, length(self.bytes))
    }
}

impl View for Restored {
    fn text(&self) -> String {
        let state = match (self.written, self.dry_run) {
            (true, _) => "done",
            (false, true) => "dry run: nothing was changed",
            (false, false) => "not done yet",
        };
        pairs([
            ("go back to", format!("{} of {}", self.restores, time(self.created_ms))),
            ("instead of", self.before.to_string()),
            ("samples undone", self.samples_undone.to_string()),
            ("new number", maybe(self.number)),
            ("removed", "nothing: newer checkpoints stay until they are collected".to_owned()),
            (
                "GAUC",
                "goes back to the newest export of that checkpoint or before, and training with it; without one metrics start afresh"
                    .to_owned(),
            ),
            ("state", state.to_owned()),
        ])
    }
}
