use std::sync::Arc;

use crate::serving::Subscriber;

/// The models of one process; each has a name of its own, and the first is the one meant where none is named.
#[derive(Debug, Clone)]
pub struct Models {
    first: Arc<Subscriber>,
    others: Arc<[Arc<Subscriber>]>,
}

/// No set of models.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// None is there.
    #[error("no model is named")]
    None,
    /// Two have one name.
    #[error("model `{0}` is named twice; each needs a name of its own")]
    Twice(String),
}

impl Models {
    /// Of these.
    ///
    /// # Errors
    /// [`ModelsError`].
    pub fn new(subscribers: Vec<Arc<Subscriber>>) -> Result<Self, ModelsError> {
        for (index, subscriber) in subscribers.iter().enumerate() {
            if subscribers[..index].iter().any(|other| other.name() == subscriber.name()) {
                return Err(ModelsError::Twice(subscriber.name().to_owned()));
            }
        }
        let (first, others) = subscribers.split_first().ok_or(ModelsError::None)?;
        Ok(Models { first: Arc::clone(first), others: others.into() })
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// The one meant where none is named.
    #[must_use]
    pub fn first(&self) -> &Arc<Subscriber> {
        &self.first
    }

    /// The one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Subscriber>> {
        self.iter().find(|subscriber| subscriber.name() == name)
    }
}

/// A single one.
impl From<Arc<Subscriber>> for Models {
    fn from(first: Arc<Subscriber>) -> Self {
        Models { first, others: Arc::default() }
    }
}
