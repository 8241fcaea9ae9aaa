//! What was committed, read back before anything starts.
//!
//! Weights never depend on sled. Where the per-user store is lost, damaged or of another age, it is set aside, and the newest commit whose
//! users are still to be had (in the store itself or in an export) becomes the state to go on from, whole: weights, positions, join memory
//! and metrics. What came after it is read again, so nothing is lost or counted twice. Where there is no such commit, or the source does
//! not reach back that far, the newest one is gone on from and metrics start afresh, said loudly in log and status.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::keeper::now_ms;
use super::progress::Recovered;
use super::schema_change::{self, FieldsMoved};
use super::{OpenSource, PipelineError, State, Status, USERS_EXPORTS, USERS_STORE};
use crate::checkpoint::{CheckpointStore, Commit, Evidence, Loaded};
use crate::config::Config;
use crate::domain::{EventTime, Field, Version};
use crate::evaluate::{AggregateState, Evaluator, MemoryUsers};
use crate::store::{Export, Exports, SledUsers, SledWriter, StoreError, set_aside};
use crate::stream::{Source, StreamError};
use crate::train::Learner;
use crate::wire::snapshot::field_from_json;

/// State as of a commit.
pub(super) struct Recovery {
    /// None: nothing is kept.
    pub(super) durable: Option<Durable>,
    pub(super) evaluator: Evaluator,
    pub(super) source: Box<dyn Source>,
    pub(super) recovered: Recovered,
    pub(super) status: Status,
    /// Raw events of the commit's probes, oldest first: the next snapshot needs some before new ones come.
    pub(super) probes: VecDeque<(EventTime, Arc<[Field]>)>,
    /// What the next versions are judged on, likewise.
    pub(super) evidence: Evidence,
}

/// What the next commits are written to.
pub(super) struct Durable {
    pub(super) store: CheckpointStore,
    pub(super) users: SledWriter,
}

/// Both halves of the per-user store.
type Users = (SledUsers, SledWriter);

impl Recovery {
    /// Reads the commit to go on from, if any, into `learner` and the rest, and opens the source at its positions.
    pub(super) fn open(config: &Config, state: State, learner: &mut Learner, mut source: OpenSource) -> Result<Self, PipelineError> {
        let mut status = Status { model: config.name.clone(), device: config.train.device.clone(), ..Status::default() };
        if state == State::Memory {
            let evaluator = Evaluator::new(&config.evaluate, Arc::new(MemoryUsers::default()), AggregateState::default())?;
            let source = source(&[])?;
            return Ok(Recovery::afresh(None, evaluator, source, status));
        }
        let store = CheckpointStore::open(&config.state.dir, config.checkpoint.keep)?;
        let Some(commit) = store.latest().cloned() else {
            let (users, writer) = Keep::new(config, store).first()?;
            let evaluator = Evaluator::new(&config.evaluate, Arc::new(users), AggregateState::default())?;
            let (durable, source) = (Some(writer), source(&[])?);
            return Ok(Recovery::afresh(durable, evaluator, source, status));
        };
        let Start { commit, store, users: (users, writer), aggregates, source } =
            Keep::new(config, store).start(commit, &mut source, &mut status)?;
        let Loaded { learner: state, memory, open, probes, evidence, schema } = CheckpointStore::load(&config.state.dir, &commit)?;
        let moved = FieldsMoved::new(schema.as_ref(), &config.schema);
        status.warm_started = schema_change::restore(config, learner, state, schema.as_ref())?;
        let evaluator = Evaluator::new(&config.evaluate, Arc::new(users), aggregates)?;
        status.checkpoint = Some(Version(commit.number));
        status.checkpoint_ms = Some(commit.created_ms);
        status.quarantine = commit.quarantine.clone();
        status.published = commit.published.map(|published| published.version);
        status.promoted = commit.published.is_some_and(|published| published.promoted);
        tracing::info!(checkpoint = commit.number, samples = commit.books.samples, "recovered");
        let mut recovered = Recovered { positions: commit.positions, books: commit.books, memory, open };
        if config.early_labels().is_none() {
            recovered.close_for_good();
        }
        let probes = probes.iter().filter_map(|probe| raw_event(probe.time_ms, &moved.moved(&probe.fields)?)).collect();
        let evidence = moved.evidence(evidence);
        Ok(Recovery { durable: Some(Durable { store, users: writer }), evaluator, source, recovered, status, probes, evidence })
    }

    fn afresh(durable: Option<Durable>, evaluator: Evaluator, source: Box<dyn Source>, status: Status) -> Self {
        let (recovered, probes, evidence) = (Recovered::default(), VecDeque::new(), Evidence::default());
        Recovery { durable, evaluator, source, recovered, status, probes, evidence }
    }
}

/// `None` for what no field can be: such a probe is left out.
fn raw_event(time_ms: i64, fields: &[Value]) -> Option<(EventTime, Arc<[Field]>)> {
    let fields: Option<Arc<[Field]>> = fields.iter().map(field_from_json).collect();
    Some((EventTime(time_ms), fields?))
}

/// A commit, with users as of it and a source at its positions.
struct Start {
    commit: Commit,
    store: CheckpointStore,
    users: Users,
    aggregates: AggregateState,
    source: Box<dyn Source>,
}

/// A commit to go back to, likewise.
type Earlier = (Commit, Users, Box<dyn Source>);

/// Where the state lies.
struct Keep {
    store: CheckpointStore,
    exports: Exports,
    model: String,
    users_dir: PathBuf,
    cache: u64,
}

impl Keep {
    fn new(config: &Config, store: CheckpointStore) -> Self {
        let dir = &config.state.dir;
        Keep {
            store,
            exports: Exports::new(&dir.join(USERS_EXPORTS)),
            model: config.name.clone(),
            users_dir: dir.join(USERS_STORE),
            cache: config.state.sled_cache.0,
        }
    }

    /// Without a commit there are no users to lose; users of a commit say that the commits are lost.
    fn first(self) -> Result<(SledUsers, Durable), PipelineError> {
        if let Some(holds) = self.exports.checkpoints()?.pop() {
            return Err(PipelineError::CommitsLost { path: self.exports.path(holds), holds });
        }
        let (users, writer) = match self.users_of(0)? {
            Ok(users) => users,
            Err(StoreError::OtherCommit { path, holds, .. }) => return Err(PipelineError::CommitsLost { path, holds }),
            Err(unusable) => {
                tracing::error!(error = %unusable, "the per-user store is set aside; nothing was committed with it");
                set_aside(&self.users_dir, "unusable-at-0")?;
                SledUsers::open(&self.users_dir, self.cache, 0)?
            }
        };
        Ok((users, Durable { store: self.store, users: writer }))
    }

    fn start(mut self, latest: Commit, source: &mut OpenSource, status: &mut Status) -> Result<Start, PipelineError> {
        if let Some(checkpoint) = latest.restores {
            self.exports.forget_after(checkpoint)?;
        }
        let unusable = match self.users_of_commit(&latest)? {
            Ok(users) => {
                let (source, aggregates) = (source(&latest.positions)?, latest.evaluation.clone());
                return Ok(Start { commit: latest, store: self.store, users, aggregates, source });
            }
            Err(unusable) => unusable,
        };
        tracing::error!(error = %unusable, "the per-user store cannot be used as it is");
        if let Some((commit, users, source)) = self.earlier(&latest, &unusable, source)? {
            let (from, aggregates) = (commit.number, commit.evaluation);
            let commit = self.store.restore(from, now_ms())?.clone();
            let why = format!("{unusable}; went back from checkpoint {} to {from}", latest.number);
            tracing::error!(
                checkpoint = from,
                "went back to an earlier checkpoint whose users are whole; what came after it is read again"
            );
            status.went_back = Some(why);
            return Ok(Start { commit, store: self.store, users, aggregates, source });
        }
        let source = source(&latest.positions)?;
        let why = unusable.to_string();
        tracing::error!(why, "metrics start afresh; weights and positions are untouched");
        set_aside(&self.users_dir, &format!("unusable-at-{}", latest.number))?;
        status.metrics_restarted = Some(why);
        let users = SledUsers::open(&self.users_dir, self.cache, latest.users_of())?;
        Ok(Start { commit: latest, store: self.store, users, aggregates: AggregateState::default(), source })
    }

    /// The newest whole commit before `latest` whose users are still to be had, and the source at its positions. The store itself may be as
    /// of an earlier commit: an operator has put an export into its place.
    fn earlier(&mut self, latest: &Commit, unusable: &StoreError, source: &mut OpenSource) -> Result<Option<Earlier>, PipelineError> {
        if let StoreError::OtherCommit { holds, .. } = unusable
            && *holds < latest.users_of()
            && let Some(commit) = self.whole(*holds)
            && let Ok(users) = self.users_of_commit(&commit)?
        {
            return Ok(reaches(source, &commit)?.map(|source| (commit, users, source)));
        }
        for number in self.exports.checkpoints()?.into_iter().rev().filter(|number| *number <= latest.users_of()) {
            let path = self.exports.path(number);
            let (Some(commit), true) = (self.whole(number), self.is_good(&path, number)?) else { continue };
            // An older one needs the source to reach back even further.
            let Some(source) = reaches(source, &commit)? else { return Ok(None) };
            set_aside(&self.users_dir, &format!("unusable-at-{}", latest.number))?;
            Export::open(&path)?.import(&self.users_dir, self.cache)?;
            let users = SledUsers::open(&self.users_dir, self.cache, number)?;
            return Ok(Some((commit, users, source)));
        }
        Ok(None)
    }

    fn whole(&self, number: u64) -> Option<Commit> {
        let commit = self.store.whole(number);
        commit.inspect_err(|error| tracing::warn!(checkpoint = number, %error, "this checkpoint cannot be gone back to")).ok()
    }

    fn is_good(&self, path: &std::path::Path, checkpoint: u64) -> Result<bool, StoreError> {
        match Export::open(path).and_then(|export| export.check(&self.model, checkpoint)) {
            Ok(_) => Ok(true),
            Err(error @ StoreError::Export { .. }) => {
                tracing::warn!(%error, "this export cannot be used");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Keep::users_of`]. An empty store with a commit that has users was lost.
    fn users_of_commit(&self, commit: &Commit) -> Result<Result<Users, StoreError>, PipelineError> {
        let users = self.users_of(commit.users_of())?;
        Ok(users.and_then(|(users, writer)| {
            if commit.report.users > 0 && writer.users() == 0 {
                return Err(StoreError::OtherCommit { path: self.users_dir.clone(), holds: 0, committed: commit.users_of() });
            }
            Ok((users, writer))
        }))
    }

    /// The store as of a checkpoint; inside, why it cannot be that. What no other store would mend, and a store of a newer program, end the
    /// start instead.
    fn users_of(&self, checkpoint: u64) -> Result<Result<Users, StoreError>, PipelineError> {
        match SledUsers::open(&self.users_dir, self.cache, checkpoint) {
            Ok(users) => Ok(Ok(users)),
            Err(error @ (StoreError::Newer { .. } | StoreError::Refused { .. } | StoreError::NoRoom { .. })) => Err(error.into()),
            Err(unusable) => Ok(Err(unusable)),
        }
    }
}

/// The source at the commit's positions; `None`: it does not reach back that far.
fn reaches(source: &mut OpenSource, commit: &Commit) -> Result<Option<Box<dyn Source>>, PipelineError> {
    match source(&commit.positions) {
        Ok(source) => Ok(Some(source)),
        Err(error @ StreamError::PositionsLost { .. }) => {
            tracing::error!(checkpoint = commit.number, %error, "this checkpoint cannot be gone back to");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
