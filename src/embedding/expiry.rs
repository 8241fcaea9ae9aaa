use super::Rows;
use crate::config::ExpiryConfig;
use crate::domain::EventTime;

/// Milliseconds per tick of a row's stamp: an f32 counts ticks exactly up to 2²⁴, which is the year 2106.
const TICK_MS: i64 = 256_000;
/// The last tick.
const TICK_MAX: i64 = (1 << 24) - 1;
/// The stamp of a row from before there were any.
const UNSTAMPED: f32 = 0.0;
/// Rows looked at in every step: microseconds; 10 million rows are gone through in 2442 steps.
const LOOK: usize = 4096;
/// Rows looked at for every new one: with a 16th of the capacity kept free, a pass ends before half of that is used up.
const LOOK_PER_NEW: usize = 32;
/// Rows removed in a step at most, so that a step that follows a long silence stays short ...
const REMOVE: usize = 4096;
/// ... and for every new row: more than come.
const REMOVE_PER_NEW: usize = 2;
/// Part of the capacity that is kept free.
const FREE: usize = 16;
/// Stamps that a pass samples to find the age that must go: enough to be right within half a percent of the rows.
const SAMPLE: usize = 1024;

/// Removes rows that have not been updated for long, and the oldest where there are too many, a little in every step.
///
/// The last float of a row is its stamp: the tick of its last update, in event time. Passes go over all rows, `LOOK` and more in a step.
/// By age, a row goes when it is found too old. By capacity, a pass that begins above 15/16 of `rows_max` removes what is above, oldest
/// first: rows up to the age below which a sample of stamps says that so many are; of the same tick, those found first.
#[derive(Debug, Clone)]
pub(super) struct Expiry {
    after: Option<f32>,
    rows_max: usize,
    sweep: SweepState,
}

/// Where a pass stands.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SweepState {
    /// Next row to look at.
    pub next: u32,
    /// Rows stamped up to this tick may go for want of room ...
    pub oldest: f32,
    /// ... as long as so many are left to go.
    pub surplus: usize,
}

/// The tick of a time; times before 1970 count as its first.
pub(super) fn tick(time: EventTime) -> f32 {
    (time.0 / TICK_MS).clamp(1, TICK_MAX) as f32
}

impl Expiry {
    /// `None` where rows stay for ever.
    pub(super) fn new(config: &ExpiryConfig) -> Option<Self> {
        let after = config.after.map(|after| (after.as_millis() / TICK_MS).clamp(1, TICK_MAX) as f32);
        let wanted = after.is_some() || config.rows_max > 0;
        wanted.then(|| Expiry { after, rows_max: config.rows_max, sweep: SweepState::default() })
    }

    pub(super) fn restored(&self, sweep: &SweepState) -> Self {
        Expiry { sweep: sweep.clone(), ..*self }
    }

    pub(super) fn capture(&self) -> SweepState {
        self.sweep.clone()
    }

    /// The part of a step in which `created` rows were added, at tick `now`.
    pub(super) fn sweep(&mut self, rows: &mut Rows, now: f32, created: usize) {
        let (mut look, mut remove) = (LOOK + LOOK_PER_NEW * created, REMOVE + REMOVE_PER_NEW * created);
        // 2: the rest of a pass, and a whole one where the table is small.
        let mut passes = 2;
        while look > 0 && remove > 0 {
            if self.sweep.next as usize >= rows.len() {
                if passes == 0 || rows.is_empty() {
                    return;
                }
                passes -= 1;
                self.begin(rows);
            }
            look -= 1;
            let row = self.sweep.next;
            let stamp = stamp(rows, row);
            if self.goes(stamp, now) {
                rows.remove(row);
                remove -= 1;
                continue;
            }
            if stamp == UNSTAMPED {
                set_stamp(rows, row, now);
            }
            self.sweep.next += 1;
        }
    }

    fn begin(&mut self, rows: &Rows) {
        let room = self.rows_max - self.rows_max / FREE;
        let surplus = if self.rows_max > 0 { rows.len().saturating_sub(room) } else { 0 };
        let oldest = if surplus > 0 { age_below(rows, surplus) } else { UNSTAMPED };
        self.sweep = SweepState { next: 0, oldest, surplus };
    }

    fn goes(&mut self, stamp: f32, now: f32) -> bool {
        if stamp != UNSTAMPED && self.after.is_some_and(|after| now - stamp > after) {
            self.sweep.surplus = self.sweep.surplus.saturating_sub(1);
            return true;
        }
        let surplus = self.sweep.surplus > 0 && stamp <= self.sweep.oldest;
        self.sweep.surplus -= usize::from(surplus);
        surplus
    }
}

/// The stamp that about `surplus` rows do not exceed, by a sample at even distances.
fn age_below(rows: &Rows, surplus: usize) -> f32 {
    let step = rows.len().div_ceil(SAMPLE);
    let mut stamps: Vec<f32> = (0..rows.len()).step_by(step).map(|row| stamp(rows, row as u32)).collect();
    let rank = (surplus * stamps.len()).div_ceil(rows.len()).min(stamps.len()) - 1;
    *stamps.select_nth_unstable_by(rank, f32::total_cmp).1
}

fn stamp(rows: &Rows, row: u32) -> f32 {
    rows.get(row)[rows.width() - 1]
}

fn set_stamp(rows: &mut Rows, row: u32, tick: f32) {
    let last = rows.width() - 1;
    rows.get_mut(row)[last] = tick;
    rows.touch(row);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    const DAY: f32 = 86_400_000.0 / TICK_MS as f32;

    fn expiry(days: u64, rows_max: usize) -> Expiry {
        let after = (days > 0).then(|| Span::from_secs(days * 86_400));
        Expiry::new(&ExpiryConfig { after, rows_max }).expect("something expires")
    }

    /// Rows of one stamp each; keys count from 0.
    fn rows(stamps: &[f32]) -> Rows {
        let mut rows = Rows::new(2);
        for (key, stamp) in stamps.iter().enumerate() {
            let row = rows.create(key as u64).expect("room");
            set_stamp(&mut rows, row, *stamp);
        }
        rows
    }

    fn keys(rows: &mut Rows) -> Vec<u64> {
        let mut keys = rows.capture(true).keys;
        keys.sort_unstable();
        keys
    }

    #[test]
    fn nothing_expires_unless_told() {
        assert!(Expiry::new(&ExpiryConfig::default()).is_none());
    }

    #[test]
    fn a_tick_is_exact_and_bounded() {
        assert_eq!(tick(EventTime(1_800_000_000_000)), 7_031_250.0);
        assert_eq!([tick(EventTime(i64::MIN)), tick(EventTime(0)), tick(EventTime(i64::MAX))], [1.0, 1.0, TICK_MAX as f32]);
    }

    #[test]
    fn by_age_what_is_older_goes_and_the_rest_stays() {
        let now = 100.0 * DAY;
        let mut rows = rows(&[now, now - 29.0 * DAY, now - 31.0 * DAY, 1.0, now - 30.0 * DAY, now - 99.0 * DAY]);
        expiry(30, 0).sweep(&mut rows, now, 0);
        assert_eq!(keys(&mut rows), [0, 1, 4]);
    }

    #[test]
    fn rows_from_before_there_were_stamps_live_from_now_on() {
        let mut rows = rows(&[UNSTAMPED, 1.0]);
        let mut expiry = expiry(30, 0);
        expiry.sweep(&mut rows, 100.0 * DAY, 0);
        assert_eq!((keys(&mut rows), stamp(&rows, 0)), (vec![0], 100.0 * DAY));
        expiry.sweep(&mut rows, 131.0 * DAY, 0);
        assert!(rows.is_empty());
    }

    #[test]
    fn by_capacity_the_oldest_go_first() {
        let stamps: Vec<f32> = (0..1000).map(|i| 1.0 + ((i * 7) % 1000) as f32).collect();
        let mut rows = rows(&stamps);
        expiry(0, 160).sweep(&mut rows, 2000.0, 0);
        let left = keys(&mut rows);
        assert_eq!(left.len(), 150);
        assert!(left.iter().all(|key| stamps[*key as usize] > 850.0));
    }

    #[test]
    fn capacity_holds_while_rows_stream_in_and_no_step_does_much() {
        let mut expiry = expiry(0, 160_000);
        let mut rows = Rows::new(2);
        let mut next = 0_u64;
        for now in 1..=400 {
            for _ in 0..1000 {
                let row = rows.create(next.wrapping_mul(0x9E37_79B9_7F4A_7C15)).expect("room");
                set_stamp(&mut rows, row, now as f32);
                next += 1;
            }
            let before = rows.len();
            expiry.sweep(&mut rows, now as f32, 1000);
            assert!(before - rows.len() <= REMOVE + REMOVE_PER_NEW * 1000);
            assert!(rows.len() <= 160_000, "{} rows at step {now}", rows.len());
        }
        assert!(rows.len() >= 140_000, "{} rows", rows.len());
        let oldest = (0..rows.len() as u32).map(|row| stamp(&rows, row)).fold(f32::MAX, f32::min);
        assert!(oldest >= 235.0, "a row of step {oldest} outlived younger ones");
    }
}
