//! Samples that versions are judged on, as the training thread collects them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{Evidence, EvidenceSample};
use crate::domain::{EventTime, Field, Label, UserId};
use crate::wire::snapshot::{field_from_json, field_to_json};

/// Windows of versions that are not promoted: one that is being published, one that waits, some that were held back, and those of ten minutes
/// in which a share of the servers tries the first of them.
const PENDING_MAX: usize = 16;
/// A version that is promoted renews this part of what is vouched for at most: at a version a minute the last hour has a say.
const RENEWED: usize = 64;
/// That hour, where versions come more often: less is renewed by each.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// While there is room it adds this part.
const FILLED: usize = 4;

/// A sample that was trained, with what was said of it before.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) time: EventTime,
    pub(super) user: UserId,
    pub(super) label: Label,
    pub(super) weight: f64,
    pub(super) logit: f32,
    pub(super) fields: Arc<[Field]>,
}

/// Two sets of at most `capacity` samples each. Copies share the samples, so that one takes no time.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    capacity: usize,
    /// The part of it that a promoted version renews.
    renewed: usize,
    window: Window,
    pending: VecDeque<(u64, Vec<Arc<Kept>>)>,
    vouched: VecDeque<Arc<Kept>>,
    vouched_by: u64,
}

/// A copy as of one moment.
#[derive(Debug, Clone)]
pub(super) struct EvidenceCopy {
    window: Vec<Arc<Kept>>,
    vouched: Vec<Arc<Kept>>,
    vouched_by: u64,
}

impl Collector {
    /// Goes on from what was committed.
    pub(super) fn new(capacity: usize, evidence: Evidence) -> Self {
        let mut collector = Collector {
            capacity,
            renewed: RENEWED,
            window: Window::default(),
            pending: VecDeque::new(),
            vouched: VecDeque::new(),
            vouched_by: evidence.vouched_by,
        };
        evidence.window.into_iter().filter_map(kept).for_each(|sample| collector.window.add(Arc::new(sample), capacity));
        let vouched: Vec<_> = evidence.vouched.into_iter().filter_map(kept).map(Arc::new).collect();
        collector.vouched.extend(vouched.into_iter().rev().take(capacity).rev());
        collector
    }

    /// Versions come so often.
    pub(super) fn every(mut self, every: Duration) -> Self {
        let versions = REMEMBERED.as_millis() / every.as_millis().max(1);
        self.renewed = RENEWED.max(usize::try_from(versions).unwrap_or(usize::MAX));
        self
    }

    pub(super) fn add(&mut self, sample: Kept) {
        self.window.add(Arc::new(sample), self.capacity);
    }

    pub(super) fn copy(&self) -> EvidenceCopy {
        EvidenceCopy { window: self.window.samples.clone(), vouched: self.vouched.iter().cloned().collect(), vouched_by: self.vouched_by }
    }

    /// The window so far is version `number`'s; the next begins.
    pub(super) fn close(&mut self, number: u64) {
        self.pending.push_back((number, std::mem::take(&mut self.window).samples));
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_front();
        }
    }

    /// Version `number` was promoted: some of its window are vouched for now.
    pub(super) fn promoted(&mut self, number: u64) {
        let window = self.pending.iter_mut().find(|(pending, _)| *pending == number).map(|(_, window)| std::mem::take(window));
        self.pending.retain(|(pending, _)| *pending > number);
        if let Some(window) = window {
            self.vouch(number, &window);
        }
    }

    /// Version `number` is served, says the topic, and has not vouched for its window yet: a run before has promoted it and may have ended
    /// before that was committed.
    pub(super) fn lacks(&self, number: u64) -> bool {
        number > self.vouched_by
    }

    /// That window.
    pub(super) fn served(&mut self, number: u64, window: Vec<EvidenceSample>) {
        if self.lacks(number) {
            self.vouch(number, &window.into_iter().filter_map(kept).map(Arc::new).collect::<Vec<_>>());
        }
    }

    /// The oldest of what is vouched for leave for these.
    fn vouch(&mut self, number: u64, window: &[Arc<Kept>]) {
        self.vouched_by = number;
        let part = if self.vouched.len() < self.capacity { self.capacity / FILLED } else { self.capacity / self.renewed };
        let wanted = part.clamp(1, window.len().max(1));
        self.vouched.extend((0..wanted).filter_map(|place| window.get(place * window.len() / wanted).cloned()));
        let surplus = self.vouched.len().saturating_sub(self.capacity);
        self.vouched.drain(..surplus);
    }
}

impl EvidenceCopy {
    pub(super) fn written(&self) -> Evidence {
        let write = |samples: &[Arc<Kept>]| samples.iter().map(|sample| written(sample)).collect();
        Evidence { window: write(&self.window), vouched: write(&self.vouched), vouched_by: self.vouched_by }
    }
}

/// Every n-th of the samples added, n doubling whenever there are too many: spread evenly from the first to the last.
#[derive(Debug, Clone)]
struct Window {
    samples: Vec<Arc<Kept>>,
    stride: u64,
    skipped: u64,
}

impl Default for Window {
    fn default() -> Self {
        Window { samples: Vec::new(), stride: 1, skipped: 0 }
    }
}

impl Window {
    fn add(&mut self, sample: Arc<Kept>, capacity: usize) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.samples.push(sample);
        if self.samples.len() > capacity {
            // Counted from the newest, which stays: the next comes a stride after it.
            let mut place = self.samples.len();
            self.samples.retain(|_| {
                place -= 1;
                place.is_multiple_of(2)
            });
            self.stride *= 2;
        }
    }
}

fn written(sample: &Kept) -> EvidenceSample {
    EvidenceSample {
        time_ms: sample.time.0,
        user: sample.user.0.to_string(),
        label: sample.label,
        weight: sample.weight,
        logit: sample.logit,
        fields: sample.fields.iter().map(field_to_json).collect(),
    }
}

/// `None` for what no field can be: such a sample is left out.
fn kept(sample: EvidenceSample) -> Option<Kept> {
    let fields: Option<Arc<[Field]>> = sample.fields.iter().map(field_from_json).collect();
    let EvidenceSample { time_ms, user, label, weight, logit, .. } = sample;
    Some(Kept { time: EventTime(time_ms), user: UserId(user.into()), label, weight, logit, fields: fields? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: i64) -> Kept {
        Kept {
            time: EventTime(time),
            user: UserId("u".into()),
            label: true,
            weight: 2.5,
            logit: 0.1,
            fields: Arc::new([Field::Number(0.1)]),
        }
    }

    fn times(samples: &[EvidenceSample]) -> Vec<i64> {
        samples.iter().map(|sample| sample.time_ms).collect()
    }

    #[test]
    fn a_window_is_spread_evenly_over_what_was_trained() {
        let mut collector = Collector::new(8, Evidence::default());
        (0..1000).for_each(|time| collector.add(sample(time)));
        let window = times(&collector.copy().written().window);
        assert!((4..=8).contains(&window.len()), "{window:?}");
        let steps: Vec<i64> = window.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| *step == steps[0] && *step >= 100), "{window:?}");
    }

    #[test]
    fn what_promoted_versions_saw_is_vouched_for_and_what_held_back_ones_saw_is_not() {
        let mut collector = Collector::new(64, Evidence::default());
        for version in 1..=200_u64 {
            (0..64).for_each(|n| collector.add(sample(1000 * version as i64 + n)));
            collector.close(version);
            if version % 2 == 0 {
                collector.promoted(version);
            }
        }
        let vouched = times(&collector.copy().written().vouched);
        assert_eq!(vouched.len(), 64);
        assert!(vouched.iter().all(|time| (time / 1000) % 2 == 0), "{vouched:?}");
        let versions: std::collections::BTreeSet<i64> = vouched.iter().map(|time| time / 1000).collect();
        assert_eq!(versions.len(), 64, "one of each");
        assert_eq!(collector.copy().written().window, [], "each version has a window of its own");
    }

    #[test]
    fn the_last_hour_has_a_say_also_where_versions_come_every_few_seconds() {
        for (every_s, renewed) in [(60, 64), (5, 5), (3600, 64), (0, 1)] {
            let mut collector = Collector::new(4096, Evidence::default()).every(Duration::from_secs(every_s));
            for version in 1..=5_u64 {
                (0..4096).for_each(|n| collector.add(sample(10_000 * version as i64 + n)));
                collector.close(version);
                collector.promoted(version);
            }
            let newest = times(&collector.copy().written().vouched).iter().filter(|time| **time >= 50_000).count();
            assert_eq!(newest, renewed, "a version every {every_s} s");
        }
    }

    #[test]
    fn a_version_that_was_promoted_just_before_the_end_of_a_run_vouches_in_the_next() {
        let mut collector = Collector::new(64, Evidence::default());
        (0..64).for_each(|n| collector.add(sample(n)));
        let written = collector.copy().written();
        let mut next = Collector::new(64, Evidence::default());
        next.served(7, written.window.clone());
        assert_eq!(next.copy().written().vouched.len(), 16);
        let mut after = Collector::new(64, next.copy().written());
        after.served(7, written.window);
        assert_eq!(after.copy().written().vouched.len(), 16, "once");
    }

    #[test]
    fn goes_on_from_what_was_written() {
        let mut collector = Collector::new(16, Evidence::default());
        (0..16).for_each(|time| collector.add(sample(time)));
        collector.close(1);
        collector.promoted(1);
        (100..110).for_each(|time| collector.add(sample(time)));
        let written = collector.copy().written();
        assert_eq!((written.window.len(), written.vouched.len()), (10, 4));
        assert_eq!(Collector::new(16, written.clone()).copy().written(), written);
        assert_eq!(Collector::new(2, written).copy().written().vouched.len(), 2, "the newest, where fewer are wanted");
    }
}
