use std::sync::{Mutex, PoisonError};

use super::candidates::Known;
use super::net::Forward;
use crate::features::{Features, Parts};

/// What one request is scored in. Its memory is used again by the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Of the context, or of some candidates one after the other.
    pub(super) features: Features,
    pub(super) parts: Parts,
    pub(super) forward: Forward,
    pub(super) known: Known,
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
