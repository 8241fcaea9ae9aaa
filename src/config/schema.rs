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

/// One feature: a slot of the embedding table, or a number fed to the nets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureConfig {
    /// Name of the slot; part of the hash of its values.
    pub name: String,
    /// Column it is read from; `name` unless given. `hour` reads the event time.
    #[serde(default)]
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

/// What is made of a column's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FeatureKind {
    /// One id per event.
    Categorical,
    /// Any number of ids per event, pooled.
    Bag {
        /// How the rows are pooled.
        #[serde(default)]
        pooling: Pooling,
        /// Separator where the column is text (files).
        #[serde(default = "default_separator")]
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

fn default_separator() -> String {
    ",".to_owned()
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
