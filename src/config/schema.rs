use serde::{Deserialize, Serialize};

use super::feature::{Fault, FeatureConfig};

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
    /// Labelled events with these features, in columns `time` (milliseconds), `user`, `item` and `label`.
    #[must_use]
    pub fn labelled(features: Vec<FeatureConfig>) -> Self {
        let [time, user, item] = ["time", "user", "item"].map(str::to_owned);
        SchemaConfig { time, time_unit: TimeUnit::default(), user, item, label: default_label(), impression: None, features }
    }

    /// The first feature that cannot be: names, tables, dims, bounds, standard deviations, separators, what it is made of.
    #[must_use]
    pub fn feature_fault(&self) -> Option<FeatureFault> {
        let faults = self.features.iter().enumerate().map(|(index, feature)| {
            let fault = feature.fault(&self.features[..index]).or_else(|| feature.table_fault(&self.features));
            let Fault { key, value, allowed } = fault?;
            Some(FeatureFault { index, feature: feature.name.clone(), key, value, allowed })
        });
        faults.flatten().next()
    }

    /// The number of the feature called `name`.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|feature| feature.name == name)
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
