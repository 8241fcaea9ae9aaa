use super::{Captured, Rows, RowsCopy, RowsError};
use crate::domain::Stage;
use crate::features::{CLICK_RATE_INPUTS, Counts, FeatureSpec, NO_KEY, click_rate_inputs};

/// Click counts: all, or those added to since the capture before.
#[derive(Debug, Clone, PartialEq)]
pub struct CountsState {
    /// What is counted under.
    pub keys: Vec<u64>,
    /// `[keys, 2]`: impressions, and the clicks among them.
    pub data: Vec<f32>,
    /// All counts.
    pub full: bool,
}

impl CountsState {
    /// Floats per key: impressions, clicks.
    pub const WIDTH: usize = 2;
}

/// Saved counts that do not fit the schema's click rates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    /// One of the two has click rates, the other has none.
    #[error("click counts are {found}, the configured schema needs them to be {expected}")]
    Presence {
        /// In the saved state.
        found: &'static str,
        /// By the configuration.
        expected: &'static str,
    },
    /// An increment where all of them are needed.
    #[error("click counts are an increment, restoring needs all of them")]
    Partial,
    /// Keys and floats do not belong together.
    #[error("click counts {0}")]
    Rows(#[from] RowsError),
}

/// Impressions and clicks by key, behind a schema's click rates; the whole stream's own stand under [`NO_KEY`].
///
/// What a batch reads is older than the batch: [`ClickCounts::read`] comes before [`ClickCounts::add`], so no example ever sees its own
/// label, nor one of its batch.
#[derive(Debug)]
pub struct ClickCounts {
    priors: Vec<f32>,
    rows: Rows,
    /// The last capture began with all of them.
    full: bool,
}

/// A complete copy of counts, not put together yet.
#[derive(Debug)]
pub struct CountsCopy {
    full: bool,
    rows: RowsCopy,
}

impl CountsCopy {
    /// As if they had been copied at once.
    #[must_use]
    pub fn state(self) -> CountsState {
        let Captured { keys, data, .. } = self.rows.captured();
        CountsState { keys, data, full: self.full }
    }
}

impl ClickCounts {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(spec: &FeatureSpec) -> Self {
        ClickCounts { priors: spec.click_rates().iter().map(|rate| rate.prior).collect(), rows: Rows::new(CountsState::WIDTH), full: false }
    }

    /// Writes the click rates of a batch.
    ///
    /// # Shapes
    /// `keys` is `[rows, click rates]`; `inputs` is `[rows, width]`, whose last `click rates · 2` columns are written. Both row-major.
    pub fn read(&self, keys: &[u64], width: usize, inputs: &mut [f32]) {
        let rates = self.priors.len();
        if rates == 0 {
            return;
        }
        let stream = self.get(NO_KEY);
        for (keys, row) in keys.chunks_exact(rates).zip(inputs.chunks_exact_mut(width)) {
            let places = row[width - rates * CLICK_RATE_INPUTS..].chunks_exact_mut(CLICK_RATE_INPUTS);
            for ((&key, &prior), place) in keys.iter().zip(&self.priors).zip(places) {
                let counts = if key == NO_KEY { Counts::default() } else { self.get(key) };
                place.copy_from_slice(&click_rate_inputs(counts, stream, prior));
            }
        }
    }

    /// Counts a batch that was trained; `keys` is `[rows, click rates]`. An impression counts once: where its click comes as a sample of its
    /// own, only the click is added then. No `stages`: every row is an impression.
    pub fn add(&mut self, keys: &[u64], labels: &[bool], stages: &[Stage]) {
        let rates = self.priors.len();
        if rates == 0 {
            return;
        }
        for (row, (keys, &clicked)) in keys.chunks_exact(rates).zip(labels).enumerate() {
            let again = matches!(stages.get(row), Some(Stage::Delayed(_)));
            let add = |counts: &mut Counts| if again { counts.add_click() } else { counts.add(clicked) };
            self.change(NO_KEY, add);
            for &key in keys.iter().filter(|key| **key != NO_KEY) {
                self.change(key, add);
            }
        }
    }

    /// A copy of all counts, or of those added to since the capture before; `None` where the schema has no click rates.
    pub fn capture(&mut self, full: bool) -> Option<CountsState> {
        self.begin_capture(full);
        self.end_capture().map(CountsCopy::state)
    }

    /// See [`Rows::begin_capture`]; nothing is begun where the schema has no click rates.
    pub fn begin_capture(&mut self, full: bool) {
        if !self.priors.is_empty() {
            self.rows.begin_capture(full);
            self.full = full;
        }
    }

    /// See [`Rows::copy`].
    pub fn copy(&mut self, rows: usize) -> usize {
        self.rows.copy(rows)
    }

    /// See [`Rows::end_capture`].
    pub fn end_capture(&mut self) -> Option<CountsCopy> {
        let full = self.full;
        self.rows.end_capture().map(|rows| CountsCopy { full, rows })
    }

    /// Counts of this schema as in `state`.
    ///
    /// # Errors
    /// [`CountsError`].
    pub fn restored(&self, state: Option<&CountsState>) -> Result<Self, CountsError> {
        let said = |present: bool| if present { "present" } else { "absent" };
        let needed = !self.priors.is_empty();
        if state.is_some() != needed {
            return Err(CountsError::Presence { found: said(state.is_some()), expected: said(needed) });
        }
        let rows = match state {
            None => Rows::new(CountsState::WIDTH),
            Some(state) if !state.full => return Err(CountsError::Partial),
            Some(state) => Rows::restored(CountsState::WIDTH, &state.keys, &state.data)?,
        };
        Ok(ClickCounts { priors: self.priors.clone(), rows, full: false })
    }

    fn get(&self, key: u64) -> Counts {
        self.rows.find(key).map_or_else(Counts::default, |row| counts(self.rows.get(row)))
    }

    /// Beyond 2³² − 1 keys nothing is counted any more.
    fn change(&mut self, key: u64, add: impl Fn(&mut Counts)) {
        let Some(row) = self.rows.find(key).or_else(|| self.rows.create(key)) else { return };
        let mut counts = counts(self.rows.get(row));
        add(&mut counts);
        self.rows.get_mut(row).copy_from_slice(&[counts.impressions, counts.clicks]);
        self.rows.touch(row);
    }
}

fn counts(floats: &[f32]) -> Counts {
    Counts { impressions: floats[0], clicks: floats[1] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Origin, PartitionIndex};

    fn two_rates() -> ClickCounts {
        ClickCounts { priors: vec![20.0, 5.0], rows: Rows::new(CountsState::WIDTH), full: false }
    }

    fn read(counts: &ClickCounts, keys: &[u64]) -> Vec<f32> {
        let mut inputs = vec![9.0; keys.len() / 2 * 5];
        counts.read(keys, 5, &mut inputs);
        inputs
    }

    #[test]
    fn a_batch_reads_what_was_counted_before_it() {
        let mut counts = two_rates();
        assert_eq!(read(&counts, &[7, 8]), [9.0, 0.0, 0.0, 0.0, 0.0]);
        counts.add(&[7, 8, 7, NO_KEY], &[true, false], &[]);
        let stream = Counts { impressions: 2.0, clicks: 1.0 };
        let seven = click_rate_inputs(Counts { impressions: 2.0, clicks: 1.0 }, stream, 20.0);
        let eight = click_rate_inputs(Counts { impressions: 1.0, clicks: 1.0 }, stream, 5.0);
        #[rustfmt::skip]
        assert_eq!(read(&counts, &[7, 8, NO_KEY, 7]), [
            9.0, seven[0], seven[1], eight[0], eight[1],
            9.0, 0.0, 0.0, click_rate_inputs(stream, stream, 5.0)[0], click_rate_inputs(stream, stream, 5.0)[1],
        ]);
    }

    #[test]
    fn an_impression_whose_click_comes_as_a_sample_of_its_own_counts_once() {
        let (mut once, mut twice) = (two_rates(), two_rates());
        once.add(&[7, 8, 7, 9], &[true, false], &[]);
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        twice.add(&[7, 8, 7, 9], &[false, false], &[Stage::Open, Stage::Open]);
        twice.add(&[7, 8], &[true], &[Stage::Delayed(origin)]);
        assert_eq!(once.capture(true), twice.capture(true));
        twice.add(&[5, 5], &[true], &[Stage::Delayed(origin)]);
        assert!(read(&twice, &[5, 5]).iter().all(|x| x.is_finite()), "a click without its impression");
    }

    #[test]
    fn increments_and_restored_counts_are_bit_equal() {
        let mut counts = two_rates();
        counts.add(&[1, 2, 3, 4], &[true, false], &[]);
        assert_eq!(counts.capture(true).expect("has rates").keys, [NO_KEY, 1, 2, 3, 4]);
        counts.add(&[1, 5], &[false], &[]);
        assert_eq!(counts.capture(false).expect("has rates").keys, [NO_KEY, 1, 5]);
        let state = counts.capture(true);
        let mut other = two_rates().restored(state.as_ref()).expect("fits");
        assert_eq!(other.capture(true), state);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let good = two_rates().capture(true).expect("has rates");
        let refused = |state: Option<CountsState>| two_rates().restored(state.as_ref()).expect_err("refused");
        assert_eq!(refused(None), CountsError::Presence { found: "absent", expected: "present" });
        assert_eq!(refused(Some(CountsState { full: false, ..good.clone() })), CountsError::Partial);
        let odd = RowsError::Length { keys: 1, floats: 3, width: CountsState::WIDTH };
        assert_eq!(refused(Some(CountsState { keys: vec![1], data: vec![1.0; 3], full: true })), CountsError::Rows(odd));
        let none = ClickCounts { priors: Vec::new(), rows: Rows::new(CountsState::WIDTH), full: false };
        assert_eq!(none.restored(Some(&good)).expect_err("refused"), CountsError::Presence { found: "present", expected: "absent" });
    }
}
