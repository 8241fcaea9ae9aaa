//! A net over every kind of feature, and requests for it.

use rocket_launching::config::{Activation, HiddenConfig, SchemaConfig};
use rocket_launching::features::{FeatureSpec, Features, NO_KEY};
use rocket_launching::wire::EventDecoder;
use rocket_launching::wire::snapshot::{Architecture, schema_hash};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::{Noise, Snapshot, TIME, Tensor};

const DIM: usize = 4;
const ITEM_DIM: usize = 6;
const SHARED: usize = 12;
const LIGHT: usize = 8;
/// Of the slots below: eight of the table's dim, two of the item's; two numbers, three click rates.
const INPUTS: usize = 8 * DIM + 2 * ITEM_DIM + 2 + 3 * 2;

/// Every kind of feature.
pub fn schema() -> SchemaConfig {
    let vectors: Value = serde_json::from_str(include_str!("../fixtures/feature_vectors.json")).expect("JSON");
    let mut schema = vectors["schema"].clone();
    // A rate of a cross beside that of a feature alone.
    let features = schema["features"].as_array_mut().expect("a list");
    features.push(json!({ "name": "hour_rate", "kind": "click_rate", "of": ["country_hour"], "prior": 5.0 }));
    serde_json::from_value(schema).expect("a good schema")
}

pub fn request() -> (Map<String, Value>, Vec<Map<String, Value>>) {
    let context = json!({ "user_id": "u3", "clicked": "1|2|3|4|5", "age": 33.5, "country": "cz", "position": 1 });
    let candidate = |n: usize| match n {
        0 => json!({}),
        1 => json!({ "item_id": 1, "tags": "t1, t2 ,unseen", "price": "17.5", "user_id": null, "country": "" }),
        n => json!({ "item_id": n % 9, "tags": [format!("t{}", n % 5), "t0", n % 3], "price": n as f64 * 3.7 - 20.0 }),
    };
    let objects = (0..40).map(|n| candidate(n).as_object().expect("an object").clone());
    (context.as_object().expect("an object").clone(), objects.collect())
}

/// Rows for most of the ids of the request, by table, and counts for most keys of its click rates.
fn known(schema: &SchemaConfig) -> ([Vec<u64>; 2], Vec<u64>) {
    let spec = FeatureSpec::new(schema).expect("a good schema").for_serving();
    let decoder = EventDecoder::new(schema);
    let (context, candidates) = request();
    let (mut tables, mut counted) = ([Vec::new(), Vec::new()], vec![NO_KEY]);
    for candidate in &candidates {
        let mut features = Features::default();
        spec.extract(TIME, &decoder.fields(&context, candidate).expect("good columns"), &mut features);
        for (slot, bounds) in spec.slots().iter().zip(features.bounds.windows(2)) {
            let ids = &features.ids[bounds[0] as usize..bounds[1] as usize];
            tables[usize::from(slot.dim.is_some())].extend(ids.iter().filter(|id| *id % 8 != 0));
        }
        counted.extend(features.click_rates.iter().filter(|key| *key % 8 != 0));
    }
    for keys in tables.iter_mut().chain([&mut counted]) {
        keys.sort_unstable();
        keys.dedup();
    }
    (tables, counted)
}

/// A random net with every kind of tensor that this form of hidden layer has.
pub fn snapshot(hidden: HiddenConfig) -> Snapshot {
    let schema = schema();
    let ([keys, item_keys], counted) = known(&schema);
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let numbers = |name: &str, shape: &[usize], make: &mut dyn FnMut() -> f32| Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).flat_map(|_| make().to_le_bytes()).collect(),
    };
    let keyed = |name: &str, keys: &[u64]| Tensor {
        name: name.to_owned(),
        dtype: Dtype::U64,
        shape: vec![keys.len()],
        data: keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
    };
    let mut tensors = vec![keyed("embedding.keys", &keys), keyed("embedding.6.keys", &item_keys), keyed("click_rates.keys", &counted)];
    tensors.push(numbers("embedding.rows", &[keys.len(), DIM], &mut || noise.float()));
    tensors.push(numbers("embedding.6.rows", &[item_keys.len(), ITEM_DIM], &mut || noise.float()));
    // Impressions and clicks in turn, the whole stream's first.
    let mut turn = 0;
    let mut count = || {
        turn += 1;
        if turn % 2 == 1 { 20.0 + turn as f32 } else { (turn % 17) as f32 }
    };
    tensors.push(numbers("click_rates.counts", &[counted.len(), 2], &mut count));
    let layers = [("shared.0", INPUTS, SHARED), ("light.0", SHARED, LIGHT), ("light.1", LIGHT, 1)];
    for (layer, input, output) in layers {
        tensors.push(numbers(&format!("{layer}.weight"), &[input, output], &mut || 0.6 * noise.float()));
        tensors.push(numbers(&format!("{layer}.bias"), &[output], &mut || noise.float()));
    }
    for (layer, _, output) in &layers[..2] {
        let mut more = |name: &str| tensors.push(numbers(&format!("{layer}.{name}"), &[*output], &mut || 1.2 + noise.float()));
        if hidden.layer_norm {
            ["norm.scale", "norm.shift"].into_iter().for_each(&mut more);
        }
        match hidden.activation {
            Activation::Relu => {}
            Activation::Prelu => more("slope"),
            Activation::Dice => ["slope", "mean", "variance"].into_iter().for_each(more),
        }
    }
    let mut snapshot = Snapshot::new(7);
    let manifest = &mut snapshot.manifest;
    manifest.schema_hash = schema_hash(&schema);
    manifest.schema = schema;
    manifest.probes.clear();
    manifest.architecture =
        Architecture { embedding_dim: DIM, further_dims: vec![ITEM_DIM], inputs: INPUTS, shared: vec![SHARED], light: vec![LIGHT], hidden };
    snapshot.hold(&tensors);
    snapshot
}
