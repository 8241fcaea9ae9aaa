//! What the publishing thread does between two versions: it sees to the one that a share of the servers tries.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::keeper::now_ms;
use super::shared::Shared;
use super::teaching::School;
use crate::checkpoint::{self, CheckpointStore};
use crate::domain::Version;
use crate::publish::Publisher;

/// How often clock and reports are looked at while versions are tried.
const LOOK: Duration = Duration::from_secs(1);
/// How often the topic is looked at else: what an operator pins, its checkpoint must not go.
const LOOK_SELDOM: Duration = Duration::from_secs(5);

/// Numbers of checkpoints whose versions somebody may want to go back to: kept from retention.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<BTreeSet<u64>>>);

impl Held {
    /// As the publisher has found the topic.
    pub(super) fn of(publisher: Option<&Publisher>) -> Self {
        let held = Held::default();
        publisher.into_iter().for_each(|publisher| held.set(publisher));
        held
    }

    pub(super) fn numbers(&self) -> BTreeSet<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, publisher: &Publisher) {
        let numbers = publisher.held(now_ms()).into_iter().map(|Version(number)| number).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }
}

/// The rollout of what was published.
pub(super) struct RollingOut<'a> {
    pub(super) dir: &'a Path,
    pub(super) held: &'a Held,
    pub(super) school: Option<&'a School>,
    pub(super) shared: &'a Arc<Shared>,
    /// What went wrong last, said once.
    pub(super) problem: Option<String>,
}

impl RollingOut<'_> {
    /// How long the next version may be waited for.
    pub(super) fn patience(publisher: &Publisher) -> Duration {
        if publisher.tries() { LOOK } else { LOOK_SELDOM }
    }

    /// Time has passed, and servers may have reported.
    pub(super) fn advance(&mut self, publisher: &mut Publisher) {
        let advanced = publisher.advance(now_ms());
        let problem = advanced.as_ref().err().map(ToString::to_string);
        if problem.is_some() && problem != self.problem {
            tracing::warn!(problem, "rollout does not go on; it is tried again");
        }
        self.problem = problem;
        if let Ok(Some(version)) = advanced {
            self.promoted(version);
        }
        self.look(publisher);
    }

    /// Tells status and retention where rollout stands.
    pub(super) fn look(&self, publisher: &mut Publisher) {
        self.held.set(publisher);
        if let Ok(rollout) = publisher.rollout(now_ms()) {
            self.shared.update(|status| status.rollout = rollout);
        }
    }

    fn promoted(&self, version: Version) {
        self.shared.was_promoted(version.0);
        self.shared.update(|status| status.promoted = status.published == Some(version));
        let Some(school) = self.school else { return };
        let loaded = checkpoint::commit(self.dir, version.0).and_then(|commit| CheckpointStore::load(self.dir, &commit));
        match loaded {
            Ok(loaded) => school.send(version, &loaded.learner),
            Err(error) => tracing::warn!(%version, %error, "the promoted version's checkpoint cannot teach; the next one will"),
        }
    }
}
