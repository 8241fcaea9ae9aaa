use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde_json::{Map, Value, json};

use super::Shape;
use crate::bench::workload::ZIPF;
use crate::config::FeatureKind;
use crate::wire::{Object, RequestText};

/// Context and candidates of a body of [`Requests`].
pub(super) fn objects(body: &[u8]) -> (Object<'_>, Vec<Object<'_>>) {
    RequestText::find(body).expect("a body that was written here").objects()
}

/// What requests are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requests<'a> {
    pub(super) shape: &'a Shape,
    /// Ids of each slot.
    pub(super) ids: usize,
    /// Candidates of a request.
    pub(super) candidates: usize,
    /// Candidates that there are; none: each is a new one.
    pub(super) catalogue: Option<usize>,
}

impl Requests<'_> {
    /// Bodies of requests: one user each, ids by Zipf's law; of a catalogue, each has other candidates, all as often.
    pub(super) fn bodies(self, seed: u64) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let zipf = Zipf::new(self.ids.max(1) as f64, ZIPF).expect("at least one, and an exponent above zero");
        let [users, items] = [false, true].map(|candidates| {
            let mine = self.shape.features().filter(move |(_, own)| *own == candidates);
            mine.map(|(feature, _)| (feature.name.clone(), matches!(feature.kind, FeatureKind::Categorical))).collect::<Vec<_>>()
        });
        let draw = move |columns: &[(String, bool)], rng: &mut ChaCha8Rng| -> String {
            let mut value = |is_id: &bool| {
                if *is_id { json!((zipf.sample(rng) as u64).to_string()) } else { json!(rng.random::<f64>()) }
            };
            let columns: Map<String, Value> = columns.iter().map(|(name, is_id)| (name.clone(), value(is_id))).collect();
            Value::from(columns).to_string()
        };
        let catalogue: Vec<_> = (0..self.catalogue.unwrap_or_default()).map(|_| draw(&items, &mut rng)).collect();
        std::iter::repeat_with(move || {
            let context = draw(&users, &mut rng);
            let candidates = if catalogue.is_empty() {
                (0..self.candidates).map(|_| draw(&items, &mut rng)).collect::<Vec<_>>().join(",")
            } else {
                let places = sample(&mut rng, catalogue.len(), self.candidates.min(catalogue.len()));
                places.into_iter().map(|place| catalogue[place].as_str()).collect::<Vec<_>>().join(",")
            };
            format!(r#"{{"context":{context},"candidates":[{candidates}]}}"#).into_bytes()
        })
    }
}
