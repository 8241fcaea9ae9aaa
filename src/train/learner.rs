use super::{Compute, LearnerState, Scores, TrainError};
use crate::batch::Batch;
use crate::config::{ModelConfig, TrainConfig};
use crate::embedding::{Gather, InputLayout, Table};
use crate::features::FeatureSpec;
use crate::nets::{Adam, Nets, Rule};

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Prequential logits.
    pub scores: Scores,
    /// Total loss (cross-entropies of all heads, weighted hint), mean over the batch.
    pub loss: f64,
    /// mean((l − z)²).
    pub hint_mse: f64,
    /// Share of the light head's gradient norm that the hint supplies, 0 to 1; measured at the light logit.
    pub hint_share: f64,
    /// False: something was not finite, every parameter is bit-unchanged, and the batch is not trained.
    pub applied: bool,
}

/// Nets, table and optimizers. Used by one thread.
///
/// On `cpu`, two learners of the same configuration (thread count included) that see the same batches hold the same bits, also when
/// one of them was captured and restored in between.
#[derive(Debug)]
pub struct Learner {
    compute: Compute,
    inputs: InputLayout,
    table: Table,
    nets: Nets,
    rule: Rule,
    adam: Adam,
    gather: Gather,
}

impl Learner {
    /// A fresh learner: weights from `config.seed`.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn new(model: &ModelConfig, config: &TrainConfig, spec: &FeatureSpec) -> Result<Self, TrainError> {
        Self::over(model, config, InputLayout::new(spec, model.embedding.dim))
    }

    fn over(model: &ModelConfig, config: &TrainConfig, inputs: InputLayout) -> Result<Self, TrainError> {
        let compute = Compute::new(&config.device, config.threads)?;
        let nets = Nets::new(model, inputs.width(), config.seed, compute.device());
        Ok(Learner {
            compute,
            inputs,
            table: Table::new(&model.embedding, &config.optimizer, config.seed),
            nets,
            rule: Rule::new(config),
            adam: Adam::new(&config.optimizer),
            gather: Gather::default(),
        })
    }

    /// Predict, then train. A batch without rows changes nothing and counts as applied.
    pub fn step(&mut self, batch: &Batch) -> StepReport {
        if batch.labels.is_empty() {
            return StepReport { scores: self.predict(batch), loss: 0.0, hint_mse: 0.0, hint_share: 0.0, applied: true };
        }
        let inputs = self.gather.read(&self.table, &self.inputs, batch);
        let pass = self.compute.run(|| self.nets.gradients(inputs, &batch.labels, &self.rule));
        // The rows' gradients are checked before the nets change: a batch is applied whole or not at all.
        let gradients = pass.gradients.filter(|gradients| self.gather.scatter(&self.inputs, batch, gradients.inputs()));
        let applied = gradients.is_some();
        if let Some(gradients) = gradients {
            self.compute.run(|| self.nets.apply(gradients, &self.adam));
            self.gather.apply(&mut self.table, batch.time());
        }
        let loss = pass.loss;
        StepReport { scores: pass.scores, loss: loss.total, hint_mse: loss.hint_mse, hint_share: loss.hint_share, applied }
    }

    /// Logits with the current weights; changes nothing (unknown ids stay unknown).
    #[must_use]
    pub fn predict(&self, batch: &Batch) -> Scores {
        if batch.labels.is_empty() {
            let control = self.nets.has_control().then(Vec::new);
            return Scores { control, ..Scores::default() };
        }
        let inputs = Gather::default().read(&self.table, &self.inputs, batch);
        self.compute.run(|| self.nets.predict(inputs, batch.rows()))
    }

    /// A copy of the state: all rows, or those touched since the last capture. Leaves training bit-equal.
    pub fn capture(&mut self, full: bool) -> LearnerState {
        LearnerState { dense: self.nets.capture(), rows: self.table.capture(full) }
    }

    /// Becomes `state`; `state.rows` must be full.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`]; the learner is unchanged then.
    pub fn restore(&mut self, state: LearnerState) -> Result<(), TrainError> {
        let (nets, table) = (self.nets.restored(state.dense)?, self.table.restored(&state.rows)?);
        (self.nets, self.table) = (nets, table);
        Ok(())
    }

    /// Rows in the table.
    #[must_use]
    pub fn table_rows(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::{EmbeddingConfig, OptimizerConfig, Pooling};

    fn model() -> ModelConfig {
        ModelConfig {
            embedding: EmbeddingConfig { dim: 4, init_scale: 0.01, ..EmbeddingConfig::default() },
            shared: vec![16],
            light: vec![8],
            booster: vec![32, 16],
            control: true,
        }
    }

    fn config(threads: usize) -> TrainConfig {
        // A small accumulator lets the rows move within a short test.
        let optimizer = OptimizerConfig { embedding_initial_accumulator: 1e-6, ..OptimizerConfig::default() };
        TrainConfig { threads, optimizer, ..TrainConfig::default() }
    }

    fn layout() -> InputLayout {
        InputLayout { poolings: vec![Pooling::Sum, Pooling::Mean], numbers: 1, dim: 4 }
    }

    fn learner(config: &TrainConfig) -> Learner {
        Learner::over(&model(), config, layout()).expect("the CPU is always there")
    }

    /// A small stream with something to learn: even items click. Bags and the number are noise; every batch brings new ids.
    fn batch(number: u64, rows: u64) -> Batch {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut batch = Batch { bounds: vec![0], ..Batch::default() };
        for _ in 0..rows {
            let item = random.random_range(0..64);
            batch.ids.push(item);
            batch.bounds.push(batch.ids.len() as u32);
            let bag = random.random_range(0..8);
            batch.ids.extend((0..bag).map(|_| random.random_range(1000..1050 + number)));
            batch.bounds.push(batch.ids.len() as u32);
            batch.numbers.push(random.random_range(-1.0..1.0));
            batch.labels.push(item % 2 == 0);
        }
        batch
    }

    #[test]
    fn moves_between_threads() {
        fn is_send<T: Send>() {}
        is_send::<Learner>();
    }

    #[test]
    fn predicts_before_it_trains_and_learns() {
        let mut learner = learner(&config(1));
        let mut losses = Vec::new();
        for number in 0..150 {
            let batch = batch(number, 64);
            let predicted = learner.predict(&batch);
            let report = learner.step(&batch);
            assert!(report.applied);
            assert_eq!(report.scores, predicted, "step {number}");
            losses.push(report.loss);
        }
        let (first, last): (f64, f64) = (losses[..10].iter().sum(), losses[140..].iter().sum());
        assert!(last < 0.5 * first, "loss {first} came only to {last}");
    }

    #[test]
    fn prediction_leaves_no_trace() {
        let mut learner = learner(&config(1));
        learner.step(&batch(0, 16));
        let before = learner.capture(true);
        let _ = learner.predict(&batch(9, 16));
        assert_eq!(learner.capture(true), before);
    }

    #[test]
    fn a_batch_that_is_not_finite_changes_no_bit() {
        let mut learner = learner(&config(1));
        (0..5).for_each(|number| assert!(learner.step(&batch(number, 32)).applied));
        let before = learner.capture(true);
        for poison in [f32::NAN, f32::INFINITY, f32::MAX, 1e25] {
            let mut bad = batch(77, 32);
            bad.numbers[3] = poison;
            assert!(!learner.step(&bad).applied, "{poison}");
            assert_eq!(learner.capture(true), before, "{poison}");
        }
        assert!(learner.step(&batch(5, 32)).applied);
        assert_ne!(learner.capture(true), before);
    }

    #[test]
    fn a_batch_without_rows_changes_nothing() {
        let mut learner = learner(&config(1));
        let before = learner.capture(true);
        let report = learner.step(&Batch { bounds: vec![0], ..Batch::default() });
        assert!(report.applied && report.scores.light.is_empty() && report.scores.control.is_some());
        assert_eq!(learner.capture(true), before);
    }

    /// Three learners over the same batches: never captured; captured at every step; replaced by a restored copy half way.
    fn capture_and_restore_are_bit_equal(threads: usize, rows: u64) {
        let config = config(threads);
        let [mut plain, mut captured, mut restored] = [(); 3].map(|()| learner(&config));
        for number in 0..12 {
            if number == 6 {
                let state = restored.capture(true);
                restored = learner(&config);
                restored.step(&batch(99, 8));
                restored.restore(state).expect("same model");
            }
            let batch = batch(number, rows);
            let reports = [&mut plain, &mut captured, &mut restored].map(|learner| learner.step(&batch));
            assert_eq!(reports[0], reports[1], "captured, step {number}");
            assert_eq!(reports[0], reports[2], "restored, step {number}");
            let _ = captured.capture(number % 2 == 0);
        }
        let [plain, captured, restored] = [plain, captured, restored].map(|mut learner| learner.capture(true));
        assert!(plain == captured && plain == restored);
    }

    #[test]
    fn capture_and_restore_are_bit_equal_on_one_thread() {
        capture_and_restore_are_bit_equal(1, 64);
    }

    #[test]
    fn capture_and_restore_are_bit_equal_on_four_threads() {
        // Enough rows that the first layer's products are above the backend's threshold for going parallel (192³).
        capture_and_restore_are_bit_equal(4, 32_768);
    }

    #[test]
    fn increments_add_up_to_the_full_state() {
        let mut learner = learner(&config(1));
        learner.step(&batch(0, 16));
        let mut rows: std::collections::BTreeMap<u64, Vec<f32>> = std::collections::BTreeMap::new();
        let mut add = |state: LearnerState| {
            let data = state.rows.data.chunks_exact(state.rows.width);
            state.rows.keys.iter().zip(data).for_each(|(key, row)| drop(rows.insert(*key, row.to_vec())));
        };
        add(learner.capture(true));
        for number in 1..4 {
            learner.step(&batch(number, 16));
            let increment = learner.capture(false);
            assert!(!increment.rows.full && increment.rows.keys.len() < learner.table_rows());
            add(increment);
        }
        let full = learner.capture(true).rows;
        assert_eq!(full.keys.len(), rows.len());
        for (key, row) in full.keys.iter().zip(full.data.chunks_exact(full.width)) {
            assert_eq!(rows[key], row);
        }
    }

    #[test]
    fn a_state_of_another_model_is_refused_by_name_and_changes_nothing() {
        let mut learner = learner(&config(1));
        learner.step(&batch(0, 16));
        let before = learner.capture(true);
        let mut refused = |change: &dyn Fn(&mut LearnerState), says: &str| {
            let mut state = before.clone();
            change(&mut state);
            let error = learner.restore(state).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(learner.capture(true), before);
        };
        refused(&|state| state.dense.layout[2].shape[1] += 1, "tensor light.0.weight is [16, 9], the configured model has [16, 8]");
        refused(&|state| drop(state.dense.layout.pop()), "tensor control.1.bias is missing");
        refused(&|state| state.dense.layout[0].name = "trunk".to_owned(), "tensor shared.0.weight is missing");
        refused(
            &|state| state.dense.layout.push(crate::train::TensorLayout { name: "old.0".to_owned(), shape: vec![1] }),
            "tensor old.0 is not in",
        );
        refused(&|state| state.dense.layout.swap(0, 1), "tensor shared.0.bias is not where");
        refused(&|state| state.dense.v.truncate(1), "v holds");
        refused(&|state| state.rows.dim = 5, "embedding rows have 5 floats, model.embedding.dim is 4");
        refused(&|state| state.rows.full = false, "increment");
    }
}
