//! How long after it was produced an event has taught a version that servers are told to serve.
//!
//! A sample's time counts from the record that completed it: its own where events bear their label; its click, or the event that moved event
//! time past its window, where labels are joined. So what the join waits for by its configuration is left out, and what stands in the way
//! after that is in: the broker, a backlog, batch, training, checkpoint, publishing, and whoever holds a version back.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::batch::Produced;
use crate::telemetry::names;

/// Versions that wait to be promoted are told apart up to so many: a share of the servers may try one while others are published.
const WAITING_MAX: usize = 64;
/// Versions that [`Freshness`] looks back on.
const VERSIONS: usize = 64;
/// Samples of a version that the metric gets: it keeps each until it is scraped.
const OBSERVED_MAX: u64 = 1024;

/// Seconds from the production of the record that completed a sample to the promotion of the first version that learnt from it: of the
/// samples of the last versions promoted by this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    /// Samples.
    pub samples: u64,
    /// Median.
    pub p50_s: f64,
    /// One of a hundred took longer.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

impl std::fmt::Display for Freshness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Freshness { samples, p50_s, p99_s, max_s } = self;
        write!(f, "p50 {p50_s:.1} s, p99 {p99_s:.1} s, at most {max_s:.1} s; of {samples} samples")
    }
}

/// When what was learnt was produced, until it is promoted.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// By version; each has learnt what those before it have, and this.
    waiting: VecDeque<(u64, Produced)>,
    /// Ages of the samples of the last versions, and their counts.
    promoted: VecDeque<Vec<(i64, u64)>>,
}

impl Learnt {
    /// Version `number` may be promoted later, and is the first that has learnt from these.
    pub(super) fn by(&mut self, number: u64, produced: Produced) {
        self.waiting.push_back((number, produced));
        if self.waiting.len() > WAITING_MAX
            && let Some((_, oldest)) = self.waiting.pop_front()
            && let Some((_, next)) = self.waiting.front_mut()
        {
            next.merge(&oldest);
        }
    }

    /// Version `number` was promoted at `now_ms`, and with it what the versions before it have learnt. `None`: nothing that was not before.
    pub(super) fn promoted(&mut self, number: u64, now_ms: i64) -> Option<Freshness> {
        let mut produced = Produced::default();
        while let Some((_, learnt)) = self.waiting.pop_front_if(|(waiting, _)| *waiting <= number) {
            produced.merge(&learnt);
        }
        let ages: Vec<(i64, u64)> = produced.ages(now_ms).collect();
        if ages.is_empty() {
            return None;
        }
        observe(&ages);
        self.promoted.push_back(ages);
        if self.promoted.len() > VERSIONS {
            self.promoted.pop_front();
        }
        Some(self.freshness())
    }

    fn freshness(&self) -> Freshness {
        let mut ages: Vec<(i64, u64)> = self.promoted.iter().flatten().copied().collect();
        ages.sort_unstable();
        let samples: u64 = ages.iter().map(|(_, samples)| samples).sum();
        let at = |percent: u64| seconds(nth(&ages, (samples.saturating_sub(1) * percent).div_ceil(100)));
        Freshness { samples, p50_s: at(50), p99_s: at(99), max_s: at(100) }
    }
}

/// The age of the sample with this many younger ones before it, of ages that rise.
fn nth(ages: &[(i64, u64)], number: u64) -> i64 {
    let mut before = 0;
    let found = ages.iter().find(|(_, samples)| {
        before += samples;
        before > number
    });
    found.map_or(0, |(age, _)| *age)
}

/// Tells the metric of samples that are spread evenly over all.
fn observe(ages: &[(i64, u64)]) {
    let every = ages.iter().map(|(_, samples)| samples).sum::<u64>().div_ceil(OBSERVED_MAX);
    let metric = metrics::histogram!(names::FRESHNESS_SECONDS);
    let mut before = 0;
    for (age, samples) in ages {
        let observed = (before + samples) / every - before / every;
        metric.record_many(seconds(*age), usize::try_from(observed).unwrap_or(0));
        before += samples;
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn produced(times: impl IntoIterator<Item = i64>) -> Produced {
        let mut produced = Produced::default();
        times.into_iter().for_each(|at_ms| produced.add(at_ms));
        produced
    }

    #[test]
    fn a_promoted_version_counts_what_it_learnt_and_what_those_before_it_did() {
        let mut learnt = Learnt::default();
        learnt.by(1, produced((0..100).map(|n| n * 10)));
        learnt.by(2, produced([2_000]));
        learnt.by(3, produced([3_000]));
        assert_eq!(learnt.promoted(0, 5_000), None, "an older one has learnt none of it");
        let freshness = learnt.promoted(2, 5_000).expect("samples");
        assert_eq!((freshness.samples, freshness.p50_s, freshness.max_s), (101, 4.5, 5.0));
        assert_eq!(learnt.promoted(2, 9_000), None, "once");
        let freshness = learnt.promoted(3, 13_000).expect("samples");
        assert_eq!((freshness.samples, freshness.p99_s, freshness.max_s), (102, 5.0, 10.0));
    }

    #[test]
    fn versions_that_wait_beyond_the_bound_are_counted_with_the_next() {
        let mut learnt = Learnt::default();
        (0..200).for_each(|number| learnt.by(number, produced([0])));
        assert_eq!(learnt.waiting.len(), WAITING_MAX);
        assert_eq!(learnt.promoted(199, 0).expect("samples").samples, 200);
    }

    #[test]
    fn only_the_last_versions_are_looked_back_on() {
        let mut learnt = Learnt::default();
        for number in 0..=VERSIONS as u64 {
            learnt.by(number, produced([0]));
            let now_ms = if number == 0 { 60_000 } else { 1_000 };
            learnt.promoted(number, now_ms);
        }
        let freshness = learnt.freshness();
        assert_eq!((freshness.samples, freshness.max_s), (VERSIONS as u64, 1.0));
    }

    #[test]
    fn the_metric_gets_a_bounded_part_that_is_spread_evenly() {
        let recorder = PrometheusBuilder::new().set_buckets(&[5.0, 1e3]).expect("bounds").build_recorder();
        metrics::with_local_recorder(&recorder, || observe(&[(1_000, 30_000), (9_000, 70_000)]));
        let page = recorder.handle().render();
        let count = |bound: &str| {
            let name = format!("rocket_freshness_seconds_bucket{{le=\"{bound}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {bound} in {page}"))
        };
        let (young, all) = (count("5"), count("1000"));
        assert!(all <= OBSERVED_MAX && all > OBSERVED_MAX / 2, "{all}");
        assert!((young * 10).abs_diff(all * 3) <= 10, "{young} of {all}");
    }
}
