use super::{Learner, LearnerState, RowsState, TrainError};
use crate::embedding::{CountsState, Table};
use crate::features::InputColumn;
use crate::nets::{InputPlaces, refit};

impl Learner {
    /// Goes on from `state` as far as it fits: tensors by their names, inputs by the names of the features behind them (`columns`: those that
    /// the state was trained with; `None` where that is not known, and all are taken to be the same), tables by the floats of their rows.
    /// Rows that were trained by another optimizer keep their weights. Returns what could not be kept and what starts afresh, a line each:
    /// none where the whole state fits, and then this is [`Learner::restore`].
    ///
    /// # Errors
    /// [`TrainError::Mismatch`] for a state that contradicts itself; the learner is unchanged then.
    pub fn warm_start(&mut self, state: LearnerState, columns: Option<&[InputColumn]>) -> Result<Vec<String>, TrainError> {
        let start = self.capture(true);
        let mut lines = Vec::new();
        let places = self.places(columns.unwrap_or(&self.columns), &mut lines);
        let dense = refit(self.nets.layout(), start.dense, &state.dense, &places);
        lines.extend(dense.fresh.iter().map(|tensor| format!("tensor {tensor} starts afresh")));
        lines.extend(dense.left.iter().map(|tensor| format!("tensor {tensor} has no place any more")));

        let own = match (&self.own, state.light_rows) {
            (None, Some(_)) => {
                lines.push("light shares its rows now: its own have no place any more".to_owned());
                None
            }
            (None, None) => None,
            (Some(_), Some(own)) => Some(own),
            (Some(_), None) => {
                lines.push("light has rows of its own now: they start from those it shared".to_owned());
                Some(state.rows.clone())
            }
        };
        let tables: Vec<&Table> = self.shared.tables().collect();
        let rows = rows(&tables, start.rows, state.rows, &mut lines);
        let light_rows = own.zip(start.light_rows).map(|(own, start)| self::rows(&tables, start, own, &mut lines));
        let click_counts = counts(start.click_counts, state.click_counts, &mut lines);
        self.restore(LearnerState { dense: dense.state, rows, light_rows, click_counts, course: state.course })?;
        Ok(lines)
    }

    /// Whether inputs stand where those of a saved state stood.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`].
    pub fn check_columns(&self, saved: &[InputColumn]) -> Result<(), TrainError> {
        let mut lines = Vec::new();
        if self.places(saved, &mut lines).is_identity() {
            return Ok(());
        }
        let moved = "features stand in another order".to_owned();
        Err(TrainError::Mismatch(if lines.is_empty() { moved } else { lines.join("; ") }))
    }

    fn places(&self, saved: &[InputColumn], lines: &mut Vec<String>) -> InputPlaces {
        let mut places = Vec::new();
        for InputColumn { name, width } in &self.columns {
            let mut from = 0;
            let found = saved.iter().find_map(|column| {
                from += column.width;
                (column.name == *name).then(|| (column.width, from - column.width))
            });
            match found {
                Some((saved, from)) if saved == *width => places.extend((from..from + width).map(Some)),
                Some((saved, _)) => {
                    lines.push(format!("feature {name} feeds {width} floats instead of {saved}: it starts afresh"));
                    places.extend((0..*width).map(|_| None));
                }
                None => {
                    lines.push(format!("feature {name} is new"));
                    places.extend((0..*width).map(|_| None));
                }
            }
        }
        let gone = saved.iter().filter(|column| self.columns.iter().all(|kept| kept.name != column.name));
        lines.extend(gone.map(|column| format!("feature {} is no more", column.name)));
        InputPlaces { places, saved: saved.iter().map(|column| column.width).sum() }
    }
}

/// Rows of each table, from the saved table with as many weights per row.
fn rows(tables: &[&Table], start: Vec<RowsState>, mut saved: Vec<RowsState>, lines: &mut Vec<String>) -> Vec<RowsState> {
    let mut take = |(table, start): (&&Table, RowsState)| {
        let Some(place) = saved.iter().position(|state| state.dim == table.dim()) else {
            lines.push(format!("rows of {} floats start afresh", table.dim()));
            return start;
        };
        let state = saved.swap_remove(place);
        if state.optimizer != table.optimizer() {
            let (dim, found, now) = (state.dim, state.optimizer, table.optimizer());
            lines.push(format!(
                "{} rows of {dim} floats keep their weights; the state of {found} gives way to that of {now}",
                state.keys.len()
            ));
        }
        table.adopted(state)
    };
    let rows = tables.iter().zip(start).map(&mut take).collect();
    lines.extend(saved.iter().map(|state| format!("{} rows of {} floats have no place any more", state.keys.len(), state.dim)));
    rows
}

fn counts(start: Option<CountsState>, saved: Option<CountsState>, lines: &mut Vec<String>) -> Option<CountsState> {
    match (start, saved) {
        (Some(_), Some(saved)) => Some(saved),
        (None, Some(saved)) => {
            lines.push(format!("{} counts of click rates have no place any more", saved.keys.len()));
            None
        }
        (start, None) => {
            lines.extend(start.iter().map(|_| "click rates start afresh".to_owned()));
            start
        }
    }
}
