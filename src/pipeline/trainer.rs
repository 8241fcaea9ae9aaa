//! The thread that owns the model: step, books, and when to checkpoint and publish.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::PipelineError;
use super::evidence::{Collector, Kept};
use super::keeper::{Boundary, CheckpointJob, Evaluation, PublishReply, now_ms};
use super::letters::Letters;
use super::progress::Progress;
use super::shared::Shared;
use super::teaching::Teaching;
use crate::batch::{Batch, BatchBuilder, News, Pace, Produced};
use crate::checkpoint::{Commit, ProbeSample, PublishMark};
use crate::config::Config;
use crate::domain::{Books, EventTime, Field, Origin, Sample, ScoredSample, Stage, UserId};
use crate::features::FeatureSpec;
use crate::stream::DeadLetter;
use crate::telemetry::{Health, names};
use crate::train::{Learner, StepReport};
use crate::wire::snapshot::field_to_json;

/// How often an idle loop shows that it lives, and looks whether a checkpoint is due.
const TICK: Duration = Duration::from_millis(100);
/// How long rows of a capture are copied after a step: a small part of one. A million rows take some fifty steps.
const SLICE: Duration = Duration::from_millis(4);
/// Rows copied between two looks at the clock: a tenth of a millisecond.
const ROWS_PER_LOOK: usize = 512;
/// What `samples_per_s` looks back on.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// What the training thread can be asked from outside.
pub(super) enum Command {
    /// Checkpoint and publish now.
    SnapshotNow(PublishReply),
}

/// Where checkpoints go.
pub(super) struct Checkpoints {
    pub(super) jobs: Sender<CheckpointJob>,
    /// Whether each job was committed.
    pub(super) done: Receiver<bool>,
    pub(super) next_number: u64,
}

/// Owns the learner and the books.
pub(super) struct Trainer {
    pub(super) config: Config,
    pub(super) spec: FeatureSpec,
    pub(super) learner: Learner,
    pub(super) teaching: Teaching,
    pub(super) letters: Letters,
    pub(super) progress: Progress,
    pub(super) evidence: Collector,
    pub(super) evaluations: Sender<Evaluation>,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) shared: Arc<Shared>,
    pub(super) health: Health,
    pub(super) schedule: Schedule,
    /// When what was trained since the last version was produced.
    pub(super) produced: Produced,
}

/// What is due when.
pub(super) struct Schedule {
    /// A checkpoint was begun and has not landed.
    in_flight: bool,
    /// Its rows are still being copied.
    copying: Option<Boundary>,
    /// Captures since the last one with all rows; `None`: the next must have all rows.
    since_full: Option<u64>,
    checkpointed: Mark,
    published: Mark,
    /// `published` as commits say it.
    publish_mark: PublishMark,
    /// Events done when last checkpointed.
    done: u64,
    waiting: Vec<PublishReply>,
    probes: VecDeque<(EventTime, Arc<[Field]>)>,
    rate: VecDeque<(Instant, u64)>,
    shown: Instant,
}

/// When something last happened, in samples and in time.
struct Mark {
    samples: u64,
    at: Instant,
}

impl Mark {
    /// As of a moment on the wall clock, which a restart does not set back. One that lies ahead (the clock was set) counts as now.
    fn recovered(samples: u64, at_ms: i64) -> Self {
        let now = Instant::now();
        let age = Duration::from_millis(u64::try_from(now_ms().saturating_sub(at_ms)).unwrap_or(0));
        Mark { samples, at: now.checked_sub(age).unwrap_or(now) }
    }
}

impl Schedule {
    /// Counts on from what was recovered and from the commit that it was recovered from, so that a daemon that never lives for long comes
    /// to checkpoint and to publish all the same.
    pub(super) fn new(books: &Books, probes: VecDeque<(EventTime, Arc<[Field]>)>, commit: Option<&Commit>) -> Self {
        let (now, samples) = (Instant::now(), books.samples);
        let at_ms = commit.map_or_else(now_ms, |commit| commit.created_ms);
        let publish_mark = commit.and_then(|commit| commit.publish_mark).unwrap_or(PublishMark { number: None, samples, at_ms });
        Schedule {
            in_flight: false,
            copying: None,
            since_full: None,
            checkpointed: Mark::recovered(samples, at_ms),
            published: Mark::recovered(publish_mark.samples, publish_mark.at_ms),
            publish_mark,
            done: books.done(),
            waiting: Vec::new(),
            probes,
            rate: VecDeque::from([(now, samples)]),
            shown: now,
        }
    }
}

impl Trainer {
    /// Trains until no more batches come, then commits what is left.
    ///
    /// # Errors
    /// [`PipelineError::NotCommitted`].
    pub(super) fn run(mut self, batches: &Receiver<Batch>, commands: &Receiver<Command>) -> Result<(), PipelineError> {
        loop {
            // While rows are to be copied, an idle moment is not waited away.
            let patience = if self.schedule.copying.is_some() { Duration::ZERO } else { TICK };
            select! {
                recv(batches) -> batch => match batch {
                    Ok(batch) => if self.batch(batch).is_none() { break },
                    Err(_) => break,
                },
                recv(commands) -> command => if let Ok(Command::SnapshotNow(reply)) = command {
                    self.schedule.waiting.push(reply);
                },
                default(patience) => {}
            }
            self.health.progress();
            if self.copy_some().is_none() || self.checkpoint_if_due().is_none() {
                break;
            }
            if self.schedule.shown.elapsed() >= TICK {
                self.show();
            }
        }
        self.finish()
    }

    /// One step. `None`: the evaluating thread is gone, or a stop came before dead letters were acknowledged.
    fn batch(&mut self, mut batch: Batch) -> Option<()> {
        for news in std::mem::take(&mut batch.news) {
            if matches!(news, News::Contradicted(..)) {
                // To be committed, even where nothing was done since.
                self.schedule.done = 0;
            }
            self.progress.hear(news);
        }
        for ended in std::mem::take(&mut batch.ended) {
            self.progress.ended(ended);
        }
        if batch.rows() == 0 {
            let closed = self.progress.closed(&batch.closed);
            return self.observe(closed);
        }
        if let Some(version) = self.teaching.attend(&mut self.learner, self.progress.books().samples) {
            self.shared.update(|status| status.teacher = Some(version));
        }
        let started = Instant::now();
        let report = self.learner.step(&batch);
        metrics::histogram!(names::STEP_SECONDS).record(started.elapsed());
        if !report.applied {
            return self.refused(batch, report.loss);
        }
        self.produced.merge(&batch.produced);
        self.keep_raw(&mut batch, &report);
        let scored = self.progress.trained(batch, &report);
        self.observe(scored)
    }

    /// Keeps some of the samples as they came, for probes and for gates.
    fn keep_raw(&mut self, batch: &mut Batch, report: &StepReport) {
        let sampled = self.config.train.negatives.keep;
        let judged = self.checkpoints.is_some() && self.config.publish.enabled && self.config.publish.gates.enabled;
        for (row, fields) in std::mem::take(&mut batch.raw) {
            let (time, fields): (_, Arc<[Field]>) = (batch.times[row], fields.into());
            if self.schedule.probes.len() >= self.config.publish.probes {
                self.schedule.probes.pop_front();
            }
            self.schedule.probes.push_back((time, Arc::clone(&fields)));
            let Some(logit) = report.scores.light.as_ref().and_then(|logits| logits.get(row)) else { continue };
            // Early labels can still change: nothing is judged by them.
            if judged && batch.stages[row] == Stage::Final {
                let (label, user) = (batch.labels[row], batch.users[row].clone());
                let weight = if label { 1.0 } else { 1.0 / sampled };
                // From the odds of what was sampled to those of the stream.
                let logit = logit + sampled.ln() as f32;
                self.evidence.add(Kept { time, user, label, weight, logit, fields });
            }
        }
    }

    /// The step of this batch had something in it that was not finite: its events become dead letters, and nothing was learnt from them.
    fn refused(&mut self, batch: Batch, loss: f64) -> Option<()> {
        let rows = batch.rows();
        tracing::error!(rows, loss, "step not applied: loss or gradient is not finite");
        metrics::counter!(names::STEPS_REFUSED).increment(1);
        let letter = |origin: &Origin| DeadLetter {
            partition: self.progress.partition(*origin),
            offset: origin.offset,
            key: None,
            payload: None,
            stage: "train",
            class: "NonFiniteStep".to_owned(),
            message: format!("the loss ({loss}) or a gradient of its batch of {rows} samples is not finite; nothing was learnt from it"),
        };
        let letters: Vec<_> = batch.origins.iter().flatten().map(letter).collect();
        self.letters.bury(&letters).ok()?;
        let closed = self.progress.dead_lettered(batch);
        self.observe(closed)
    }

    /// Hands on samples whose labels are final. `None`: the evaluating thread is gone.
    fn observe(&self, scored: Vec<ScoredSample>) -> Option<()> {
        if scored.is_empty() { Some(()) } else { self.evaluations.send(Evaluation::Observe(scored)).ok() }
    }

    /// Starts a checkpoint if one is due and none is on its way. `None`: the checkpointing thread is gone.
    fn checkpoint_if_due(&mut self) -> Option<()> {
        let Some(checkpoints) = &self.checkpoints else {
            for reply in self.schedule.waiting.drain(..) {
                let _gone = reply.send(Err("this pipeline keeps nothing on disk".to_owned()));
            }
            return Some(());
        };
        if self.schedule.in_flight {
            match checkpoints.done.try_recv() {
                Ok(committed) => self.landed(committed),
                Err(crossbeam_channel::TryRecvError::Empty) => return Some(()),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return None,
            }
        }
        let books = self.progress.books();
        let publish = self.config.publish.enabled
            && books.samples > self.schedule.published.samples
            && due(&self.schedule.published, books.samples, self.config.publish.every_samples, self.config.publish.every.0);
        let checkpoint = books.done() > self.schedule.done
            && due(&self.schedule.checkpointed, books.samples, self.config.checkpoint.every_samples, self.config.checkpoint.every.0);
        if publish || checkpoint || !self.schedule.waiting.is_empty() { self.checkpoint(publish) } else { Some(()) }
    }

    /// Takes what is small of everything as it is now; rows are copied from here on.
    fn checkpoint(&mut self, publish: bool) -> Option<()> {
        let started = Instant::now();
        let probes = self.probes();
        let checkpoints = self.checkpoints.as_mut()?;
        let full = self.schedule.since_full.is_none_or(|n| n + 1 >= self.config.checkpoint.full_every);
        let number = checkpoints.next_number;
        checkpoints.next_number += 1;
        let replies = std::mem::take(&mut self.schedule.waiting);
        let publish = publish || !replies.is_empty();
        // 1: one answer.
        let (answer, evaluation) = bounded(1);
        self.evaluations.send(Evaluation::Checkpoint(number, answer)).ok()?;
        let (books, counted) = (self.progress.books(), self.progress.counted());
        if counted != books.done() {
            tracing::error!(positions = counted, books = books.done(), "the books do not add up: please report this");
        }
        let mark = || Mark { samples: books.samples, at: Instant::now() };
        self.schedule.done = books.done();
        self.schedule.checkpointed = mark();
        if publish {
            self.schedule.published = mark();
            self.schedule.publish_mark = PublishMark { number: Some(number), samples: books.samples, at_ms: now_ms() };
        }
        self.schedule.since_full = Some(if full { 0 } else { self.schedule.since_full.unwrap_or(0) + 1 });
        self.schedule.in_flight = true;
        self.learner.begin_capture(full);
        let (progress, publish_mark) = (self.progress.copy(), self.schedule.publish_mark);
        self.evidence.promoted(self.shared.promoted());
        let evidence = self.evidence.copy();
        if publish {
            self.evidence.close(number);
            self.shared.has_learnt(number, std::mem::take(&mut self.produced));
        }
        self.schedule.copying = Some(Boundary { number, progress, probes, evidence, evaluation, publish, publish_mark, replies });
        metrics::histogram!(names::CHECKPOINT_HOLD_SECONDS).record(started.elapsed());
        Some(())
    }

    /// Copies rows for a moment, if a capture is under way. `None`: the checkpointing thread is gone.
    fn copy_some(&mut self) -> Option<()> {
        if self.schedule.copying.is_none() {
            return Some(());
        }
        let started = Instant::now();
        while started.elapsed() < SLICE {
            if self.learner.copy(ROWS_PER_LOOK) == 0 {
                self.send_off()?;
                break;
            }
        }
        metrics::histogram!(names::CHECKPOINT_HOLD_SECONDS).record(started.elapsed());
        Some(())
    }

    /// Copies what is left, if a capture is under way, and sends all of it off. `None`: the checkpointing thread is gone.
    fn send_off(&mut self) -> Option<()> {
        let Some(boundary) = self.schedule.copying.take() else { return Some(()) };
        let learner = self.learner.end_capture()?;
        self.checkpoints.as_ref()?.jobs.send(CheckpointJob { boundary, learner }).ok()
    }

    fn landed(&mut self, committed: bool) {
        self.schedule.in_flight = false;
        if !committed {
            // What was captured is lost to the chain of touched rows.
            self.schedule.since_full = None;
            self.schedule.done = 0;
        }
    }

    /// The newest raw samples with the light net's logits as a server computes them, by the weights as they are now.
    fn probes(&self) -> Vec<ProbeSample> {
        let rows = self.schedule.probes.len();
        let mut builder = BatchBuilder::new(self.spec.for_serving(), Pace { rows: rows + 1, linger_ms: i64::MAX }, 0);
        for (time, fields) in &self.schedule.probes {
            let sample = Sample {
                origins: Vec::new(),
                time: *time,
                impression: None,
                user: UserId("".into()),
                label: false,
                stage: Stage::Final,
                fields: fields.to_vec().into(),
            };
            builder.push(sample, 0);
        }
        let Some(batch) = builder.flush() else { return Vec::new() };
        // Without a light head nothing is served, and there is nothing to test.
        let Some(logits) = self.learner.predict(&batch).light else { return Vec::new() };
        let probes = self.schedule.probes.iter().zip(logits);
        probes
            .map(|((time, fields), logit)| ProbeSample { time_ms: time.0, fields: fields.iter().map(field_to_json).collect(), logit })
            .collect()
    }

    /// Commits what is not committed yet, publishing nothing unless somebody waits for it.
    fn finish(mut self) -> Result<(), PipelineError> {
        self.show();
        if self.checkpoints.is_none() {
            return Ok(());
        }
        self.wait_for_checkpoint();
        if self.progress.books().done() > self.schedule.done || !self.schedule.waiting.is_empty() {
            self.checkpoint(false).ok_or(PipelineError::NotCommitted)?;
            self.wait_for_checkpoint();
        }
        if self.progress.books().done() > self.schedule.done { Err(PipelineError::NotCommitted) } else { Ok(()) }
    }

    fn wait_for_checkpoint(&mut self) {
        let sent = self.send_off();
        if let Some(checkpoints) = &self.checkpoints
            && self.schedule.in_flight
        {
            // A thread that is gone has failed the pipeline itself.
            let committed = sent.is_some() && checkpoints.done.recv().unwrap_or(false);
            self.landed(committed);
        }
    }

    /// Shows the books to whoever asks.
    fn show(&mut self) {
        let now = Instant::now();
        let books = self.progress.books().clone();
        let rate = &mut self.schedule.rate;
        while rate.len() > 1 && now.duration_since(rate[0].0) > RATE_WINDOW {
            rate.pop_front();
        }
        let (since, samples) = rate[0];
        let samples_per_s = (books.samples - samples) as f64 / now.duration_since(since).as_secs_f64().max(f64::EPSILON);
        rate.push_back((now, books.samples));
        self.schedule.shown = now;
        let positions = self.progress.positions();
        let table_rows = self.learner.table_rows() as u64;
        self.shared.update(|status| {
            status.books = books;
            status.samples_per_s = samples_per_s;
            status.positions = positions;
            status.table_rows = table_rows;
        });
    }
}

fn due(mark: &Mark, samples: u64, every_samples: u64, every: Duration) -> bool {
    samples.saturating_sub(mark.samples) >= every_samples || mark.at.elapsed() >= every
}
