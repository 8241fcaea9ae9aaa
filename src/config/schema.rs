use serde::{Deserialize, Serialize};

/// Which columns of an event mean what, and which become features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaConfig {
    /// Column of the event time.
    pub time: String,
    /// Unit of that column.
    #[serde(default)]
    pub time_unit: TimeUnit,
    /// Column of the user id: GAUC's group.
    pub user: String,
    /// Column of the item id.
    pub item: String,
    /// Column of the label (0/1, true/false). Read on labelled topics and in files.
    #[serde(default = "default_label")]
    pub label: String,
    /// Column of the impression id. Needed where clicks come apart.
    #[serde(default)]
    pub impression: Option<String>,
    /// The features, in the order of their slots.
    pub features: Vec<FeatureConfig>,
}

fn default_label() -> String {
    "label".to_owned()
}

/// Unit of the time column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds since the epoch.
    S,
    /// Milliseconds since the epoch.
    #[default]
    Ms,
    /// Microseconds since the epoch.
    Us,
    /// RFC 3339 text.
    Rfc3339,
}

impl SchemaConfig {
    /// The first feature that cannot be: names, bounds, standard deviations, separators.
    #[must_use]
    pub fn feature_fault(&self) -> Option<FeatureFault> {
        let mut names = std::collections::HashSet::new();
        self.features.iter().enumerate().find_map(|(index, feature)| {
            let fault = |key: &'static str, value: String, allowed: &str| {
                Some(FeatureFault { index, feature: feature.name.clone(), key, value, allowed: allowed.to_owned() })
            };
            if feature.name.is_empty() || feature.name.contains('\0') {
                return fault("name", format!("{:?}", feature.name), "a name is not empty and has no zero byte, which ends it in the hash");
            }
            if !names.insert(feature.name.as_str()) {
                return fault(
                    "name",
                    format!("{:?}", feature.name),
                    "another feature has this name; give each its own, and `column` if both read one",
                );
            }
            match &feature.kind {
                FeatureKind::Bag { separator, .. } if separator.is_empty() => {
                    fault("separator", "\"\"".to_owned(), "expected at least one character, e.g. \",\"")
                }
                FeatureKind::Standardise { mean, .. } if !mean.is_finite() => fault("mean", mean.to_string(), "expected a finite number"),
                FeatureKind::Standardise { std, .. } if !(std.is_finite() && *std > 0.0) => {
                    fault("std", std.to_string(), "expected a finite number above zero")
                }
                FeatureKind::Buckets { bounds }
                    if bounds.is_empty() || !bounds.iter().all(|b| b.is_finite()) || !bounds.is_sorted_by(|a, b| a < b) =>
                {
                    fault("bounds", format!("{bounds:?}"), "expected at least one bound, all finite, each above the one before")
                }
                FeatureKind::Hour if feature.column.is_some() => {
                    fault("column", format!("{:?}", feature.column()), "`hour` reads the event time; leave `column` out")
                }
                _ => None,
            }
        })
    }
}

/// What is wrong with a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureFault {
    /// Its place in `schema.features`.
    pub index: usize,
    /// Its name.
    pub feature: String,
    /// The key at fault.
    pub key: &'static str,
    /// That key's value.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

/// One feature: a slot of the embedding table, or a number fed to the nets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FeatureKeys")]
pub struct FeatureConfig {
    /// Name of the slot; part of the hash of its values.
    pub name: String,
    /// Column it is read from; `name` unless given. `hour` reads the event time.
    pub column: Option<String>,
    /// What is made of the value.
    #[serde(flatten)]
    pub kind: FeatureKind,
}

impl FeatureConfig {
    /// The column it is read from.
    #[must_use]
    pub fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }
}

/// Every key that some kind of feature has. serde lets unknown keys pass through a flattened tagged enum, so features are read into this
/// and checked against their kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureKeys {
    name: String,
    #[serde(default)]
    column: Option<String>,
    kind: KindName,
    #[serde(default)]
    pooling: Option<Pooling>,
    #[serde(default)]
    separator: Option<String>,
    #[serde(default)]
    mean: Option<f64>,
    #[serde(default)]
    std: Option<f64>,
    #[serde(default)]
    bounds: Option<Vec<f64>>,
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
}

impl KindName {
    /// The keys that this kind has beside `name`, `column` and `kind`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            KindName::Bag => &["pooling", "separator"],
            KindName::Standardise => &["mean", "std"],
            KindName::Buckets => &["bounds"],
            KindName::Categorical | KindName::Log1p | KindName::Hour => &[],
        }
    }
}

impl TryFrom<FeatureKeys> for FeatureConfig {
    type Error = String;

    fn try_from(given: FeatureKeys) -> Result<Self, String> {
        let FeatureKeys { name, column, kind, pooling, separator, mean, std, bounds } = given;
        let said = format!("{kind:?}").to_lowercase();
        let keys = kind.keys();
        let present = [
            ("pooling", pooling.is_some()),
            ("separator", separator.is_some()),
            ("mean", mean.is_some()),
            ("std", std.is_some()),
            ("bounds", bounds.is_some()),
        ];
        if let Some((key, _)) = present.iter().find(|(key, present)| *present && !keys.contains(key)) {
            let allowed = ["name", "column", "kind"].iter().chain(keys).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(format!("feature `{name}`: kind `{said}` has no key `{key}`; allowed are {allowed}"));
        }
        let missing = |key: &str| format!("feature `{name}`: kind `{said}` needs the key `{key}`");
        let kind = match kind {
            KindName::Categorical => FeatureKind::Categorical,
            KindName::Bag => FeatureKind::Bag {
                pooling: pooling.unwrap_or_default(),
                separator: separator.unwrap_or_else(|| DEFAULT_SEPARATOR.to_owned()),
            },
            KindName::Log1p => FeatureKind::Log1p,
            KindName::Standardise => {
                FeatureKind::Standardise { mean: mean.ok_or_else(|| missing("mean"))?, std: std.ok_or_else(|| missing("std"))? }
            }
            KindName::Buckets => FeatureKind::Buckets { bounds: bounds.ok_or_else(|| missing("bounds"))? },
            KindName::Hour => FeatureKind::Hour,
        };
        Ok(FeatureConfig { name, column, kind })
    }
}

/// What is made of a column's value.
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
}

/// Separator of bags in text columns unless given: what most exported tables use inside a cell.
const DEFAULT_SEPARATOR: &str = ",";

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
