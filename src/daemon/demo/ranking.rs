//! AUC and GAUC by sorting everything: for the truth and the served scores, which the pipeline's own metrics do not cover.

use std::collections::HashMap;

/// A score and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    /// The user, hashed.
    pub(super) group: u64,
    /// Any score that rises with the probability of a click.
    pub(super) score: f64,
    pub(super) clicked: bool,
}

/// Area under the ROC curve, a tie counting ½; `None` unless both classes are there.
///
/// By ranks (Mann and Whitney): (Σ ranks of clicks − n₁(n₁ + 1)/2) / (n₁ n₀), ties sharing their mean rank.
pub(super) fn auc(scored: &[Scored]) -> Option<f64> {
    let clicks = scored.iter().filter(|s| s.clicked).count() as f64;
    let others = scored.len() as f64 - clicks;
    if clicks == 0.0 || others == 0.0 {
        return None;
    }
    let mut order: Vec<&Scored> = scored.iter().collect();
    order.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
    let mut rank_sum = 0.0;
    let mut below = 0.0;
    for tie in order.chunk_by(|a, b| a.score == b.score) {
        let mean_rank = below + (tie.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * tie.iter().filter(|s| s.clicked).count() as f64;
        below += tie.len() as f64;
    }
    Some((rank_sum - clicks * (clicks + 1.0) / 2.0) / (clicks * others))
}

/// Σ imp·AUC / Σ imp over groups with both classes; `None` if there is none.
pub(super) fn gauc(scored: &[Scored]) -> Option<f64> {
    let mut groups: HashMap<u64, Vec<Scored>> = HashMap::new();
    for s in scored {
        groups.entry(s.group).or_default().push(*s);
    }
    let (mut sum, mut weight) = (0.0, 0.0);
    for group in groups.values() {
        if let Some(auc) = auc(group) {
            sum += group.len() as f64 * auc;
            weight += group.len() as f64;
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(group: u64, score: f64, clicked: bool) -> Scored {
        Scored { group, score, clicked }
    }

    #[test]
    fn auc_counts_pairs_and_half_ties() {
        let all = [scored(0, 0.1, false), scored(0, 0.4, true), scored(0, 0.4, false), scored(0, 0.9, true)];
        // Pairs: (.4,.1) 1, (.4,.4) ½, (.9,.1) 1, (.9,.4) 1.
        assert_eq!(auc(&all), Some(3.5 / 4.0));
        assert_eq!(auc(&all[..1]), None);
        assert_eq!(auc(&[]), None);
    }

    #[test]
    fn gauc_weighs_groups_and_leaves_out_those_of_one_class() {
        let all = [
            scored(1, 0.1, false),
            scored(1, 0.2, true),
            scored(2, 0.9, false),
            scored(2, 0.8, true),
            scored(2, 0.7, false),
            scored(3, 0.5, true),
        ];
        let expected = (2.0 * 1.0 + 3.0 * 0.5) / 5.0;
        assert!((gauc(&all).expect("two groups") - expected).abs() < 1e-12);
        assert_eq!(gauc(&all[5..]), None);
    }
}
