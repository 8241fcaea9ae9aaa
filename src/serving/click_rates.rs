use safetensors::Dtype;

use super::ModelError;
use super::artifact::{floats, keys, parse};
use super::net::{Index, Unfit};
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
    index: Index,
    counts: Vec<Counts>,
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
        let mut counts = Vec::with_capacity(keyed.shape()[0]);
        for (key, pair) in keys(&keyed).zip(floats(version, COUNTS, &counted)?.chunks_exact(2)) {
            let [impressions, clicks] = [pair[0], pair[1]];
            if !(0.0..=impressions).contains(&clicks) {
                return Err(refuse(format!("{COUNTS}: {clicks} clicks of {impressions} impressions under key {key}")));
            }
            counts.push(Counts { impressions, clicks });
        }
        let (index, order) = Index::new(keys(&keyed).collect()).map_err(|unfit| {
            refuse(match unfit {
                Unfit::Twice(key) => format!("key {key} stands twice in {KEYS}"),
                Unfit::TooMany => format!("more than {} keys in {KEYS}", u32::MAX),
            })
        })?;
        if let Some(order) = order {
            counts = order.into_iter().map(|place| counts[place as usize]).collect();
        }
        let stream = index.find(NO_KEY).map_or_else(Counts::default, |place| counts[place]);
        Ok(ClickRates { priors: spec.click_rates().iter().map(|rate| rate.prior).collect(), index, counts, stream })
    }

    /// Appends the inputs of those click rates of the schema that are `rates`, counted under `keys`, one each.
    pub(super) fn append(&self, rates: &[usize], keys: &[u64], numbers: &mut Vec<f32>) {
        for (rate, key) in rates.iter().zip(keys) {
            let place = self.index.find(*key).filter(|_| *key != NO_KEY);
            let counts = place.map_or_else(Counts::default, |place| self.counts[place]);
            numbers.extend(click_rate_inputs(counts, self.stream, self.priors[*rate]));
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::serialize;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::config::{FeatureConfig, FeatureKind, SchemaConfig, TimeUnit};

    const VERSION: Version = Version(3);

    fn spec(rates: bool) -> FeatureSpec {
        let rate = FeatureConfig::new("item_rate", FeatureKind::ClickRate { of: vec!["item".to_owned()], prior: 2.0 });
        let features = [FeatureConfig::new("item", FeatureKind::Categorical)].into_iter().chain(rates.then_some(rate)).collect();
        let [time, user, item, label] = ["time", "user", "item", "label"].map(str::to_owned);
        let schema = SchemaConfig { time, time_unit: TimeUnit::Ms, user, item, label, impression: None, features };
        FeatureSpec::new(&schema).unwrap()
    }

    fn artifact(keys: &[u64], counts: &[f32]) -> Vec<u8> {
        let key_bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let count_bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        let keyed = TensorView::new(Dtype::U64, vec![keys.len()], &key_bytes).unwrap();
        let counted = TensorView::new(Dtype::F32, vec![counts.len() / 2, 2], &count_bytes).unwrap();
        serialize([(KEYS, keyed), (COUNTS, counted)], None).unwrap()
    }

    fn refused(rates: bool, artifact: &[u8]) -> String {
        ClickRates::from_artifact(VERSION, &spec(rates), artifact).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_says_nothing_and_a_known_one_what_was_counted() {
        let rates = ClickRates::from_artifact(VERSION, &spec(true), &artifact(&[NO_KEY, 7], &[10.0, 5.0, 4.0, 3.0])).unwrap();
        let mut numbers = vec![9.0];
        rates.append(&[0], &[7], &mut numbers);
        rates.append(&[0], &[8], &mut numbers);
        rates.append(&[0], &[NO_KEY], &mut numbers);
        let (seven, stream) = (Counts { impressions: 4.0, clicks: 3.0 }, Counts { impressions: 10.0, clicks: 5.0 });
        let [distance, sure] = click_rate_inputs(seven, stream, 2.0);
        assert_eq!(numbers, [9.0, distance, sure, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_not_there_or_not_wanted_is_refused() {
        let empty = serialize(std::iter::empty::<(&str, TensorView<'_>)>(), None).unwrap();
        assert!(refused(true, &empty).contains("click_rates.keys is missing"));
        assert!(refused(false, &artifact(&[7], &[1.0, 0.0])).contains("the schema has no click rates"));
        assert!(ClickRates::from_artifact(VERSION, &spec(false), &empty).is_ok());
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        assert!(refused(true, &artifact(&[7, 8], &[1.0, 0.0])).contains("expected U64 [keys] and F32 [keys, 2]"));
        assert!(refused(true, &artifact(&[7, 7], &[1.0, 0.0, 1.0, 0.0])).contains("key 7 stands twice"));
        assert!(refused(true, &artifact(&[7], &[1.0, 2.0])).contains("2 clicks of 1 impressions under key 7"));
        assert!(refused(true, &artifact(&[7], &[1.0, -1.0])).contains("-1 clicks"));
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(refused(true, &artifact(&[7], &[bad, 1.0])).contains("not finite"), "{bad}");
        }
    }
}
