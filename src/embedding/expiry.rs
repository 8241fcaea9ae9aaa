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
/// Rows looked at for every new one, so that a pass in which nothing may go ends with 1/32 of the capacity more.
const LOOK_PER_NEW: usize = 32;
/// Rows removed in a step at most, besides 5/4 of the new ones, so that a step that follows a long silence stays short. With the 5/4 and
/// the 1/32 above, at most 1/8 of the capacity is too many even where all old rows stand side by side.
const REMOVE: usize = 4096;
/// Part of the capacity that is kept free, hence.
const FREE: usize = 8;
/// Part of the capacity that is taken for old beside what is too many, so that a pass finds something to remove for every new row.
const OLD: usize = 16;
/// Stamps that a pass samples to find the age that must go: enough to be right within half a percent of the rows.
const SAMPLE: usize = 1024;

/// Removes rows that have not been updated for long, and the oldest where there are too many, a little in every step.
///
/// The last float of a row is its stamp: the tick of its last update, in event time. Passes go over all rows, `LOOK` and more in a step.
/// By age, a row goes when it is found too old. By capacity, while there are more than 7/8 of `rows_max`, a row goes that is among the
/// oldest: what was too many when the pass began and 1/16 more, by a sample of stamps.
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
    /// Rows stamped up to this tick may go for want of room.
    pub oldest: f32,
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
        let (mut look, mut remove) = (LOOK + LOOK_PER_NEW * created, REMOVE + created + created / 4);
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
            if self.goes(stamp, now, rows.len()) {
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
        let surplus = rows.len().saturating_sub(self.room()) + self.rows_max / OLD;
        let oldest = if self.rows_max > 0 { age_below(rows, surplus) } else { UNSTAMPED };
        self.sweep = SweepState { next: 0, oldest };
    }

    fn goes(&self, stamp: f32, now: f32, rows: usize) -> bool {
        let expired = stamp != UNSTAMPED && self.after.is_some_and(|after| now - stamp > after);
        let in_the_way = self.rows_max > 0 && rows > self.room() && stamp <= self.sweep.oldest;
        expired || in_the_way
    }

    fn room(&self) -> usize {
        self.rows_max - self.rows_max / FREE
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
    fn by_capacity_only_the_oldest_go() {
        let stamps: Vec<f32> = (0..1000).map(|i| 1.0 + ((i * 7) % 1000) as f32).collect();
        let mut rows = rows(&stamps);
        expiry(0, 160).sweep(&mut rows, 2000.0, 0);
        let left = keys(&mut rows);
        assert_eq!(left.len(), 140);
        // 860 are too many, and a 16th of 160 may go instead of older ones.
        assert_eq!(left.iter().filter(|key| stamps[**key as usize] > 870.0).count(), 130);
    }

    #[test]
    fn capacity_holds_while_rows_stream_in_and_no_step_does_much() {
        let (capacity, new) = (400_000, 5000);
        let mut expiry = expiry(0, capacity);
        let mut rows = Rows::new(2);
        let mut next = 0_u64;
        for now in 1..=240 {
            for _ in 0..new {
                let row = rows.create(next.wrapping_mul(0x9E37_79B9_7F4A_7C15)).expect("room");
                set_stamp(&mut rows, row, now as f32);
                next += 1;
            }
            let before = rows.len();
            expiry.sweep(&mut rows, now as f32, new);
            assert!(before - rows.len() <= REMOVE + new + new / 4);
            assert!(rows.len() <= capacity, "{} rows at step {now}", rows.len());
        }
        assert!(rows.len() >= capacity / 4 * 3, "{} rows", rows.len());
        let oldest = (0..rows.len() as u32).map(|row| stamp(&rows, row)).fold(f32::MAX, f32::min);
        assert!(oldest >= 150.0, "a row of step {oldest} outlived younger ones");
    }
}
