//! The promise of the gradient block: each cell of the learning rule's table (which term of the loss may move which parameters) holds
//! on real gradients, exactly zero where the table says so, on every backend in the build; and the gradients as a whole are those of the
//! loss, by finite differences of an f64 reference.
#![cfg(feature = "trainer")]

use rocket_launching::config::{
    Activation, AttentionPair, BoosterAttentionConfig, BoosterCrossConfig, EarlyLabels, Heads, HiddenConfig, ModelConfig, SharedGrad,
    TrainConfig,
};
use rocket_launching::domain::{Origin, PartitionIndex, Stage};
use rocket_launching::nets::{Hint, InputShape, Inputs, Layout, Nets, Part, Rule, Sequence, SequenceShape, Targets};
use rocket_launching::train::Compute;

/// Every backend in the build.
const DEVICES: &[&str] = if cfg!(feature = "tch") { &["cpu", "tch-cpu"] } else { &["cpu"] };
const SHARED_GRADS: [SharedGrad; 3] = [SharedGrad::All, SharedGrad::NoHint, SharedGrad::BoosterOnly];
const KINDS: [Hint; 3] = [Hint::LogitsMse, Hint::ProbMse, Hint::Kd { temperature: 4.0 }];
const INPUTS: usize = 6;
/// Two slots of two floats; two numbers after them.
const SLOTS: [usize; 2] = [2, 2];
const LABELS: [bool; 5] = [true, false, false, true, false];
/// What a frozen teacher says of them.
const TEACHER: [f32; 5] = [0.5, -1.0, 0.25, 2.0, -0.75];
const TARGETS: Targets<'_> = Targets { labels: &LABELS, stages: &[], teacher: Some(&TEACHER) };
const NONE: Rule = Rule {
    light: 0.0,
    booster: 0.0,
    control: 0.0,
    hint: 0.0,
    kind: Hint::LogitsMse,
    teacher: 0.0,
    teacher_temperature: 4.0,
    gradient_block: true,
    shared_grad: SharedGrad::All,
    shift: 0.0,
    early: None,
};

fn model(shared: &[usize]) -> ModelConfig {
    ModelConfig { shared: shared.to_vec(), light: vec![4], booster: vec![6, 5], control: true, ..ModelConfig::default() }
}

/// As [`model`], with nothing shared: no control head, which would be trained on a shared trunk.
fn apart(shared: &[usize]) -> ModelConfig {
    ModelConfig { sharing: false, control: false, ..model(shared) }
}

/// The same with attention over two sequences, looked at with one slot each.
fn attentive(model: ModelConfig) -> ModelConfig {
    let pair = |name: &str| AttentionPair { sequence: name.to_owned(), target: name.to_owned() };
    let of = vec![pair("one"), pair("two")];
    ModelConfig { booster_attention: BoosterAttentionConfig { hidden: vec![3], of }, ..model }
}

/// Of an attentive model; the nets know no names.
fn sequence_shapes(model: &ModelConfig) -> Vec<SequenceShape> {
    let shapes = [SequenceShape { length: 3, target: 2..4 }, SequenceShape { length: 2, target: 0..2 }];
    shapes.into_iter().take(model.booster_attention.of.len()).collect()
}

/// Of every length that there is, empty ones too; what stands behind them is no row.
fn sequences(model: &ModelConfig) -> Vec<Sequence> {
    let sequence = |SequenceShape { length, target }: SequenceShape| Sequence {
        rows: (0..LABELS.len() * length * target.len()).map(|i| (i as f32 * 0.9 + 1.0).cos()).collect(),
        lengths: (0..LABELS.len()).map(|row| (row % (length + 1)) as u32).collect(),
    };
    sequence_shapes(model).into_iter().map(sequence).collect()
}

fn nets(device: &str, model: &ModelConfig, heads: Heads) -> Nets {
    let compute = Compute::new(device, 1).expect("the backend is in this build");
    let shape = InputShape { width: INPUTS, slots: SLOTS.to_vec(), sequences: sequence_shapes(model) };
    Nets::new(model, &TrainConfig { seed: 11, heads, ..TrainConfig::default() }, shape, compute.device())
}

fn inputs() -> Vec<f32> {
    (0..LABELS.len() * INPUTS).map(|i| (i as f32 * 1.3).sin()).collect()
}

/// The inputs of `model`: light's own differ from the booster's.
fn inputs_of(model: &ModelConfig) -> Inputs {
    let light = (!model.sharing).then(|| inputs().iter().map(|x| 0.5 - x).collect());
    Inputs { shared: inputs(), light, sequences: sequences(model) }
}

/// Gradients by each part's parameters and by the input matrix, where the embeddings' gradients come from.
#[derive(Debug, PartialEq)]
struct Parts {
    shared: Vec<f32>,
    light: Vec<f32>,
    booster: Vec<f32>,
    control: Vec<f32>,
    inputs: Vec<f32>,
    /// By the inputs that light has to itself.
    light_inputs: Vec<f32>,
    /// By the rows of sequences.
    sequences: Vec<f32>,
}

fn gradients(device: &str, shared: &[usize], rule: &Rule) -> Parts {
    gradients_of(device, &model(shared), Heads::Both, rule)
}

fn gradients_of(device: &str, model: &ModelConfig, heads: Heads, rule: &Rule) -> Parts {
    let nets = nets(device, model, heads);
    let gradients = nets.gradients(inputs_of(model), TARGETS, rule).gradients.expect("finite");
    let flat = gradients.dense();
    let part = |part| flat[nets.layout().range(part)].to_vec();
    Parts {
        shared: part(Part::Shared),
        light: part(Part::Light),
        booster: part(Part::Booster),
        control: part(Part::Control),
        inputs: gradients.inputs().shared.clone(),
        light_inputs: gradients.inputs().light.clone().unwrap_or_default(),
        sequences: gradients.inputs().sequences.iter().flat_map(|sequence| sequence.rows.clone()).collect(),
    }
}

/// Asserts one row of the table: for W_B, W_L and W_S (dense and inputs) whether the term moves it. Control is never moved by it.
fn assert_moves(what: &str, parts: &Parts, [booster, light, trunk]: [bool; 3]) {
    assert_cells_move(
        what,
        [
            ("W_B", &parts.booster, booster),
            ("W_L", &parts.light, light),
            ("W_S dense", &parts.shared, trunk),
            ("W_S inputs", &parts.inputs, trunk),
            ("control", &parts.control, false),
        ],
    );
}

fn assert_cells_move<const N: usize>(what: &str, cells: [(&str, &Vec<f32>, bool); N]) {
    for (name, gradient, moves) in cells {
        if moves {
            assert!(gradient.iter().any(|g| *g != 0.0), "{what}: {name} is not moved");
        } else {
            assert!(gradient.iter().all(|g| *g == 0.0), "{what}: {name} is moved by {gradient:?}");
        }
    }
}

/// Calls `check` with every backend, with and without shared dense layers, in every setting of the two switches.
fn for_every_setting(check: impl Fn(&str, &str, &[usize], SharedGrad, bool)) {
    for device in DEVICES {
        for shared in [&[][..], &[7, 5][..]] {
            for shared_grad in SHARED_GRADS {
                for gradient_block in [true, false] {
                    let what = format!("{device}, shared {shared:?}, {shared_grad:?}, gradient_block {gradient_block}");
                    check(&what, device, shared, shared_grad, gradient_block);
                }
            }
        }
    }
}

/// Without shared dense layers their cell is empty and cannot be moved; the inputs stand for the trunk.
fn assert_cells(what: &str, shared: &[usize], mut parts: Parts, moves: [bool; 3]) {
    if shared.is_empty() {
        assert!(parts.shared.is_empty());
        parts.shared.clone_from(&parts.inputs);
    }
    assert_moves(what, &parts, moves);
}

#[test]
fn booster_cross_entropy_moves_booster_and_trunk() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let rule = Rule { booster: 1.0, shared_grad, gradient_block, ..NONE };
        assert_cells(what, shared, gradients(device, shared, &rule), [true, false, true]);
    });
}

#[test]
fn light_cross_entropy_moves_light_and_the_trunk_by_shared_grad() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let rule = Rule { light: 1.0, shared_grad, gradient_block, ..NONE };
        let trunk = shared_grad != SharedGrad::BoosterOnly;
        assert_cells(what, shared, gradients(device, shared, &rule), [false, true, trunk]);
    });
}

#[test]
fn the_hint_moves_light_and_never_the_booster_behind_the_block() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let trunk = !gradient_block || shared_grad == SharedGrad::All;
        for kind in KINDS {
            let rule = Rule { hint: 0.3, kind, shared_grad, gradient_block, ..NONE };
            assert_cells(&format!("{what}, {kind:?}"), shared, gradients(device, shared, &rule), [!gradient_block, true, trunk]);
        }
    });
}

#[test]
fn a_teacher_moves_light_and_the_trunk_by_shared_grad_and_never_the_booster() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let rule = Rule { teacher: 1.8, shared_grad, gradient_block, ..NONE };
        assert_cells(what, shared, gradients(device, shared, &rule), [false, true, shared_grad == SharedGrad::All]);
    });
}

#[test]
fn a_hint_of_weight_zero_moves_nothing() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        for kind in KINDS {
            let rule = Rule { hint: 0.0, kind, shared_grad, gradient_block, ..NONE };
            assert_cells(&format!("{what}, {kind:?}"), shared, gradients(device, shared, &rule), [false; 3]);
        }
    });
}

#[test]
fn the_heads_that_weigh_early_labels_move_themselves_alone_and_no_gradient_goes_through_a_weight() {
    let click = Origin { partition: PartitionIndex(0), offset: 0 };
    let stages: Vec<Stage> = LABELS.iter().map(|clicked| if *clicked { Stage::Delayed(click) } else { Stage::Open }).collect();
    let targets = Targets { stages: &stages, ..TARGETS };
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let (compute, early) = (Compute::new(device, 1).expect("the backend is in this build"), Some(EarlyLabels::EsDfm));
        let layout = Layout::new(&model(shared), Heads::Both, INPUTS).with_delays(&model(shared));
        let nets = Nets::over(layout, &TrainConfig { seed: 11, ..TrainConfig::default() }, compute.device());
        let rule = Rule { shared_grad, gradient_block, early, ..NONE };
        let gradients = |rule: &Rule| {
            let gradients = nets.gradients(inputs(), targets, rule).gradients.expect("finite");
            let parts = Part::ALL.map(|part| gradients.dense()[nets.layout().range(part)].to_vec());
            (parts, gradients.inputs().shared.clone())
        };
        let ([shared, light, booster, control, heads @ ..], inputs) = gradients(&rule);
        assert!([shared, light, booster, control, inputs].iter().flatten().all(|g| *g == 0.0), "{what}: something else moves");
        assert!(heads.iter().all(|head| head.iter().any(|g| *g != 0.0)), "{what}: a head does not learn");
        let ([.., delayed_positive, fake_negative], _) = gradients(&Rule { light: 1.0, booster: 1.0, control: 1.0, hint: 0.3, ..rule });
        assert_eq!([delayed_positive, fake_negative], heads, "{what}");
    });
}

#[test]
fn control_moves_itself_alone() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let mut parts = gradients(device, shared, &Rule { control: 1.0, shared_grad, gradient_block, ..NONE });
        assert!(parts.control.iter().any(|g| *g != 0.0), "{what}: control does not learn");
        parts.control.fill(0.0);
        assert_cells(what, shared, parts, [false; 3]);
    });
}

#[test]
fn behind_the_block_the_whole_loss_moves_the_booster_as_its_cross_entropy_alone() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        let alone = Rule { booster: 1.0, ..NONE };
        for kind in KINDS {
            let all = Rule { light: 1.0, booster: 1.0, control: 1.0, hint: 0.3, kind, teacher: 0.7, gradient_block, shared_grad, ..NONE };
            let same = gradients(device, shared, &all).booster == gradients(device, shared, &alone).booster;
            assert_eq!(same, gradient_block, "{what}, {kind:?}");
        }
    });
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        for kind in KINDS {
            let rule = Rule { light: 1.0, booster: 1.0, control: 1.0, hint: 0.3, kind, teacher: 0.7, gradient_block, shared_grad, ..NONE };
            assert_slopes(&format!("{what}, {kind:?}"), device, &model(shared), &rule);
        }
    });
}

#[test]
fn without_sharing_no_term_moves_what_the_other_head_reads_but_the_hint_without_the_block() {
    for device in DEVICES {
        for shared in [&[][..], &[7, 5][..]] {
            let parts = |rule: &Rule| gradients_of(device, &apart(shared), Heads::Both, rule);
            let assert_moves = |what: &str, parts: &Parts, booster: bool, light: bool| {
                assert!(parts.shared.is_empty() && parts.control.is_empty());
                let (by_booster, by_light) = (&parts.inputs, &parts.light_inputs);
                let cells = [("W_B", &parts.booster, booster), ("its inputs", by_booster, booster)];
                assert_cells_move(&format!("{device}, shared {shared:?}, {what}"), cells);
                let cells = [("W_L", &parts.light, light), ("its inputs", by_light, light)];
                assert_cells_move(&format!("{device}, shared {shared:?}, {what}"), cells);
            };
            assert_moves("booster", &parts(&Rule { booster: 1.0, ..NONE }), true, false);
            assert_moves("light", &parts(&Rule { light: 1.0, ..NONE }), false, true);
            for kind in KINDS {
                assert_moves("hint", &parts(&Rule { hint: 0.3, kind, ..NONE }), false, true);
                assert_moves("open hint", &parts(&Rule { hint: 0.3, kind, gradient_block: false, ..NONE }), true, true);
            }
        }
    }
}

#[test]
fn without_sharing_gradients_are_the_slopes_of_the_loss() {
    for device in DEVICES {
        for shared in [&[][..], &[7, 5][..]] {
            for gradient_block in [true, false] {
                let rule = Rule { light: 1.0, booster: 1.0, hint: 0.3, gradient_block, ..NONE };
                assert_slopes(&format!("{device}, shared {shared:?}, {gradient_block}"), device, &apart(shared), &rule);
            }
        }
    }
}

#[test]
fn a_head_alone_has_the_gradients_it_has_beside_the_other() {
    for device in DEVICES {
        for shared in [&[][..], &[7, 5][..]] {
            let model = ModelConfig { control: false, ..model(shared) };
            let rule = |light, booster| Rule { light, booster, ..NONE };
            for (heads, rule) in [(Heads::Light, rule(1.0, 0.0)), (Heads::Booster, rule(0.0, 1.0))] {
                let mut beside = gradients_of(device, &model, Heads::Both, &rule);
                if heads == Heads::Light {
                    beside.booster.clear()
                } else {
                    beside.light.clear()
                }
                assert_eq!(gradients_of(device, &model, heads, &rule), beside, "{device}, shared {shared:?}, {heads:?}");
            }
        }
    }
}

#[test]
fn with_cross_layers_gradients_are_the_slopes_of_the_loss_and_the_block_holds() {
    for device in DEVICES {
        for (shared, sharing) in [(&[][..], true), (&[7, 5][..], true), (&[7, 5][..], false)] {
            let base = if sharing { model(shared) } else { apart(shared) };
            let crossed = ModelConfig { booster_cross: BoosterCrossConfig { layers: 2 }, ..base };
            let what = format!("{device}, shared {shared:?}, sharing {sharing}");
            for gradient_block in [true, false] {
                let control = f64::from(u8::from(sharing));
                let rule = Rule { light: 1.0, booster: 1.0, control, hint: 0.3, gradient_block, ..NONE };
                assert_slopes(&what, device, &crossed, &rule);
                let hint = gradients_of(device, &crossed, Heads::Both, &Rule { hint: 0.3, gradient_block, ..NONE });
                assert_cells_move(&what, [("W_B", &hint.booster, !gradient_block), ("W_L", &hint.light, true)]);
            }
        }
    }
}

#[test]
fn with_every_form_of_hidden_layer_gradients_are_the_slopes_of_the_loss_and_the_block_holds() {
    let forms = [Activation::Relu, Activation::Prelu, Activation::Dice]
        .into_iter()
        .flat_map(|activation| [false, true].map(|layer_norm| HiddenConfig { layer_norm, activation }));
    for (device, form) in DEVICES.iter().flat_map(|device| forms.clone().map(move |form| (device, form))) {
        for (sharing, hidden, booster_hidden) in
            [(true, form, HiddenConfig::default()), (true, HiddenConfig::default(), form), (false, form, form)]
        {
            let base = if sharing { model(&[7, 5]) } else { apart(&[7, 5]) };
            let formed = ModelConfig { hidden, booster_hidden, ..base };
            let what = format!("{device}, {hidden:?}, {booster_hidden:?}, sharing {sharing}");
            assert_slopes(&what, device, &formed, &Rule { light: 1.0, booster: 1.0, hint: 0.3, ..NONE });
            let hint = gradients_of(device, &formed, Heads::Both, &Rule { hint: 0.3, ..NONE });
            assert_cells_move(&what, [("W_B", &hint.booster, false), ("W_L", &hint.light, true)]);
        }
    }
}

#[test]
fn with_a_factorization_machine_gradients_are_the_slopes_of_the_loss_and_the_hint_moves_no_input_through_it() {
    for device in DEVICES {
        for (shared, sharing) in [(&[][..], true), (&[7, 5][..], true), (&[7, 5][..], false)] {
            let base = if sharing { model(shared) } else { apart(shared) };
            let machine = ModelConfig { booster_fm: true, ..base.clone() };
            let what = format!("{device}, shared {shared:?}, sharing {sharing}");
            for gradient_block in [true, false] {
                let rule = Rule { light: 1.0, booster: 1.0, hint: 0.3, gradient_block, ..NONE };
                assert_slopes(&what, device, &machine, &rule);
            }
            let shared_grad = if sharing { SharedGrad::BoosterOnly } else { SharedGrad::All };
            let hint = Rule { hint: 0.3, shared_grad, ..NONE };
            let hinted = gradients_of(device, &machine, Heads::Both, &hint);
            assert_cells_move(&what, [("W_B", &hinted.booster, false), ("the booster's inputs", &hinted.inputs, false)]);
            let alone = Rule { booster: 1.0, ..NONE };
            let [with, without] = [&machine, &base].map(|model| gradients_of(device, model, Heads::Both, &alone).inputs);
            assert_ne!(with, without, "{what}: the machine is not there");
        }
    }
}

#[test]
fn with_attention_gradients_are_the_slopes_of_the_loss_and_only_the_booster_and_the_hint_without_the_block_move_it() {
    for device in DEVICES {
        for (shared, sharing) in [(&[][..], true), (&[7, 5][..], true), (&[7, 5][..], false)] {
            let base = attentive(if sharing { model(shared) } else { apart(shared) });
            let crossed = ModelConfig { booster_cross: BoosterCrossConfig { layers: 1 }, ..base.clone() };
            let what = format!("{device}, shared {shared:?}, sharing {sharing}");
            for gradient_block in [true, false] {
                let rule = Rule { light: 1.0, booster: 1.0, hint: 0.3, teacher: 0.7, gradient_block, ..NONE };
                assert_slopes(&what, device, &crossed, &rule);
            }
            let moves = |term: &str, rule: Rule, booster: bool| {
                let parts = gradients_of(device, &base, Heads::Both, &rule);
                let layout = nets(device, &base, Heads::Both).layout().clone();
                let attention = of_attention(&layout, &parts.booster);
                let what = format!("{what}, {term}");
                assert_cells_move(&what, [("attention", &attention, booster), ("sequences", &parts.sequences, booster)]);
            };
            moves("booster", Rule { booster: 1.0, ..NONE }, true);
            moves("light", Rule { light: 1.0, ..NONE }, false);
            moves("control", Rule { control: 1.0, ..NONE }, false);
            moves("teacher", Rule { teacher: 1.8, ..NONE }, false);
            for kind in KINDS {
                moves("hint", Rule { hint: 0.3, kind, ..NONE }, false);
                moves("open hint", Rule { hint: 0.3, kind, gradient_block: false, ..NONE }, true);
            }
        }
    }
}

/// The parameters of attention units among those of the booster.
fn of_attention(layout: &Layout, booster: &[f32]) -> Vec<f32> {
    let mut offset = 0;
    let mut found = Vec::new();
    for tensor in layout.tensors().iter().filter(|tensor| tensor.name.starts_with("booster.")) {
        let end = offset + tensor.shape.iter().product::<usize>();
        if tensor.name.contains(".attention.") {
            found.extend_from_slice(&booster[offset..end]);
        }
        offset = end;
    }
    found
}

#[test]
fn what_stands_behind_a_sequence_has_no_influence_and_an_empty_one_is_the_zero_vector() {
    for device in DEVICES {
        let attentive = attentive(model(&[7, 5]));
        let nets = nets(device, &attentive, Heads::Both);
        let rule = Rule { booster: 1.0, ..NONE };
        let of = |value: f32| {
            let mut inputs = inputs_of(&attentive);
            for (sequence, shape) in inputs.sequences.iter_mut().zip(sequence_shapes(&attentive)) {
                let dim = shape.target.len();
                for (rows, held) in sequence.rows.chunks_exact_mut(shape.length * dim).zip(&sequence.lengths) {
                    rows[*held as usize * dim..].fill(value);
                }
            }
            nets.gradients(inputs, TARGETS, &rule)
        };
        let [padded, filled] = [of(0.0), of(1e3)];
        assert_eq!(padded.scores, filled.scores, "{device}");
        let [padded, filled] = [padded, filled].map(|pass| pass.gradients.expect("finite"));
        assert_eq!((padded.dense(), padded.inputs()), (filled.dense(), filled.inputs()), "{device}");
        for (gradient, shape) in filled.inputs().sequences.iter().zip(sequence_shapes(&attentive)) {
            for (rows, held) in gradient.rows.chunks_exact(shape.length * shape.target.len()).zip(&gradient.lengths) {
                assert!(rows[*held as usize * shape.target.len()..].iter().all(|g| *g == 0.0), "{device}");
                assert_eq!(rows.iter().any(|g| *g != 0.0), *held > 0, "{device}");
            }
        }
        // With nothing to look at, the unit's parameters and the target are as good as not there.
        let mut inputs = inputs_of(&attentive);
        inputs.sequences.iter_mut().for_each(|sequence| sequence.lengths.fill(0));
        let parts = nets.gradients(inputs, TARGETS, &rule).gradients.expect("finite");
        assert!(of_attention(nets.layout(), &parts.dense()[nets.layout().range(Part::Booster)]).iter().all(|g| *g == 0.0), "{device}");
    }
}

/// Dice's running moments: they enter the loss, but are followed, not trained.
fn is_followed(name: &str) -> bool {
    name.ends_with(".mean") || name.ends_with(".variance")
}

fn assert_slopes(what: &str, device: &str, model: &ModelConfig, rule: &Rule) {
    let nets = nets(device, model, Heads::Both);
    // Biases off zero: behind a layer that is all zero, a ReLU would stand on its kink, where there is no slope.
    let mut state = nets.capture();
    state.params.iter_mut().enumerate().for_each(|(i, p)| *p += 0.1 * (i as f32).sin());
    let followed: Vec<bool> =
        state.layout.iter().flat_map(|t| std::iter::repeat_n(is_followed(&t.name), t.shape.iter().product())).collect();
    let nets = nets.restored(state).expect("same model");
    let inputs = inputs_of(model);
    let pass = nets.gradients(inputs.clone(), TARGETS, rule);
    let found = pass.gradients.expect("finite");
    let by_input = found.inputs().clone();
    let by_row = by_input.sequences.into_iter().flat_map(|sequence| sequence.rows).collect();
    let found: Vec<f32> = [found.dense(), by_input.shared, by_input.light.unwrap_or_default(), by_row].concat();

    let start = reference::Point::new(&nets.capture().params, &inputs);
    let loss = |point: &reference::Point| reference::loss(model, nets.layout(), point, &start, &LABELS, rule);
    assert!((loss(&start) - pass.loss.total).abs() < 1e-6, "{what}: loss {} against {}", pass.loss.total, loss(&start));
    for (i, found) in found.iter().enumerate() {
        if followed.get(i) == Some(&true) {
            assert_eq!(*found, 0.0, "{what}: gradient {i} is of a running moment");
            continue;
        }
        let slope = (loss(&start.moved(i, 1e-6)) - loss(&start.moved(i, -1e-6))) / 2e-6;
        assert!((f64::from(*found) - slope).abs() < 1e-5, "{what}: gradient {i} is {found}, the slope {slope}");
    }
}

/// The loss in f64, written once more from its formula. What a stop-gradient holds fast is computed at the `start` point.
mod reference {
    use super::*;

    #[derive(Clone)]
    pub(super) struct Point {
        values: Vec<f64>,
        params: usize,
        /// Where sequences begin.
        sequences: usize,
        lengths: Vec<Vec<u32>>,
    }

    impl Point {
        pub(super) fn new(params: &[f32], inputs: &Inputs) -> Self {
            let values = params.iter().chain(&inputs.shared).chain(inputs.light.iter().flatten());
            let rows = inputs.sequences.iter().flat_map(|sequence| &sequence.rows);
            Point {
                sequences: values.clone().count(),
                values: values.chain(rows).map(|x| f64::from(*x)).collect(),
                params: params.len(),
                lengths: inputs.sequences.iter().map(|sequence| sequence.lengths.clone()).collect(),
            }
        }

        pub(super) fn moved(&self, i: usize, by: f64) -> Self {
            let mut point = self.clone();
            point.values[i] += by;
            point
        }

        fn row(&self, row: usize) -> Vec<f64> {
            self.values[self.params..][row * INPUTS..(row + 1) * INPUTS].to_vec()
        }

        /// What light reads where it shares nothing.
        fn own_row(&self, row: usize) -> Option<Vec<f64>> {
            let own = &self.values[self.params + LABELS.len() * INPUTS..self.sequences];
            own.get(row * INPUTS..(row + 1) * INPUTS).map(<[f64]>::to_vec)
        }

        /// The rows of one sequence of one example.
        fn sequence(&self, shapes: &[SequenceShape], which: usize, row: usize) -> impl Iterator<Item = &[f64]> {
            let floats = |shape: &SequenceShape| shape.length * shape.target.len();
            let before: usize = shapes[..which].iter().map(|shape| LABELS.len() * floats(shape)).sum();
            let start = self.sequences + before + row * floats(&shapes[which]);
            self.values[start..].chunks_exact(shapes[which].target.len()).take(self.lengths[which][row] as usize)
        }
    }

    pub(super) fn loss(model: &ModelConfig, layout: &Layout, point: &Point, start: &Point, labels: &[bool], rule: &Rule) -> f64 {
        let rows = labels.iter().enumerate().map(|(row, label)| {
            let part = |layout: &Layout, point: &Point, which, x| part(layout, point, which, x, &attended(model, layout, point, row));
            let trunk = part(layout, point, Part::Shared, point.row(row));
            let stopped = part(layout, start, Part::Shared, start.row(row));
            let machine = |point: &Point| if model.booster_fm { pairs(&point.row(row)) } else { 0.0 };
            let booster = |point, trunk: &Vec<f64>| part(layout, point, Part::Booster, trunk.clone())[0] + machine(point);
            let light = |trunk: &Vec<f64>| part(layout, point, Part::Light, trunk.clone())[0];
            let (for_entropy, for_hint) = match (point.own_row(row), rule.shared_grad) {
                (Some(own), _) => (light(&own), light(&own)),
                (None, SharedGrad::All) => (light(&trunk), light(&trunk)),
                (None, SharedGrad::NoHint) => (light(&trunk), light(&stopped)),
                (None, SharedGrad::BoosterOnly) => (light(&stopped), light(&stopped)),
            };
            let z = booster(point, &trunk);
            let target = if rule.gradient_block { booster(start, &stopped) } else { z };
            let control = if rule.control == 0.0 { 0.0 } else { part(layout, point, Part::Control, stopped)[0] };
            let entropy = |x: f64| if *label { (1.0 + (-x).exp()).ln() } else { (1.0 + x.exp()).ln() };
            let entropies = rule.light * entropy(for_entropy) + rule.booster * entropy(z) + rule.control * entropy(control);
            let taught = distance(Hint::Kd { temperature: rule.teacher_temperature }, for_hint, f64::from(TEACHER[row]));
            entropies + rule.hint * distance(rule.kind, for_hint, target) + rule.teacher * taught
        });
        rows.sum::<f64>() / labels.len() as f64
    }

    /// What the hint makes small, by the formulas of the literature.
    fn distance(kind: Hint, l: f64, z: f64) -> f64 {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        match kind {
            Hint::LogitsMse => (l - z).powi(2),
            Hint::ProbMse => (sigma(l) - sigma(z)).powi(2),
            Hint::Kd { temperature: t } => {
                let (p, q) = (sigma(l / t), sigma(z / t));
                t * t * (q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln())
            }
        }
    }

    /// ⟨v₀, v₁⟩ of the two slots.
    fn pairs(row: &[f64]) -> f64 {
        row[0] * row[2] + row[1] * row[3]
    }

    /// The layers of one part: the names of their tensors, and their values.
    fn layers<'a>(layout: &Layout, point: &'a Point, part: Part) -> Vec<Vec<(String, &'a [f64])>> {
        let of_part = layout.tensors().into_iter().filter(|tensor| tensor.name.starts_with(part.name()));
        let mut offset = layout.range(part).start;
        let placed: Vec<(String, &[f64])> = of_part
            .map(|tensor| {
                let values = &point.values[offset..][..tensor.shape.iter().product()];
                offset += values.len();
                (tensor.name, values)
            })
            .collect();
        placed.chunk_by(|_, (name, _)| !name.ends_with(".weight")).map(<[_]>::to_vec).collect()
    }

    /// Σⱼ wⱼ · kⱼ of every sequence of one example, side by side, wⱼ being what the unit makes of [q, kⱼ, q − kⱼ, q ⊙ kⱼ].
    fn attended(model: &ModelConfig, layout: &Layout, point: &Point, row: usize) -> Vec<f64> {
        let (shapes, layers) = (sequence_shapes(model), layers(layout, point, Part::Booster));
        let vector = |which: usize| {
            let q = point.row(row)[shapes[which].target.clone()].to_vec();
            let unit: Vec<_> = layers.iter().filter(|layer| layer[0].0.starts_with(&format!("booster.attention.{which}."))).collect();
            let mut sum = vec![0.0; q.len()];
            for k in point.sequence(&shapes, which, row) {
                let pairs = || q.iter().zip(k);
                let mut y: Vec<f64> = q.iter().chain(k).copied().collect();
                y.extend(pairs().map(|(q, k)| q - k));
                y.extend(pairs().map(|(q, k)| q * k));
                for (depth, layer) in unit.iter().enumerate() {
                    y = product(layer, &y);
                    if depth + 1 < unit.len() {
                        y.iter_mut().for_each(|y| *y = y.max(0.0));
                    }
                }
                sum.iter_mut().zip(k).for_each(|(sum, k)| *sum += y[0] * k);
            }
            sum
        };
        (0..shapes.len()).flat_map(vector).collect()
    }

    /// What one part makes of x, with what attention puts `beside` it.
    fn part(layout: &Layout, point: &Point, part: Part, mut x: Vec<f64>, beside: &[f64]) -> Vec<f64> {
        let layers = layers(layout, point, part);
        let mut crossed: Option<Vec<f64>> = None;
        for (depth, layer) in layers.iter().enumerate() {
            if layer[0].0.contains(".attention.") {
                // The layers of the units stand where their vectors join.
                if layer[0].0 == "booster.attention.0.0.weight" {
                    x.extend(beside);
                }
                continue;
            }
            let y = product(layer, &x);
            x = if layer[0].0.contains(".cross.") {
                // x₀ ⊙ (W x + b) + x
                let first = crossed.get_or_insert_with(|| x.clone());
                first.iter().zip(&y).zip(&x).map(|((first, y), x)| first * y + x).collect()
            } else if part != Part::Shared && depth + 1 == layers.len() {
                y
            } else {
                activated(layer, &y)
            };
        }
        x
    }

    fn product(layer: &[(String, &[f64])], x: &[f64]) -> Vec<f64> {
        let (weights, biases) = (layer[0].1, layer[1].1);
        let output = |(o, bias): (usize, &f64)| bias + x.iter().enumerate().map(|(i, x)| x * weights[i * biases.len() + o]).sum::<f64>();
        biases.iter().enumerate().map(output).collect()
    }

    /// LayerNorm and activation, by which of their tensors are there.
    fn activated(layer: &[(String, &[f64])], y: &[f64]) -> Vec<f64> {
        let get = |name: &str, o: usize| layer.iter().find(|(found, _)| found.ends_with(name)).map(|(_, values)| values[o]);
        let count = y.len() as f64;
        let mean = y.iter().sum::<f64>() / count;
        let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / count;
        let output = |(o, &y): (usize, &f64)| {
            let y = get(".norm.scale", o)
                .map_or(y, |scale| (y - mean) / (variance + 1e-5).sqrt() * scale + get(".norm.shift", o).expect("beside the scale"));
            match (get(".slope", o), get(".mean", o), get(".variance", o)) {
                (Some(slope), Some(mean), Some(variance)) => {
                    let p = 1.0 / (1.0 + (-(y - mean) / (variance + 1e-5).sqrt()).exp());
                    p * y + (1.0 - p) * slope * y
                }
                (Some(slope), ..) => y.max(0.0) + slope * y.min(0.0),
                _ => y.max(0.0),
            }
        };
        y.iter().enumerate().map(output).collect()
    }
}
