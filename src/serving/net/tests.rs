use safetensors::tensor::{Dtype, TensorView, serialize};

use super::*;
use crate::config::{Activation, HiddenConfig};

const VERSION: Version = Version(7);

/// Name, type, shape, bytes.
type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// A small xorshift generator: the same numbers on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A net as plain lists, its artifact, and a forward pass in f64 by the formula.
struct Plain {
    architecture: Architecture,
    slots: Vec<SlotSpec>,
    keys: Vec<u64>,
    /// Rows of `keys` in each table, and their dim.
    tables: Vec<(usize, Vec<f32>)>,
    layers: Vec<PlainLayer>,
}

/// Its tensors by name.
#[derive(Clone)]
struct PlainLayer {
    outputs: usize,
    tensors: Vec<(&'static str, Vec<f32>)>,
}

impl PlainLayer {
    fn get(&self, name: &str, output: usize) -> Option<f64> {
        self.tensors.iter().find(|(found, _)| *found == name).map(|(_, values)| f64::from(values[output]))
    }

    /// The layer in f64 by the formula.
    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let weight = &self.tensors[0].1;
        let product = |o: usize| x.iter().enumerate().map(|(i, x)| x * f64::from(weight[i * self.outputs + o])).sum::<f64>();
        (0..self.outputs).map(|o| product(o) + self.get("bias", o).expect("every layer has one")).collect()
    }

    fn activate(&self, y: &[f64], form: HiddenConfig) -> Vec<f64> {
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / y.len() as f64;
        let curve = |(o, &y): (usize, &f64)| {
            let get = |name| self.get(name, o).expect("there by the form");
            let y = if form.layer_norm { (y - mean) / (variance + 1e-5).sqrt() * get("norm.scale") + get("norm.shift") } else { y };
            match form.activation {
                Activation::Relu => y.max(0.0),
                Activation::Prelu => y.max(0.0) + get("slope") * y.min(0.0),
                Activation::Dice => {
                    let p = 1.0 / (1.0 + (-(y - get("mean")) / (get("variance") + 1e-5).sqrt()).exp());
                    p * y + (1.0 - p) * get("slope") * y
                }
            }
        };
        y.iter().enumerate().map(curve).collect()
    }
}

const FORMS: [HiddenConfig; 6] = {
    const fn form(layer_norm: bool, activation: Activation) -> HiddenConfig {
        HiddenConfig { layer_norm, activation }
    }
    [
        form(false, Activation::Relu),
        form(false, Activation::Prelu),
        form(false, Activation::Dice),
        form(true, Activation::Relu),
        form(true, Activation::Prelu),
        form(true, Activation::Dice),
    ]
};

impl Plain {
    fn random(noise: &mut Noise, slots: usize, numbers: usize, dim: usize, shared: &[usize], light: &[usize]) -> Plain {
        Plain::formed(noise, HiddenConfig::default(), slots, numbers, dim, shared, light)
    }

    fn formed(
        noise: &mut Noise,
        hidden: HiddenConfig,
        slots: usize,
        numbers: usize,
        dim: usize,
        shared: &[usize],
        light: &[usize],
    ) -> Plain {
        // Every third slot has a dim of its own.
        let slot = |slot: usize| SlotSpec {
            name: slot.to_string(),
            pooling: if slot.is_multiple_of(2) { Pooling::Sum } else { Pooling::Mean },
            dim: (slot % 3 == 2).then_some(dim + 1),
        };
        let slots: Vec<SlotSpec> = (0..slots).map(slot).collect();
        let further_dims: Vec<usize> = slots.iter().filter_map(|slot| slot.dim).take(1).collect();
        let inputs = slots.iter().map(|slot| slot.dim(dim)).sum::<usize>() + numbers;
        let (embedding_dim, shared_widths, light_widths) = (dim, shared.to_vec(), light.to_vec());
        let architecture = Architecture { embedding_dim, further_dims, inputs, shared: shared_widths, light: light_widths, hidden };
        let mut layers = Vec::new();
        let mut width = inputs;
        for (index, outputs) in shared.iter().chain(light).copied().chain([1]).enumerate() {
            // As trained nets are: unscaled weights would make activations in the hundreds, and f32's own error with them.
            let scale = (width as f32).sqrt().recip();
            let weight = noise.floats(width * outputs).into_iter().map(|float| float * scale).collect();
            let mut tensors = vec![("weight", weight), ("bias", noise.floats(outputs))];
            if index < shared.len() + light.len() {
                tensors.extend(Hidden::tensors(hidden).map(|name| (name, noise.floats(outputs))));
            }
            tensors.iter_mut().filter(|tensor| tensor.0 == "variance").for_each(|tensor| tensor.1.iter_mut().for_each(|v| *v = v.abs()));
            layers.push(PlainLayer { outputs, tensors });
            width = outputs;
        }
        let keys: Vec<u64> = (1..=50).collect();
        let tables = architecture.tables().map(|(dim, _)| (dim, noise.floats(keys.len() * dim))).collect();
        Plain { architecture, slots, keys, tables, layers }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let keys: Vec<u8> = self.keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let count = self.keys.len();
        let mut tensors = Vec::new();
        for (dim, rows) in &self.tables {
            let prefix = if *dim == self.architecture.embedding_dim { "embedding".to_owned() } else { format!("embedding.{dim}") };
            tensors.push((format!("{prefix}.keys"), Dtype::U64, vec![count], keys.clone()));
            tensors.push((format!("{prefix}.rows"), Dtype::F32, vec![count, *dim], floats(rows)));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let shared = self.architecture.shared.len();
            let prefix = if index < shared { format!("shared.{index}") } else { format!("light.{}", index - shared) };
            for (name, values) in &layer.tensors {
                let outputs = layer.outputs;
                let shape = if *name == "weight" { vec![values.len() / outputs, outputs] } else { vec![outputs] };
                tensors.push((format!("{prefix}.{name}"), Dtype::F32, shape, floats(values)));
            }
        }
        tensors
    }

    fn artifact(&self) -> Vec<u8> {
        artifact(&self.tensors())
    }

    fn open(&self) -> LightNet {
        LightNet::from_artifact(VERSION, &self.architecture, &self.slots, &Arc::new(self.artifact())).unwrap()
    }

    fn logit(&self, example: &Features) -> f64 {
        let mut h: Vec<f64> = Vec::new();
        for (slot, SlotSpec { pooling, dim, .. }) in self.slots.iter().enumerate() {
            let dim = dim.unwrap_or(self.architecture.embedding_dim);
            let (_, rows) = self.tables.iter().find(|(found, _)| *found == dim).expect("a table for each dim");
            let ids = &example.ids[example.bounds[slot] as usize..example.bounds[slot + 1] as usize];
            let mut vector = vec![0.0; dim];
            for id in ids {
                if let Some(row) = self.keys.iter().position(|key| key == id) {
                    (0..dim).for_each(|d| vector[d] += f64::from(rows[row * dim + d]));
                }
            }
            if *pooling == Pooling::Mean && !ids.is_empty() {
                vector.iter_mut().for_each(|sum| *sum /= ids.len() as f64);
            }
            h.extend(vector);
        }
        h.extend(example.numbers.iter().map(|number| f64::from(*number)));
        for (depth, layer) in self.layers.iter().enumerate() {
            h = layer.apply(&h);
            if depth + 1 < self.layers.len() {
                h = layer.activate(&h, self.architecture.hidden);
            }
        }
        h[0]
    }
}

fn artifact(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize(views, None).unwrap()
}

fn examples(noise: &mut Noise, count: usize, slots: usize, numbers: usize) -> Vec<Features> {
    (0..count)
        .map(|_| {
            let mut features = Features { bounds: vec![0], ..Features::default() };
            for slot in 0..slots {
                // The first slot repeats often, as a request's user does; ids above 50 have no row.
                let ids = if slot == 0 { 1 } else { noise.next() % 5 };
                (0..ids).for_each(|_| features.ids.push(if slot == 0 { 1 + noise.next() % 2 } else { 1 + noise.next() % 60 }));
                features.bounds.push(features.ids.len() as u32);
            }
            features.numbers = noise.floats(numbers);
            features
        })
        .collect()
}

#[test]
fn the_forward_pass_equals_the_formula_in_f64() {
    let mut noise = Noise(0x2545_F491_4F6C_DD1D);
    type Shape = (usize, usize, usize, &'static [usize], &'static [usize]);
    let shapes: [Shape; 6] = [
        (3, 2, 4, &[], &[8, 4]),
        (1, 0, 1, &[], &[]),
        (0, 3, 2, &[5], &[]),
        (5, 1, 16, &[32, 16], &[64, 32]),
        (24, 8, 16, &[], &[64, 32]),
        (2, 1, 3, &[7], &[1]),
    ];
    for ((slots, numbers, dim, shared, light), form) in shapes.into_iter().flat_map(|shape| FORMS.map(|form| (shape, form))) {
        let plain = Plain::formed(&mut noise, form, slots, numbers, dim, shared, light);
        let net = plain.open();
        for count in [0, 1, 3, EXAMPLES_PER_BLOCK + 1] {
            let examples = examples(&mut noise, count, slots, numbers);
            let logits = net.logits(&examples);
            assert_eq!(logits.len(), count);
            for (example, logit) in examples.iter().zip(logits) {
                let expected = plain.logit(example);
                let distance = (f64::from(logit) - expected).abs() / expected.abs().max(1.0);
                assert!(distance < 1e-5, "{form:?}, {slots} slots, {shared:?}, {light:?}: {logit} is not {expected}");
            }
        }
    }
}

#[test]
fn an_example_scores_the_same_alone_and_among_others() {
    let mut noise = Noise(99);
    let plain = Plain::random(&mut noise, 4, 1, 8, &[], &[16]);
    let net = plain.open();
    let examples = examples(&mut noise, 40, 4, 1);
    let together = net.logits(&examples);
    for (example, logit) in examples.iter().zip(together) {
        let alone = net.logits(std::slice::from_ref(example))[0];
        assert!((alone - logit).abs() < 1e-5, "{alone} is not {logit}");
    }
}

fn refused(plain: &Plain, artifact: &[u8]) -> String {
    LightNet::from_artifact(VERSION, &plain.architecture, &plain.slots, &Arc::new(artifact.to_vec())).unwrap_err().to_string()
}

#[test]
fn an_artifact_that_is_not_the_architectures_is_refused() {
    let plain = Plain::random(&mut Noise(5), 2, 1, 4, &[6], &[3]);
    type Alter<'a> = &'a dyn Fn(&mut Vec<Tensor>);
    let cases: [(&str, Alter<'_>); 7] = [
        ("tensor light.1.bias is missing", &|tensors| tensors.retain(|tensor| tensor.0 != "light.1.bias")),
        ("tensor embedding.keys is missing", &|tensors| tensors.retain(|tensor| tensor.0 != "embedding.keys")),
        ("tensor booster.0.bias is not one", &|tensors| tensors.push(("booster.0.bias".into(), Dtype::F32, vec![1], vec![0; 4]))),
        ("light.0.weight is F32 [3, 6]; the architecture says F32 [6, 3]", &|tensors| {
            tensors.iter_mut().filter(|tensor| tensor.0 == "light.0.weight").for_each(|tensor| tensor.2.reverse());
        }),
        ("light.0.bias is I32 [3]", &|tensors| {
            tensors.iter_mut().filter(|tensor| tensor.0 == "light.0.bias").for_each(|tensor| tensor.1 = Dtype::I32);
        }),
        ("tensor embedding.rows holds a weight that is not finite", &|tensors| {
            tensors[1].3[4..8].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        }),
        ("key 1 stands twice", &|tensors| tensors[0].3.copy_within(0..8, 8)),
    ];
    for (expected, alter) in cases {
        let mut tensors = plain.tensors();
        alter(&mut tensors);
        let error = refused(&plain, &artifact(&tensors));
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn a_further_table_is_checked_as_the_first() {
    let plain = Plain::random(&mut Noise(5), 3, 1, 4, &[], &[3]);
    type Alter<'a> = &'a dyn Fn(&mut Vec<Tensor>);
    let cases: [(&str, Alter<'_>); 3] = [
        ("tensor embedding.5.keys is missing", &|tensors| tensors.retain(|tensor| tensor.0 != "embedding.5.keys")),
        ("tensor embedding.5.rows is F32 [50, 5]; the architecture says F32 [49, 5]", &|tensors| {
            (tensors[2].2, tensors[2].3) = (vec![49], tensors[2].3[8..].to_vec());
        }),
        ("key 1 stands twice in embedding.5.keys", &|tensors| tensors[2].3.copy_within(0..8, 8)),
    ];
    for (expected, alter) in cases {
        let mut tensors = plain.tensors();
        alter(&mut tensors);
        let error = refused(&plain, &artifact(&tensors));
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
    let mut other = Plain::random(&mut Noise(5), 3, 1, 4, &[], &[3]);
    other.slots[2].dim = None;
    assert!(refused(&other, &plain.artifact()).contains("further tables of [5] floats; the slots need {}"));
}

#[test]
fn tensors_of_another_activation_are_refused() {
    let dice = Plain::formed(&mut Noise(5), FORMS[5], 2, 1, 4, &[6], &[3]);
    let mut plain = Plain::random(&mut Noise(5), 2, 1, 4, &[6], &[3]);
    assert!(refused(&plain, &dice.artifact()).contains("is not one of the architecture's"));
    plain.architecture.hidden = FORMS[5];
    assert!(refused(&plain, &plain.artifact()).contains("is missing"));
    let mut negative = dice.tensors();
    let variance = negative.iter_mut().find(|tensor| tensor.0 == "light.0.variance").expect("Dice has one");
    variance.3[..4].copy_from_slice(&(-0.5_f32).to_le_bytes());
    assert!(refused(&dice, &artifact(&negative)).contains("layer 1: a running variance is below zero"));
}

#[test]
fn a_header_bomb_is_refused_before_it_is_parsed() {
    let plain = Plain::random(&mut Noise(5), 1, 0, 2, &[], &[]);
    for length in [65_537, u64::MAX, 1 << 40] {
        let mut bytes = plain.artifact();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes.resize(200_000, b' ');
        assert!(refused(&plain, &bytes).contains(&format!("header of {length} bytes; at most 65536")));
    }
    assert!(refused(&plain, &[0; 7]).contains("too short"));
    assert!(refused(&plain, &[]).contains("too short"));
}

#[test]
fn no_truncation_and_no_flipped_header_byte_panics() {
    let plain = Plain::random(&mut Noise(5), 1, 1, 2, &[], &[2]);
    let good = plain.artifact();
    for index in 0..good.len() {
        assert!(LightNet::from_artifact(VERSION, &plain.architecture, &plain.slots, &Arc::new(good[..index].to_vec())).is_err());
        let mut bytes = good.clone();
        bytes[index] ^= 0x15;
        let _ = LightNet::from_artifact(VERSION, &plain.architecture, &plain.slots, &Arc::new(bytes.clone()));
    }
}

#[test]
fn architectures_that_cannot_be_are_refused() {
    let plain = Plain::random(&mut Noise(5), 2, 1, 4, &[], &[3]);
    let bytes = plain.artifact();
    let absurd: [&dyn Fn(&mut Architecture); 5] = [
        &|architecture| architecture.embedding_dim = usize::MAX,
        &|architecture| architecture.inputs = 0,
        &|architecture| architecture.embedding_dim = 0,
        &|architecture| architecture.light = vec![0],
        &|architecture| architecture.shared = vec![1; 1000],
    ];
    for alter in absurd {
        let mut architecture = plain.architecture.clone();
        alter(&mut architecture);
        let error = LightNet::from_artifact(VERSION, &architecture, &plain.slots, &Arc::new(bytes.clone())).unwrap_err();
        assert!(error.to_string().contains("architecture"), "{error}");
    }
}

/// The rows of a net as 16-bit floats, or as bytes with a scale per row.
fn with_small_rows(plain: &Plain, dtype: Dtype) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for (name, kind, shape, bytes) in plain.tensors() {
        if !name.ends_with(".rows") {
            tensors.push((name, kind, shape, bytes));
            continue;
        }
        let weights = bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four));
        if dtype == Dtype::F16 {
            let halves = weights.flat_map(|weight| half::f16::from_f32(weight).to_le_bytes()).collect();
            tensors.push((name, dtype, shape, halves));
        } else {
            let scales = (0..shape[0]).flat_map(|_| (1.0_f32 / 127.0).to_le_bytes()).collect();
            tensors.push((name.replace(".rows", ".scales"), Dtype::F32, vec![shape[0]], scales));
            let bytes = weights.map(|weight| ((weight * 127.0).round() as i8).cast_unsigned()).collect();
            tensors.push((name, dtype, shape, bytes));
        }
    }
    tensors
}

#[test]
fn small_rows_give_nearly_the_logits_of_large_ones() {
    let mut noise = Noise(11);
    let plain = Plain::random(&mut noise, 4, 2, 6, &[9], &[5]);
    let examples = examples(&mut noise, 40, 4, 2);
    let expected = plain.open().logits(&examples);
    for (dtype, allowed) in [(Dtype::F16, 0.003), (Dtype::I8, 0.05)] {
        let bytes = artifact(&with_small_rows(&plain, dtype));
        let net = LightNet::from_artifact(VERSION, &plain.architecture, &plain.slots, &Arc::new(bytes.clone())).unwrap();
        for (found, expected) in net.logits(&examples).into_iter().zip(&expected) {
            assert!((found - expected).abs() < allowed, "{dtype}: {found} is not {expected}");
        }
    }
}

#[test]
fn small_rows_are_checked_as_large_ones() {
    let plain = Plain::random(&mut Noise(5), 2, 1, 4, &[6], &[3]);
    type Alter<'a> = &'a dyn Fn(&mut Vec<Tensor>);
    let cases: [(Dtype, &str, Alter<'_>); 4] = [
        (Dtype::I8, "embedding.scales is missing", &|tensors| tensors.retain(|tensor| tensor.0 != "embedding.scales")),
        (Dtype::I8, "tensor embedding.scales holds a weight that is not finite", &|tensors| {
            let scales = tensors.iter_mut().find(|tensor| tensor.0 == "embedding.scales").expect("beside bytes");
            scales.3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        (Dtype::F16, "tensor embedding.rows holds a weight that is not finite", &|tensors| {
            tensors[1].3[..2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
        }),
        (Dtype::F16, "tensor embedding.scales is not one of the architecture's", &|tensors| {
            tensors.push(("embedding.scales".into(), Dtype::F32, vec![50], vec![0; 200]));
        }),
    ];
    for (dtype, expected, alter) in cases {
        let mut tensors = with_small_rows(&plain, dtype);
        alter(&mut tensors);
        let error = refused(&plain, &artifact(&tensors));
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
