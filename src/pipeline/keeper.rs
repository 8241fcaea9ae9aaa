//! The threads that keep what was learnt: evaluate (owns sled), checkpoint (owns the files), publish (owns the snapshot topic).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, TrySendError, select, tick};

use super::PipelineError;
use super::progress::{ProgressCopy, Recovered};
use super::shared::Shared;
use super::teaching::School;
use crate::checkpoint::{CheckpointStore, Commit, Draft, ProbeSample, PublishMark};
use crate::domain::{ScoredSample, Version};
use crate::evaluate::{AggregateState, Evaluator, Report, Rise, UserLine};
use crate::publish::{PublishError, Published, Publisher};
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
    /// Make users durable under this number and answer with the aggregates.
    Checkpoint(u64, Sender<(AggregateState, Report)>),
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
    mut evaluator: Evaluator,
    inbox: &Receiver<Evaluation>,
    questions: &Receiver<TopUsers>,
    shared: &Arc<Shared>,
) -> Result<(), PipelineError> {
    let ticker = tick(REPORT_EVERY);
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
                    let state = evaluator.checkpoint(number)?;
                    // A checkpointing thread that is gone has failed, and says so itself.
                    let _gone = answer.send((state, evaluator.report()));
                }
                Ok(Evaluation::Committed(number)) => evaluator.committed(number),
                Err(_) => break,
            },
            recv(questions) -> question => if let Ok(TopUsers { n, reply }) = question {
                let _gone = reply.send(evaluator.top_users(n).map_err(|e| e.to_string()));
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
    pub(super) evaluation: Receiver<(AggregateState, Report)>,
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
    pub(super) config_hash: String,
    pub(super) evaluations: Sender<Evaluation>,
    pub(super) publishing: Option<Sender<PublishJob>>,
    pub(super) in_publication: InPublication,
    /// Whether each job was committed.
    pub(super) done: Sender<bool>,
    pub(super) shared: Arc<Shared>,
}

impl Keeper {
    pub(super) fn run(mut self, jobs: &Receiver<CheckpointJob>) {
        for job in jobs {
            let committed = self.commit(job);
            if self.done.send(committed).is_err() {
                break;
            }
        }
    }

    fn commit(&mut self, job: CheckpointJob) -> bool {
        let started = Instant::now();
        let CheckpointJob { boundary: job, learner } = job;
        let number = job.number;
        let learner = learner.state();
        let Recovered { positions, books, memory, open } = job.progress.recovered();
        // The evaluating thread answers or ends; when it ends, it has already failed the pipeline.
        let Ok((evaluation, report)) = job.evaluation.recv() else { return false };
        let draft = Draft {
            number,
            learner,
            memory,
            open,
            probes: job.probes,
            positions,
            books,
            evaluation,
            report,
            config_hash: self.config_hash.clone(),
            created_ms: now_ms(),
            published: self.shared.published(),
            publish_mark: job.publish_mark,
        };
        let in_publication = self.in_publication.change(|numbers| numbers.clone());
        let commit = match self.store.write(draft, &in_publication) {
            Ok(commit) => commit,
            Err(error) => {
                tracing::error!(checkpoint = number, %error, "checkpoint failed; training goes on, the next one writes everything");
                refuse(job.replies, &format!("checkpoint {number} failed: {error}"));
                return false;
            }
        };
        metrics::histogram!(names::CHECKPOINT_SECONDS).record(started.elapsed());
        tracing::info!(checkpoint = number, samples = commit.books.samples, ms = started.elapsed().as_millis(), "checkpoint committed");
        self.shared.update(|status| {
            status.checkpoint = Some(Version(number));
            status.checkpoint_ms = Some(commit.created_ms);
        });
        self.shared.advise(commit.positions.clone());
        let _gone = self.evaluations.send(Evaluation::Committed(number));
        if job.publish {
            let commit = commit.clone();
            self.publish(PublishJob { commit, replies: job.replies });
        }
        true
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

    fn publish(&self, job: PublishJob) {
        let Some(publishing) = &self.publishing else {
            refuse(job.replies, "publish.enabled is false in the configuration");
            return;
        };
        let number = job.commit.number;
        self.in_publication.change(|numbers| numbers.insert(number));
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = publishing.try_send(job) {
            self.in_publication.change(|numbers| numbers.remove(&number));
            tracing::warn!(version = number, "not published: the publisher is still busy with an earlier version");
            refuse(job.replies, "the publisher is still busy with an earlier version; try again");
        }
    }
}

/// A committed checkpoint to be published.
pub(super) struct PublishJob {
    commit: Commit,
    replies: Vec<PublishReply>,
}

/// Publishes committed checkpoints, read back from their files; what is promoted becomes the teacher, where the rule has one.
pub(super) fn publish(
    mut publisher: Publisher,
    dir: &Path,
    in_publication: &InPublication,
    jobs: &Receiver<PublishJob>,
    school: Option<&School>,
    shared: &Arc<Shared>,
) {
    for PublishJob { commit, replies } in jobs {
        let (number, started) = (commit.number, Instant::now());
        let result = CheckpointStore::load(dir, &commit).map_err(|e| e.to_string()).and_then(|loaded| {
            let published = publisher.publish(&commit, &loaded, now_ms()).map_err(|e: PublishError| e.to_string())?;
            if let Some(school) = school.filter(|_| published.promoted) {
                school.send(published.version, &loaded.learner);
            }
            Ok(published)
        });
        in_publication.change(|numbers| numbers.remove(&number));
        match &result {
            Ok(published) => {
                metrics::histogram!(names::PUBLISH_SECONDS).record(started.elapsed());
                tracing::info!(version = number, bytes = published.bytes, promoted = published.promoted, "snapshot published");
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
