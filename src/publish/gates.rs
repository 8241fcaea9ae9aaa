//! What a version has to show before it is promoted, beside finite weights and probes that come out right.
//!
//! | gate | on | holds back a version that |
//! |---|---|---|
//! | `logloss` | the window | predicted worse than the served one |
//! | `gauc` | the window | ranked worse within its users |
//! | `calibration` | the window | predicted too many or too few clicks |
//! | `forgetting` | what is vouched for | ranks worse what promoted versions were taught |
//! | `change` | both | says something else than the served one, and not for the better |
//!
//! The window's samples were trained since the version before; on them stand the trainer's own scores from before it learnt from each, and
//! the served version's, which has not seen them either: both are prequential. But a stream that has gone bad (labels flipped, a click log
//! that was cut off) is best predicted by who follows it, and a window cannot tell. So the windows of promoted versions are remembered, those
//! of versions that were held back are not, and a version that has lost what they taught is one that follows a stream gone bad.
//!
//! Differences count beyond `significance` standard errors, and figures of fewer than `evidence` samples do not count.

use crate::checkpoint::{Evidence, EvidenceSample};
use crate::config::GatesConfig;
use crate::evaluate::compare::{self, Comparison, Paired};
use crate::serving::ServedModel;
use crate::wire::snapshot::Verdict;

/// The verdict of every gate that had enough to go by.
pub(super) fn judge(config: &GatesConfig, candidate: &ServedModel, served: &ServedModel, evidence: &Evidence) -> Vec<Verdict> {
    let mine = scores(candidate, candidate, &evidence.vouched);
    let theirs = scores(served, candidate, &evidence.vouched);
    let vouched = pair(&evidence.vouched, &mine, &theirs);
    // The trainer's scores from before it learnt are the candidate's only fair ones where it has learnt since.
    let before: Vec<Option<f32>> = evidence.window.iter().map(|sample| Some(sample.logit)).collect();
    let by_served = scores(served, candidate, &evidence.window);
    let window = pair(&evidence.window, &before, &by_served);
    let after = pair(&evidence.window, &scores(candidate, candidate, &evidence.window), &by_served);

    let mut verdicts = Vec::new();
    if window.len() >= config.evidence {
        verdicts.extend(compare::logloss(&window).map(|found| not_above("logloss", config, &found)));
        verdicts.extend(compare::gauc(&window).map(|found| not_below("gauc", config, &found, 0.0)));
        verdicts.extend(calibration(config, &window));
    }
    if vouched.len() >= config.evidence {
        verdicts.extend(compare::auc(&vouched).map(|found| not_below("forgetting", config, &found, config.forgetting)));
    }
    let both: Vec<Paired<'_>> = after.iter().chain(&vouched).copied().collect();
    if both.len() >= config.evidence {
        verdicts.extend(change(config, &both, &vouched));
    }
    verdicts
}

/// A model's logits of samples that were written by the schema of `writer`; `None` where it cannot score one.
fn scores(model: &ServedModel, writer: &ServedModel, samples: &[EvidenceSample]) -> Vec<Option<f32>> {
    let columns = &writer.manifest().schema;
    model.logits(columns, samples.iter().map(|sample| (sample.time_ms, sample.fields.as_slice()))).map(Result::ok).collect()
}

fn pair<'a>(samples: &'a [EvidenceSample], a: &[Option<f32>], b: &[Option<f32>]) -> Vec<Paired<'a>> {
    let finite = |logit: &Option<f32>| logit.map(f64::from).filter(|logit| logit.is_finite());
    let pairs = samples.iter().zip(a).zip(b).filter_map(|((sample, a), b)| {
        let logits = [finite(a)?, finite(b)?];
        Some(Paired { user: &sample.user, label: sample.label, weight: sample.weight, logits })
    });
    pairs.collect()
}

fn not_above(gate: &str, config: &GatesConfig, found: &Comparison) -> Verdict {
    let limit = found.of[1] + config.significance * found.stderr;
    verdict(gate, found.of[0] <= limit, found.of[0], Some(found.of[1]), format!("at most {limit:.5}"))
}

fn not_below(gate: &str, config: &GatesConfig, found: &Comparison, margin: f64) -> Verdict {
    let limit = found.of[1] - margin - config.significance * found.stderr;
    verdict(gate, found.of[0] >= limit, found.of[0], Some(found.of[1]), format!("at least {limit:.5}"))
}

fn calibration(config: &GatesConfig, window: &[Paired<'_>]) -> Option<Verdict> {
    let (ratio, stderr) = compare::calibration(window)?;
    let slack = config.significance * stderr;
    let (lowest, highest) = (1.0 / config.calibration - slack, config.calibration + slack);
    let allowed = format!("{lowest:.3} to {highest:.3}");
    Some(verdict("calibration", (lowest..=highest).contains(&ratio), ratio, None, allowed))
}

fn change(config: &GatesConfig, both: &[Paired<'_>], vouched: &[Paired<'_>]) -> Option<Verdict> {
    let found = compare::change(both)?;
    let better = compare::logloss(vouched).is_some_and(|found| found.difference() < -config.significance * found.stderr);
    Some(verdict("change", found <= config.change || better, found, None, format!("at most {}, or for the better", config.change)))
}

fn verdict(gate: &str, passed: bool, found: f64, served: Option<f64>, allowed: String) -> Verdict {
    Verdict { gate: gate.to_owned(), passed, found, served, allowed }
}
