//! The threads that keep what was learnt: evaluate (reads users), checkpoint (owns the files and writes users), publish (owns the snapshot
//! topic).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, select, tick};

use super::PipelineError;
use super::evidence::EvidenceCopy;
use super::exporting::Exporting;
use super::progress::{ProgressCopy, Recovered};
use super::rolling::{Held, RollingOut};
use super::shared::Shared;
use super::status::HeldBack;
use super::teaching::School;
use crate::checkpoint::{CheckpointStore, Commit, Draft, ProbeSample, PublishMark};
use crate::config::SchemaConfig;
use crate::domain::{Quarantine, ScoredSample, Version};
use crate::evaluate::{Capture, Evaluator, Rise, UserLine, UserWriter};
use crate::publish::{PublishError, Published, Publisher};
use crate::store::{SledWriter, StoreError};
use crate::telemetry::names;
use crate::train::LearnerCopy;

/// How often the report that `status` shows is made anew while samples come.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Where the answer to a `snapshot now` goes.
pub(super) type PublishReply = Sender<Result<Published, String>>;

/// What the evaluating thread is told, in the order in which it happened.
pub(super) enum Evaluation {
    /// The labels of these are final.
    Observe(Vec<ScoredSample>),
    /// Answer with everything as of now, to be written under this number.
    Checkpoint(u64, Sender<Capture>),
    /// This checkpoint is committed.
    Committed(u64),
}

/// A question to the evaluating thread. On a channel of its own: handles that ask must not keep the thread alive.
pub(super) struct TopUsers {
    pub(super) n: usize,
    pub(super) reply: Sender<Result<Vec<UserLine>, String>>,
}

/// Measures until nobody is left to tell it anything.
pub(super) fn evaluate(
    evaluator: Evaluator,
    inbox: &Receiver<Evaluation>,
    questions: &Receiver<TopUsers>,
    shared: &Arc<Shared>,
) -> Result<(), PipelineError> {
    // A question is answered beside the measuring: it reads every user.
    thread::scope(|scope| measure(evaluator, inbox, questions, shared, scope))
}

fn measure<'scope>(
    mut evaluator: Evaluator,
    inbox: &Receiver<Evaluation>,
    questions: &Receiver<TopUsers>,
    shared: &'scope Arc<Shared>,
    scope: &'scope Scope<'scope, '_>,
) -> Result<(), PipelineError> {
    let ticker = tick(REPORT_EVERY);
    let mut answering: Option<ScopedJoinHandle<'_, ()>> = None;
    let mut fresh = false;
    loop {
        select! {
            recv(inbox) -> message => match message {
                Ok(Evaluation::Observe(samples)) => {
                    if let Some(Rise { time_ms, before, after }) = evaluator.observe(&samples)? {
                        tracing::warn!(time_ms, before, after, "drift: the log loss of what is served has risen");
                    }
                    fresh = true;
                }
                Ok(Evaluation::Checkpoint(number, answer)) => {
                    // A checkpointing thread that is gone has failed, and says so itself.
                    let _gone = answer.send(evaluator.capture(number));
                }
                Ok(Evaluation::Committed(number)) => evaluator.committed(number),
                Err(_) => break,
            },
            recv(questions) -> question => if let Ok(TopUsers { n, reply }) = question {
                if answering.as_ref().is_some_and(|thread| !thread.is_finished()) {
                    let _gone = reply.send(Err("users are being ranked for somebody else; try again".to_owned()));
                } else {
                    let users = evaluator.top_users();
                    let rank = move || {
                        let ranked = users.rank(n, || shared.stopping()).map_err(|e| e.to_string());
                        let _gone = reply.send(ranked.and_then(|ranked| ranked.ok_or_else(|| "the pipeline is stopping".to_owned())));
                    };
                    let thread = thread::Builder::new().name("top users".to_owned()).spawn_scoped(scope, rank);
                    answering = Some(thread.map_err(|e| PipelineError::Spawn("top users", e))?);
                }
            },
            recv(ticker) -> _ => if std::mem::take(&mut fresh) {
                shared.set_report(evaluator.report());
            },
        }
    }
    shared.set_report(evaluator.report());
    Ok(())
}

/// Everything that is taken at once between two batches, but the learner's state.
pub(super) struct Boundary {
    pub(super) number: u64,
    pub(super) progress: ProgressCopy,
    pub(super) probes: Vec<ProbeSample>,
    pub(super) evidence: EvidenceCopy,
    pub(super) evaluation: Receiver<Capture>,
    /// Publish it once it is committed.
    pub(super) publish: bool,
    pub(super) publish_mark: PublishMark,
    /// Who wants to know.
    pub(super) replies: Vec<PublishReply>,
}

/// A copy of everything the training thread owns, as of one boundary between two batches.
pub(super) struct CheckpointJob {
    pub(super) boundary: Boundary,
    pub(super) learner: LearnerCopy,
}

/// Numbers that are to be published or just are: kept from retention.
#[derive(Debug, Clone, Default)]
pub(super) struct InPublication(Arc<Mutex<BTreeSet<u64>>>);

impl InPublication {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<u64>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes checkpoints. One at a time: the training thread waits for `done` before it sends the next.
pub(super) struct Keeper {
    pub(super) store: CheckpointStore,
    pub(super) users: SledWriter,
    pub(super) exporting: Exporting,
    pub(super) config_hash: String,
    pub(super) schema: SchemaConfig,
    /// Skipped for good: part of every commit.
    pub(super) quarantine: Quarantine,
    pub(super) evaluations: Sender<Evaluation>,
    pub(super) publishing: Option<Publishing>,
    pub(super) in_publication: InPublication,
    pub(super) held: Held,
    /// Whether each job was committed.
    pub(super) done: Sender<bool>,
    pub(super) shared: Arc<Shared>,
}

impl Keeper {
    /// Ends with its jobs, or with the per-user store: sled refuses everything after a write that failed, and the next start recovers it.
    pub(super) fn run(mut self, jobs: &Receiver<CheckpointJob>) {
        if let Err(error) = self.work(jobs) {
            // While `done` is still there: the training thread, which then finds that nobody commits any more, must not be first to say so.
            self.shared.fail(error.into());
        }
    }

    fn work(&mut self, jobs: &Receiver<CheckpointJob>) -> Result<(), StoreError> {
        for job in jobs {
            let committed = self.commit(job)?;
            if self.done.send(committed).is_err() {
                break;
            }
            if committed && !self.shared.stopping() {
                self.exporting.if_due(&self.users, &self.shared)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, job: CheckpointJob) -> Result<bool, StoreError> {
        let started = Instant::now();
        let CheckpointJob { boundary: job, learner } = job;
        let number = job.number;
        let learner = learner.state();
        let Recovered { positions, books, memory, open } = job.progress.recovered();
        // The evaluating thread answers or ends; when it ends, it has already failed the pipeline.
        let Ok(mut capture) = job.evaluation.recv() else { return Ok(false) };
        match self.users.write(number, &mut capture.records()) {
            Ok(()) => {}
            Err(error @ StoreError::NoRoom { .. }) => return Ok(self.failed(number, &error, job.replies)),
            Err(error) => {
                refuse(job.replies, &format!("checkpoint {number} failed: {error}"));
                return Err(error);
            }
        }
        let draft = Draft {
            number,
            learner,
            memory,
            open,
            probes: job.probes,
            evidence: job.evidence.written(),
            schema: self.schema.clone(),
            positions,
            books,
            evaluation: capture.aggregates,
            report: capture.report,
            config_hash: self.config_hash.clone(),
            created_ms: now_ms(),
            published: self.shared.published(),
            quarantine: self.quarantine.clone(),
            publish_mark: job.publish_mark,
        };
        let mut needed = self.exporting.needed();
        self.in_publication.change(|numbers| needed.extend(numbers.iter()));
        needed.extend(self.held.numbers());
        let commit = match self.store.write(draft, &needed) {
            Ok(commit) => commit.clone(),
            Err(error) => return Ok(self.failed(number, &error, job.replies)),
        };
        self.users.committed(number);
        metrics::histogram!(names::CHECKPOINT_SECONDS).record(started.elapsed());
        tracing::info!(checkpoint = number, samples = commit.books.samples, ms = started.elapsed().as_millis(), "checkpoint committed");
        let (size, live) = (self.users.size_on_disk()?, self.users.live_bytes());
        if self.users.is_bloated()? {
            tracing::warn!(bytes = size, live, "the per-user store has outgrown its users; the next start builds it anew");
        }
        self.shared.update(|status| {
            status.checkpoint = Some(Version(number));
            status.checkpoint_ms = Some(commit.created_ms);
            status.checkpoint_problem = None;
            (status.users_store_bytes, status.users_live_bytes) = (size, live);
        });
        self.shared.advise(commit.positions.clone());
        let _gone = self.evaluations.send(Evaluation::Committed(number));
        if job.publish {
            self.publish(PublishJob { commit, replies: job.replies });
        }
        Ok(true)
    }

    /// Says that a checkpoint is not committed, and returns so.
    fn failed(&self, number: u64, error: &dyn std::fmt::Display, replies: Vec<PublishReply>) -> bool {
        tracing::error!(checkpoint = number, %error, "checkpoint failed; training goes on, the next one writes everything");
        let problem = format!("checkpoint {number} failed: {error}");
        refuse(replies, &problem);
        self.shared.update(|status| status.checkpoint_problem = Some(problem));
        false
    }

    /// Publishes the checkpoint whose publication the run before did not see through: the same bytes under the same version, nothing where
    /// they are on the topic already.
    pub(super) fn publish_unpublished(&self) {
        let Some(number) = self.store.latest().and_then(Commit::unpublished).filter(|_| self.publishing.is_some()) else { return };
        match self.store.commit(number) {
            Ok(commit) => {
                tracing::info!(version = number, "was committed to be published and may not have been; it is published now");
                self.publish(PublishJob { commit, replies: Vec::new() });
            }
            Err(error) => tracing::warn!(version = number, %error, "was to be published and cannot be any more; the next version will"),
        }
    }

    /// Hands a version to the publisher. One that still waits there gives way to it: what is newer is what servers want, and whoever waits
    /// for the older one is answered with the newer.
    fn publish(&self, mut job: PublishJob) {
        let Some(Publishing { jobs, waiting }) = &self.publishing else {
            refuse(job.replies, "publish.enabled is false in the configuration");
            return;
        };
        self.in_publication.change(|numbers| numbers.insert(job.commit.number));
        while let Err(error) = jobs.try_send(job) {
            job = match error {
                TrySendError::Full(job) => job,
                // It has failed the pipeline itself.
                TrySendError::Disconnected(job) => return refuse(job.replies, "the pipeline is stopping"),
            };
            if let Ok(older) = waiting.try_recv() {
                let (number, newer) = (older.commit.number, job.commit.number);
                self.in_publication.change(|numbers| numbers.remove(&number));
                tracing::info!(version = number, newer, "not published: a newer version was there before the publisher came to it");
                job.replies.extend(older.replies);
            }
        }
    }
}

/// The way to the publishing thread.
pub(super) struct Publishing {
    pub(super) jobs: Sender<PublishJob>,
    /// The other end, to take back what has not been begun.
    pub(super) waiting: Receiver<PublishJob>,
}

/// A committed checkpoint to be published.
pub(super) struct PublishJob {
    commit: Commit,
    replies: Vec<PublishReply>,
}

/// Publishes committed checkpoints, read back from their files; what is promoted becomes the teacher, where the rule has one. Between them it
/// sees to what is being rolled out.
pub(super) fn publish(
    mut publisher: Publisher,
    dir: &Path,
    in_publication: &InPublication,
    mut rollout: RollingOut<'_>,
    jobs: &Receiver<PublishJob>,
    school: Option<&School>,
    shared: &Arc<Shared>,
) {
    loop {
        let PublishJob { commit, replies } = match jobs.recv_timeout(RollingOut::patience(&publisher)) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                rollout.advance(&mut publisher);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (number, started) = (commit.number, Instant::now());
        let result = CheckpointStore::load(dir, &commit).map_err(|e| e.to_string()).and_then(|loaded| {
            let published = publisher.publish(&commit, &loaded, now_ms()).map_err(|e: PublishError| e.to_string())?;
            if let Some(school) = school.filter(|_| published.promoted) {
                school.send(published.version, &loaded.learner);
            }
            Ok(published)
        });
        rollout.look(&mut publisher);
        in_publication.change(|numbers| numbers.remove(&number));
        match &result {
            Ok(published) => {
                metrics::histogram!(names::PUBLISH_SECONDS).record(started.elapsed());
                tracing::info!(version = number, bytes = published.bytes, promoted = published.promoted, "snapshot published");
                note_gates(published, shared);
                shared.update(|status| {
                    status.published = Some(published.version);
                    status.promoted = published.promoted;
                    status.publish_problem = published.held_by.clone();
                });
            }
            Err(problem) => {
                tracing::error!(version = number, problem, "snapshot not published");
                shared.update(|status| status.publish_problem = Some(problem.clone()));
            }
        }
        for reply in replies {
            let _gone = reply.send(result.clone());
        }
    }
}

/// Says whether versions are held back: in status, metrics and log.
fn note_gates(published: &Published, shared: &Shared) {
    let Published { version, promoted, failed, .. } = published;
    if *promoted {
        shared.was_promoted(version.0);
    }
    for verdict in failed {
        tracing::error!(version = version.0, "held back: {verdict}");
        metrics::counter!(names::GATES_FAILED, "gate" => verdict.gate.clone()).increment(1);
    }
    metrics::gauge!(names::HELD_BACK).set(f64::from(u8::from(!failed.is_empty())));
    shared.update(|status| {
        let since_ms = status.held_back.as_ref().map_or_else(now_ms, |held| held.since_ms);
        let gates = failed.clone();
        status.held_back = (!failed.is_empty()).then_some(HeldBack { version: *version, since_ms, gates });
    });
}

fn refuse(replies: Vec<PublishReply>, why: &str) {
    for reply in replies {
        let _gone = reply.send(Err(why.to_owned()));
    }
}

/// Wall clock, milliseconds since the epoch: for records that people read, and for what must be known after a restart, when another clock
/// begins anew.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
