use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use serde_json::{Map, Value};

use crate::config::{FeatureConfig, FeatureKind, ModelConfig, SchemaConfig};
use crate::domain::{EventTime, Field, Sample, Stage, UserId};
use crate::wire::snapshot::field_to_json;

/// Categorical features, one slot each.
const SLOTS: usize = 24;
/// Numeric features.
const NUMBERS: usize = 8;
/// As many of both as 300 bytes of JSON hold.
const COMPACT: (usize, usize) = (15, 6);
/// Numbers have four decimals, as prices and shares have.
const DECIMALS: f64 = 1e4;
/// Popularity of ids and activity of users: a batch of 2048 has some 27,000 distinct ids of 49,000.
pub(super) const ZIPF: f64 = 1.05;
/// Share of clicks.
const CLICKS: f64 = 0.2;
/// The first event's time, 2026-01-05T08:00:00Z, and the time between two events.
const EPOCH_MS: i64 = 1_767_600_000_000;
const GAP_MS: i64 = 2;

/// A stream as busy ad services have it: 24 categorical features and 8 numbers, ids and users by Zipf's law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Distinct ids of all features together, evenly divided among them.
    pub rows: usize,
    /// Distinct users.
    pub users: usize,
    /// Of everything drawn.
    pub seed: u64,
    /// Categorical features, one slot each.
    pub slots: usize,
    /// Numeric features.
    pub numbers: usize,
}

impl Default for Workload {
    fn default() -> Self {
        Workload { rows: 1_000_000, users: 1_000_000, seed: 1, slots: SLOTS, numbers: NUMBERS }
    }
}

impl Workload {
    /// With 15 categorical features and 6 numbers: events of 300 bytes.
    #[must_use]
    pub fn compact() -> Self {
        let (slots, numbers) = COMPACT;
        Workload { slots, numbers, ..Workload::default() }
    }

    /// Labelled events.
    #[must_use]
    pub fn schema(&self) -> SchemaConfig {
        let categorical = (0..self.slots).map(|slot| FeatureConfig::new(&format!("c{slot}"), FeatureKind::Categorical));
        let number = |number| FeatureConfig::new(&format!("n{number}"), FeatureKind::Standardise { mean: 0.5, std: 0.3 });
        SchemaConfig::labelled(categorical.chain((0..self.numbers).map(number)).collect())
    }

    /// Booster 392-1024-512-256-1, light 392-128-64-1.
    #[must_use]
    pub fn model(&self) -> ModelConfig {
        ModelConfig { light: vec![128, 64], booster: vec![1024, 512, 256], control: false, ..ModelConfig::default() }
    }

    /// Samples in the order of event time, the same for the same seed.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + use<> {
        let Workload { rows, users, seed, slots, numbers } = *self;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let zipf = |n: usize| Zipf::new(n.max(1) as f64, ZIPF).expect("at least one, and an exponent above zero");
        let (id, user) = (zipf(rows / slots), zipf(users));
        (0i64..).map(move |number| {
            let ids: Vec<u64> = (0..slots).map(|_| id.sample(&mut rng) as u64).collect();
            let numbers: Vec<f64> = (0..numbers).map(|_| (rng.random::<f64>() * DECIMALS).round() / DECIMALS).collect();
            sample(number, user.sample(&mut rng) as u64, rng.random_bool(CLICKS), &ids, &numbers)
        })
    }

    /// Samples that bear every id once: what they train has a row.
    pub fn every_id(&self) -> impl Iterator<Item = Sample> + use<> {
        let Workload { rows, users, slots, numbers, .. } = *self;
        let users = users.max(1) as u64;
        (1..=(rows / slots) as u64).map(move |id| sample(0, id % users, id.is_multiple_of(5), &vec![id; slots], &vec![0.5; numbers]))
    }

    /// The events that these samples are read from, in columns of [`Workload::schema`]: the item is the first feature's id.
    pub fn events(&self) -> impl Iterator<Item = Map<String, Value>> + use<> {
        let schema = self.schema();
        self.samples().map(move |sample| {
            let columns = schema.features.iter().zip(&sample.fields).map(|(feature, field)| (feature.name.clone(), field_to_json(field)));
            let item = sample.fields.first().map_or(Value::Null, field_to_json);
            let roles = [
                (schema.time.clone(), sample.time.0.into()),
                (schema.user.clone(), (*sample.user.0).into()),
                (schema.item.clone(), item),
                (schema.label.clone(), u8::from(sample.label).into()),
            ];
            roles.into_iter().chain(columns).collect()
        })
    }
}

fn sample(number: i64, user: u64, label: bool, ids: &[u64], numbers: &[f64]) -> Sample {
    let ids = ids.iter().map(|id| Field::Text(id.to_string().into()));
    Sample {
        origins: Vec::new(),
        time: EventTime(EPOCH_MS + number * GAP_MS),
        impression: None,
        user: UserId(format!("u{user}").into()),
        label,
        stage: Stage::Final,
        fields: ids.chain(numbers.iter().copied().map(Field::Number)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::features::{FeatureSpec, Features};

    #[test]
    fn samples_fit_the_schema_and_repeat_themselves_as_those_of_busy_services_do() {
        let workload = Workload::default();
        let spec = FeatureSpec::new(&workload.schema()).expect("a good schema");
        let mut features = Features::default();
        let mut ids = HashSet::new();
        for sample in workload.samples().take(2048) {
            spec.extract(sample.time, &sample.fields, &mut features);
            assert_eq!((features.ids.len(), features.numbers.len()), (SLOTS, NUMBERS));
            ids.extend(features.ids.iter().copied());
        }
        assert!((20_000..35_000).contains(&ids.len()), "{} distinct ids", ids.len());
        assert!(workload.samples().take(100).eq(workload.samples().take(100)));
    }

    #[test]
    fn every_id_comes_once() {
        let workload = Workload { rows: SLOTS * 10, ..Workload::default() };
        let texts: Vec<Vec<Field>> = workload.every_id().map(|sample| sample.fields[..SLOTS].to_vec()).collect();
        assert_eq!(texts.len(), 10);
        let drawn: HashSet<String> = workload.samples().take(1000).flat_map(|sample| sample.fields.to_vec()).filter_map(text).collect();
        let known: HashSet<String> = texts.into_iter().flatten().filter_map(text).collect();
        assert_eq!(drawn, known);
    }

    fn text(field: Field) -> Option<String> {
        if let Field::Text(text) = field { Some(text.into()) } else { None }
    }
}
