//! What the arms came to: means over the seeds, and what they are worth beside light alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::arms::{ALONE, Arm, BOOSTER, ROCKET};
use crate::ctl::output::{NONE, View, figure, pairs, table};
use crate::domain::Head;
use crate::evaluate::HeadReport;

/// JSON of `ablate`.
#[derive(Debug, Serialize)]
pub(super) struct Ablation {
    /// The rows.
    file: String,
    /// Measured from here on.
    eval_from: Option<String>,
    /// In the order they ran.
    pub(super) arms: Vec<ArmReport>,
    /// (rocket's light − light alone) / (booster alone − light alone): the share of the gap that rocket closes. `null` where the gap is no
    /// wider than twice its standard error: a share of noise says nothing.
    recovered: Metrics<Option<f64>>,
}

/// One arm.
#[derive(Debug, Serialize)]
pub(super) struct ArmReport {
    /// Its name.
    pub(super) name: String,
    /// What it is.
    about: String,
    /// Hidden widths of its light net.
    pub(super) light: Vec<usize>,
    /// Multiplications per example in the dense layers up to each head's logit.
    pub(super) multiplications: BTreeMap<String, u64>,
    /// One per seed.
    pub(super) runs: Vec<Run>,
    /// Mean over the seeds, by head.
    pub(super) heads: BTreeMap<String, Metrics<Mean>>,
    /// Light's distance from light alone of the same shape, seed by seed.
    versus_alone: Option<Metrics<Mean>>,
}

/// One pass.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// Seed of the initial weights.
    pub(super) seed: u64,
    /// Wall time.
    pub(super) seconds: f64,
    /// Rows measured.
    pub(super) rows: u64,
    /// By head name.
    pub(super) heads: BTreeMap<String, HeadReport>,
}

/// The three figures that arms are compared by.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Metrics<T> {
    /// Area under the ROC curve.
    pub(super) auc: T,
    /// Impression-weighted mean of per-user AUC.
    pub(super) gauc: T,
    /// Mean negative log likelihood, nats.
    pub(super) logloss: T,
}

/// A mean and its standard error over the seeds; the latter is not defined for one seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Mean {
    /// Mean; `None` where a run has no such figure.
    pub(super) mean: Option<f64>,
    /// Standard deviation over the root of their number.
    pub(super) stderr: Option<f64>,
}

impl Mean {
    fn of(values: &[Option<f64>]) -> Self {
        let Some(values) = values.iter().copied().collect::<Option<Vec<f64>>>().filter(|values| !values.is_empty()) else {
            return Mean::default();
        };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Mean { mean: Some(mean), stderr: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()) }
    }
}

impl<T> Metrics<T> {
    fn each(of: impl Fn(fn(&HeadReport) -> Option<f64>) -> T) -> Self {
        Metrics { auc: of(|head| head.auc), gauc: of(|head| head.gauc), logloss: of(|head| head.logloss) }
    }
}

impl ArmReport {
    pub(super) fn new(arm: &Arm) -> Self {
        ArmReport {
            name: arm.name.clone(),
            about: arm.about.clone(),
            light: arm.config.model.light.clone(),
            multiplications: BTreeMap::new(),
            runs: Vec::new(),
            heads: BTreeMap::new(),
            versus_alone: None,
        }
    }

    fn values(&self, head: &str, get: fn(&HeadReport) -> Option<f64>) -> Vec<Option<f64>> {
        self.runs.iter().map(|run| run.heads.get(head).and_then(get)).collect()
    }

    fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds).sum::<f64>() / self.runs.len().max(1) as f64
    }
}

impl Ablation {
    pub(super) fn new(file: &Path, eval_from: Option<String>, mut arms: Vec<ArmReport>) -> Self {
        for arm in &mut arms {
            let heads = Head::ALL.iter().filter(|head| arm.runs.iter().any(|run| run.heads.contains_key(head.name())));
            arm.heads = heads.map(|head| (head.name().to_owned(), Metrics::each(|get| Mean::of(&arm.values(head.name(), get))))).collect();
        }
        let light = Head::Light.name();
        for i in 0..arms.len() {
            let alone = arms.iter().find(|arm| arm.name.starts_with(ALONE) && arm.light == arms[i].light);
            let Some(alone) = alone.filter(|_| arms[i].heads.contains_key(light)) else { continue };
            let difference = |get| {
                let pairs = arms[i].values(light, get).into_iter().zip(alone.values(light, get));
                Mean::of(&pairs.map(|(with, without)| Some(with? - without?)).collect::<Vec<_>>())
            };
            arms[i].versus_alone = Some(Metrics::each(difference));
        }
        let named = |name: &str| arms.iter().find(|arm| arm.name == name);
        let recovered = Metrics::each(|get| {
            let alone = named(ALONE)?.values(light, get);
            let beyond = |other: Vec<Option<f64>>| {
                Mean::of(&other.into_iter().zip(&alone).map(|(other, alone)| Some(other? - (*alone)?)).collect::<Vec<_>>())
            };
            let (rocket, gap) = (beyond(named(ROCKET)?.values(light, get)), beyond(named(BOOSTER)?.values(Head::Booster.name(), get)));
            Some(rocket.mean? / gap.mean.filter(|mean| gap.stderr.is_some_and(|stderr| mean.abs() > 2.0 * stderr))?)
        });
        Ablation { file: file.display().to_string(), eval_from, arms, recovered }
    }
}

/// `0.12345 ±0.00012`.
fn with_error(mean: Mean, signed: bool) -> String {
    let Some(value) = mean.mean else { return NONE.to_owned() };
    let value = if signed { format!("{value:+.5}") } else { figure(Some(value)) };
    mean.stderr.map_or_else(|| value.clone(), |stderr| format!("{value} ±{stderr:.5}"))
}

impl View for Ablation {
    fn text(&self) -> String {
        let metrics = |metrics: Option<&Metrics<Mean>>, signed| {
            let Metrics { auc, gauc, logloss } = metrics.copied().unwrap_or_default();
            [auc, gauc, logloss].map(|mean| with_error(mean, signed))
        };
        let quality = table(
            ["arm", "head", "auc", "gauc", "logloss", "multiplications", "seconds"],
            self.arms.iter().flat_map(|arm| {
                arm.heads.iter().map(move |(head, means)| {
                    let [auc, gauc, logloss] = metrics(Some(means), false);
                    let multiplications = arm.multiplications.get(head.as_str()).map_or_else(|| NONE.to_owned(), u64::to_string);
                    [arm.name.clone(), head.clone(), auc, gauc, logloss, multiplications, format!("{:.1}", arm.seconds())]
                })
            }),
        );
        let against = table(
            ["light beside light_only", "auc", "gauc", "logloss"],
            self.arms.iter().filter(|arm| !arm.name.starts_with(ALONE)).filter_map(|arm| {
                let [auc, gauc, logloss] = metrics(Some(arm.versus_alone.as_ref()?), true);
                Some([arm.name.clone(), auc, gauc, logloss])
            }),
        );
        let share = |share: Option<f64>| share.map_or_else(|| NONE.to_owned(), |share| format!("{:.0} %", 100.0 * share));
        let recovered = pairs([
            ("gap recovered, auc", share(self.recovered.auc)),
            ("gap recovered, gauc", share(self.recovered.gauc)),
            ("gap recovered, logloss", share(self.recovered.logloss)),
        ]);
        [quality, against, recovered].join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_the_standard_error_of_their_seeds() {
        let mean = Mean::of(&[Some(1.0), Some(2.0), Some(6.0)]);
        assert_eq!(mean.mean, Some(3.0));
        // Deviations −2, −1, 3: variance 14 / 2, over three.
        assert!((mean.stderr.expect("three") - (7.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Mean::of(&[Some(4.0)]), Mean { mean: Some(4.0), stderr: None });
        assert_eq!([Mean::of(&[Some(1.0), None]), Mean::of(&[])], [Mean::default(); 2]);
    }

    fn arm(name: &str, head: &str, aucs: &[f64]) -> ArmReport {
        let run = |(seed, auc): (u64, &f64)| {
            let report = HeadReport { auc: Some(*auc), ..HeadReport::default() };
            Run { seed, seconds: 1.0, rows: 1, heads: BTreeMap::from([(head.to_owned(), report)]) }
        };
        ArmReport {
            name: name.to_owned(),
            about: String::new(),
            light: vec![4],
            multiplications: BTreeMap::new(),
            runs: (0..).zip(aucs).map(run).collect(),
            heads: BTreeMap::new(),
            versus_alone: None,
        }
    }

    #[test]
    fn arms_are_compared_seed_by_seed_and_the_gap_by_means() {
        let arms = vec![arm(ALONE, "light", &[0.70, 0.72]), arm(BOOSTER, "booster", &[0.80, 0.82]), arm(ROCKET, "light", &[0.76, 0.78])];
        let ablation = Ablation::new(Path::new("rows.tsv"), None, arms);
        let versus = ablation.arms[2].versus_alone.expect("light against light alone").auc;
        assert!((versus.mean.expect("defined") - 0.06).abs() < 1e-12 && versus.stderr.expect("two") < 1e-12, "{versus:?}");
        assert!(ablation.arms[1].versus_alone.is_none(), "no light net");
        assert!((ablation.recovered.auc.expect("defined") - 0.6).abs() < 1e-9);
        assert_eq!(ablation.recovered.gauc, None);
        let noise = vec![arm(ALONE, "light", &[0.70, 0.72]), arm(BOOSTER, "booster", &[0.72, 0.701]), arm(ROCKET, "light", &[0.76, 0.78])];
        assert_eq!(Ablation::new(Path::new("rows.tsv"), None, noise).recovered.auc, None, "a gap that its seeds do not agree on");
        assert!(ablation.text().contains("60 %"), "{}", ablation.text());
    }
}
