use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde::{Deserialize, Serialize};

use super::feed::{Stages, records};
use super::timing::timed;
use super::{BenchError, Quantiles, Workload};
use crate::batch::{Batch, BatchBuilder, Pace};
use crate::config::{EvaluateConfig, EventFormat, TrainConfig};
use crate::domain::{Head, Sample, ScoredSample};
use crate::evaluate::{AggregateState, EvaluateError, Evaluator, MemoryUsers};
use crate::features::FeatureSpec;
use crate::train::{Learner, StepReport};
use crate::wire::encode;

/// Batches between two stages, as in the daemon.
const BATCHES: usize = 2;
/// Steps before the clock starts, once every id has its row.
const WARM_STEPS: usize = 3;

/// Training: hashing, lookup, one step of both nets and their tables, and GAUC.
///
/// With one thread one stage follows the other on it; with more, hashing and GAUC have threads of their own beside the `threads` that
/// compute, as in the daemon. Samples are drawn before the clock starts; where they come as events, these lie in memory then.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainBench {
    /// The stream.
    pub workload: Workload,
    /// Rows of a batch.
    pub batch: usize,
    /// Samples measured, at least a batch.
    pub samples: usize,
    /// The learning rule, its device and its threads; the batch is that above.
    pub train: TrainConfig,
    /// Samples come as events in this format, which are decoded and joined beside the hashing: end to end.
    pub events: Option<EventFormat>,
}

/// What [`TrainBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainFigures {
    /// What events are written in, where they are decoded and joined too.
    pub events: Option<EventFormat>,
    /// `train.device`.
    pub device: String,
    /// `train.threads`.
    pub threads: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Samples measured.
    pub samples: usize,
    /// Rows in the tables.
    pub table_rows: usize,
    /// Samples per second, everything included.
    pub samples_per_s: f64,
    /// Seconds of all that was measured.
    pub seconds: f64,
    /// ... of which steps.
    pub step_seconds: f64,
    /// ... decoding and joining, where there is any, hashing and batches; beside the steps where there are threads for it.
    pub hash_seconds: f64,
    /// ... GAUC; likewise.
    pub gauc_seconds: f64,
    /// Median step, milliseconds.
    pub step_p50_ms: f64,
    /// Mean of the steps' losses: the same on another device but for rounding.
    pub loss: f64,
    /// The last step's loss.
    pub last_loss: f64,
}

impl TrainBench {
    /// Measures.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn run(&self) -> Result<TrainFigures, BenchError> {
        let spec = FeatureSpec::new(&self.workload.schema()).expect("the workload's schema is a good one");
        let builder = || BatchBuilder::new(spec.clone(), Pace { rows: self.batch, linger_ms: i64::MAX }, 0);
        let mut learner = Learner::new(&self.workload.model(), &self.train, None, &spec)?;
        let mut evaluator = Evaluator::new(&EvaluateConfig::default(), Arc::new(MemoryUsers::default()), AggregateState::default())?;
        for batch in batches(builder(), self.workload.every_id()) {
            learner.step(&batch);
        }
        let mut drawn = self.workload.samples();
        for batch in batches(builder(), drawn.by_ref().take(self.batch * WARM_STEPS)) {
            let report = learner.step(&batch);
            evaluator.observe(&scored(batch, &report))?;
        }
        let count = self.samples.max(self.batch);
        let samples: Samples = match self.events {
            None => Box::new(drawn.take(count).collect::<Vec<_>>().into_iter()),
            Some(format) => {
                let events = self.workload.events().skip(self.batch * WARM_STEPS).take(count);
                let payloads: Vec<Vec<u8>> = events.map(|event| encode(format, &event)).collect();
                Box::new(Stages::new(&self.workload.schema(), format).samples(records(payloads)))
            }
        };
        let begun = Instant::now();
        let spent = if self.train.threads == 1 {
            in_turn(builder(), samples, &mut learner, &mut evaluator)?
        } else {
            side_by_side(builder(), samples, &mut learner, &mut evaluator)?
        };
        let seconds = begun.elapsed().as_secs_f64();
        Ok(TrainFigures {
            events: self.events,
            device: self.train.device.clone(),
            threads: self.train.threads,
            batch: self.batch,
            samples: count,
            table_rows: learner.table_rows(),
            samples_per_s: count as f64 / seconds,
            seconds,
            step_seconds: spent.steps.iter().sum::<Duration>().as_secs_f64(),
            hash_seconds: spent.hash.as_secs_f64(),
            gauc_seconds: spent.gauc.as_secs_f64(),
            step_p50_ms: Quantiles::of_ms(spent.steps).p50,
            loss: spent.losses.iter().sum::<f64>() / spent.losses.len() as f64,
            last_loss: spent.losses.last().copied().unwrap_or(f64::NAN),
        })
    }
}

type Samples = Box<dyn Iterator<Item = Sample> + Send>;

#[derive(Default)]
struct Spent {
    hash: Duration,
    steps: Vec<Duration>,
    losses: Vec<f64>,
    gauc: Duration,
}

fn in_turn(builder: BatchBuilder, samples: Samples, learner: &mut Learner, evaluator: &mut Evaluator) -> Result<Spent, EvaluateError> {
    let mut spent = Spent::default();
    let mut batches = batches(builder, samples);
    while let Some(batch) = timed(&mut spent.hash, || batches.next()) {
        let (report, step) = step(learner, &batch);
        spent.steps.push(step);
        spent.losses.push(report.loss);
        timed(&mut spent.gauc, || evaluator.observe(&scored(batch, &report)))?;
    }
    Ok(spent)
}

fn side_by_side(builder: BatchBuilder, samples: Samples, learner: &mut Learner, evaluator: &mut Evaluator) -> Result<Spent, EvaluateError> {
    let (batches_in, ready) = bounded(BATCHES);
    let (scored_in, to_observe) = bounded::<Vec<ScoredSample>>(BATCHES);
    thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut spent = Duration::ZERO;
            let mut batches = batches(builder, samples);
            while let Some(batch) = timed(&mut spent, || batches.next()) {
                if batches_in.send(batch).is_err() {
                    break;
                }
            }
            spent
        });
        let observing = scope.spawn(move || {
            let mut spent = Duration::ZERO;
            for scored in to_observe {
                timed(&mut spent, || evaluator.observe(&scored))?;
            }
            Ok::<_, EvaluateError>(spent)
        });
        let (mut steps, mut losses) = (Vec::new(), Vec::new());
        for batch in ready {
            let (report, step) = step(learner, &batch);
            steps.push(step);
            losses.push(report.loss);
            if scored_in.send(scored(batch, &report)).is_err() {
                break;
            }
        }
        drop(scored_in);
        let gauc = observing.join().expect("GAUC does not panic")?;
        Ok(Spent { hash: hashing.join().expect("hashing does not panic"), steps, losses, gauc })
    })
}

fn batches(mut builder: BatchBuilder, samples: impl IntoIterator<Item = Sample>) -> impl Iterator<Item = Batch> {
    let mut samples = samples.into_iter();
    std::iter::from_fn(move || samples.by_ref().find_map(|sample| builder.push(sample, 0)).or_else(|| builder.flush()))
}

fn step(learner: &mut Learner, batch: &Batch) -> (StepReport, Duration) {
    let begun = Instant::now();
    let report = learner.step(batch);
    (report, begun.elapsed())
}

fn scored(batch: Batch, report: &StepReport) -> Vec<ScoredSample> {
    let rows = batch.users.into_iter().zip(batch.times).zip(batch.labels).enumerate();
    let scored = rows.map(|(row, ((user, time), label))| {
        let logits = Head::ALL.map(|head| report.scores.head(head)?.get(row).copied());
        ScoredSample { user, time, label, logits, hint_share: report.hint_share }
    });
    scored.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_trained_with_one_thread_and_with_more() {
        for (threads, events) in [(1, None), (2, None), (1, Some(EventFormat::Protobuf)), (2, Some(EventFormat::Json))] {
            let train = TrainConfig { threads, ..TrainConfig::default() };
            let workload = Workload { rows: 240, users: 10, ..Workload::default() };
            let figures = TrainBench { workload, batch: 64, samples: 150, train, events }.run().expect("a good configuration");
            assert_eq!((figures.samples, figures.table_rows, figures.threads), (150, 240, threads));
            assert!(figures.samples_per_s > 0.0 && figures.step_p50_ms > 0.0 && figures.step_seconds > 0.0);
            assert!(figures.hash_seconds > 0.0 && figures.gauc_seconds > 0.0);
            // Two heads, and the entropy of a fifth of clicks is 0.5.
            assert!([figures.loss, figures.last_loss].iter().all(|loss| (0.5..1.5).contains(loss)), "{figures:?}");
        }
    }
}
