//! The promise of the gradient block: each cell of the learning rule's table (which term of the loss may move which parameters) holds
//! on real gradients, exactly zero where the table says so, on every backend in the build; and the gradients as a whole are those of the
//! loss, by finite differences of an f64 reference.
#![cfg(feature = "trainer")]

use rocket_launching::config::{BoosterCrossConfig, Heads, ModelConfig, SharedGrad, TrainConfig};
use rocket_launching::nets::{Hint, Inputs, Layout, Nets, Part, Rule};
use rocket_launching::train::Compute;

/// Every backend in the build.
const DEVICES: &[&str] = if cfg!(feature = "tch") { &["cpu", "tch-cpu"] } else { &["cpu"] };
const SHARED_GRADS: [SharedGrad; 3] = [SharedGrad::All, SharedGrad::NoHint, SharedGrad::BoosterOnly];
const KINDS: [Hint; 3] = [Hint::LogitsMse, Hint::ProbMse, Hint::Kd { temperature: 4.0 }];
const INPUTS: usize = 6;
const LABELS: [bool; 5] = [true, false, false, true, false];
const NONE: Rule =
    Rule { light: 0.0, booster: 0.0, control: 0.0, hint: 0.0, kind: Hint::LogitsMse, gradient_block: true, shared_grad: SharedGrad::All };

fn model(shared: &[usize]) -> ModelConfig {
    ModelConfig { shared: shared.to_vec(), light: vec![4], booster: vec![6, 5], control: true, ..ModelConfig::default() }
}

/// As [`model`], with nothing shared: no control head, which would be trained on a shared trunk.
fn apart(shared: &[usize]) -> ModelConfig {
    ModelConfig { sharing: false, control: false, ..model(shared) }
}

fn nets(device: &str, model: &ModelConfig, heads: Heads) -> Nets {
    let compute = Compute::new(device, 1).expect("the backend is in this build");
    Nets::new(model, &TrainConfig { seed: 11, heads, ..TrainConfig::default() }, INPUTS, compute.device())
}

fn inputs() -> Vec<f32> {
    (0..LABELS.len() * INPUTS).map(|i| (i as f32 * 1.3).sin()).collect()
}

/// The inputs of `model`: light's own differ from the booster's.
fn inputs_of(model: &ModelConfig) -> Inputs {
    let light = (!model.sharing).then(|| inputs().iter().map(|x| 0.5 - x).collect());
    Inputs { shared: inputs(), light }
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
}

fn gradients(device: &str, shared: &[usize], rule: &Rule) -> Parts {
    gradients_of(device, &model(shared), Heads::Both, rule)
}

fn gradients_of(device: &str, model: &ModelConfig, heads: Heads, rule: &Rule) -> Parts {
    let nets = nets(device, model, heads);
    let gradients = nets.gradients(inputs_of(model), &LABELS, rule).gradients.expect("finite");
    let flat = gradients.dense();
    let part = |part| flat[nets.layout().range(part)].to_vec();
    Parts {
        shared: part(Part::Shared),
        light: part(Part::Light),
        booster: part(Part::Booster),
        control: part(Part::Control),
        inputs: gradients.inputs().shared.clone(),
        light_inputs: gradients.inputs().light.clone().unwrap_or_default(),
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
fn a_hint_of_weight_zero_moves_nothing() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        for kind in KINDS {
            let rule = Rule { hint: 0.0, kind, shared_grad, gradient_block, ..NONE };
            assert_cells(&format!("{what}, {kind:?}"), shared, gradients(device, shared, &rule), [false; 3]);
        }
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
            let all = Rule { light: 1.0, booster: 1.0, control: 1.0, hint: 0.3, kind, gradient_block, shared_grad };
            let same = gradients(device, shared, &all).booster == gradients(device, shared, &alone).booster;
            assert_eq!(same, gradient_block, "{what}, {kind:?}");
        }
    });
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for_every_setting(|what, device, shared, shared_grad, gradient_block| {
        for kind in KINDS {
            let rule = Rule { light: 1.0, booster: 1.0, control: 1.0, hint: 0.3, kind, gradient_block, shared_grad };
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

fn assert_slopes(what: &str, device: &str, model: &ModelConfig, rule: &Rule) {
    let nets = nets(device, model, Heads::Both);
    // Biases off zero: behind a layer that is all zero, a ReLU would stand on its kink, where there is no slope.
    let mut state = nets.capture();
    state.params.iter_mut().enumerate().for_each(|(i, p)| *p += 0.1 * (i as f32).sin());
    let nets = nets.restored(state).expect("same model");
    let inputs = inputs_of(model);
    let pass = nets.gradients(inputs.clone(), &LABELS, rule);
    let found = pass.gradients.expect("finite");
    let by_input = found.inputs().clone();
    let found: Vec<f32> = [found.dense(), by_input.shared, by_input.light.unwrap_or_default()].concat();

    let start = reference::Point::new(&nets.capture().params, &inputs);
    let loss = |point: &reference::Point| reference::loss(nets.layout(), point, &start, &LABELS, rule);
    assert!((loss(&start) - pass.loss.total).abs() < 1e-6, "{what}: loss {} against {}", pass.loss.total, loss(&start));
    for (i, found) in found.iter().enumerate() {
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
    }

    impl Point {
        pub(super) fn new(params: &[f32], inputs: &Inputs) -> Self {
            let values = params.iter().chain(&inputs.shared).chain(inputs.light.iter().flatten());
            Point { values: values.map(|x| f64::from(*x)).collect(), params: params.len() }
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
            let own = &self.values[self.params + LABELS.len() * INPUTS..];
            own.get(row * INPUTS..(row + 1) * INPUTS).map(<[f64]>::to_vec)
        }
    }

    pub(super) fn loss(layout: &Layout, point: &Point, start: &Point, labels: &[bool], rule: &Rule) -> f64 {
        let rows = labels.iter().enumerate().map(|(row, label)| {
            let trunk = part(layout, point, Part::Shared, point.row(row));
            let stopped = part(layout, start, Part::Shared, start.row(row));
            let booster = |point, trunk: &Vec<f64>| part(layout, point, Part::Booster, trunk.clone())[0];
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
            entropies + rule.hint * distance(rule.kind, for_hint, target)
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

    /// The layers of one part, from the names and shapes of the public layout. A cross layer is x₀ ⊙ (W x + b) + x.
    fn part(layout: &Layout, point: &Point, part: Part, mut x: Vec<f64>) -> Vec<f64> {
        let tensors = layout.tensors();
        let layers: Vec<_> = tensors.chunks_exact(2).filter(|pair| pair[0].name.starts_with(part.name())).collect();
        let mut offset = layout.range(part).start;
        let mut crossed: Option<Vec<f64>> = None;
        for (i, pair) in layers.iter().enumerate() {
            let [inputs, outputs] = [pair[0].shape[0], pair[0].shape[1]];
            let (weights, biases) = point.values[offset..].split_at(inputs * outputs);
            let first = pair[0].name.contains(".cross.").then(|| crossed.get_or_insert_with(|| x.clone()).clone());
            let is_linear = part != Part::Shared && i + 1 == layers.len();
            let output = |o| {
                let sum: f64 = biases[o] + (0..inputs).map(|i| x[i] * weights[i * outputs + o]).sum::<f64>();
                match &first {
                    Some(first) => first[o] * sum + x[o],
                    None if is_linear => sum,
                    None => sum.max(0.0),
                }
            };
            x = (0..outputs).map(output).collect();
            offset += inputs * outputs + outputs;
        }
        x
    }
}
