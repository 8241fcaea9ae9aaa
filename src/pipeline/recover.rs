//! What was committed, read back before anything starts.

use std::collections::VecDeque;
use std::path::Path;

use super::progress::Recovered;
use super::{PipelineError, State, Status, USERS_STORE};
use crate::checkpoint::{CheckpointStore, Commit, ProbeSample};
use crate::config::Config;
use crate::domain::{EventTime, Field, Version};
use crate::evaluate::{AggregateState, Evaluator, MemoryUsers};
use crate::store::{SledUsers, StoreError};
use crate::train::Learner;
use crate::wire::snapshot::field_from_json;

/// State as of the last commit.
pub(super) struct Recovery {
    pub(super) store: Option<CheckpointStore>,
    pub(super) evaluator: Evaluator,
    pub(super) recovered: Recovered,
    pub(super) status: Status,
    /// Raw events of the commit's probes, oldest first: the next snapshot needs some before new ones come.
    pub(super) probes: VecDeque<(EventTime, Box<[Field]>)>,
}

impl Recovery {
    /// Reads the last commit, if any, into `learner` and the rest.
    ///
    /// Weights never depend on sled: a per-user store that is lost, damaged or of another age is set aside and metrics start afresh, said
    /// loudly in log and status, while training goes on from the commit.
    pub(super) fn open(config: &Config, state: State, learner: &mut Learner) -> Result<Self, PipelineError> {
        let mut status = Status { model: config.name.clone(), device: config.train.device.clone(), ..Status::default() };
        if state == State::Memory {
            let evaluator = Evaluator::new(&config.evaluate, Box::new(MemoryUsers::default()), AggregateState::default())?;
            return Ok(Recovery { store: None, evaluator, recovered: Recovered::default(), status, probes: VecDeque::new() });
        }
        let dir = &config.state.dir;
        let store = CheckpointStore::open(dir, config.checkpoint.keep)?;
        let users_dir = dir.join(USERS_STORE);
        let cache = config.state.sled_cache.0;
        let Some(commit) = store.latest() else {
            let users = SledUsers::open(&users_dir, cache, 0)?;
            let evaluator = Evaluator::new(&config.evaluate, Box::new(users), AggregateState::default())?;
            return Ok(Recovery { store: Some(store), evaluator, recovered: Recovered::default(), status, probes: VecDeque::new() });
        };
        let loaded = CheckpointStore::load(dir, commit)?;
        learner.restore(loaded.learner)?;
        let (users, aggregates) = match open_users(&users_dir, cache, commit)? {
            Ok(users) => (users, commit.evaluation.clone()),
            Err(why) => {
                tracing::error!(why, "metrics start afresh; weights and positions are untouched");
                set_aside(&users_dir, commit.number)?;
                status.metrics_restarted = Some(why);
                (SledUsers::open(&users_dir, cache, commit.number)?, AggregateState::default())
            }
        };
        let evaluator = Evaluator::new(&config.evaluate, Box::new(users), aggregates)?;
        status.checkpoint = Some(Version(commit.number));
        status.checkpoint_ms = Some(commit.created_ms);
        status.published = commit.published.map(|published| published.version);
        status.promoted = commit.published.is_some_and(|published| published.promoted);
        tracing::info!(checkpoint = commit.number, samples = commit.books.samples, "recovered");
        let (positions, books) = (commit.positions.clone(), commit.books.clone());
        let mut recovered = Recovered { positions, books, memory: loaded.memory, open: loaded.open };
        if config.early_labels().is_none() {
            recovered.close_for_good();
        }
        let probes = loaded.probes.iter().filter_map(raw_event).collect();
        Ok(Recovery { store: Some(store), evaluator, recovered, status, probes })
    }
}

/// `None` for what no field can be: such a probe is left out.
fn raw_event(probe: &ProbeSample) -> Option<(EventTime, Box<[Field]>)> {
    let fields: Option<Box<[Field]>> = probe.fields.iter().map(field_from_json).collect();
    Some((EventTime(probe.time_ms), fields?))
}

/// The store as of `commit`; inside, why it cannot be that. A store of a newer program is refused, not set aside.
pub(super) fn open_users(dir: &Path, cache: u64, commit: &Commit) -> Result<Result<SledUsers, String>, PipelineError> {
    let users = match SledUsers::open(dir, cache, commit.number) {
        Ok(users) => users,
        Err(newer @ StoreError::Newer { .. }) => return Err(newer.into()),
        Err(unusable) => return Ok(Err(unusable.to_string())),
    };
    if let Some(of) = commit.restores.filter(|_| users.written() < commit.number)
        && !users.is_empty()?
    {
        return Ok(Err(format!("{}: holds users as of checkpoint {}, and an operator went back to {of}", dir.display(), users.written())));
    }
    if commit.report.users > 0 && (users.is_empty()? || users.written() < commit.number) {
        return Ok(Err(format!(
            "{}: holds users as of checkpoint {}, the last commit is {}: the directory was lost or is an old copy",
            dir.display(),
            users.written(),
            commit.number
        )));
    }
    Ok(Ok(users))
}

/// Renames the store to a name that is free, so that nothing is destroyed and a second accident does not stand in the way.
fn set_aside(dir: &Path, number: u64) -> Result<(), PipelineError> {
    let mut aside = dir.with_extension(format!("unusable-at-{number}"));
    for again in 2.. {
        if !aside.exists() {
            break;
        }
        aside = dir.with_extension(format!("unusable-at-{number}.{again}"));
    }
    match std::fs::rename(dir, &aside) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Sled { path: dir.to_owned(), why: format!("cannot be set aside as {}: {source}", aside.display()) }.into())
        }
        _ => Ok(()),
    }
}
