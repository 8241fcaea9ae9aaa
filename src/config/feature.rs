use serde::{Deserialize, Serialize};

use super::validate::DIM_MAX;

/// Separator of bags in text columns unless given: what most exported tables use inside a cell.
const DEFAULT_SEPARATOR: &str = ",";
/// Impressions at the stream's own rate that a click rate starts from, unless given: about as many as it takes until a rate of one in ten
/// says more than the stream's.
const DEFAULT_PRIOR: f64 = 20.0;

/// One feature: a slot of the embedding table, numbers fed to the nets, or only a part that others are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FeatureKeys")]
pub struct FeatureConfig {
    /// Name of the slot; part of the hash of its values, unless they have another `table`.
    pub name: String,
    /// Column it is read from; `name` unless given. Kinds made of the event time or of other features read none.
    pub column: Option<String>,
    /// False: ids without a slot of their own, only a part of crosses and click rates.
    #[serde(skip_serializing_if = "is_true")]
    pub embed: bool,
    /// True: missing when scored, whatever a request says; for what is known only once an ad is shown, like its position.
    #[serde(skip_serializing_if = "is_false")]
    pub training_only: bool,
    /// What its ids are hashed under; `name` unless given. Features of one table share their rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Floats per row of its slot; `model.embedding.dim` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// What is made of the value.
    #[serde(flatten)]
    pub kind: FeatureKind,
}

// Keys at their default are left out, so that the hash of a schema does not change when kinds learn new keys.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What is made of a column's value, of the event time, or of other features.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// One id per event.
    Categorical,
    /// Any number of ids per event, pooled.
    Bag {
        /// How the rows are pooled.
        pooling: Pooling,
        /// Separator where the column is text (files).
        separator: String,
        /// Only the last ones count, at most so many: the newest of a behaviour sequence. All, unless given.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<usize>,
    },
    /// `sign(x)·ln(1 + |x|)`, fed as a number.
    Log1p,
    /// `(x − mean) / std`, fed as a number.
    Standardise {
        /// Mean to subtract.
        mean: f64,
        /// Standard deviation to divide by; above zero.
        std: f64,
    },
    /// The index of the bucket that holds x, as an id: bucket i holds `bounds[i−1] <= x < bounds[i]`.
    Buckets {
        /// Rising bounds.
        bounds: Vec<f64>,
    },
    /// Hour of the day (UTC) of the event time, as an id.
    Hour,
    /// Day of the week (UTC) of the event time, as an id: 0 is Monday.
    Weekday,
    /// The ids of several features taken together, as one id; with a bag among them, one id for each of its values, pooled to their mean.
    Cross {
        /// Names of features that stand before this one.
        of: Vec<String>,
    },
    /// The past click rate of what the named features say, taken together, fed as two numbers.
    ClickRate {
        /// Names of features with at most one id each, that stand before this one.
        of: Vec<String>,
        /// Impressions at the stream's own rate that it starts from.
        prior: f64,
    },
}

/// How the rows of a bag become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their sum.
    Sum,
    /// Their mean.
    #[default]
    Mean,
}

/// A key of a feature that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) allowed: String,
}

impl Fault {
    fn new(key: &'static str, value: String, allowed: impl Into<String>) -> Option<Self> {
        Some(Fault { key, value, allowed: allowed.into() })
    }
}

impl FeatureConfig {
    /// A feature of this name, read from the column of the same name.
    #[must_use]
    pub fn new(name: &str, kind: FeatureKind) -> Self {
        FeatureConfig { name: name.to_owned(), column: None, embed: true, training_only: false, table: None, dim: None, kind }
    }

    /// The column it is read from; `None` for kinds that read none.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        self.kind.name().reads_column().then(|| self.column.as_deref().unwrap_or(&self.name))
    }

    /// What its ids are hashed under.
    #[must_use]
    pub fn table(&self) -> &str {
        self.table.as_deref().unwrap_or(&self.name)
    }

    /// The names of the features it is made of.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        match &self.kind {
            FeatureKind::Cross { of } | FeatureKind::ClickRate { of, .. } => of,
            _ => &[],
        }
    }

    /// Floats per row of its slot; `default` where it has no dim of its own.
    #[must_use]
    pub fn dim(&self, default: usize) -> usize {
        self.dim.unwrap_or(default)
    }

    /// Whether its ids have embeddings of their own.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        self.embed && self.kind.name().keys().contains(&"embed")
    }

    /// What is wrong with it, `before` being the features that stand before it.
    pub(super) fn fault(&self, before: &[FeatureConfig]) -> Option<Fault> {
        let quoted = format!("{:?}", self.name);
        if self.name.is_empty() || self.name.contains('\0') {
            return Fault::new("name", quoted, "a name is not empty and has no zero byte, which ends it in the hash");
        }
        if before.iter().any(|other| other.name == self.name) {
            return Fault::new("name", quoted, "another feature has this name; give each its own, and `column` if both read one");
        }
        if self.table().is_empty() || self.table().contains('\0') {
            return Fault::new(
                "table",
                format!("{:?}", self.table()),
                "a table's name is as a feature's: not empty, and without zero byte",
            );
        }
        match self.dim {
            Some(dim) if !self.embed => return Fault::new("dim", dim.to_string(), "with embed = false it has no rows; leave it out"),
            Some(dim) if !(1..=DIM_MAX).contains(&dim) => return Fault::new("dim", dim.to_string(), format!("expected 1 to {DIM_MAX}")),
            _ => {}
        }
        match &self.kind {
            FeatureKind::Bag { separator, .. } if separator.is_empty() => {
                Fault::new("separator", "\"\"".to_owned(), "expected at least one character, e.g. \",\"")
            }
            FeatureKind::Bag { last: Some(0), .. } => Fault::new("last", "0".to_owned(), "expected at least 1"),
            FeatureKind::Standardise { mean, .. } if !mean.is_finite() => Fault::new("mean", mean.to_string(), "expected a finite number"),
            FeatureKind::Standardise { std, .. } if !(std.is_finite() && *std > 0.0) => {
                Fault::new("std", std.to_string(), "expected a finite number above zero")
            }
            FeatureKind::Buckets { bounds }
                if bounds.is_empty() || !bounds.iter().all(|b| b.is_finite()) || !bounds.is_sorted_by(|a, b| a < b) =>
            {
                Fault::new("bounds", format!("{bounds:?}"), "expected at least one bound, all finite, each above the one before")
            }
            FeatureKind::ClickRate { prior, .. } if !(prior.is_finite() && *prior > 0.0) => {
                Fault::new("prior", prior.to_string(), "expected a finite number of impressions above zero")
            }
            FeatureKind::Cross { of } if of.len() < 2 => Fault::new("of", format!("{of:?}"), "expected the names of at least two features"),
            FeatureKind::ClickRate { of, .. } if of.is_empty() => {
                Fault::new("of", "[]".to_owned(), "expected the name of at least one feature")
            }
            FeatureKind::Cross { of } => parts_fault(of, before, 1),
            FeatureKind::ClickRate { of, .. } => parts_fault(of, before, 0),
            _ => None,
        }
    }

    /// What is wrong with its table among those of `all` features: one that names a feature is to share rows with it.
    pub(super) fn table_fault(&self, all: &[FeatureConfig]) -> Option<Fault> {
        let named = all.iter().find(|other| self.table.as_ref() == Some(&other.name))?;
        let quoted = format!("{:?}", self.table());
        if named.table() != named.name {
            return Fault::new("table", quoted, format!("that feature's own table is {:?}; name that", named.table()));
        }
        let kind = named.kind.name();
        let allowed = format!("that feature is of kind `{}`, which has no rows to share", kind.text());
        if kind.hashes_values() { None } else { Fault::new("table", quoted, allowed) }
    }

    /// Whether an event may have several ids of it, `before` being the features that stand before it; `None`: it has none, but numbers.
    pub(super) fn has_many_ids(&self, before: &[FeatureConfig]) -> Option<bool> {
        match &self.kind {
            FeatureKind::Bag { .. } => Some(true),
            FeatureKind::Categorical | FeatureKind::Buckets { .. } | FeatureKind::Hour | FeatureKind::Weekday => Some(false),
            FeatureKind::Cross { of } => Some(before.iter().any(|part| of.contains(&part.name) && part.has_many_ids(before) == Some(true))),
            FeatureKind::Log1p | FeatureKind::Standardise { .. } | FeatureKind::ClickRate { .. } => None,
        }
    }
}

/// The first name in `of` that no part can be: at most `many_max` of them may have several ids.
fn parts_fault(of: &[String], before: &[FeatureConfig], many_max: usize) -> Option<Fault> {
    let mut many = 0;
    for (index, name) in of.iter().enumerate() {
        let refuse = |allowed: &str| Fault::new("of", format!("{name:?}"), allowed);
        if of[..index].contains(name) {
            return refuse("it stands here twice");
        }
        let Some(place) = before.iter().position(|part| part.name == *name) else {
            return refuse("expected the name of a feature that stands before this one");
        };
        match before[place].has_many_ids(&before[..place]) {
            None => return refuse("it is a number, not an id; give it buckets first"),
            Some(false) => {}
            Some(true) => many += 1,
        }
        if many > many_max {
            return refuse(if many_max == 0 { "it is a bag; a click rate is of one thing" } else { "at most one part may be a bag" });
        }
    }
    None
}

/// Every key that some kind of feature has. serde lets unknown keys pass through a flattened tagged enum, so features are read into this
/// and checked against their kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureKeys {
    name: String,
    #[serde(default)]
    column: Option<String>,
    #[serde(default)]
    embed: Option<bool>,
    #[serde(default)]
    training_only: Option<bool>,
    #[serde(default)]
    table: Option<String>,
    #[serde(default)]
    dim: Option<usize>,
    kind: KindName,
    #[serde(default)]
    pooling: Option<Pooling>,
    #[serde(default)]
    separator: Option<String>,
    #[serde(default)]
    last: Option<usize>,
    #[serde(default)]
    mean: Option<f64>,
    #[serde(default)]
    std: Option<f64>,
    #[serde(default)]
    bounds: Option<Vec<f64>>,
    #[serde(default)]
    of: Option<Vec<String>>,
    #[serde(default)]
    prior: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Categorical,
    Bag,
    Log1p,
    Standardise,
    Buckets,
    Hour,
    Weekday,
    Cross,
    ClickRate,
}

impl FeatureKind {
    fn name(&self) -> KindName {
        match self {
            FeatureKind::Categorical => KindName::Categorical,
            FeatureKind::Bag { .. } => KindName::Bag,
            FeatureKind::Log1p => KindName::Log1p,
            FeatureKind::Standardise { .. } => KindName::Standardise,
            FeatureKind::Buckets { .. } => KindName::Buckets,
            FeatureKind::Hour => KindName::Hour,
            FeatureKind::Weekday => KindName::Weekday,
            FeatureKind::Cross { .. } => KindName::Cross,
            FeatureKind::ClickRate { .. } => KindName::ClickRate,
        }
    }
}

impl KindName {
    /// As it is written in a file.
    fn text(self) -> &'static str {
        match self {
            KindName::Categorical => "categorical",
            KindName::Bag => "bag",
            KindName::Log1p => "log1p",
            KindName::Standardise => "standardise",
            KindName::Buckets => "buckets",
            KindName::Hour => "hour",
            KindName::Weekday => "weekday",
            KindName::Cross => "cross",
            KindName::ClickRate => "click_rate",
        }
    }

    /// Its ids are values under the name of a table, not joint keys.
    fn hashes_values(self) -> bool {
        match self {
            KindName::Categorical | KindName::Bag | KindName::Buckets | KindName::Hour | KindName::Weekday => true,
            KindName::Log1p | KindName::Standardise | KindName::Cross | KindName::ClickRate => false,
        }
    }

    fn reads_column(self) -> bool {
        self.keys().contains(&"column")
    }

    /// The keys that this kind has beside `name` and `kind`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            KindName::Categorical => &["column", "embed", "training_only", "table", "dim"],
            KindName::Bag => &["column", "embed", "training_only", "table", "dim", "pooling", "separator", "last"],
            KindName::Buckets => &["column", "embed", "training_only", "table", "dim", "bounds"],
            KindName::Log1p => &["column", "training_only"],
            KindName::Standardise => &["column", "training_only", "mean", "std"],
            KindName::Hour | KindName::Weekday => &["embed", "dim"],
            KindName::Cross => &["embed", "dim", "of"],
            KindName::ClickRate => &["of", "prior"],
        }
    }
}

impl TryFrom<FeatureKeys> for FeatureConfig {
    type Error = String;

    fn try_from(given: FeatureKeys) -> Result<Self, String> {
        let FeatureKeys { name, column, embed, training_only, table, dim, kind, pooling, separator, last, mean, std, bounds, of, prior } =
            given;
        let (said, keys) = (kind.text(), kind.keys());
        let present = [
            ("column", column.is_some()),
            ("embed", embed.is_some()),
            ("training_only", training_only.is_some()),
            ("table", table.is_some()),
            ("dim", dim.is_some()),
            ("pooling", pooling.is_some()),
            ("separator", separator.is_some()),
            ("last", last.is_some()),
            ("mean", mean.is_some()),
            ("std", std.is_some()),
            ("bounds", bounds.is_some()),
            ("of", of.is_some()),
            ("prior", prior.is_some()),
        ];
        if let Some((key, _)) = present.iter().find(|(key, present)| *present && !keys.contains(key)) {
            let allowed = ["name", "kind"].iter().chain(keys).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(format!("feature `{name}`: kind `{said}` has no key `{key}`; allowed are {allowed}"));
        }
        let missing = |key: &str| format!("feature `{name}`: kind `{said}` needs the key `{key}`");
        let kind = match kind {
            KindName::Categorical => FeatureKind::Categorical,
            KindName::Bag => FeatureKind::Bag {
                pooling: pooling.unwrap_or_default(),
                separator: separator.unwrap_or_else(|| DEFAULT_SEPARATOR.to_owned()),
                last,
            },
            KindName::Log1p => FeatureKind::Log1p,
            KindName::Standardise => {
                FeatureKind::Standardise { mean: mean.ok_or_else(|| missing("mean"))?, std: std.ok_or_else(|| missing("std"))? }
            }
            KindName::Buckets => FeatureKind::Buckets { bounds: bounds.ok_or_else(|| missing("bounds"))? },
            KindName::Hour => FeatureKind::Hour,
            KindName::Weekday => FeatureKind::Weekday,
            KindName::Cross => FeatureKind::Cross { of: of.ok_or_else(|| missing("of"))? },
            KindName::ClickRate => FeatureKind::ClickRate { of: of.ok_or_else(|| missing("of"))?, prior: prior.unwrap_or(DEFAULT_PRIOR) },
        };
        Ok(FeatureConfig { name, column, embed: embed.unwrap_or(true), training_only: training_only.unwrap_or(false), table, dim, kind })
    }
}
