//! One user: the newest impressions, and pairs won over them, kept up with every impression that comes or leaves.

use super::PerHead;
use super::impressions::{Impression, Impressions};
use super::pairwise::Pairwise;
use super::windows::Live;

/// (positive, negative) pairs of one head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// Positives.
    pub(super) pos: u32,
    /// Negatives.
    pub(super) neg: u32,
    /// Σ over pairs of 2·\[s⁺ > s⁻\] + \[s⁺ = s⁻\].
    pub(super) twice_won: u32,
}

impl Pairs {
    /// Impressions.
    pub(super) fn rows(&self) -> u32 {
        self.pos + self.neg
    }

    /// (pairs in order + ½ tied pairs) / pairs.
    pub(super) fn auc(&self) -> Option<f64> {
        let pairs = f64::from(self.pos) * f64::from(self.neg);
        (pairs > 0.0).then(|| f64::from(self.twice_won) / (2.0 * pairs))
    }

    fn apply(&mut self, label: bool, twice_won: u32, comes: bool) {
        let class = if label { &mut self.pos } else { &mut self.neg };
        if comes {
            *class += 1;
            self.twice_won += twice_won;
        } else {
            *class = class.saturating_sub(1);
            self.twice_won = self.twice_won.saturating_sub(twice_won);
        }
    }
}

/// Pairs over one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) heads: PerHead<Pairs>,
}

/// Pairs over the window of one length that the user was last in; worth nothing once a later window is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WindowSums {
    /// `None`: never in one.
    pub(super) id: Option<i64>,
    pub(super) sums: Sums,
}

/// Everything kept of a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct User {
    /// Older impressions have left.
    pub(super) truncated: bool,
    pub(super) impressions: Impressions,
    /// Over all impressions kept.
    pub(super) total: Sums,
    /// By configured length.
    pub(super) windows: Vec<WindowSums>,
}

impl User {
    /// Without impressions; `windows` lengths are configured.
    pub(super) fn new(windows: usize) -> Self {
        User { windows: vec![WindowSums::default(); windows], ..User::default() }
    }

    /// Sums of the window that is open now, if the user is in it.
    pub(super) fn in_window(&self, kind: usize, live: Option<&Live>) -> Option<&Sums> {
        let mine = self.windows.get(kind)?;
        (mine.id == Some(live?.id)).then_some(&mine.sums)
    }

    /// Adds an impression, and lets the oldest leave when there are more than `impressions_max`. `live` holds the open window of each
    /// length; an impression outside one does not count there.
    pub(super) fn insert(&mut self, new: &Impression, impressions_max: usize, live: &[Option<Live>], pairwise: &mut Pairwise) {
        for (mine, live) in self.windows.iter_mut().zip(live) {
            if let Some(live) = live.as_ref().filter(|live| live.contains(new.time) && mine.id != Some(live.id)) {
                *mine = WindowSums { id: Some(live.id), sums: Sums::default() };
            }
        }
        pairwise.look(live, &self.impressions);
        while self.impressions.len() >= impressions_max.max(1) {
            let Some(oldest) = self.impressions.pop_oldest() else { break };
            self.count(&oldest, live, pairwise, false);
            self.truncated = true;
        }
        self.count(new, live, pairwise, true);
        self.impressions.push(new);
    }

    /// Adds or takes away `one` and its pairs with the impressions kept.
    ///
    /// Those of an open window are the ones that lie in its time: an impression that came after its window had closed is in a closed
    /// one still.
    fn count(&mut self, one: &Impression, live: &[Option<Live>], pairwise: &mut Pairwise, comes: bool) {
        self.total.apply(one, pairwise.twice_won(one, &self.impressions), comes);
        for (window, (mine, live)) in self.windows.iter_mut().zip(live).enumerate() {
            if live.is_some_and(|live| mine.id == Some(live.id) && live.contains(one.time)) {
                mine.sums.apply(one, pairwise.twice_won_in(window), comes);
            }
        }
    }
}

impl Sums {
    fn apply(&mut self, one: &Impression, twice_won: PerHead<u32>, comes: bool) {
        for ((pairs, logit), twice_won) in self.heads.iter_mut().zip(one.logits).zip(twice_won) {
            if !logit.is_nan() {
                pairs.apply(one.label, twice_won, comes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impression(time: i64, label: bool, light: f32) -> Impression {
        Impression { time, label, logits: [light, -light, f32::NAN] }
    }

    #[test]
    fn pairs_follow_impressions_in_and_out() {
        let (mut user, mut pairwise) = (User::new(1), Pairwise::default());
        let live = [Some(Live { id: 0, len_ms: 100 })];
        for (time, label, light) in [(1, true, 0.5), (2, false, 0.5), (3, false, -1.0), (4, true, 2.0)] {
            user.insert(&impression(time, label, light), 3, &live, &mut pairwise);
        }
        assert!(user.truncated);
        assert_eq!(user.impressions.times(), [2, 3, 4]);
        assert_eq!(user.total.heads[0], Pairs { pos: 1, neg: 2, twice_won: 4 });
        assert_eq!(user.total.heads[1], Pairs { pos: 1, neg: 2, twice_won: 0 });
        assert_eq!(user.total.heads[2], Pairs::default(), "a head without scores has no pairs");
        assert_eq!(user.windows[0].sums, user.total);
    }

    #[test]
    fn a_later_window_starts_empty_and_ignores_late_impressions() {
        let (mut user, mut pairwise) = (User::new(1), Pairwise::default());
        user.insert(&impression(50, true, 1.0), 8, &[Some(Live { id: 0, len_ms: 100 })], &mut pairwise);
        let live = [Some(Live { id: 1, len_ms: 100 })];
        assert_eq!(user.in_window(0, live[0].as_ref()), None);
        user.insert(&impression(150, false, 0.0), 8, &live, &mut pairwise);
        user.insert(&impression(60, true, 3.0), 8, &live, &mut pairwise);
        assert_eq!(user.windows[0].sums.heads[0], Pairs { pos: 0, neg: 1, twice_won: 0 });
        assert_eq!(user.total.heads[0], Pairs { pos: 2, neg: 1, twice_won: 4 });
    }
}
