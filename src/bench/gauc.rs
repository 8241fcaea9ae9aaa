use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::timing::timed;
use super::{BenchError, Workload};
use crate::config::{CheckpointConfig, EvaluateConfig, StateConfig};
use crate::domain::{EventTime, ScoredSample, UserId};
use crate::evaluate::{AggregateState, Evaluator, UserWriter};
use crate::store::{SledUsers, SledWriter};

/// Samples that are observed together: a batch's.
const CHUNK: usize = 2048;
/// Users met between two commits while the store is filled.
const FILL: usize = 100_000;

/// GAUC of users in sled: every user has been met once before the clock starts, then they come by Zipf's law, as impressions of busy
/// services do. Observing reads users from disk that are not in memory; a commit writes those that have changed.
///
/// The daemon has a thread for either, here they follow each other: what is measured is their whole work.
#[derive(Debug, Clone, PartialEq)]
pub struct GaucBench {
    /// The users and their activity.
    pub workload: Workload,
    /// Samples measured.
    pub samples: usize,
    /// Samples between two commits.
    pub commit_every: usize,
    /// Where sled is put; a directory of its own, which is removed afterwards.
    pub dir: PathBuf,
}

/// What [`GaucBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GaucFigures {
    /// Users in the store.
    pub users: u64,
    /// Samples measured.
    pub samples: usize,
    /// Samples between two commits.
    pub commit_every: usize,
    /// Samples per second on one core: observing and commits.
    pub samples_per_s: f64,
    /// Nanoseconds per sample: observing ...
    pub observe_ns: f64,
    /// ... writing the users that changed.
    pub commit_ns: f64,
    /// Bytes of ids and records, per user.
    pub live_bytes_per_user: f64,
    /// Bytes that sled takes for them on disk, per user.
    pub disk_bytes_per_user: f64,
    /// Users held in memory after the last commit.
    pub cached_users: usize,
}

impl Default for GaucBench {
    fn default() -> Self {
        let dir = std::env::temp_dir().join(format!("rocket-bench-{}", std::process::id()));
        GaucBench {
            workload: Workload { slots: 1, numbers: 0, ..Workload::default() },
            samples: 500_000,
            commit_every: usize::try_from(CheckpointConfig::default().every_samples).unwrap_or(usize::MAX),
            dir,
        }
    }
}

impl GaucBench {
    /// Measures.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn run(&self) -> Result<GaucFigures, BenchError> {
        let scratch = Scratch(self.dir.clone());
        let (users, writer) = SledUsers::open(&scratch.0, StateConfig::default().sled_cache.0, 0)?;
        let evaluator = Evaluator::new(&EvaluateConfig::default(), Arc::new(users), AggregateState::default())?;
        let mut bench = Running { evaluator, writer, number: 0, observing: Duration::ZERO, committing: Duration::ZERO };
        let mut rng = ChaCha8Rng::seed_from_u64(self.workload.seed);
        let mut scored = |user: UserId, time, label| ScoredSample {
            user,
            time,
            label,
            logits: [Some(rng.random_range(-4.0..4.0)), Some(rng.random_range(-4.0..4.0)), None],
            hint_share: None,
        };
        let all: Vec<usize> = (1..=self.workload.users).collect();
        for some in all.chunks(FILL) {
            let met = some.iter().map(|user| scored(UserId(format!("u{user}").into()), EventTime(0), user.is_multiple_of(5)));
            bench.observe(&met.collect::<Vec<_>>())?;
            bench.commit()?;
        }
        let drawn = self.workload.samples().take(self.samples.max(1));
        let samples: Vec<ScoredSample> = drawn.map(|sample| scored(sample.user, sample.time, sample.label)).collect();
        (bench.observing, bench.committing) = (Duration::ZERO, Duration::ZERO);
        let begun = Instant::now();
        for between in samples.chunks(self.commit_every.max(1)) {
            for chunk in between.chunks(CHUNK) {
                bench.observe(chunk)?;
            }
            bench.commit()?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let per_sample = |spent: Duration| spent.as_secs_f64() * 1e9 / samples.len() as f64;
        let users = bench.writer.users();
        Ok(GaucFigures {
            users,
            samples: samples.len(),
            commit_every: self.commit_every,
            samples_per_s: samples.len() as f64 / seconds,
            observe_ns: per_sample(bench.observing),
            commit_ns: per_sample(bench.committing),
            live_bytes_per_user: bench.writer.live_bytes() as f64 / users as f64,
            disk_bytes_per_user: bench.writer.size_on_disk()? as f64 / users as f64,
            cached_users: bench.evaluator.cached_users(),
        })
    }
}

struct Running {
    evaluator: Evaluator,
    writer: SledWriter,
    number: u64,
    observing: Duration,
    committing: Duration,
}

impl Running {
    fn observe(&mut self, samples: &[ScoredSample]) -> Result<(), BenchError> {
        timed(&mut self.observing, || self.evaluator.observe(samples))?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), BenchError> {
        self.number += 1;
        timed(&mut self.committing, || {
            let mut capture = self.evaluator.capture(self.number);
            self.writer.write(self.number, &mut capture.records())?;
            self.writer.committed(self.number);
            self.evaluator.committed(self.number);
            Ok(())
        })
    }
}

/// A directory that goes when it is no longer used.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(dir = %self.0.display(), %error, "a benchmark's files are left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_the_store_and_its_files_are_gone_afterwards() {
        let parent = tempfile::tempdir().expect("dir");
        let dir = parent.path().join("users.sled");
        let workload = Workload { users: 300, ..GaucBench::default().workload };
        let figures = GaucBench { workload, samples: 1000, commit_every: 400, dir: dir.clone() }.run().expect("measured");
        assert_eq!((figures.users, figures.samples, figures.cached_users), (300, 1000, 300));
        assert!(figures.samples_per_s > 0.0 && figures.observe_ns > 0.0 && figures.commit_ns > 0.0);
        assert!(figures.disk_bytes_per_user >= figures.live_bytes_per_user && figures.live_bytes_per_user > 10.0);
        assert!(!dir.exists());
    }
}
