//! One pass over a file through the daemon's own pipeline, without a broker: what `backtest` and `ablate` measure.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::progress::Progress;
use crate::config::Config;
use crate::daemon::Failure;
use crate::pipeline::{Control, Parts, Running, State, Summary};
use crate::stream::{FileSource, MemoryDeadLetters, Source};
use crate::telemetry::Health;

/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Predicts, then trains, row by row of `file`; nothing is kept. Returns the events that could not be used as well.
pub(super) fn run(config: Config, file: &Path, progress: Progress) -> Result<(Summary, MemoryDeadLetters), Failure> {
    let (schema, mode, path) = (config.schema.clone(), config.topics.mode, file.to_owned());
    let health = Health::new(config.admin.stall.0);
    let letters = MemoryDeadLetters::default();
    let running = Running::start(Parts {
        config,
        state: State::Memory,
        source: Box::new(move |_| Ok(Box::new(FileSource::open(&path, &schema, mode)?) as Box<dyn Source>)),
        dead_letters: Box::new(letters.clone()),
        publisher: None,
        health,
        finish_at_end: true,
    })?;
    Ok((join(running, progress)?, letters))
}

/// How many events of a pass could not be used, and why the first, on standard error.
pub(super) fn say_unusable(letters: &MemoryDeadLetters) {
    let letters = letters.letters();
    let Some(first) = letters.first() else { return };
    let (count, partition, offset) = (letters.len(), &first.partition, first.offset);
    eprintln!("{count} events could not be used; the first, {partition} offset {offset}: {}", first.message);
}

/// Waits for the end while another thread shows how far it is.
fn join(running: Running, progress: Progress) -> Result<Summary, Failure> {
    let control = running.control();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || watch(&control, progress, &ended));
        let summary = running.join();
        drop(end);
        Ok(summary?)
    })
}

fn watch(control: &Control, mut progress: Progress, ended: &mpsc::Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK_EVERY) {
        let status = control.status();
        let gauc = status.report.heads.iter().filter_map(|(head, report)| Some(format!("{head} {:.4}", report.gauc?)));
        let gauc = gauc.collect::<Vec<_>>().join(", ");
        progress.at(status.books.samples, &if gauc.is_empty() { gauc } else { format!("gauc: {gauc}") });
    }
    progress.finish();
}
