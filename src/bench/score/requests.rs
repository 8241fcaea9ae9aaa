use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Shape;
use crate::bench::workload::ZIPF;
use crate::config::FeatureKind;
use crate::serving::Candidate;

/// A request as it comes over HTTP.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) context: Map<String, Value>,
    pub(super) candidates: Vec<Candidate>,
}

/// Bodies of requests: one user each, ids by Zipf's law.
pub(super) fn bodies(shape: &Shape, ids: usize, candidates: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let zipf = Zipf::new(ids.max(1) as f64, ZIPF).expect("at least one, and an exponent above zero");
    let [users, items] = [false, true].map(|candidates| {
        let mine = shape.features().filter(move |(_, own)| *own == candidates);
        mine.map(|(feature, _)| (feature.name.clone(), matches!(feature.kind, FeatureKind::Categorical))).collect::<Vec<_>>()
    });
    std::iter::repeat_with(move || {
        let mut draw = |columns: &[(String, bool)]| -> Map<String, Value> {
            let value = |is_id: &bool, rng: &mut ChaCha8Rng| {
                if *is_id { json!((zipf.sample(rng) as u64).to_string()) } else { json!(rng.random::<f64>()) }
            };
            columns.iter().map(|(name, is_id)| (name.clone(), value(is_id, &mut rng))).collect()
        };
        let context = draw(&users);
        let candidates: Vec<_> = (0..candidates).map(|_| draw(&items)).collect();
        json!({ "context": context, "candidates": candidates }).to_string().into_bytes()
    })
}
