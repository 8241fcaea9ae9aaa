use std::sync::{Mutex, PoisonError};

use super::net::{Forward, Part};
use crate::features::{Features, Parts, Side};

/// What one request is scored in. Its memory is used again by the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Columns that candidates of the last request bore themselves, which decide what is below.
    pub(super) own_columns: Vec<bool>,
    pub(super) shared_side: Side,
    pub(super) own_side: Side,
    pub(super) shared_part: Part,
    pub(super) own_part: Part,
    /// Of the context, once.
    pub(super) shared: Features,
    /// Of the candidates, one after the other.
    pub(super) own: Features,
    pub(super) parts: Parts,
    pub(super) forward: Forward,
}

/// As many as requests were ever scored at a time; they live as long as their model.
#[derive(Debug, Default)]
pub(super) struct Scratches(Mutex<Vec<Scratch>>);

impl Scratches {
    /// Lends one to `work`. What panics while it has it takes it along.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        // A push or a pop leaves the list whole, so whoever panicked with the lock has not harmed it.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = lock().pop();
        let mut scratch = lent.unwrap_or_default();
        let done = work(&mut scratch);
        lock().push(scratch);
        done
    }
}

/// A model's copy lends its own.
impl Clone for Scratches {
    fn clone(&self) -> Self {
        Scratches::default()
    }
}
