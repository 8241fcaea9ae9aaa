use std::collections::BTreeMap;

use super::lookup::Lookup;
use super::phase::Phase;
use super::teacher::{Teacher, Teachers};
use super::{Compute, Course, LearnerCopy, LearnerState, Scores, TrainError};
use crate::batch::Batch;
use crate::config::{BoosterFirstConfig, EarlyLabels, Heads, HintSchedule, ModelConfig, TrainConfig};
use crate::domain::{Head, Label};
use crate::embedding::{ClickCounts, InputLayout, SequenceLayout, SlotLayout};
use crate::features::{FeatureSpec, InputColumn};
use crate::nets::{Adam, DenseCopy, Gradients, InputShape, Inputs, Layout, Loss, Nets, Rule, SequenceShape, Targets};

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepReport {
    /// Prequential logits; where negatives are sampled, those of the sampled stream ([`Rule::shift`]).
    pub scores: Scores,
    /// Total loss (cross-entropies of all heads that learn, weighted hint), mean over the batch.
    pub loss: f64,
    /// mean((l − z)²); `None` unless light and booster are there.
    pub hint_mse: Option<f64>,
    /// Share of the light head's gradient norm that the hint supplies, 0 to 1; measured at the light logit. `None` unless light and
    /// booster are there.
    pub hint_share: Option<f64>,
    /// λ that the step used.
    pub hint_weight: f64,
    /// False: something was not finite, every parameter is bit-unchanged, and the batch is not trained.
    pub applied: bool,
}

/// Nets, tables and optimizers. Used by one thread.
///
/// On `cpu`, two learners of the same configuration (thread count included) that see the same batches hold the same bits, also when
/// one of them was captured and restored in between.
#[derive(Debug)]
pub struct Learner {
    compute: Compute,
    inputs: InputLayout,
    /// The features behind the inputs, in their order.
    pub(super) columns: Vec<InputColumn>,
    /// What the booster reads, and light where it shares them.
    pub(super) shared: Lookup,
    /// What light reads where it shares nothing.
    pub(super) own: Option<Lookup>,
    click_counts: ClickCounts,
    pub(super) nets: Nets,
    /// Where the rule has one and it has come.
    teacher: Option<Teacher>,
    rule: Rule,
    schedule: HintSchedule,
    booster_first: BoosterFirstConfig,
    /// What heads start from; none: what their first batch holds, where its labels are final.
    base_rate: Option<f64>,
    /// 0: no bound.
    clip_norm: f64,
    adam: Adam,
    course: Course,
    /// What is small of a capture that is under way.
    begun: Option<(DenseCopy, Course)>,
}

impl Learner {
    /// A fresh learner: weights from `config.seed`; `early` as [`crate::config::Config::early_labels`] says.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn new(model: &ModelConfig, config: &TrainConfig, early: Option<EarlyLabels>, spec: &FeatureSpec) -> Result<Self, TrainError> {
        let inputs = InputLayout::new(spec, model.embedding.dim).with_sequences(SequenceLayout::of(spec, &model.booster_attention));
        let learner = Self::over(model, config, early, inputs, ClickCounts::new(spec))?;
        Ok(Learner { columns: spec.columns(model.embedding.dim), ..learner })
    }

    fn over(
        model: &ModelConfig,
        config: &TrainConfig,
        early: Option<EarlyLabels>,
        inputs: InputLayout,
        click_counts: ClickCounts,
    ) -> Result<Self, TrainError> {
        let compute = Compute::new(&config.device, config.threads)?;
        // Nobody but the booster attends to them.
        let inputs = if config.heads == Heads::Light { inputs.with_sequences(Vec::new()) } else { inputs };
        let sequence = |sequence: &SequenceLayout| SequenceShape { length: sequence.length, target: inputs.columns(sequence.target) };
        let shape = InputShape {
            width: inputs.width(),
            slots: inputs.slots().iter().map(SlotLayout::dim).collect(),
            sequences: inputs.sequences().iter().map(sequence).collect(),
        };
        let layout = Layout::new(model, config.heads, shape);
        let layout = if early == Some(EarlyLabels::EsDfm) { layout.with_delays(model) } else { layout };
        let nets = Nets::over(layout, config, compute.device());
        Ok(Learner {
            compute,
            shared: Lookup::new(&model.embedding, &inputs, config),
            own: (!model.sharing).then(|| Lookup::new(&model.embedding, &inputs, config)),
            inputs,
            columns: Vec::new(),
            click_counts,
            nets,
            teacher: None,
            rule: Rule { early, ..Rule::new(config) },
            schedule: config.hint.schedule,
            booster_first: config.booster_first.clone(),
            base_rate: config.base_rate,
            clip_norm: config.optimizer.clip_norm,
            adam: Adam::new(&config.optimizer),
            course: Course::default(),
            begun: None,
        })
    }

    /// Predict, then train. A batch without rows changes nothing and counts as applied.
    pub fn step(&mut self, batch: &Batch) -> StepReport {
        if batch.labels.is_empty() {
            return StepReport { scores: self.predict(batch), applied: true, ..StepReport::default() };
        }
        let phase = Phase::after(self.course.samples, &self.booster_first);
        let rule = phase.rule(self.rule());
        let mut inputs = Inputs {
            shared: self.shared.read(&self.inputs, batch),
            light: self.own.as_mut().map(|own| own.read(&self.inputs, batch)),
            sequences: self.shared.sequences(&self.inputs, batch),
        };
        self.read_click_rates(batch, &mut inputs);
        let pass = self.compute.run(|| {
            let teacher = self.teacher.as_ref().filter(|_| rule.teacher != 0.0);
            let taught = teacher.and_then(|teacher| teacher.logits(&self.inputs, &self.click_counts, batch));
            let targets = Targets { labels: &batch.labels, stages: &batch.stages, teacher: taught.as_deref() };
            self.nets.gradients(inputs, targets, &rule)
        });
        let scores = pass.scores.shifted(rule.shift);
        // The rows' gradients are checked before the nets change: a batch is applied whole or not at all.
        let gradients = pass.gradients.filter(|gradients| self.scatter(batch, gradients.inputs()));
        let applied = gradients.is_some();
        if let Some(gradients) = gradients {
            if phase == Phase::Light && self.course.steps_before == 0 {
                self.course.steps_before = self.nets.steps();
            }
            let is_first = self.nets.steps() == self.course.steps_before;
            let gradients = self.clip(gradients);
            self.compute.run(|| self.nets.apply(gradients, &self.adam, phase.frozen(), self.course.steps_before));
            if is_first && self.base_rate.is_none() && rule.early.is_none() {
                self.nets.start_from(of_the_whole(laplace(&batch.labels), rule.shift), phase.frozen());
            }
            if phase.moves_shared_rows() {
                self.shared.apply(batch.time());
            }
            if let Some(own) = self.own.as_mut().filter(|_| phase.moves_light_rows()) {
                own.apply(batch.time());
            }
            self.click_counts.add(&batch.click_rates, &batch.labels, &batch.stages);
            self.course.samples += batch.labels.len() as u64;
            // Log losses can be compared on final labels alone.
            if rule.early.is_none() {
                self.course.health.observe(&batch.labels, &scores);
            }
        }
        let Loss { total, hint_mse, hint_share } = pass.loss;
        StepReport { scores, loss: total, hint_mse, hint_share, hint_weight: rule.hint, applied }
    }

    /// The rule with λ as scheduled.
    fn rule(&self) -> Rule {
        match self.schedule {
            HintSchedule::Constant => self.rule,
            HintSchedule::Health => Rule { hint: self.rule.hint * self.course.health.factor(), ..self.rule },
        }
    }

    /// Scales the whole gradient g, dense parameters and rows together, by min(1, `clip_norm` / ‖g‖) (Pascanu, Mikolov, Bengio 2013).
    fn clip(&mut self, gradients: Gradients) -> Gradients {
        if self.clip_norm == 0.0 {
            return gradients;
        }
        let rows = self.shared.squares() + self.own.as_ref().map_or(0.0, Lookup::squares);
        let norm = (gradients.dense_squares() + rows).sqrt();
        if norm <= self.clip_norm {
            return gradients;
        }
        let by = self.clip_norm / norm;
        self.shared.scale(by);
        if let Some(own) = &mut self.own {
            own.scale(by);
        }
        gradients.scaled(by)
    }

    fn read_click_rates(&self, batch: &Batch, inputs: &mut Inputs) {
        for matrix in [Some(&mut inputs.shared), inputs.light.as_mut()].into_iter().flatten() {
            self.click_counts.read(&batch.click_rates, self.inputs.width(), matrix);
        }
    }

    /// False where a gradient of a row is not finite.
    fn scatter(&mut self, batch: &Batch, gradients: &Inputs) -> bool {
        let finite = self.shared.scatter(&self.inputs, batch, &gradients.shared, &gradients.sequences);
        let own = self.own.as_mut().zip(gradients.light.as_ref());
        finite && own.is_none_or(|(own, gradient)| own.scatter(&self.inputs, batch, gradient, &[]))
    }

    /// Logits with the current weights; changes nothing (unknown ids stay unknown).
    #[must_use]
    pub fn predict(&self, batch: &Batch) -> Scores {
        if batch.labels.is_empty() {
            return self.nets.no_scores();
        }
        let peek = |lookup: &Lookup| lookup.peek(&self.inputs, batch);
        let mut inputs = Inputs { light: self.own.as_ref().map(|own| peek(own).shared), ..peek(&self.shared) };
        self.read_click_rates(batch, &mut inputs);
        self.compute.run(|| self.nets.predict(inputs, batch.rows()))
    }

    /// What makes its teachers, if the rule has one; `model` and `config` are those it was made with.
    #[must_use]
    pub fn teachers(&self, model: &ModelConfig, config: &TrainConfig) -> Option<Teachers> {
        let lookup = || Lookup::new(&model.embedding, &self.inputs, config);
        let make = || Teachers::new(self.nets.layout().clone(), self.compute.device().clone(), lookup());
        (self.rule.teacher != 0.0).then(make)
    }

    /// Light imitates `teacher` from now on. Part of no state: whoever restores a learner says again who teaches it.
    pub fn learn_from(&mut self, teacher: Teacher) {
        self.teacher = Some(teacher);
    }

    /// A copy of the state: all rows and counts, or those touched since the last capture. Leaves training bit-equal. Gives up a capture that
    /// is under way.
    pub fn capture(&mut self, full: bool) -> LearnerState {
        self.begin_capture(full);
        self.end_capture().expect("it has just begun").state()
    }

    /// Begins a capture of the state as it is now, between two steps, as [`Learner::capture`] says. It takes a moment however many rows
    /// there are; they are copied by [`Learner::copy`], a little between steps, and by steps themselves before they change.
    pub fn begin_capture(&mut self, full: bool) {
        self.begun = Some((self.nets.copy(), self.course));
        self.shared.begin_capture(full);
        if let Some(own) = &mut self.own {
            own.begin_capture(full);
        }
        self.click_counts.begin_capture(full);
    }

    /// Copies up to `rows` rows of the capture that is under way. Returns how many it copied, 0 when none is left.
    pub fn copy(&mut self, rows: usize) -> usize {
        let mut copied = self.shared.copy(rows);
        if let Some(own) = &mut self.own {
            copied += own.copy(rows - copied);
        }
        copied + self.click_counts.copy(rows - copied)
    }

    /// Copies what is left of the capture that is under way, if one is, and ends it.
    pub fn end_capture(&mut self) -> Option<LearnerCopy> {
        let (dense, course) = self.begun.take()?;
        let light_rows = match &mut self.own {
            Some(own) => Some(own.end_capture()?),
            None => None,
        };
        Some(LearnerCopy { dense, rows: self.shared.end_capture()?, light_rows, click_counts: self.click_counts.end_capture(), course })
    }

    /// Becomes `state`; its rows and counts must be full.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`]; the learner is unchanged then.
    pub fn restore(&mut self, state: LearnerState) -> Result<(), TrainError> {
        let (nets, shared) = (self.nets.restored(state.dense)?, self.shared.restored(&state.rows)?);
        let own = match (&self.own, &state.light_rows) {
            (Some(own), Some(rows)) => Some(own.restored(rows)?),
            (None, None) => None,
            (Some(_), None) => return Err(TrainError::Mismatch("light has no rows of its own, model.sharing is false".to_owned())),
            (None, Some(_)) => return Err(TrainError::Mismatch("light has rows of its own, model.sharing is true".to_owned())),
        };
        let click_counts = self.click_counts.restored(state.click_counts.as_ref())?;
        (self.nets, self.shared, self.own, self.click_counts, self.course) = (nets, shared, own, click_counts, state.course);
        self.begun = None;
        Ok(())
    }

    /// Multiplications of one example's logit in the dense layers, by head name ([`crate::nets::Layout::multiplications`]).
    #[must_use]
    pub fn multiplications(&self) -> BTreeMap<String, u64> {
        let count = |head: Head| Some((head.name().to_owned(), self.nets.layout().multiplications(head)? as u64));
        Head::ALL.into_iter().filter_map(count).collect()
    }

    /// Rows in all tables.
    #[must_use]
    pub fn table_rows(&self) -> usize {
        self.shared.rows() + self.own.as_ref().map_or(0, Lookup::rows)
    }
}

/// Laplace's estimate of the share of clicks, above 0 and below 1.
fn laplace(labels: &[Label]) -> f64 {
    let clicks = labels.iter().filter(|label| **label).count();
    (clicks as f64 + 1.0) / (labels.len() as f64 + 2.0)
}

/// The share of clicks in the whole stream where it is `share` in one whose odds are e^`shift` times the whole's ([`Rule::shift`]).
fn of_the_whole(share: f64, shift: f64) -> f64 {
    let odds = share / (1.0 - share) * (-shift).exp();
    odds / (1.0 + odds)
}

#[cfg(test)]
mod tests;
