use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long something took, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// One of a hundred took longer.
    pub p99: f64,
    /// One of a thousand took longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Of these; zeros of none.
    pub(super) fn of_ms(spent: impl IntoIterator<Item = Duration>) -> Self {
        let mut spent: Vec<Duration> = spent.into_iter().collect();
        spent.sort_unstable();
        let last = spent.len().saturating_sub(1);
        let at = |share: f64| spent.get((last as f64 * share).ceil() as usize).map_or(0.0, |spent| spent.as_secs_f64() * 1e3);
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let found = Quantiles::of_ms((0..=1000).rev().map(Duration::from_millis));
        assert_eq!(found, Quantiles { p50: 500.0, p99: 990.0, p999: 999.0, max: 1000.0 });
        assert_eq!(Quantiles::of_ms([]), Quantiles::default());
    }
}
