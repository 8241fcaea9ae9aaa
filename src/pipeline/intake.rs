//! The two threads between a source and whoever takes batches: reader and ingest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::ingest::Ingest;
use super::letters::Letters;
use super::progress::{Progress, Recovered};
use super::run::Threads;
use super::seen::Seen;
use super::shared::Shared;
use super::{PipelineError, Status, reader};
use crate::batch::{Batch, BatchBuilder, NegativeSampling, Pace, Produced};
use crate::config::Config;
use crate::domain::{EventTime, ImpressionId, Quarantine};
use crate::evaluate::Report;
use crate::features::FeatureSpec;
use crate::join::Joiner;
use crate::stream::{DeadLetterSink, Source};
use crate::wire::EventDecoder;

/// Chunks between reader and ingest: one being decoded, one ready.
const CHUNKS: usize = 1;
/// Batches between ingest and trainer: one being trained, one ready, one being filled.
const BATCHES: usize = 1;

/// What is known from before.
#[derive(Default)]
pub(super) struct Before {
    /// By partition of the source.
    pub(super) seen: Vec<Seen>,
    /// Closed impressions.
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
    /// Skipped for good.
    pub(super) quarantine: Quarantine,
}

/// Starts both. They end when the source does, when nobody takes batches any more, or at a stop.
pub(super) fn start(
    threads: &mut Threads,
    config: &Config,
    spec: &FeatureSpec,
    source: Box<dyn Source>,
    before: Before,
    letters: Letters,
    finish_at_end: bool,
) -> Result<Receiver<Batch>, PipelineError> {
    let (chunks_in, chunks) = bounded(CHUNKS);
    let (batches_in, batches) = bounded(BATCHES);
    let shared = Arc::clone(threads.shared());
    let pace = Pace { rows: config.train.batch_rows, linger_ms: config.train.linger.as_millis() };
    let ingest = Ingest {
        partitions: source.partitions().to_vec(),
        seen: before.seen,
        decoder: EventDecoder::new(&config.schema).reading(config.topics.format).refusing_ahead(config.topics.ahead),
        quarantine: before.quarantine,
        joiner: Joiner::new(config.topics.mode, &config.join, source.partitions().len(), before.memory),
        negatives: NegativeSampling::new(config.train.negatives.keep, config.train.seed),
        builder: BatchBuilder::new(spec.clone(), pace, config.publish.gates.every),
        letters,
        batches: batches_in,
        shared: Arc::clone(&shared),
        finish_at_end,
        started: Instant::now(),
        joined: Vec::new(),
        produced: Produced::default(),
    };
    threads.spawn("ingest", move || {
        ingest.run(&chunks);
        Ok(())
    })?;
    threads.spawn("reader", move || reader::read(source, &chunks_in, &shared))?;
    Ok(batches)
}

/// The two alone, from a source that nothing was read from before: how fast batches come where nobody trains them.
pub struct Intake {
    threads: Threads,
    batches: Receiver<Batch>,
}

impl Intake {
    /// Starts them.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn start(config: &Config, source: Box<dyn Source>, dead_letters: Box<dyn DeadLetterSink>) -> Result<Self, PipelineError> {
        let spec = FeatureSpec::new(&config.schema)?;
        let mut threads = Threads::new(Arc::new(Shared::new(Status::default(), Report::default())));
        let letters = Letters::new(dead_letters, Arc::clone(threads.shared()));
        let seen = Progress::new(source.partitions(), source.starts(), Recovered::default(), 0).seen();
        let batches = start(&mut threads, config, &spec, source, Before { seen, ..Before::default() }, letters, false)?;
        Ok(Intake { threads, batches })
    }

    /// The next batch; `None` where none comes within `patience`, or ever.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Option<Batch> {
        self.batches.recv_timeout(patience).ok()
    }

    /// Ends them.
    ///
    /// # Errors
    /// [`PipelineError`]: why there are no more batches, where that was not asked for.
    pub fn stop(self) -> Result<(), PipelineError> {
        let Intake { threads, batches } = self;
        threads.shared().stop();
        // Ingest may wait for room.
        drop(batches);
        threads.join()
    }
}
