use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use safetensors::Dtype;

use super::ModelError;
use super::artifact::{floats, keys, parse};
use super::net::KeyHasher;
use crate::domain::Version;
use crate::features::{Counts, FeatureSpec, NO_KEY, click_rate_inputs};

/// What the names of its tensors begin with.
pub(super) const PREFIX: &str = "click_rates.";
const KEYS: &str = "click_rates.keys";
const COUNTS: &str = "click_rates.counts";

/// The counts behind a schema's click rates, as of the snapshot.
#[derive(Debug, Clone, Default)]
pub(super) struct ClickRates {
    priors: Vec<f32>,
    counts: HashMap<u64, Counts, BuildHasherDefault<KeyHasher>>,
    stream: Counts,
}

impl ClickRates {
    /// Reads `click_rates.keys` U64 `[keys]` and `click_rates.counts` F32 `[keys, 2]` (impressions, clicks), which are there if and only if
    /// the schema has click rates; the whole stream's own stand under key 0.
    ///
    /// # Errors
    /// [`ModelError::Artifact`], [`ModelError::NotFinite`].
    pub(super) fn from_artifact(version: Version, spec: &FeatureSpec, artifact: &[u8]) -> Result<Self, ModelError> {
        let refuse = |why: String| ModelError::Artifact { version, why };
        let tensors = parse(version, artifact)?;
        if spec.click_rates().is_empty() {
            return match tensors.names().iter().find(|name| name.starts_with(PREFIX)) {
                Some(name) => Err(refuse(format!("tensor {name} is there, but the schema has no click rates"))),
                None => Ok(ClickRates::default()),
            };
        }
        let view = |name: &str| tensors.tensor(name).map_err(|_| refuse(format!("tensor {name} is missing")));
        let (keyed, counted) = (view(KEYS)?, view(COUNTS)?);
        let fits = keyed.dtype() == Dtype::U64 && counted.dtype() == Dtype::F32 && *counted.shape() == [keyed.shape().iter().product(), 2];
        if keyed.shape().len() != 1 || !fits {
            let shapes = format!("{} {:?} and {} {:?}", keyed.dtype(), keyed.shape(), counted.dtype(), counted.shape());
            return Err(refuse(format!("tensors {KEYS} and {COUNTS} are {shapes}; expected U64 [keys] and F32 [keys, 2]")));
        }
        let mut counts = HashMap::with_capacity_and_hasher(keyed.shape()[0], BuildHasherDefault::default());
        for (key, pair) in keys(&keyed).zip(floats(version, COUNTS, &counted)?.chunks_exact(2)) {
            let [impressions, clicks] = [pair[0], pair[1]];
            if !(0.0..=impressions).contains(&clicks) {
                return Err(refuse(format!("{COUNTS}: {clicks} clicks of {impressions} impressions under key {key}")));
            }
            if counts.insert(key, Counts { impressions, clicks }).is_some() {
                return Err(refuse(format!("key {key} stands twice in {KEYS}")));
            }
        }
        let stream = counts.get(&NO_KEY).copied().unwrap_or_default();
        counts.remove(&NO_KEY);
        Ok(ClickRates { priors: spec.click_rates().iter().map(|rate| rate.prior).collect(), counts, stream })
    }

    /// Appends the inputs of the click rates counted under `keys` `[click rates]`.
    pub(super) fn append(&self, keys: &[u64], numbers: &mut Vec<f32>) {
        for (key, prior) in keys.iter().zip(&self.priors) {
            let counts = self.counts.get(key).copied().unwrap_or_default();
            numbers.extend(click_rate_inputs(counts, self.stream, *prior));
        }
    }
}
