//! How an earlier booster becomes the teacher: that of the last promoted version, or in a pass that promotes nothing one of its own.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::checkpoint::CheckpointStore;
use crate::config::Config;
use crate::domain::Version;
use crate::train::{Learner, LearnerState, Teacher, Teachers};

/// Teachers on their way: the trainer takes one before its next batch.
const ON_THE_WAY: usize = 1;

/// The trainer's end.
pub(super) enum Teaching {
    /// The rule has no teacher.
    None,
    /// They come from the publisher.
    Promoted(Receiver<(Version, Teacher)>),
    /// The booster as it was when the samples trained last reached a multiple of `every`.
    Own { teachers: Box<Teachers>, every: u64, next: u64 },
}

/// The publisher's end.
pub(super) struct School {
    teachers: Teachers,
    to_trainer: Sender<(Version, Teacher)>,
}

impl Teaching {
    /// By the configuration of `learner`; without a `store` nothing is promoted.
    pub(super) fn new(
        config: &Config,
        learner: &Learner,
        store: Option<&CheckpointStore>,
        served: Option<Version>,
    ) -> (Self, Option<School>) {
        let Some(teachers) = learner.teachers(&config.model, &config.train) else { return (Teaching::None, None) };
        let Some(store) = store else {
            let every = config.publish.every_samples;
            return (Teaching::Own { teachers: Box::new(teachers), every, next: every }, None);
        };
        let (to_trainer, teachings) = bounded(ON_THE_WAY);
        let school = School { teachers, to_trainer };
        if let Some(version) = served {
            let kept = store.commit(version.0).and_then(|commit| CheckpointStore::load(&config.state.dir, &commit));
            match kept {
                Ok(loaded) => school.send(version, &loaded.learner),
                Err(error) => tracing::warn!(%version, %error, "the served version's checkpoint cannot teach; the next promoted one will"),
            }
        }
        (Teaching::Promoted(teachings), Some(school))
    }

    /// Before a batch, after `samples` trained ones: gives `learner` a teacher that is due. Returns the version it is of.
    pub(super) fn attend(&mut self, learner: &mut Learner, samples: u64) -> Option<Version> {
        match self {
            Teaching::None => None,
            Teaching::Promoted(teachers) => {
                let (version, teacher) = teachers.try_recv().ok()?;
                learner.learn_from(teacher);
                Some(version)
            }
            Teaching::Own { teachers, every, next } => {
                if samples >= *next {
                    *next = samples - samples % *every + *every;
                    let teacher = teachers.make(&learner.capture(true)).expect("a learner's own state fits it");
                    learner.learn_from(teacher);
                }
                None
            }
        }
    }
}

impl School {
    /// Makes a teacher of this version and sends it off. While one is still on its way, the trainer takes that: it is never waited for.
    pub(super) fn send(&self, version: Version, state: &LearnerState) {
        match self.teachers.make(state) {
            Ok(teacher) => drop(self.to_trainer.try_send((version, teacher))),
            Err(error) => tracing::error!(%version, %error, "no teacher can be made of this version; the one before stays"),
        }
    }
}
