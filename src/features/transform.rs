use super::click_rate::CLICK_RATE_INPUTS;
use super::hash::{joint_key, slot_key};
use crate::config::{FeatureConfig, FeatureKind, Pooling, SchemaConfig};
use crate::domain::{EventTime, Field};

/// Numeric inputs are clamped to ± this. Squared and summed over a layer it is still far below the largest f32, so that no event can
/// make a loss infinite.
pub const NUMBER_LIMIT: f64 = 1e6;
/// Stands where a click rate has no key because a part of it is missing; [`slot_key`] never gives it.
pub const NO_KEY: u64 = 0;

const HOURS: i64 = 24;
const DAYS: i64 = 7;
const MS_PER_HOUR: i64 = 3_600_000;
/// 1 January 1970 was a Thursday, the fourth day from Monday on.
const WEEKDAY_OF_EPOCH: i64 = 3;

/// A slot: ids that share a name, pooled to one embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSpec {
    /// Name.
    pub name: String,
    /// `Sum` for slots with one id.
    pub pooling: Pooling,
}

/// A click rate.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickRateSpec {
    /// Name.
    pub name: String,
    /// Impressions at the stream's own rate that it starts from.
    pub prior: f32,
}

/// What a schema makes of fields: slots, numbers and click rates, each in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    slots: Vec<SlotSpec>,
    numbers: Vec<String>,
    click_rates: Vec<ClickRateSpec>,
    schema: SchemaConfig,
    /// One per feature of the schema.
    steps: Vec<Step>,
    /// What is known in training only counts as missing.
    serving: bool,
}

/// What is done with one feature.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    make: Make,
    /// Its ids are a slot.
    embed: bool,
    /// Other features are made of its ids.
    is_part: bool,
    training_only: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Make {
    /// Any ids of the field, hashed under the slot's name; of several the last `last`.
    Ids { slot: String, last: usize },
    /// One of the prepared keys, by the number's bucket.
    Buckets { bounds: Vec<f64>, keys: Vec<u64> },
    /// One of the prepared keys, by the hour of the event time.
    Hour { keys: Vec<u64> },
    /// One of the prepared keys, by the day of the week.
    Weekday { keys: Vec<u64> },
    /// The joint keys of these features.
    Cross { slot: String, of: Vec<usize> },
    /// The joint key of these features, counted.
    ClickRate { slot: String, of: Vec<usize> },
    /// `sign(x)·ln(1 + |x|)`.
    Log1p,
    /// `(x − mean) / std`.
    Standardise { mean: f64, std: f64 },
}

/// One example's ids, numbers and keys of click rates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Ids of all slots, one slot after the other.
    pub ids: Vec<u64>,
    /// `ids[bounds[s]..bounds[s + 1]]` belongs to slot s; length slots + 1.
    pub bounds: Vec<u32>,
    /// Numeric inputs; finite.
    pub numbers: Vec<f32>,
    /// What each click rate is counted under; [`NO_KEY`] where a part is missing.
    pub click_rates: Vec<u64>,
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
    /// [`FeatureError`]: duplicate names, bounds that do not rise, a standard deviation that is not above zero, parts that are not there.
    pub fn new(schema: &SchemaConfig) -> Result<Self, FeatureError> {
        if let Some(fault) = schema.feature_fault() {
            return Err(FeatureError { feature: fault.feature, why: format!("{} = {}: {}", fault.key, fault.value, fault.allowed) });
        }
        let mut spec = FeatureSpec {
            slots: Vec::new(),
            numbers: Vec::new(),
            click_rates: Vec::new(),
            schema: schema.clone(),
            steps: Vec::new(),
            serving: false,
        };
        for feature in &schema.features {
            let is_part = schema.features.iter().any(|other| other.parts().contains(&feature.name));
            let step = Step { make: Make::new(feature, schema), embed: feature.embed, is_part, training_only: feature.training_only };
            let name = feature.name.clone();
            match &feature.kind {
                FeatureKind::ClickRate { prior, .. } => spec.click_rates.push(ClickRateSpec { name, prior: *prior as f32 }),
                FeatureKind::Log1p | FeatureKind::Standardise { .. } => spec.numbers.push(name),
                _ if !feature.embed => {}
                FeatureKind::Bag { pooling, .. } => spec.slots.push(SlotSpec { name, pooling: *pooling }),
                FeatureKind::Cross { .. } => spec.slots.push(SlotSpec { name, pooling: Pooling::Mean }),
                FeatureKind::Categorical | FeatureKind::Buckets { .. } | FeatureKind::Hour | FeatureKind::Weekday => {
                    spec.slots.push(SlotSpec { name, pooling: Pooling::Sum });
                }
            }
            spec.steps.push(step);
        }
        Ok(spec)
    }

    /// The same features as a server sees them: what is known in training only is missing.
    #[must_use]
    pub fn for_serving(&self) -> Self {
        FeatureSpec { serving: true, ..self.clone() }
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

    /// Click rates.
    #[must_use]
    pub fn click_rates(&self) -> &[ClickRateSpec] {
        &self.click_rates
    }

    /// The schema it was built from.
    #[must_use]
    pub fn schema(&self) -> &SchemaConfig {
        &self.schema
    }

    /// Width of a net's input vector: slots × dim + numbers + click rates × 2.
    #[must_use]
    pub fn inputs(&self, dim: usize) -> usize {
        self.slots.len() * dim + self.numbers.len() + self.click_rates.len() * CLICK_RATE_INPUTS
    }

    /// Fields (in schema order) → ids, numbers and keys, put into a cleared `into`. Never fails: decoders have checked types; a missing
    /// categorical is no id (a zero vector), a missing number is 0. A field that is absent or of another type counts as missing.
    ///
    /// A bag keeps its values' order and repetitions.
    pub fn extract(&self, time: EventTime, fields: &[Field], into: &mut Features) {
        into.ids.clear();
        into.bounds.clear();
        into.numbers.clear();
        into.click_rates.clear();
        into.bounds.push(0);
        let mut parts = Parts::default();
        for (index, step) in self.steps.iter().enumerate() {
            let hidden = self.serving && step.training_only;
            let field = fields.get(index).filter(|_| !hidden).unwrap_or(&Field::Missing);
            match &step.make {
                Make::Log1p => into.numbers.push(number(field).map_or(0.0, |x| narrow(x.signum() * x.abs().ln_1p()))),
                Make::Standardise { mean, std } => into.numbers.push(number(field).map_or(0.0, |x| narrow((x - mean) / std))),
                Make::ClickRate { slot, of } => {
                    let mut keys = parts.joint_keys(slot, of);
                    into.click_rates.push(keys.next().unwrap_or(NO_KEY));
                }
                make => {
                    let start = into.ids.len();
                    make.ids(time, field, &parts, &mut into.ids);
                    if step.is_part {
                        parts.ids.push((index, into.ids[start..].to_vec()));
                    }
                    if step.embed {
                        into.bounds.push(into.ids.len() as u32);
                    } else {
                        into.ids.truncate(start);
                    }
                }
            }
        }
    }
}

impl Make {
    fn new(feature: &FeatureConfig, schema: &SchemaConfig) -> Self {
        let slot = feature.name.clone();
        let numbered = |count: usize| (0..count).map(|i| slot_key(&slot, &i.to_string())).collect::<Vec<_>>();
        let numbers_of = |of: &[String]| of.iter().filter_map(|name| schema.feature(name)).collect();
        match &feature.kind {
            FeatureKind::Categorical => Make::Ids { slot, last: usize::MAX },
            FeatureKind::Bag { last, .. } => Make::Ids { slot, last: last.unwrap_or(usize::MAX) },
            FeatureKind::Buckets { bounds } => Make::Buckets { bounds: bounds.clone(), keys: numbered(bounds.len() + 1) },
            FeatureKind::Hour => Make::Hour { keys: numbered(HOURS as usize) },
            FeatureKind::Weekday => Make::Weekday { keys: numbered(DAYS as usize) },
            FeatureKind::Cross { of } => Make::Cross { of: numbers_of(of), slot },
            FeatureKind::ClickRate { of, .. } => Make::ClickRate { of: numbers_of(of), slot },
            FeatureKind::Log1p => Make::Log1p,
            FeatureKind::Standardise { mean, std } => Make::Standardise { mean: *mean, std: *std },
        }
    }

    /// Appends the ids of one example; kinds that give numbers have none.
    fn ids(&self, time: EventTime, field: &Field, parts: &Parts, into: &mut Vec<u64>) {
        match self {
            Make::Ids { slot, last } => match field {
                Field::Text(value) => into.push(slot_key(slot, value)),
                Field::List(values) => {
                    let newest = &values[values.len().saturating_sub(*last)..];
                    into.extend(newest.iter().map(|value| slot_key(slot, value)));
                }
                Field::Missing | Field::Number(_) => {}
            },
            Make::Buckets { bounds, keys } => {
                if let Some(x) = number(field) {
                    into.push(keys[bounds.partition_point(|bound| *bound <= x)]);
                }
            }
            Make::Hour { keys } => into.push(keys[time.0.div_euclid(MS_PER_HOUR).rem_euclid(HOURS) as usize]),
            Make::Weekday { keys } => {
                let day = time.0.div_euclid(MS_PER_HOUR * HOURS) + WEEKDAY_OF_EPOCH;
                into.push(keys[day.rem_euclid(DAYS) as usize]);
            }
            Make::Cross { slot, of } => into.extend(parts.joint_keys(slot, of)),
            Make::ClickRate { .. } | Make::Log1p | Make::Standardise { .. } => {}
        }
    }
}

/// The ids that one example has of the features that others are made of, by feature.
#[derive(Debug, Default)]
struct Parts {
    ids: Vec<(usize, Vec<u64>)>,
}

impl Parts {
    /// The joint keys of the features `of`: one, or as many as the bag among them has ids; none where a part is missing.
    fn joint_keys<'a>(&'a self, slot: &'a str, of: &'a [usize]) -> impl Iterator<Item = u64> + 'a {
        let ids = move |part: &usize| self.ids.iter().find(|(feature, _)| feature == part).map_or(&[][..], |(_, ids)| ids);
        let is_missing = of.iter().any(|part| ids(part).is_empty());
        let count = if is_missing { 0 } else { of.iter().map(|part| ids(part).len()).max().unwrap_or(0) };
        (0..count).map(move |i| joint_key(slot, of.iter().map(|part| ids(part)[i.min(ids(part).len() - 1)])))
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
        FeatureConfig::new(name, kind)
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
            feature("tags", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".into(), last: None }),
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
        let mut features = Features { ids: vec![1], bounds: vec![9], numbers: vec![1.0], click_rates: vec![7] };
        spec.extract(EventTime(-1), &[], &mut features);
        assert_eq!(features.ids, [slot_key("hour", "23")]);
        assert_eq!(features.bounds, [0, 0, 0, 0, 1]);
        assert_eq!(features.numbers, [0.0, 0.0]);
    }

    fn of(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn extract(spec: &FeatureSpec, time: i64, fields: &[Field]) -> Features {
        let mut features = Features::default();
        spec.extract(EventTime(time), fields, &mut features);
        features
    }

    #[test]
    fn weekdays_start_on_monday_and_reach_before_1970() {
        let spec = FeatureSpec::new(&schema(vec![feature("day", FeatureKind::Weekday)])).unwrap();
        // 2024-01-01 was a Monday; 1969-12-31 a Wednesday.
        for (time, day) in [(1_704_067_200_000, "0"), (1_704_067_199_999, "6"), (0, "3"), (-1, "2")] {
            assert_eq!(extract(&spec, time, &[]).ids, [slot_key("day", day)], "{time}");
        }
    }

    #[test]
    fn of_a_sequence_the_last_count() {
        let bag = |last| FeatureKind::Bag { pooling: Pooling::Sum, separator: ",".into(), last };
        let spec = FeatureSpec::new(&schema(vec![feature("two", bag(Some(2))), feature("all", bag(None))])).unwrap();
        let list = |values: &[&str]| Field::List(values.iter().map(|value| (*value).into()).collect());
        let features = extract(&spec, 0, &[list(&["a", "b", "c"]), list(&["a", "b", "c"])]);
        assert_eq!(features.bounds, [0, 2, 5]);
        assert_eq!(features.ids[..2], [slot_key("two", "b"), slot_key("two", "c")]);
        assert_eq!(extract(&spec, 0, &[list(&["a"])]).bounds, [0, 1, 1]);
    }

    fn composed() -> FeatureSpec {
        let hidden = FeatureConfig { embed: false, ..feature("user", FeatureKind::Categorical) };
        let position = FeatureConfig { training_only: true, ..feature("position", FeatureKind::Categorical) };
        FeatureSpec::new(&schema(vec![
            hidden,
            position,
            feature("tags", FeatureKind::Bag { pooling: Pooling::Sum, separator: ",".into(), last: None }),
            feature("user_tags", FeatureKind::Cross { of: of(&["user", "tags"]) }),
            feature("both", FeatureKind::ClickRate { of: of(&["user", "position"]), prior: 5.0 }),
            feature("user_rate", FeatureKind::ClickRate { of: of(&["user"]), prior: 20.0 }),
        ]))
        .unwrap()
    }

    #[test]
    fn crosses_and_click_rates_are_made_of_the_ids_of_their_parts() {
        let spec = composed();
        assert_eq!(spec.slots().iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["position", "tags", "user_tags"]);
        assert_eq!(spec.click_rates().iter().map(|rate| rate.prior).collect::<Vec<_>>(), [5.0, 20.0]);
        assert_eq!(spec.inputs(8), 3 * 8 + 2 * 2);
        let [user, position] = [slot_key("user", "u"), slot_key("position", "3")];
        let tags = ["a", "b"].map(|tag| slot_key("tags", tag));
        let features = extract(&spec, 0, &[text("u"), text("3"), Field::List(["a".into(), "b".into()].into())]);
        let pairs = tags.map(|tag| joint_key("user_tags", [user, tag].into_iter()));
        assert_eq!(features.ids, [position, tags[0], tags[1], pairs[0], pairs[1]]);
        assert_eq!(features.bounds, [0, 1, 3, 5]);
        assert_eq!(features.click_rates, [joint_key("both", [user, position].into_iter()), joint_key("user_rate", [user].into_iter())]);
    }

    #[test]
    fn without_a_part_there_is_no_cross_and_no_click_rate() {
        let features = extract(&composed(), 0, &[text("u"), Field::Missing, Field::Missing]);
        assert_eq!((features.bounds.as_slice(), features.ids.as_slice()), ([0, 0, 0, 0].as_slice(), [].as_slice()));
        assert_eq!(features.click_rates, [NO_KEY, joint_key("user_rate", [slot_key("user", "u")].into_iter())]);
    }

    #[test]
    fn what_is_known_in_training_only_is_missing_when_served() {
        let (spec, fields) = (composed(), [text("u"), text("3"), text("a")]);
        let served = extract(&spec.for_serving(), 0, &fields);
        assert_eq!(served, extract(&spec, 0, &[text("u"), Field::Missing, text("a")]));
        assert_ne!(served, extract(&spec, 0, &fields));
    }

    #[test]
    fn a_bad_schema_names_its_feature() {
        for (features, name) in [
            (vec![feature("a", FeatureKind::Categorical), feature("a", FeatureKind::Log1p)], "a"),
            (vec![feature("b", FeatureKind::Buckets { bounds: vec![2.0, 1.0] })], "b"),
            (vec![feature("c", FeatureKind::Standardise { mean: 0.0, std: 0.0 })], "c"),
            (vec![feature("d", FeatureKind::ClickRate { of: of(&["d"]), prior: 1.0 })], "d"),
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
