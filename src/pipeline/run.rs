use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::bounded;

use super::evidence::Collector;
use super::exporting::Exporting;
use super::intake::{self, Before};
use super::keeper::{self, InPublication, Keeper, Publishing, now_ms};
use super::letters::Letters;
use super::progress::Progress;
use super::recover::{Durable, Recovery};
use super::rolling::{Held, RollingOut};
use super::schema_change::FieldsMoved;
use super::shared::Shared;
use super::teaching::Teaching;
use super::trainer::{Checkpoints, Schedule, Trainer};
use super::{Control, Status};
use crate::batch::Produced;
use crate::checkpoint::{self, CheckpointError, CheckpointStore};
use crate::config::{Config, StreamMode};
use crate::domain::PartitionPosition;
use crate::evaluate::EvaluateError;
use crate::features::{FeatureError, FeatureSpec};
use crate::publish::Publisher;
use crate::store::StoreError;
use crate::stream::{DeadLetterSink, Source, StreamError};
use crate::telemetry::Health;
use crate::train::{Learner, TrainError};

/// Scored batches between trainer and evaluate: measuring is faster than training, this only smooths.
const SCORED: usize = 8;
/// Checkpoints on their way: the trainer never starts a second one.
const JOBS: usize = 1;
/// Committed checkpoints waiting to be published: the newest alone, so that a publisher that is behind skips versions.
const PUBLISHING: usize = 1;
/// Requests of operators: they wait for each other.
const COMMANDS: usize = 4;
/// Directory of the per-user store, inside the state directory.
pub(crate) const USERS_STORE: &str = "users.sled";
/// Directory of its exports, likewise.
pub(crate) const USERS_EXPORTS: &str = "exports";

/// Opens the source at these positions (empty: a first start). Asked again with other ones if it refuses them.
pub type OpenSource = Box<dyn FnMut(&[PartitionPosition]) -> Result<Box<dyn Source>, StreamError> + Send>;

/// What a pipeline is made of.
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// Durable state, or none (backtest).
    pub state: State,
    /// Where events come from.
    pub source: OpenSource,
    /// Broken events.
    pub dead_letters: Box<dyn DeadLetterSink>,
    /// Snapshots; none: nothing is published.
    pub publisher: Option<Publisher>,
    /// Progress is reported here.
    pub health: Health,
    /// At the end of a finite source, close the join's windows and stop.
    pub finish_at_end: bool,
}

/// Where state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Under `config.state.dir`.
    Durable,
    /// In memory: nothing is committed.
    Memory,
}

/// Why a pipeline could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Source or dead letters.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Features.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// Learner.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Metrics.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// sled.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are users, but no commit.
    #[error(
        "{path} holds users as of checkpoint {holds}, but there is no commit record: restore the state directory from a backup, or move it away \
         to start afresh"
    )]
    CommitsLost {
        /// Directory of the per-user store.
        path: PathBuf,
        /// Its checkpoint.
        holds: u64,
    },
    /// The last checkpoint could not be written; the log says why.
    #[error("the last checkpoint was not committed (see the log); events since the one before are read again at the next start")]
    NotCommitted,
    /// The operating system gives no thread.
    #[error("starting thread {0}: {1}")]
    Spawn(&'static str, std::io::Error),
    /// A thread panicked; its message is in the log.
    #[error("thread {0} panicked; its message is in the log")]
    Panicked(&'static str),
}

/// What a pipeline did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Status at the end.
    pub status: Status,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// A running pipeline.
pub struct Running {
    threads: Threads,
    control: Control,
    health: Health,
}

impl Running {
    /// Recovers and opens the source, starts the threads.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn start(parts: Parts) -> Result<Self, PipelineError> {
        let Parts { config, state, source, dead_letters, publisher, health, finish_at_end } = parts;
        let spec = FeatureSpec::new(&config.schema)?;
        let mut learner = Learner::new(&config.model, &config.train, config.early_labels(), &spec)?;
        let Recovery { mut durable, evaluator, source, recovered, mut status, probes, evidence } =
            Recovery::open(&config, state, &mut learner, source)?;
        // Labelled events are joined to nothing, and nothing of them need be remembered.
        let memory_ms = if config.topics.mode == StreamMode::Joined { config.join.memory.as_millis() } else { 0 };
        let memory = recovered.memory.clone();
        let progress = Progress::new(source.partitions(), source.starts(), recovered, memory_ms);
        status.books = progress.books().clone();
        status.positions = progress.positions();
        status.table_rows = learner.table_rows() as u64;
        status.multiplications = learner.multiplications();
        status.ready = true;
        let quarantine = status.quarantine.clone();
        let shared = Arc::new(Shared::new(status, evaluator.report()));

        let (evaluations_in, evaluations) = bounded(SCORED);
        let (commands_in, commands) = bounded(COMMANDS);
        let (questions_in, questions) = bounded(COMMANDS);
        let control = Control { shared: Arc::clone(&shared), commands: commands_in, questions: questions_in };
        let mut threads = Threads::new(Arc::clone(&shared));

        let letters = Letters::new(dead_letters, Arc::clone(&shared));
        let before = Before { seen: progress.seen(), memory, quarantine: quarantine.clone() };
        let batches = intake::start(&mut threads, &config, &spec, source, before, letters.clone(), finish_at_end)?;

        let served = publisher.as_ref().and_then(|publisher| publisher.target(now_ms()));
        let store = durable.as_ref().map(|durable| &durable.store);
        let schedule = Schedule::new(progress.books(), probes, store.and_then(CheckpointStore::latest));
        let (teaching, school) = Teaching::new(&config, &learner, store, served);
        let mut evidence = Collector::new(config.publish.gates.samples, evidence).every(config.publish.every.0);
        if let Some(version) = served.filter(|version| store.is_some() && evidence.lacks(version.0)) {
            match checkpoint::evidence(&config.state.dir, version.0) {
                Ok((judged, schema)) => {
                    evidence.served(version.0, FieldsMoved::new(schema.as_ref(), &config.schema).evidence(judged).window);
                }
                Err(error) => tracing::debug!(%version, %error, "what the served version was judged on is not here"),
            }
        }
        let checkpoints = match durable.take() {
            None => None,
            Some(Durable { mut store, users }) => {
                let floor = publisher.as_ref().and_then(Publisher::highest_version).map_or(0, |version| version.0);
                let next_number = store.next_number(floor);
                let (in_publication, held) = (InPublication::default(), Held::of(publisher.as_ref()));
                let publishing = match publisher {
                    None => None,
                    Some(publisher) => {
                        let (publish_in, publish) = bounded(PUBLISHING);
                        let waiting = publish.clone();
                        let (dir, in_publication, shared) = (config.state.dir.clone(), in_publication.clone(), Arc::clone(&shared));
                        let held = held.clone();
                        threads.spawn("publish", move || {
                            let school = school.as_ref();
                            let rollout = RollingOut { dir: &dir, held: &held, school, shared: &shared, problem: None };
                            keeper::publish(publisher, &dir, &in_publication, rollout, &publish, school, &shared);
                            Ok(())
                        })?;
                        Some(Publishing { jobs: publish_in, waiting })
                    }
                };
                let (jobs_in, jobs) = bounded(JOBS);
                let (done_in, done) = bounded(JOBS);
                let keeper = Keeper {
                    store,
                    exporting: Exporting::new(&config),
                    users,
                    config_hash: config.hash(),
                    schema: config.schema.clone(),
                    quarantine,
                    evaluations: evaluations_in.clone(),
                    publishing,
                    in_publication,
                    held,
                    done: done_in,
                    shared: Arc::clone(&shared),
                };
                keeper.publish_unpublished();
                threads.spawn("checkpoint", move || {
                    keeper.run(&jobs);
                    Ok(())
                })?;
                Some(Checkpoints { jobs: jobs_in, done, next_number })
            }
        };
        let measuring = Arc::clone(&shared);
        threads.spawn("evaluate", move || keeper::evaluate(evaluator, &evaluations, &questions, &measuring))?;
        let trainer = Trainer {
            evidence,
            config,
            spec,
            learner,
            teaching,
            letters,
            progress,
            evaluations: evaluations_in,
            checkpoints,
            produced: Produced::default(),
            shared,
            health: health.clone(),
            schedule,
        };
        threads.spawn("trainer", move || trainer.run(&batches, &commands))?;
        health.ready(true);
        Ok(Running { threads, control, health })
    }

    /// Handle.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for the end. Blocking.
    ///
    /// # Errors
    /// [`PipelineError`]: the first one of any thread.
    pub fn join(self) -> Result<Summary, PipelineError> {
        let ended = self.threads.join();
        self.health.ready(false);
        let shared = &self.control.shared;
        ended.map(|()| Summary { status: shared.status(), seconds: shared.seconds() })
    }
}

/// Threads as they are started; an error of one stops all.
pub(super) struct Threads {
    list: Vec<(&'static str, JoinHandle<()>)>,
    shared: Arc<Shared>,
}

impl Threads {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Threads { list: Vec::new(), shared }
    }

    /// What they share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits for all; gives the first error of any.
    pub(super) fn join(self) -> Result<(), PipelineError> {
        for (name, thread) in self.list {
            if thread.join().is_err() {
                self.shared.fail(PipelineError::Panicked(name));
            }
        }
        self.shared.take_failure().map_or(Ok(()), Err)
    }

    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<(), PipelineError> + Send + 'static,
    ) -> Result<(), PipelineError> {
        let shared = Arc::clone(&self.shared);
        let guarded = move || {
            let unfinished = StopOnPanic(&shared);
            if let Err(error) = work() {
                shared.fail(error);
            }
            std::mem::forget(unfinished);
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map_err(|e| PipelineError::Spawn(name, e))?;
        self.list.push((name, thread));
        Ok(())
    }
}

/// Stops reading when its thread unwinds; `join` then reports the panic.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
