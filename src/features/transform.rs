use super::slot_key;
use crate::config::{FeatureKind, Pooling, SchemaConfig};
use crate::domain::{EventTime, Field};

/// Numeric inputs are clamped to ± this. Squared and summed over a layer it is still far below the largest f32, so that no event can
/// make a loss infinite.
pub const NUMBER_LIMIT: f64 = 1e6;

const HOURS: i64 = 24;
const MS_PER_HOUR: i64 = 3_600_000;

/// A slot: ids that share a name, pooled to one embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSpec {
    /// Name.
    pub name: String,
    /// `Sum` for slots with one id.
    pub pooling: Pooling,
}

/// What a schema makes of fields: slots in their order, then numbers in theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    slots: Vec<SlotSpec>,
    numbers: Vec<String>,
    schema: SchemaConfig,
    /// One per feature of the schema.
    steps: Vec<Step>,
}

/// What is done with one feature's field.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Any ids of the field, hashed under the slot's name.
    Ids { slot: String },
    /// One of the prepared keys, by the number's bucket.
    Buckets { bounds: Vec<f64>, keys: Vec<u64> },
    /// One of the prepared keys, by the hour of the event time.
    Hour { keys: Vec<u64> },
    /// `sign(x)·ln(1 + |x|)`.
    Log1p,
    /// `(x − mean) / std`.
    Standardise { mean: f64, std: f64 },
}

/// One example's ids and numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Ids of all slots, one slot after the other.
    pub ids: Vec<u64>,
    /// `ids[bounds[s]..bounds[s + 1]]` belongs to slot s; length slots + 1.
    pub bounds: Vec<u32>,
    /// Numeric inputs; finite.
    pub numbers: Vec<f32>,
}

/// A schema that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema.features.{feature}: {why}")]
pub struct FeatureError {
    /// Feature name.
    pub feature: String,
    /// Why.
    pub why: String,
}

impl FeatureSpec {
    /// Builds the spec.
    ///
    /// # Errors
    /// [`FeatureError`]: duplicate names, bounds that do not rise, a standard deviation that is not above zero.
    pub fn new(schema: &SchemaConfig) -> Result<Self, FeatureError> {
        if let Some(fault) = schema.feature_fault() {
            return Err(FeatureError { feature: fault.feature, why: format!("{} = {}: {}", fault.key, fault.value, fault.allowed) });
        }
        let mut spec = FeatureSpec { slots: Vec::new(), numbers: Vec::new(), schema: schema.clone(), steps: Vec::new() };
        for feature in &schema.features {
            let name = &feature.name;
            let numbered = |count: usize| (0..count).map(|i| slot_key(name, &i.to_string())).collect::<Vec<_>>();
            let (pooling, step) = match &feature.kind {
                FeatureKind::Categorical => (Some(Pooling::Sum), Step::Ids { slot: name.clone() }),
                FeatureKind::Bag { pooling, .. } => (Some(*pooling), Step::Ids { slot: name.clone() }),
                FeatureKind::Buckets { bounds } => {
                    (Some(Pooling::Sum), Step::Buckets { bounds: bounds.clone(), keys: numbered(bounds.len() + 1) })
                }
                FeatureKind::Hour => (Some(Pooling::Sum), Step::Hour { keys: numbered(HOURS as usize) }),
                FeatureKind::Log1p => (None, Step::Log1p),
                FeatureKind::Standardise { mean, std } => (None, Step::Standardise { mean: *mean, std: *std }),
            };
            match pooling {
                Some(pooling) => spec.slots.push(SlotSpec { name: name.clone(), pooling }),
                None => spec.numbers.push(name.clone()),
            }
            spec.steps.push(step);
        }
        Ok(spec)
    }

    /// Slots.
    #[must_use]
    pub fn slots(&self) -> &[SlotSpec] {
        &self.slots
    }

    /// Names of the numeric inputs.
    #[must_use]
    pub fn numbers(&self) -> &[String] {
        &self.numbers
    }

    /// The schema it was built from.
    #[must_use]
    pub fn schema(&self) -> &SchemaConfig {
        &self.schema
    }

    /// Width of a net's input vector: slots × dim + numbers.
    #[must_use]
    pub fn inputs(&self, dim: usize) -> usize {
        self.slots.len() * dim + self.numbers.len()
    }

    /// Fields (in schema order) → ids and numbers, appended to a cleared `into`. Never fails: decoders have checked types; a missing
    /// categorical is no id (a zero vector), a missing number is 0. A field that is absent or of another type counts as missing.
    ///
    /// A bag keeps its values' order and repetitions.
    pub fn extract(&self, time: EventTime, fields: &[Field], into: &mut Features) {
        into.ids.clear();
        into.bounds.clear();
        into.numbers.clear();
        into.bounds.push(0);
        for (index, step) in self.steps.iter().enumerate() {
            let field = fields.get(index).unwrap_or(&Field::Missing);
            match step {
                Step::Ids { slot } => match field {
                    Field::Text(value) => into.ids.push(slot_key(slot, value)),
                    Field::List(values) => into.ids.extend(values.iter().map(|value| slot_key(slot, value))),
                    Field::Missing | Field::Number(_) => {}
                },
                Step::Buckets { bounds, keys } => {
                    if let Some(x) = number(field) {
                        into.ids.push(keys[bounds.partition_point(|bound| *bound <= x)]);
                    }
                }
                Step::Hour { keys } => into.ids.push(keys[time.0.div_euclid(MS_PER_HOUR).rem_euclid(HOURS) as usize]),
                Step::Log1p => into.numbers.push(number(field).map_or(0.0, |x| narrow(x.signum() * x.abs().ln_1p()))),
                Step::Standardise { mean, std } => into.numbers.push(number(field).map_or(0.0, |x| narrow((x - mean) / std))),
            }
            if !matches!(step, Step::Log1p | Step::Standardise { .. }) {
                into.bounds.push(into.ids.len() as u32);
            }
        }
    }
}

fn number(field: &Field) -> Option<f64> {
    match field {
        Field::Number(x) if !x.is_nan() => Some(*x),
        _ => None,
    }
}

fn narrow(x: f64) -> f32 {
    x.clamp(-NUMBER_LIMIT, NUMBER_LIMIT) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{FeatureConfig, TimeUnit};

    fn feature(name: &str, kind: FeatureKind) -> FeatureConfig {
        FeatureConfig { name: name.to_owned(), column: None, kind }
    }

    fn schema(features: Vec<FeatureConfig>) -> SchemaConfig {
        SchemaConfig {
            time: "ts".into(),
            time_unit: TimeUnit::Ms,
            user: "user".into(),
            item: "item".into(),
            label: "label".into(),
            impression: None,
            features,
        }
    }

    fn every_kind() -> FeatureSpec {
        FeatureSpec::new(&schema(vec![
            feature("age", FeatureKind::Standardise { mean: 30.0, std: 10.0 }),
            feature("item", FeatureKind::Categorical),
            feature("tags", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".into() }),
            feature("price", FeatureKind::Log1p),
            feature("length", FeatureKind::Buckets { bounds: vec![1.0, 2.0, 4.0] }),
            feature("hour", FeatureKind::Hour),
        ]))
        .unwrap()
    }

    fn text(value: &str) -> Field {
        Field::Text(value.into())
    }

    #[test]
    fn slots_and_numbers_keep_the_order_of_features() {
        let spec = every_kind();
        assert_eq!(spec.slots().iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["item", "tags", "length", "hour"]);
        assert_eq!(spec.numbers(), ["age", "price"]);
        assert_eq!(spec.inputs(8), 4 * 8 + 2);

        let fields = [
            Field::Number(50.0),
            text("i7"),
            Field::List(["a".into(), "b".into(), "a".into()].into()),
            Field::Number(-1.0),
            Field::Number(2.0),
            Field::Missing,
        ];
        let mut features = Features::default();
        spec.extract(EventTime(25 * MS_PER_HOUR + 1), &fields, &mut features);
        assert_eq!(features.bounds, [0, 1, 4, 5, 6]);
        let a = slot_key("tags", "a");
        assert_eq!(features.ids, [slot_key("item", "i7"), a, slot_key("tags", "b"), a, slot_key("length", "2"), slot_key("hour", "1")]);
        assert_eq!(features.numbers, [2.0, -(2f32.ln())]);
    }

    #[test]
    fn buckets_hold_their_lower_bound() {
        let spec = FeatureSpec::new(&schema(vec![feature("x", FeatureKind::Buckets { bounds: vec![1.0, 2.0] })])).unwrap();
        let mut features = Features::default();
        for (x, bucket) in [(0.999, "0"), (1.0, "1"), (1.999, "1"), (2.0, "2"), (f64::MAX, "2"), (f64::MIN, "0")] {
            spec.extract(EventTime(0), &[Field::Number(x)], &mut features);
            assert_eq!(features.ids, [slot_key("x", bucket)], "{x}");
        }
    }

    #[test]
    fn missing_is_no_id_and_zero() {
        let spec = every_kind();
        let mut features = Features { ids: vec![1], bounds: vec![9], numbers: vec![1.0] };
        spec.extract(EventTime(-1), &[], &mut features);
        assert_eq!(features.ids, [slot_key("hour", "23")]);
        assert_eq!(features.bounds, [0, 0, 0, 0, 1]);
        assert_eq!(features.numbers, [0.0, 0.0]);
    }

    #[test]
    fn a_bad_schema_names_its_feature() {
        for (features, name) in [
            (vec![feature("a", FeatureKind::Categorical), feature("a", FeatureKind::Log1p)], "a"),
            (vec![feature("b", FeatureKind::Buckets { bounds: vec![2.0, 1.0] })], "b"),
            (vec![feature("c", FeatureKind::Standardise { mean: 0.0, std: 0.0 })], "c"),
        ] {
            let error = FeatureSpec::new(&schema(features)).unwrap_err();
            assert_eq!(error.feature, name);
            assert!(!error.why.is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_number_gives_a_finite_input(x in proptest::num::f64::ANY, mean in -1e300..1e300, std in 1e-300..1e300) {
            let spec = FeatureSpec::new(&schema(vec![
                feature("a", FeatureKind::Log1p),
                feature("b", FeatureKind::Standardise { mean, std }),
                feature("c", FeatureKind::Buckets { bounds: vec![0.0] }),
            ])).unwrap();
            let mut features = Features::default();
            spec.extract(EventTime(0), &[Field::Number(x), Field::Number(x), Field::Number(x)], &mut features);
            prop_assert!(features.numbers.iter().all(|x| x.is_finite()));
        }
    }
}
