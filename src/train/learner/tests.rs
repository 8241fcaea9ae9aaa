use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::config::{
    Activation, AdmissionConfig, ByteLength, Decay, EmbeddingConfig, ExpiryConfig, FeatureConfig, FeatureKind, Heads, HiddenConfig,
    HintConfig, HintKind, NegativesConfig, OptimizerConfig, Pooling, SchemaConfig, SharedGrad, TeacherConfig,
};
use crate::domain::EventTime;
use crate::features::NO_KEY;
use crate::nets::Part;
use crate::train::RowsState;

fn model() -> ModelConfig {
    ModelConfig {
        embedding: EmbeddingConfig { dim: 4, init_scale: 0.01, ..EmbeddingConfig::default() },
        shared: vec![16],
        light: vec![8],
        booster: vec![32, 16],
        ..ModelConfig::default()
    }
}

fn config(threads: usize) -> TrainConfig {
    // A small accumulator lets the rows move within a short test.
    let optimizer = OptimizerConfig { embedding_initial_accumulator: 1e-6, ..OptimizerConfig::default() };
    TrainConfig { threads, optimizer, ..TrainConfig::default() }
}

/// Two tables: the bag's rows have another dim than the items'.
fn layout() -> InputLayout {
    InputLayout::of(&[(Pooling::Sum, 4), (Pooling::Mean, 5)], 1, 1)
}

/// The click rate of an item.
fn click_counts() -> ClickCounts {
    let item = FeatureConfig { embed: false, ..FeatureConfig::new("item", FeatureKind::Categorical) };
    let rate = FeatureConfig::new("item_rate", FeatureKind::ClickRate { of: vec!["item".to_owned()], prior: 2.0 });
    let schema = SchemaConfig::labelled(vec![item, rate]);
    ClickCounts::new(&FeatureSpec::new(&schema).expect("a sound schema"))
}

fn learner(config: &TrainConfig) -> Learner {
    Learner::over(&model(), config, None, layout(), click_counts()).expect("the CPU is always there")
}

/// A small stream with something to learn: even items click. Bags and the number are noise; every batch brings new ids.
fn batch(number: u64, rows: u64) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let mut batch = Batch { bounds: vec![0], ..Batch::default() };
    for _ in 0..rows {
        let item = random.random_range(0..64);
        batch.ids.push(item);
        batch.click_rates.push(item + 1);
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
fn ids_alone_are_enough_to_learn_from() {
    let model = ModelConfig { embedding: EmbeddingConfig { dim: 4, ..EmbeddingConfig::default() }, ..model() };
    let mut learner = Learner::over(&model, &config(1), None, layout(), click_counts()).expect("the CPU is always there");
    let mut losses = Vec::new();
    for number in 0..150 {
        let mut batch = batch(number, 64);
        batch.numbers.fill(0.0);
        batch.click_rates.fill(NO_KEY);
        losses.push(learner.step(&batch).loss);
    }
    let (first, last): (f64, f64) = (losses[..10].iter().sum(), losses[140..].iter().sum());
    assert!(last < 0.5 * first, "loss {first} came only to {last}");
}

#[test]
fn where_negatives_are_sampled_the_report_is_of_the_sampled_stream_and_the_prediction_of_the_whole() {
    let config = TrainConfig { negatives: NegativesConfig { keep: 0.25 }, ..config(1) };
    let mut learner = learner(&config);
    for number in 0..3 {
        let batch = batch(number, 64);
        let served = learner.predict(&batch);
        assert_eq!(learner.step(&batch).scores, served.shifted(4.0_f64.ln()), "step {number}");
    }
    assert!((of_the_whole(0.5, 4.0_f64.ln()) - 0.2).abs() < 1e-12, "one of two, where three of four negatives are left out");
}

#[test]
fn no_example_sees_its_own_label_nor_one_of_its_batch() {
    let [mut learner, mut other] = [(); 2].map(|()| learner(&config(1)));
    let warm = batch(0, 64);
    learner.step(&warm);
    other.step(&warm);
    let honest = batch(1, 64);
    let mut flipped = honest.clone();
    flipped.labels.iter_mut().for_each(|label| *label = !*label);
    assert_eq!(learner.step(&honest).scores, other.step(&flipped).scores);
    let next = batch(2, 64);
    assert_ne!(learner.click_counts.capture(true), other.click_counts.capture(true), "the next batch sees them");
    assert_ne!(learner.predict(&next), other.predict(&next));
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
    // The last two are at the seam, where the next step would be the first of light's phase.
    for mut learner in [learner(&config(1)), learner(&stable()), dice(), attentive(&config(1)), apart(0), booster_first(160), apart(160)] {
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
}

#[test]
fn a_batch_without_rows_changes_nothing() {
    let mut learner = learner(&config(1));
    let before = learner.capture(true);
    let report = learner.step(&Batch { bounds: vec![0], ..Batch::default() });
    assert!(
        report.applied && [report.scores.light, report.scores.booster, report.scores.control].iter().all(|head| *head == Some(Vec::new()))
    );
    assert_eq!(learner.capture(true), before);
}

/// Three learners over the same batches: never captured; captured at every step; replaced by a restored copy at step `at`.
fn capture_and_restore_are_bit_equal(fresh: impl Fn() -> Learner, rows: u64, at: u64) {
    let [mut plain, mut captured, mut restored] = [(); 3].map(|()| fresh());
    for number in 0..12 {
        if number == at {
            let state = restored.capture(true);
            restored = fresh();
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
    capture_and_restore_are_bit_equal(|| learner(&config(1)), 64, 6);
}

#[test]
fn capture_and_restore_are_bit_equal_on_four_threads() {
    // Enough rows that the first layer's products are above the backend's threshold for going parallel (192³).
    capture_and_restore_are_bit_equal(|| learner(&config(4)), 32_768, 6);
}

/// Running moments beside what is trained.
fn dice() -> Learner {
    let dice = HiddenConfig { layer_norm: false, activation: Activation::Dice };
    let model = ModelConfig { hidden: dice, booster_hidden: dice, booster_fm: true, ..model() };
    Learner::over(&model, &config(1), None, layout(), click_counts()).expect("the CPU is always there")
}

/// Everything that steadies a step: a bound that every batch exceeds, warm-up, decay, a base rate.
fn stable() -> TrainConfig {
    let optimizer = OptimizerConfig { clip_norm: 1e-3, warmup_steps: 5, decay: Decay::HalfLife, decay_steps: 7, ..config(1).optimizer };
    TrainConfig { optimizer, base_rate: Some(0.3), ..config(1) }
}

#[test]
fn a_long_gradient_is_scaled_to_the_bound_over_dense_and_rows_together_and_a_short_one_left_alone() {
    let with = |sharing: bool, clip_norm: f64| {
        let optimizer = OptimizerConfig { clip_norm, ..config(1).optimizer };
        let model = ModelConfig { sharing, control: false, ..model() };
        let mut learner = Learner::over(&model, &TrainConfig { optimizer, ..config(1) }, None, layout(), click_counts())
            .expect("the CPU is always there");
        assert!(learner.step(&batch(0, 64)).applied);
        learner.capture(true)
    };
    // After one step Adam's m is 0.1·g, and Adagrad's accumulators have grown by g².
    let squares = |state: &LearnerState| {
        let dense: f64 = state.dense.m.iter().map(|m| (f64::from(*m) / 0.1).powi(2)).sum();
        let rows = state.rows.iter().chain(state.light_rows.iter().flatten());
        let of = |rows: &RowsState| {
            let accumulators = rows.data.chunks_exact(2 * rows.dim).flat_map(|row| &row[rows.dim..]);
            accumulators.map(|acc| f64::from(*acc) - 1e-6).sum::<f64>()
        };
        (dense, rows.map(of).sum::<f64>())
    };
    for sharing in [true, false] {
        let free = with(sharing, 0.0);
        let (dense, rows) = squares(&free);
        let norm = (dense + rows).sqrt();
        assert!(dense > 0.0 && rows > 0.0);
        assert_eq!(with(sharing, norm * 1.01), free);
        let clipped = with(sharing, norm / 4.0);
        let (clipped_dense, clipped_rows) = squares(&clipped);
        assert!((clipped_dense * 16.0 / dense - 1.0).abs() < 1e-3, "{clipped_dense} of {dense}");
        assert!((clipped_rows * 16.0 / rows - 1.0).abs() < 1e-2, "{clipped_rows} of {rows}");
        for (free, clipped) in free.dense.m.iter().zip(&clipped.dense.m) {
            assert!((free / 4.0 - clipped).abs() <= 1e-5 * free.abs(), "{free} became {clipped}");
        }
    }
}

#[test]
fn a_base_rate_is_what_a_fresh_learner_predicts_of_an_empty_example() {
    let learner = learner(&stable());
    let nothing = Batch { bounds: vec![0, 0, 0], numbers: vec![0.0], click_rates: vec![NO_KEY], labels: vec![false], ..Batch::default() };
    let scores = learner.predict(&nothing);
    for logits in [scores.light, scores.booster, scores.control] {
        let logit = f64::from(logits.expect("the head is there")[0]);
        assert!((logit - (0.3_f64 / 0.7).ln()).abs() < 0.01, "{logit}");
    }
}

#[test]
fn without_one_heads_start_from_what_their_first_batch_holds_once_it_is_scored() {
    let clicks = |number, share: usize| {
        let mut batch = batch(number, 64);
        batch.labels.iter_mut().enumerate().for_each(|(row, label)| *label = row % share == 0);
        batch
    };
    let nothing = Batch { bounds: vec![0, 0, 0], numbers: vec![0.0], click_rates: vec![NO_KEY], labels: vec![false], ..Batch::default() };
    let says = |learner: &Learner, logits: fn(Scores) -> Option<Vec<f32>>, p: f64| {
        let logit = f64::from(logits(learner.predict(&nothing)).expect("the head is there")[0]);
        assert!((logit - (p / (1.0 - p)).ln()).abs() < 0.02, "{logit}");
    };
    let mut learner = booster_first(64);
    let unseen = learner.predict(&clicks(0, 16));
    assert_eq!(learner.step(&clicks(0, 16)).scores, unseen, "scored before its labels were seen");
    says(&learner, |scores| scores.booster, 5.0 / 66.0);
    says(&learner, |scores| scores.light, 0.5);
    // Light's first batch is the second; the booster is frozen then, and neither starts again after.
    learner.step(&clicks(1, 8));
    says(&learner, |scores| scores.booster, 5.0 / 66.0);
    says(&learner, |scores| scores.light, 9.0 / 66.0);
    learner.step(&clicks(2, 2));
    says(&learner, |scores| scores.light, 9.0 / 66.0);
}

/// Light apart from the booster, which comes first for `samples`.
fn apart(samples: u64) -> Learner {
    let model = ModelConfig { sharing: false, control: false, ..model() };
    let config = TrainConfig { booster_first: BoosterFirstConfig { samples }, ..config(1) };
    Learner::over(&model, &config, None, layout(), click_counts()).expect("the CPU is always there")
}

/// Light on the booster's trunk; the booster comes first for `samples`.
fn booster_first(samples: u64) -> Learner {
    learner(&TrainConfig { booster_first: BoosterFirstConfig { samples }, ..config(1) })
}

/// The booster attends to the newest three of the bag with the item, which shares its table.
fn attentive(config: &TrainConfig) -> Learner {
    let layout = InputLayout::of(&[(Pooling::Sum, 4), (Pooling::Mean, 4)], 1, 1);
    let layout = layout.with_sequences(vec![SequenceLayout { slot: 1, length: 3, target: 0 }]);
    let model = ModelConfig { control: config.heads == Heads::Both, ..model() };
    Learner::over(&model, config, None, layout, click_counts()).expect("the CPU is always there")
}

/// Items are clicked that stand in the newest three of the bag.
fn match_batch(number: u64) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let mut batch = Batch { bounds: vec![0], ..Batch::default() };
    for _ in 0..64 {
        let clicked: Vec<u64> = (0..5).map(|_| random.random_range(1..9)).collect();
        let item = random.random_range(1..9);
        batch.ids.push(item);
        batch.bounds.push(batch.ids.len() as u32);
        batch.ids.extend(&clicked);
        batch.bounds.push(batch.ids.len() as u32);
        batch.labels.push(clicked[2..].contains(&item));
        batch.numbers.push(0.0);
        batch.click_rates.push(NO_KEY);
    }
    batch
}

#[test]
fn attention_finds_the_target_in_the_sequence_where_pooling_does_not() {
    let booster = TrainConfig { heads: Heads::Booster, ..config(1) };
    let model = ModelConfig { control: false, ..model() };
    let pooled = InputLayout::of(&[(Pooling::Sum, 4), (Pooling::Mean, 4)], 1, 1);
    let pooled = Learner::over(&model, &booster, None, pooled, click_counts()).expect("the CPU is always there");
    let [attentive, pooled] = [attentive(&booster), pooled].map(|mut learner| {
        let losses: Vec<f64> = (0..600).map(|number| learner.step(&match_batch(number)).loss).collect();
        losses[500..].iter().sum::<f64>() / 100.0
    });
    assert!(attentive < 0.8 * pooled, "loss {attentive} with attention, {pooled} without");
}

#[test]
fn a_teacher_attends_as_the_booster_that_it_was() {
    let mut taught = config(1);
    taught.teacher.weight = 1.8;
    let mut learner = attentive(&taught);
    (0..5).for_each(|number| assert!(learner.step(&match_batch(number)).applied));
    let teacher = learner.teachers(&model(), &taught).expect("the rule has one").make(&learner.capture(true)).expect("its own state");
    let probe = match_batch(9);
    assert_eq!(teacher.logits(&learner.inputs, &learner.click_counts, &probe), learner.predict(&probe).booster);
}

#[test]
fn light_alone_attends_to_nothing() {
    let light = TrainConfig { heads: Heads::Light, ..config(1) };
    let mut learner = attentive(&light);
    assert!(learner.inputs.sequences().is_empty());
    assert!(learner.step(&batch(0, 16)).applied);
}

#[test]
fn every_arm_restores_bit_equal_in_each_phase_and_at_the_seam() {
    // The batch in which the 192nd sample would be counted is the third: the fourth is the first of light's phase.
    for at in [2, 3, 4, 6] {
        capture_and_restore_are_bit_equal(|| booster_first(192), 64, at);
        capture_and_restore_are_bit_equal(|| apart(192), 64, at);
        capture_and_restore_are_bit_equal(|| apart(0), 64, at);
        capture_and_restore_are_bit_equal(|| learner(&stable()), 64, at);
        capture_and_restore_are_bit_equal(|| attentive(&config(1)), 64, at);
        capture_and_restore_are_bit_equal(dice, 64, at);
    }
}

#[test]
fn booster_and_trunk_learn_first_then_light_from_them_while_they_keep_every_bit() {
    let parts = |learner: &mut Learner| {
        let state = learner.capture(true);
        let layout = learner.nets.layout();
        let part = |part| [&state.dense.params, &state.dense.m, &state.dense.v].map(|vector| vector[layout.range(part)].to_vec());
        ([Part::Shared, Part::Booster, Part::Light, Part::Control].map(part), state.rows, state.light_rows)
    };
    for (mut learner, control) in [(booster_first(100), true), (apart(100), false)] {
        for number in 0..6 {
            let ([shared, booster, light, of_control], rows, light_rows) = parts(&mut learner);
            assert!(learner.step(&batch(number, 64)).applied);
            let after = parts(&mut learner);
            let first = number < 2;
            assert_eq!((after.0[1] != booster, after.1 != rows), (first, first), "step {number}");
            assert_eq!((after.0[2] == light, after.2 == light_rows), (first, first || light_rows.is_none()), "step {number}");
            assert_eq!(after.0[0] != shared, first && control, "step {number}");
            assert_eq!(after.0[3] != of_control, !first && control, "step {number}");
        }
        let Course { samples, steps_before, .. } = learner.capture(true).course;
        assert_eq!((samples, steps_before), (384, 2));
    }
}

#[test]
fn booster_first_moves_the_booster_as_a_booster_alone() {
    let alone = TrainConfig { heads: Heads::Booster, ..config(1) };
    let mut alone =
        Learner::over(&ModelConfig { control: false, ..model() }, &alone, None, layout(), click_counts()).expect("the CPU is always there");
    let mut first = booster_first(u64::MAX);
    for number in 0..5 {
        let [alone, first] = [&mut alone, &mut first].map(|learner| learner.step(&batch(number, 64)));
        assert_eq!(alone.scores.booster, first.scores.booster, "step {number}");
        assert_eq!((alone.scores.light, alone.hint_mse), (None, None));
    }
    assert_eq!(alone.capture(true).rows, first.capture(true).rows);
}

#[test]
fn by_health_lambda_is_whole_at_first_then_within_its_bounds_and_the_same_in_a_restored_learner() {
    let health = |schedule| TrainConfig { hint: HintConfig { schedule, ..HintConfig::default() }, ..config(1) };
    let noise = |number| {
        let mut batch = batch(number, 4096);
        batch.labels.iter_mut().enumerate().for_each(|(row, label)| *label = (row as u64 * 7 + number).is_multiple_of(3));
        batch
    };
    let mut learner = learner(&health(HintSchedule::Health));
    let weights: Vec<f64> = (0..12).map(|number| learner.step(&noise(number)).hint_weight).collect();
    let whole = f64::from(HintConfig::default().weight);
    assert_eq!(weights[..7], [whole; 7]);
    assert!(weights[7..].iter().all(|weight| (0.0..=whole).contains(weight)), "{weights:?}");
    let mut restored = self::learner(&health(HintSchedule::Health));
    restored.restore(learner.capture(true)).expect("same model");
    assert_eq!(restored.step(&noise(12)), learner.step(&noise(12)));
    let mut constant = self::learner(&health(HintSchedule::Constant));
    assert!((0..12).all(|number| constant.step(&noise(number)).hint_weight == whole));
}

#[test]
fn light_learns_from_a_frozen_booster_by_either_hint() {
    for kind in [HintKind::LogitsMse, HintKind::Kd] {
        let hint = HintConfig { kind, weight: 1.0, ..HintConfig::default() };
        let config = TrainConfig { hint, booster_first: BoosterFirstConfig { samples: 3200 }, ..config(1) };
        let mut learner = learner(&config);
        let distance = (0..150).map(|number| learner.step(&batch(number, 64)).hint_mse.expect("both are there")).collect::<Vec<_>>();
        assert!(distance[149] < 0.1 * distance[50], "{kind:?}: {} came only to {}", distance[50], distance[149]);
    }
}

#[test]
fn light_learns_from_a_teacher_that_stays_what_it_was_and_the_booster_does_not() {
    let rule = |weight| {
        let hint = HintConfig { weight: 0.0, ..HintConfig::default() };
        TrainConfig { hint, teacher: TeacherConfig { weight, temperature: 1.0 }, shared_grad: SharedGrad::BoosterOnly, ..config(1) }
    };
    let (model, taught) = (model(), rule(100.0));
    // Rates of past clicks are those of now, for a teacher too: without them it says what it said.
    let batch = |number| Batch { click_rates: vec![NO_KEY; 64], ..batch(number, 64) };
    let mut source = learner(&config(1));
    (0..100).for_each(|number| drop(source.step(&batch(number))));
    let state = source.capture(true);
    let [mut with, mut without] = [&taught, &rule(0.0)].map(learner);
    assert!(without.teachers(&model, &rule(0.0)).is_none());
    let teachers = with.teachers(&model, &taught).expect("the rule has one");
    with.learn_from(teachers.make(&state).expect("same model"));
    // Labels turned round: what light knows of the right ones it has from the teacher.
    let turned = |number| {
        let mut batch = batch(number);
        batch.labels.iter_mut().for_each(|label| *label = !*label);
        batch
    };
    for number in 0..150 {
        let [with, without] = [&mut with, &mut without].map(|learner| learner.step(&turned(number)));
        assert_eq!(with.scores.booster, without.scores.booster, "step {number}");
    }
    let probe = batch(500);
    let [with, without, source] = [&with, &without, &source].map(|learner| learner.predict(&probe));
    let distance = |scores: Scores| {
        let [light, teacher] = [scores.light, source.booster.clone()].map(|logits| logits.expect("the head is there"));
        light.iter().zip(teacher).map(|(l, t)| (l - t).abs()).sum::<f32>() / 64.0
    };
    let [with, without] = [with, without].map(distance);
    assert!(with < 0.5 * without, "{with} from the teacher, {without} without it");
    assert!(teachers.make(&LearnerState { rows: vec![RowsState { dim: 5, ..state.rows[0].clone() }], ..state }).is_err());
}

#[test]
fn increments_add_up_to_the_full_state() {
    let mut learner = learner(&config(1));
    learner.step(&batch(0, 16));
    let mut rows: std::collections::BTreeMap<(usize, u64), Vec<f32>> = std::collections::BTreeMap::new();
    let mut add = |state: LearnerState| {
        for RowsState { dim, width, keys, data, .. } in state.rows {
            keys.iter().zip(data.chunks_exact(width)).for_each(|(key, row)| drop(rows.insert((dim, *key), row.to_vec())));
        }
    };
    add(learner.capture(true));
    for number in 1..4 {
        learner.step(&batch(number, 16));
        let increment = learner.capture(false);
        assert!(increment.rows.iter().all(|rows| !rows.full && !rows.keys.is_empty()));
        assert!(increment.rows.iter().map(|rows| rows.keys.len()).sum::<usize>() < learner.table_rows());
        add(increment);
    }
    let full = learner.capture(true).rows;
    assert_eq!(full.iter().map(|rows| rows.keys.len()).sum::<usize>(), rows.len());
    for RowsState { dim, width, keys, data, .. } in full {
        keys.iter().zip(data.chunks_exact(width)).for_each(|(key, row)| assert_eq!(rows[&(dim, *key)], row));
    }
}

#[test]
fn a_capture_under_way_over_many_steps_is_the_state_at_its_beginning() {
    let admitted = AdmissionConfig { min_count: 2, filter: ByteLength(1 << 16), ..AdmissionConfig::default() };
    let own = ModelConfig { sharing: false, control: false, ..model() };
    let rare = ModelConfig { embedding: EmbeddingConfig { admission: admitted, ..model().embedding }, ..model() };
    let fading = EmbeddingConfig { expiry: ExpiryConfig { rows_max: 64, ..ExpiryConfig::default() }, ..model().embedding };
    let fading = ModelConfig { embedding: fading, ..model() };
    for model in [own, rare, fading] {
        let fresh = || Learner::over(&model, &config(1), None, layout(), click_counts()).expect("the CPU is always there");
        let (mut slices, mut at_once) = (fresh(), fresh());
        let mut expected = None;
        for number in 0..24 {
            if number % 4 == 0 {
                assert_eq!(slices.end_capture().map(LearnerCopy::state), expected, "before step {number}");
                slices.begin_capture(number % 8 == 0);
                expected = Some(at_once.capture(number % 8 == 0));
            }
            let hour = EventTime(1_700_000_000_000 + number as i64 * 3_600_000);
            let batch = batch(number, 16);
            let batch = Batch { times: vec![hour; batch.rows()], ..batch };
            assert_eq!(slices.step(&batch), at_once.step(&batch));
            slices.copy(7);
        }
        while slices.copy(7) > 0 {}
        assert_eq!(slices.end_capture().map(LearnerCopy::state), expected);
        assert!(slices.end_capture().is_none());
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
    refused(&|state| state.rows[0].dim = 5, "embedding rows have 5 floats, model.embedding.dim is 4");
    refused(
        &|state| state.rows[1].dim = 3,
        "rows have [4, 3] floats, table by table, model.embedding.dim and the dims of features make [4, 5]",
    );
    refused(&|state| drop(state.rows.pop()), "rows have [4] floats");
    refused(&|state| state.rows[1].full = false, "increment");
    refused(&|state| state.light_rows = Some(state.rows.clone()), "model.sharing is true");
}
