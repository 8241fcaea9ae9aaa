//! A copy of rows as they were at one moment, taken a little at a time while they go on changing.

use std::collections::HashSet;

use super::Captured;

/// Rows per piece: growing a copy allocates a piece and moves nothing.
const ROWS_PER_PIECE: usize = 4096;
/// Bits of a word of a set of rows.
pub(super) const WORD: usize = u64::BITS as usize;

/// Rows by number, one bit each.
pub(super) type RowSet = Vec<u64>;

/// A copy that is under way.
///
/// | a row of it | is copied |
/// |---|---|
/// | stays as it is until its turn comes | then, in row order |
/// | is about to be changed, moved or removed before its turn | before that, ahead of its turn |
///
/// By row and not by chunk: the ids of a batch are spread over all chunks, and one step would have to copy all of them.
#[derive(Debug)]
pub(super) struct Copying {
    /// Rows that are not copied yet.
    due: RowSet,
    /// How many.
    left: usize,
    /// The word of `due` whose turn it is.
    next: usize,
    copy: RowsCopy,
}

/// A complete copy, in the pieces in which it was taken. Putting them together takes time that a step has not: it is left to another thread.
#[derive(Debug)]
pub struct RowsCopy {
    width: usize,
    full: bool,
    /// Copied in their turn.
    in_order: Pieces,
    /// Copied ahead of it.
    ahead: Pieces,
    /// Keys of rows removed since the capture before, some of which may have come back.
    removed: Vec<u64>,
}

#[derive(Debug, Default)]
struct Pieces(Vec<Piece>);

#[derive(Debug)]
struct Piece {
    rows: Vec<u32>,
    keys: Vec<u64>,
    floats: Vec<f32>,
}

impl Copying {
    /// Of the rows `due`, each `width` floats wide.
    pub(super) fn new(width: usize, full: bool, due: RowSet, removed: Vec<u64>) -> Self {
        let left = due.iter().map(|word| word.count_ones() as usize).sum();
        let copy = RowsCopy { width, full, in_order: Pieces::default(), ahead: Pieces::default(), removed };
        Copying { due, left, next: 0, copy }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether a row has to be copied before it changes.
    pub(super) fn is_due(&self, row: u32) -> bool {
        self.due.get(row as usize / WORD).is_some_and(|word| word >> (row as usize % WORD) & 1 == 1)
    }

    /// The row whose turn it is.
    pub(super) fn turn(&mut self) -> Option<u32> {
        while *self.due.get(self.next)? == 0 {
            self.next += 1;
        }
        Some((self.next * WORD) as u32 + self.due[self.next].trailing_zeros())
    }

    /// Takes the row whose turn it is.
    pub(super) fn take(&mut self, row: u32, key: u64, floats: &[f32]) {
        self.done(row);
        self.copy.in_order.push(row, key, floats);
    }

    /// Takes a row that is due and about to change.
    pub(super) fn take_ahead(&mut self, row: u32, key: u64, floats: &[f32]) {
        self.done(row);
        self.copy.ahead.push(row, key, floats);
    }

    fn done(&mut self, row: u32) {
        self.due[row as usize / WORD] &= !(1 << (row as usize % WORD));
        self.left -= 1;
    }

    /// The copy, in which no row may be due any more.
    pub(super) fn finish(self) -> RowsCopy {
        self.copy
    }
}

impl Pieces {
    fn push(&mut self, row: u32, key: u64, floats: &[f32]) {
        if self.0.last().is_none_or(|piece| piece.rows.len() == ROWS_PER_PIECE) {
            self.0.push(Piece {
                rows: Vec::with_capacity(ROWS_PER_PIECE),
                keys: Vec::with_capacity(ROWS_PER_PIECE),
                floats: Vec::with_capacity(ROWS_PER_PIECE * floats.len()),
            });
        }
        if let Some(piece) = self.0.last_mut() {
            piece.rows.push(row);
            piece.keys.push(key);
            piece.floats.extend_from_slice(floats);
        }
    }

    fn rows(&self) -> usize {
        self.0.iter().map(|piece| piece.rows.len()).sum()
    }
}

impl RowsCopy {
    /// The rows in their order, as if they had been copied at once.
    #[must_use]
    pub fn captured(self) -> Captured {
        let RowsCopy { width, full, in_order, ahead, removed } = self;
        let total = in_order.rows() + ahead.rows();
        let mut captured = Captured { keys: Vec::with_capacity(total), data: Vec::with_capacity(total * width), ..Captured::default() };
        let mut take = |piece: &Piece, at: usize| {
            captured.keys.push(piece.keys[at]);
            captured.data.extend_from_slice(&piece.floats[at * width..(at + 1) * width]);
            if !full {
                captured.places.push(piece.rows[at]);
            }
        };
        let mut order: Vec<(u32, &Piece, usize)> =
            ahead.0.iter().flat_map(|piece| piece.rows.iter().enumerate().map(move |(at, row)| (*row, piece, at))).collect();
        order.sort_unstable_by_key(|(row, ..)| *row);
        let mut order = order.into_iter().peekable();
        // Each piece is freed when it has been read.
        for piece in in_order.0 {
            for (at, row) in piece.rows.iter().enumerate() {
                while let Some((_, piece, at)) = order.next_if(|(ahead, ..)| ahead < row) {
                    take(piece, at);
                }
                take(&piece, at);
            }
        }
        order.for_each(|(_, piece, at)| take(piece, at));
        if !full {
            captured.removed = gone(removed, &captured.keys);
        }
        captured
    }
}

/// Those of `removed` that did not come back, by value. A row that came back was touched, so its key is among `keys`.
fn gone(removed: Vec<u64>, keys: &[u64]) -> Vec<u64> {
    if removed.is_empty() {
        return removed;
    }
    let mut gone: HashSet<u64> = removed.into_iter().collect();
    keys.iter().for_each(|key| {
        gone.remove(key);
    });
    let mut gone: Vec<u64> = gone.into_iter().collect();
    gone.sort_unstable();
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Rows;

    #[derive(Debug, Clone)]
    enum Change {
        Put(u64, f32),
        Remove(u64),
        Copy(usize),
        Capture(bool),
    }

    fn change() -> impl Strategy<Value = Change> {
        // Few keys, so that rows are changed, moved, removed and created anew while they are due.
        let key = 0u64..150;
        prop_oneof![
            6 => (key.clone(), any::<f32>()).prop_map(|(key, float)| Change::Put(key, float)),
            3 => key.prop_map(Change::Remove),
            2 => (1usize..30).prop_map(Change::Copy),
            1 => any::<bool>().prop_map(Change::Capture),
        ]
    }

    fn apply(rows: &mut Rows, change: &Change) {
        match *change {
            Change::Put(key, float) => {
                let row = rows.find(key).or_else(|| rows.create(key)).expect("room");
                rows.get_mut(row)[1] = float;
                rows.touch(row);
            }
            Change::Remove(key) => {
                if let Some(row) = rows.find(key) {
                    rows.remove(row);
                }
            }
            Change::Copy(count) => {
                rows.copy(count);
            }
            Change::Capture(_) => {}
        }
    }

    /// Bits, so that NaN is equal to itself.
    fn bits(captured: super::Captured) -> (Vec<u64>, Vec<u32>, Vec<u32>, Vec<u64>) {
        let data = captured.data.into_iter().map(f32::to_bits).collect();
        (captured.keys, data, captured.places, captured.removed)
    }

    proptest! {
        #[test]
        fn a_copy_in_slices_is_the_copy_taken_at_once_whatever_changes_meanwhile(changes in proptest::collection::vec(change(), 1..600)) {
            let (mut slices, mut at_once) = (Rows::new(2), Rows::new(2));
            let mut expected = None;
            for change in changes.iter().chain([&Change::Capture(false), &Change::Capture(true)]) {
                apply(&mut slices, change);
                apply(&mut at_once, change);
                if let Change::Capture(full) = change {
                    prop_assert_eq!(slices.end_capture().map(|copy| bits(copy.captured())), expected);
                    slices.begin_capture(*full);
                    expected = Some(bits(at_once.capture(*full)));
                }
            }
            prop_assert_eq!(slices.end_capture().map(|copy| bits(copy.captured())), expected);
        }
    }
}
