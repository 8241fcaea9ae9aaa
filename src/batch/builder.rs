use super::{Batch, Ended};
use crate::domain::Sample;
use crate::features::FeatureSpec;

/// When a batch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At this many samples ...
    pub rows: usize,
    /// ... or this many milliseconds after its first sample or ended event.
    pub linger_ms: i64,
}

/// Collects samples into batches. Time comes in as an argument (any monotonic milliseconds).
#[derive(Debug)]
pub struct BatchBuilder {}

impl BatchBuilder {
    /// An empty builder; every `raw_every`-th sample keeps its raw fields (0: none).
    #[must_use]
    pub fn new(spec: FeatureSpec, pace: Pace, raw_every: u64) -> Self {
        let _ = (spec, pace, raw_every);
        todo!()
    }

    /// Adds a sample; returns the batch it filled.
    pub fn push(&mut self, sample: Sample, now_ms: i64) -> Option<Batch> {
        let _ = (sample, now_ms);
        todo!()
    }

    /// Adds an event that ended without a sample.
    pub fn end(&mut self, ended: Ended, now_ms: i64) {
        let _ = (ended, now_ms);
        todo!()
    }

    /// The batch whose linger has passed, if any.
    pub fn tick(&mut self, now_ms: i64) -> Option<Batch> {
        let _ = now_ms;
        todo!()
    }

    /// Whatever is left.
    pub fn flush(&mut self) -> Option<Batch> {
        todo!()
    }
}
