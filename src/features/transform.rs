mod sides;

use std::ops::Range;

use super::click_rate::CLICK_RATE_INPUTS;
use super::hash::{TableKeys, joint_key, slot_key};
use crate::config::{FeatureConfig, FeatureKind, Pooling, SchemaConfig};
use crate::domain::{EventTime, Field};

pub use sides::{Side, Sides};

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

/// A slot: the ids of one feature, pooled to one embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSpec {
    /// Name.
    pub name: String,
    /// `Sum` for slots with one id.
    pub pooling: Pooling,
    /// Floats per row, where the feature says it.
    pub dim: Option<usize>,
}

impl SlotSpec {
    /// Floats per row; `default` where the feature does not say it.
    #[must_use]
    pub fn dim(&self, default: usize) -> usize {
        self.dim.unwrap_or(default)
    }
}

/// A click rate.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickRateSpec {
    /// Name.
    pub name: String,
    /// Impressions at the stream's own rate that it starts from.
    pub prior: f32,
}

/// What one feature feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// The feature.
    pub name: String,
    /// Floats of the input vector.
    pub width: usize,
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
    /// Any ids of the field, hashed under the table's name; of several the last `last`.
    Ids { keys: TableKeys, last: usize },
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

impl Features {
    /// Those of no slot so far.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.bounds.clear();
        self.numbers.clear();
        self.click_rates.clear();
        self.bounds.push(0);
    }
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
            let (name, dim) = (feature.name.clone(), feature.dim);
            match &feature.kind {
                FeatureKind::ClickRate { prior, .. } => spec.click_rates.push(ClickRateSpec { name, prior: *prior as f32 }),
                FeatureKind::Log1p | FeatureKind::Standardise { .. } => spec.numbers.push(name),
                _ if !feature.embed => {}
                FeatureKind::Bag { pooling, .. } => spec.slots.push(SlotSpec { name, pooling: *pooling, dim }),
                FeatureKind::Cross { .. } => spec.slots.push(SlotSpec { name, pooling: Pooling::Mean, dim }),
                FeatureKind::Categorical | FeatureKind::Buckets { .. } | FeatureKind::Hour | FeatureKind::Weekday => {
                    spec.slots.push(SlotSpec { name, pooling: Pooling::Sum, dim });
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

    /// Width of a net's input vector: the dims of the slots, `dim` where a feature has none of its own, + numbers + click rates × 2.
    #[must_use]
    pub fn inputs(&self, dim: usize) -> usize {
        self.columns(dim).iter().map(|column| column.width).sum()
    }

    /// The input vector, feature by feature; `dim` floats per row where a feature has no dim of its own.
    #[must_use]
    pub fn columns(&self, dim: usize) -> Vec<InputColumn> {
        let column = |name: &str, width| InputColumn { name: name.to_owned(), width };
        let slots = self.slots.iter().map(|slot| column(&slot.name, slot.dim(dim)));
        let numbers = self.numbers.iter().map(|name| column(name, 1));
        let rates = self.click_rates.iter().map(|rate| column(&rate.name, CLICK_RATE_INPUTS));
        slots.chain(numbers).chain(rates).collect()
    }

    /// Fields (in schema order) → ids, numbers and keys, put into a cleared `into`. Never fails: decoders have checked types; a missing
    /// categorical is no id (a zero vector), a missing number is 0. A field that is absent or of another type counts as missing.
    ///
    /// A bag keeps its values' order and repetitions.
    pub fn extract(&self, time: EventTime, fields: &[Field], into: &mut Features) {
        into.clear();
        let mut parts = Parts::default();
        for index in 0..self.steps.len() {
            self.append(index, time, fields.get(index).unwrap_or(&Field::Missing), &mut parts, into);
        }
    }

    /// Appends what the feature of this number makes of its field, as [`FeatureSpec::extract`] does of all, one after the other: features
    /// that are made of others come after them, and find their ids in `parts`.
    pub fn append(&self, feature: usize, time: EventTime, field: &Field, parts: &mut Parts, into: &mut Features) {
        let step = &self.steps[feature];
        let field = if self.serving && step.training_only { &Field::Missing } else { field };
        match &step.make {
            Make::Log1p => into.numbers.push(number(field).map_or(0.0, |x| narrow(x.signum() * x.abs().ln_1p()))),
            Make::Standardise { mean, std } => into.numbers.push(number(field).map_or(0.0, |x| narrow((x - mean) / std))),
            Make::ClickRate { slot, of } => {
                let mut keys = parts.joint_keys(slot, of);
                into.click_rates.push(keys.next().unwrap_or(NO_KEY));
            }
            make => {
                let start = into.ids.len();
                make.ids(time, field, parts, &mut into.ids);
                if step.is_part {
                    parts.push(feature, &into.ids[start..]);
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

impl Make {
    fn new(feature: &FeatureConfig, schema: &SchemaConfig) -> Self {
        let (slot, table) = (feature.name.clone(), feature.table().to_owned());
        let numbered = |count: usize| (0..count).map(|i| slot_key(&table, &i.to_string())).collect::<Vec<_>>();
        let numbers_of = |of: &[String]| of.iter().filter_map(|name| schema.feature(name)).collect();
        match &feature.kind {
            FeatureKind::Categorical => Make::Ids { keys: TableKeys::new(&table), last: usize::MAX },
            FeatureKind::Bag { last, .. } => Make::Ids { keys: TableKeys::new(&table), last: last.unwrap_or(usize::MAX) },
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
            Make::Ids { keys, last } => match field {
                Field::Text(value) => into.push(keys.key(value)),
                Field::List(values) => {
                    let newest = &values[values.len().saturating_sub(*last)..];
                    into.extend(newest.iter().map(|value| keys.key(value)));
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

/// The ids that one example has of the features that others are made of.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Features, and where their ids stand.
    of: Vec<(usize, Range<usize>)>,
    ids: Vec<u64>,
}

impl Parts {
    /// How many features are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// No feature is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Forgets all but the first `features`.
    pub fn truncate(&mut self, features: usize) {
        self.of.truncate(features);
        self.ids.truncate(self.of.last().map_or(0, |(_, ids)| ids.end));
    }

    /// What is held beyond the first `features`.
    #[must_use]
    pub fn beyond(&self, features: usize) -> Self {
        let mut beyond = Parts::default();
        self.of[features..].iter().for_each(|(feature, ids)| beyond.push(*feature, &self.ids[ids.clone()]));
        beyond
    }

    /// Holds these as well.
    pub fn extend(&mut self, others: &Parts) {
        others.of.iter().for_each(|(feature, ids)| self.push(*feature, &others.ids[ids.clone()]));
    }

    /// Bytes of memory, beside its own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.of.as_slice()) + size_of_val(self.ids.as_slice())
    }

    fn push(&mut self, feature: usize, ids: &[u64]) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.of.push((feature, start..self.ids.len()));
    }

    fn get(&self, feature: usize) -> &[u64] {
        self.of.iter().find(|(held, _)| *held == feature).map_or(&[], |(_, ids)| &self.ids[ids.clone()])
    }

    /// The joint keys of the features `of`: one, or as many as the bag among them has ids; none where a part is missing.
    fn joint_keys<'a>(&'a self, slot: &'a str, of: &'a [usize]) -> impl Iterator<Item = u64> + 'a {
        let is_missing = of.iter().any(|part| self.get(*part).is_empty());
        let count = if is_missing { 0 } else { of.iter().map(|part| self.get(*part).len()).max().unwrap_or(0) };
        (0..count).map(move |i| {
            let key = |part: &usize| {
                let ids = self.get(*part);
                ids[i.min(ids.len() - 1)]
            };
            joint_key(slot, of.iter().map(key))
        })
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
mod tests;
