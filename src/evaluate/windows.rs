//! Tumbling windows of event time.
//!
//! Window i of length n holds the times t with ⌊t/n⌋ = i. The open one is the highest that any impression was in; it closes, and its
//! report is frozen, when an impression of a later one comes.
//!
//! | id of the impression's window | |
//! |---|---|
//! | below that of the open one | late: counts since start only |
//! | the same | counts |
//! | above | closes the open one, opens its own, counts there |

use serde::{Deserialize, Serialize};

use super::WindowReport;
use super::totals::Totals;

/// The open window of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: i64,
    pub(super) len_ms: i64,
}

impl Live {
    pub(super) fn contains(&self, time: i64) -> bool {
        // The start of the window that holds `i64::MIN` lies below it; the difference to a time inside is right all the same.
        (time.wrapping_sub(self.id.wrapping_mul(self.len_ms)) as u64) < self.len_ms.unsigned_abs()
    }
}

/// Windows of one length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    pub(super) len_ms: i64,
    /// Lowest id that still counts: that of the open window.
    floor: Option<i64>,
    pub(super) open: Totals,
    /// Oldest first.
    closed: Vec<WindowReport>,
}

impl Windows {
    /// `latest_ms`: of the impressions measured before this length was configured. The window it lies in is not counted: its first part
    /// is missing.
    pub(super) fn new(len_ms: i64, latest_ms: Option<i64>) -> Self {
        let floor = latest_ms.map(|latest| latest.div_euclid(len_ms).saturating_add(1));
        Windows { len_ms, floor, ..Windows::default() }
    }

    /// Opens the window of `time` if it is later than the open one; returns whether an impression of that time counts.
    pub(super) fn enter(&mut self, time: i64, kept: usize) -> bool {
        let id = time.div_euclid(self.len_ms);
        if self.floor.is_some_and(|floor| id < floor) {
            return false;
        }
        if self.floor != Some(id) {
            self.close(kept);
            self.floor = Some(id);
        }
        true
    }

    pub(super) fn live(&self) -> Option<Live> {
        self.floor.map(|id| Live { id, len_ms: self.len_ms })
    }

    /// Closed windows, then the open one.
    pub(super) fn reports(&self) -> impl Iterator<Item = WindowReport> + '_ {
        self.closed.iter().cloned().chain(self.open_report())
    }

    fn close(&mut self, kept: usize) {
        let Some(report) = self.open_report() else { return };
        self.open = Totals::default();
        self.closed.push(WindowReport { open: false, ..report });
        let surplus = self.closed.len().saturating_sub(kept);
        self.closed.drain(..surplus);
    }

    fn open_report(&self) -> Option<WindowReport> {
        let id = self.floor.filter(|_| self.open.rows > 0)?;
        let from_ms = id.saturating_mul(self.len_ms);
        Some(WindowReport {
            from_ms,
            to_ms: from_ms.saturating_add(self.len_ms),
            open: true,
            rows: self.open.rows,
            clicks: self.open.clicks,
            users: self.open.users,
            gauc_users_skipped: self.open.users_skipped,
            heads: self.open.heads(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::impressions::Impression;
    use super::super::totals::Costs;
    use super::*;

    fn see(windows: &mut Windows, time: i64) -> bool {
        let counts = windows.enter(time, 2);
        if counts {
            let impression = Impression { time, label: true, logits: [0.0; 3] };
            windows.open.add(&impression, &Costs::of(&impression));
        }
        counts
    }

    #[test]
    fn windows_roll_and_only_the_newest_are_kept() {
        let mut windows = Windows::new(10, None);
        let counted = [-5, 3, 9, -1, 10, 35, 12].map(|time| see(&mut windows, time));
        assert_eq!(counted, [true, true, true, false, true, true, false]);
        let spans: Vec<_> = windows.reports().map(|w| (w.from_ms, w.to_ms, w.open, w.rows)).collect();
        assert_eq!(spans, [(0, 10, false, 2), (10, 20, false, 1), (30, 40, true, 1)]);
    }

    #[test]
    fn a_new_length_starts_at_its_next_window() {
        let mut windows = Windows::new(10, Some(17));
        assert!(!see(&mut windows, 18));
        assert_eq!(windows.reports().count(), 0);
        assert!(see(&mut windows, 20));
    }

    proptest! {
        #[test]
        fn a_window_contains_the_times_of_its_id(time in -1000_i64..1000, other in -1000_i64..1000, len_ms in 1_i64..300) {
            let live = Live { id: time.div_euclid(len_ms), len_ms };
            prop_assert!(live.contains(time));
            prop_assert_eq!(live.contains(other), other.div_euclid(len_ms) == live.id);
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut windows = Windows::new(7, Some(i64::MAX));
        see(&mut windows, i64::MIN);
        for time in [i64::MIN, i64::MAX] {
            let live = Live { id: time.div_euclid(7), len_ms: 7 };
            assert!(live.contains(time));
        }
    }
}
