use serde::{Deserialize, Serialize};

/// Buckets of one size before the two oldest become one of the next: the more, the finer the cuts (M of the paper).
const BUCKETS: usize = 5;
/// Values between two looks for a cut: a look goes over all buckets.
const LOOK_EVERY: u32 = 32;

/// ADWIN (Bifet & Gavaldà 2007, ADWIN2): a window over the newest values that shrinks when its older part has another mean than its newer.
///
/// The window is kept as sums over 2⁰, 2¹, 2² … values, at most [`BUCKETS`] each, so n values cost O(log n). It is cut where, for a split
/// into n₀ older and n₁ newer values, 1/m = 1/n₀ + 1/n₁, σ² the window's variance and L = ln(2·ln(n) / δ),
///
/// |mean₀ − mean₁| > √(2σ²L / m) + 2L / (3m)
///
/// with values within 0 and 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Adwin {
    /// By size, each oldest first: `levels[i]` are buckets of 2ⁱ values.
    levels: Vec<Vec<Sums>>,
    since_look: u32,
}

/// Σx and Σ(x − mean)² of some values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    sum: f64,
    squares: f64,
}

/// Sums and over how many values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stretch {
    n: f64,
    sums: Sums,
}

/// The mean of a window moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// Of what was cut off.
    pub(super) before: f64,
    /// Of what is left.
    pub(super) after: f64,
}

impl Stretch {
    fn mean(self) -> f64 {
        self.sums.sum / self.n
    }

    /// Both together (Chan, Golub, LeVeque 1979).
    fn with(self, other: Stretch) -> Stretch {
        if self.n == 0.0 {
            return other;
        }
        let n = self.n + other.n;
        let apart = self.mean() - other.mean();
        let squares = self.sums.squares + other.sums.squares + apart * apart * self.n * other.n / n;
        Stretch { n, sums: Sums { sum: self.sums.sum + other.sums.sum, squares } }
    }
}

impl Adwin {
    /// Takes a value within 0 and 1; says when the window was cut. `delta` bounds the chance of a cut where nothing has changed.
    pub(super) fn add(&mut self, value: f64, delta: f64) -> Option<Change> {
        self.insert(Sums { sum: value, squares: 0.0 });
        self.since_look += 1;
        if self.since_look < LOOK_EVERY {
            return None;
        }
        self.since_look = 0;
        let mut gone = Stretch::default();
        while self.has_cut(delta) {
            gone = gone.with(self.remove_oldest());
        }
        (gone.n > 0.0).then(|| Change { before: gone.mean(), after: self.window().mean() })
    }

    /// A bucket of one value; buckets that are too many of their size are merged upwards.
    fn insert(&mut self, value: Sums) {
        let mut carried = Some(value);
        for level in 0.. {
            let Some(bucket) = carried.take() else { break };
            if level == self.levels.len() {
                self.levels.push(Vec::with_capacity(BUCKETS + 1));
            }
            let buckets = &mut self.levels[level];
            buckets.push(bucket);
            if buckets.len() > BUCKETS {
                let n = size(level);
                let [older, newer] = [buckets.remove(0), buckets.remove(0)].map(|sums| Stretch { n, sums });
                carried = Some(older.with(newer).sums);
            }
        }
    }

    fn has_cut(&self, delta: f64) -> bool {
        let window = self.window();
        let limit = (2.0 * window.n.ln() / delta).ln();
        let variance = window.sums.squares / window.n;
        let mut older = Stretch::default();
        for bucket in self.oldest_first() {
            older = older.with(bucket);
            let newer = window.n - older.n;
            if newer < 1.0 {
                break;
            }
            let apart = older.mean() - (window.sums.sum - older.sums.sum) / newer;
            let share = 1.0 / older.n + 1.0 / newer;
            if apart.abs() > (2.0 * variance * limit * share).sqrt() + 2.0 / 3.0 * limit * share {
                return true;
            }
        }
        false
    }

    fn remove_oldest(&mut self) -> Stretch {
        let level = self.levels.len() - 1;
        let sums = self.levels[level].remove(0);
        if self.levels[level].is_empty() {
            self.levels.pop();
        }
        Stretch { n: size(level), sums }
    }

    fn window(&self) -> Stretch {
        self.oldest_first().fold(Stretch::default(), Stretch::with)
    }

    fn oldest_first(&self) -> impl Iterator<Item = Stretch> {
        self.levels.iter().enumerate().rev().flat_map(|(level, buckets)| {
            let n = size(level);
            buckets.iter().map(move |sums| Stretch { n, sums: *sums })
        })
    }
}

/// Values in a bucket of this level.
fn size(level: usize) -> f64 {
    2_f64.powi(i32::try_from(level).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const DELTA: f64 = 0.002;

    /// Clicks at a rate.
    fn clicks(seed: u64, rate: f64) -> impl Iterator<Item = f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        std::iter::repeat_with(move || f64::from(u8::from(random.random_bool(rate))))
    }

    fn feed(adwin: &mut Adwin, values: impl Iterator<Item = f64>) {
        for value in values {
            let _whether_cut = adwin.add(value, DELTA);
        }
    }

    #[test]
    fn a_change_is_found_soon_and_said_with_its_two_means() {
        for (before, after, within) in [(0.1, 0.3, 400), (0.3, 0.1, 400), (0.05, 0.06, 20_000)] {
            let mut adwin = Adwin::default();
            feed(&mut adwin, clicks(1, before).take(50_000));
            let found = clicks(2, after).take(within).find_map(|x| adwin.add(x, DELTA));
            let change = found.unwrap_or_else(|| panic!("{before} to {after} is not found within {within}"));
            assert!((change.before - before).abs() < 0.02, "{change:?}");
            assert!((change.after > change.before) == (after > before), "{change:?}");
        }
    }

    #[test]
    fn where_nothing_changes_alarms_are_as_rare_as_promised() {
        let alarms = |seed| {
            let mut adwin = Adwin::default();
            clicks(seed, 0.1).take(30_000).filter(|x| adwin.add(*x, DELTA).is_some()).count()
        };
        let all: usize = (10..50).map(alarms).sum();
        assert!(all <= 2, "{all} alarms in 40 streams");
    }

    #[test]
    fn a_window_costs_the_logarithm_of_its_length() {
        let mut adwin = Adwin::default();
        feed(&mut adwin, clicks(3, 0.1).take(100_000));
        assert!(adwin.levels.iter().map(Vec::len).sum::<usize>() <= BUCKETS * 17);
    }

    proptest! {
        /// What the buckets say of the window is what its values say, cut or not.
        #[test]
        fn the_window_is_the_newest_values(values in prop::collection::vec(0.0..1.0_f64, 1..600), jump in 0usize..600) {
            let mut adwin = Adwin::default();
            let values: Vec<f64> = values.into_iter().enumerate().map(|(i, x)| if i < jump { 0.2 * x } else { 1.0 - 0.2 * x }).collect();
            for x in &values {
                adwin.add(*x, DELTA);
            }
            let window = adwin.window();
            let newest = &values[values.len() - window.n as usize..];
            let mean = newest.iter().sum::<f64>() / window.n;
            let squares: f64 = newest.iter().map(|x| (x - mean).powi(2)).sum();
            prop_assert!((window.mean() - mean).abs() < 1e-9 && (window.sums.squares - squares).abs() < 1e-9);
        }

        #[test]
        fn goes_on_from_its_json_as_if_never_interrupted(values in prop::collection::vec(0.0..1.0_f64, 1..300), at in 0usize..300) {
            let (mut plain, mut saved) = (Adwin::default(), Adwin::default());
            for (i, x) in values.iter().enumerate() {
                if i == at {
                    saved = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
                }
                prop_assert_eq!(plain.add(*x, DELTA), saved.add(*x, DELTA));
            }
            prop_assert_eq!(plain, saved);
        }
    }
}
