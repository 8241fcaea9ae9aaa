use super::copying::{Copying, RowSet, RowsCopy, WORD};
use super::index::Index;

/// Rows per chunk of storage: at width 32 a chunk is 512 KiB, so a growing store claims memory in steps nobody notices.
const ROWS_PER_CHUNK: usize = 4096;

/// Keys and floats that do not make rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// Keys and data do not belong together.
    #[error("hold {floats} floats for {keys} keys of {width}")]
    Length {
        /// Keys.
        keys: usize,
        /// Floats.
        floats: usize,
        /// Floats per row.
        width: usize,
    },
    /// A key occurs twice.
    #[error("hold key {key:#018x} twice")]
    Duplicate {
        /// The key.
        key: u64,
    },
    /// More rows than can be numbered.
    #[error("hold {keys} keys, at most 2^32 - 1 are possible")]
    TooMany {
        /// Keys.
        keys: usize,
    },
}

/// A store of rows of `width` floats by exact key: two keys never share a row. What the floats mean is not known here.
///
/// Rows live in chunks of fixed size: growth allocates a chunk and moves nothing. They are numbered without holes: the last row takes the
/// place of one that is removed.
#[derive(Debug)]
pub struct Rows {
    width: usize,
    len: usize,
    index: Index,
    chunks: Vec<Chunk>,
    /// Rows changed since the last capture began.
    touched: RowSet,
    /// Keys of rows removed since then.
    removed: Vec<u64>,
    /// A capture that is under way.
    copying: Option<Copying>,
}

#[derive(Debug)]
struct Chunk {
    keys: Box<[u64]>,
    floats: Box<[f32]>,
}

/// A copy of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Captured {
    /// Keys, in row order.
    pub keys: Vec<u64>,
    /// `[keys, width]`.
    pub data: Vec<f32>,
    /// The row of each key; empty when all rows were captured.
    pub places: Vec<u32>,
    /// Keys of rows removed since the capture before that have none now, by value; empty when all rows were captured.
    pub removed: Vec<u64>,
}

impl Rows {
    /// No rows yet, each to have `width` floats.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Rows { width, len: 0, index: Index::new(), chunks: Vec::new(), touched: Vec::new(), removed: Vec::new(), copying: None }
    }

    /// The rows `data` `[keys, width]`, in their order, none of them touched.
    ///
    /// # Errors
    /// [`RowsError`] where keys and floats do not belong together.
    pub fn restored(width: usize, keys: &[u64], data: &[f32]) -> Result<Self, RowsError> {
        if data.len() != keys.len() * width {
            return Err(RowsError::Length { keys: keys.len(), floats: data.len(), width });
        }
        if u32::try_from(keys.len()).is_err() {
            return Err(RowsError::TooMany { keys: keys.len() });
        }
        let mut rows = Rows::new(width);
        for (i, &key) in keys.iter().enumerate() {
            if rows.find(key).is_some() {
                return Err(RowsError::Duplicate { key });
            }
            if let Some(row) = rows.create(key) {
                rows.get_mut(row).copy_from_slice(&data[i * width..(i + 1) * width]);
            }
        }
        rows.touched.fill(0);
        Ok(rows)
    }

    /// The same rows with `width` floats each: cut, or filled up with zeros.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        if width == self.width {
            return self;
        }
        let keep = width.min(self.width);
        let resize = |chunk: Chunk| {
            let mut floats = vec![0.0; ROWS_PER_CHUNK * width].into_boxed_slice();
            for (to, from) in floats.chunks_exact_mut(width.max(1)).zip(chunk.floats.chunks_exact(self.width.max(1))) {
                to[..keep].copy_from_slice(&from[..keep]);
            }
            Chunk { floats, ..chunk }
        };
        Rows { chunks: self.chunks.into_iter().map(resize).collect(), width, ..self }
    }

    /// Floats per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No rows yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of a key's row.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<u32> {
        self.index.find(key, |row| key_in(&self.chunks, row))
    }

    /// Appends a row of zeros, which counts as touched, for a key that has none. `None`: 2³² − 1 rows are the limit.
    pub fn create(&mut self, key: u64) -> Option<u32> {
        let row = u32::try_from(self.len).ok().filter(|row| *row < u32::MAX)?;
        if self.len == self.chunks.len() * ROWS_PER_CHUNK {
            let (keys, floats) = (vec![0; ROWS_PER_CHUNK], vec![0.0; ROWS_PER_CHUNK * self.width]);
            self.chunks.push(Chunk { keys: keys.into(), floats: floats.into() });
        }
        if self.len == self.touched.len() * WORD {
            self.touched.push(0);
        }
        self.len += 1;
        self.set_key(row, key);
        self.index.insert(key, row, |row| key_in(&self.chunks, row));
        self.get_mut(row).fill(0.0);
        self.touch(row);
        Some(row)
    }

    /// Removes a row. The last row takes its number and counts as touched.
    pub fn remove(&mut self, row: u32) {
        let last = self.len as u32 - 1;
        self.copy_if_due(row);
        self.copy_if_due(last);
        let key = self.key(row);
        self.index.remove(key, row);
        self.removed.push(key);
        if row != last {
            let ((to_chunk, to), (chunk, from)) = (self.place(row), self.place(last));
            for i in 0..self.width {
                self.chunks[to_chunk].floats[to + i] = self.chunks[chunk].floats[from + i];
            }
            let moved = self.key(last);
            self.set_key(row, moved);
            self.index.renumber(moved, last, row);
            self.touch(row);
        }
        self.len -= 1;
        self.touched[last as usize / WORD] &= !(1 << (last as usize % WORD));
    }

    /// The floats of a row, `[width]`.
    #[must_use]
    pub fn get(&self, row: u32) -> &[f32] {
        let (chunk, start) = self.place(row);
        &self.chunks[chunk].floats[start..start + self.width]
    }

    /// The floats of a row, `[width]`, to be changed; a change that is to be captured needs [`Rows::touch`].
    pub fn get_mut(&mut self, row: u32) -> &mut [f32] {
        self.copy_if_due(row);
        let (chunk, start) = self.place(row);
        &mut self.chunks[chunk].floats[start..start + self.width]
    }

    /// Marks a row for the next capture.
    pub fn touch(&mut self, row: u32) {
        self.touched[row as usize / WORD] |= 1 << (row as usize % WORD);
    }

    /// A copy of all rows, or of what changed since the capture before. Forgets what was touched and removed, and a capture that is under
    /// way.
    pub fn capture(&mut self, full: bool) -> Captured {
        self.begin_capture(full);
        self.end_capture().map(RowsCopy::captured).unwrap_or_default()
    }

    /// Begins a capture of the rows as they are now: of all, or of what changed since the capture before. Copies none yet; a row that is
    /// about to change is copied before it does. Forgets as [`Rows::capture`] does.
    pub fn begin_capture(&mut self, full: bool) {
        let cleared = vec![0; self.touched.len()];
        let touched = std::mem::replace(&mut self.touched, cleared);
        let removed = std::mem::take(&mut self.removed);
        let due = if full { self.all_rows() } else { touched };
        self.copying = Some(Copying::new(self.width, full, due, removed));
    }

    /// Copies up to `rows` rows of the capture that is under way. Returns how many it copied.
    pub fn copy(&mut self, rows: usize) -> usize {
        let Some(copying) = &mut self.copying else { return 0 };
        let copied = rows.min(copying.left());
        for _ in 0..copied {
            let Some(row) = copying.turn() else { break };
            let (chunk, start) = place(self.width, row);
            copying.take(row, key_in(&self.chunks, row), &self.chunks[chunk].floats[start..start + self.width]);
        }
        copied
    }

    /// Copies what is left of the capture that is under way, if one is, and ends it.
    pub fn end_capture(&mut self) -> Option<RowsCopy> {
        self.copy(usize::MAX);
        self.copying.take().map(Copying::finish)
    }

    /// Has to come before any change of a row.
    fn copy_if_due(&mut self, row: u32) {
        if let Some(copying) = &mut self.copying
            && copying.is_due(row)
        {
            let (chunk, start) = place(self.width, row);
            copying.take_ahead(row, key_in(&self.chunks, row), &self.chunks[chunk].floats[start..start + self.width]);
        }
    }

    fn all_rows(&self) -> RowSet {
        let mut rows = vec![u64::MAX; self.len.div_ceil(WORD)];
        if let Some(last) = rows.last_mut().filter(|_| !self.len.is_multiple_of(WORD)) {
            *last = (1 << (self.len % WORD)) - 1;
        }
        rows
    }

    fn key(&self, row: u32) -> u64 {
        key_in(&self.chunks, row)
    }

    fn set_key(&mut self, row: u32, key: u64) {
        self.chunks[row as usize / ROWS_PER_CHUNK].keys[row as usize % ROWS_PER_CHUNK] = key;
    }

    fn place(&self, row: u32) -> (usize, usize) {
        place(self.width, row)
    }
}

/// The chunk of a row, and where it begins there.
fn place(width: usize, row: u32) -> (usize, usize) {
    (row as usize / ROWS_PER_CHUNK, row as usize % ROWS_PER_CHUNK * width)
}

fn key_in(chunks: &[Chunk], row: u32) -> u64 {
    chunks[row as usize / ROWS_PER_CHUNK].keys[row as usize % ROWS_PER_CHUNK]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(rows: &mut Rows, key: u64, floats: &[f32]) {
        let row = rows.find(key).or_else(|| rows.create(key)).expect("room");
        rows.get_mut(row).copy_from_slice(floats);
        rows.touch(row);
    }

    #[test]
    fn grows_over_chunks_without_losing_a_row() {
        let mut rows = Rows::new(2);
        let count = ROWS_PER_CHUNK as u64 * 2 + 3;
        let key = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for i in 0..count {
            assert_eq!(rows.find(key(i)), None);
            put(&mut rows, key(i), &[i as f32, -1.0]);
        }
        assert_eq!((rows.len() as u64, rows.chunks.len()), (count, 3));
        for i in 0..count {
            assert_eq!(rows.find(key(i)), Some(i as u32));
            assert_eq!(rows.get(i as u32), [i as f32, -1.0]);
        }
    }

    #[test]
    fn an_increment_holds_what_was_touched_since_the_capture_before_in_row_order() {
        let mut rows = Rows::new(1);
        (0..200).for_each(|key| put(&mut rows, key, &[key as f32]));
        assert_eq!(rows.capture(true).keys, (0..200).collect::<Vec<_>>());
        assert_eq!(rows.capture(false), Captured::default());
        for key in [130, 3, 500, 3] {
            put(&mut rows, key, &[0.5]);
        }
        let keys = vec![3, 130, 500];
        assert_eq!(rows.capture(false), Captured { keys, data: vec![0.5; 3], places: vec![3, 130, 200], removed: vec![] });
        assert_eq!(rows.capture(false), Captured::default());
    }

    #[test]
    fn restores_bit_equal_and_untouched() {
        let mut rows = Rows::new(2);
        for key in [9, 2, 77] {
            put(&mut rows, key, &[key as f32, -0.0]);
        }
        let captured = rows.capture(true);
        let mut other = Rows::restored(2, &captured.keys, &captured.data).expect("whole");
        assert_eq!(other.capture(false), Captured::default());
        assert_eq!(other.capture(true), captured);
    }

    #[test]
    fn the_last_row_takes_the_place_of_one_that_is_removed_and_room_is_used_again() {
        let mut rows = Rows::new(1);
        (10..15).for_each(|key| put(&mut rows, key, &[key as f32]));
        let _ = rows.capture(true);
        put(&mut rows, 14, &[99.0]);
        rows.remove(1);
        rows.remove(3);
        assert_eq!((rows.len(), rows.find(11), rows.find(13), rows.find(14)), (3, None, None, Some(1)));
        assert_eq!(rows.capture(false), Captured { keys: vec![14], data: vec![99.0], places: vec![1], removed: vec![11, 13] });
        let back = rows.create(13).expect("room");
        assert_eq!((back, rows.get(back)), (3, [0.0].as_slice()));
        rows.remove(back);
        put(&mut rows, 13, &[5.0]);
        rows.remove(0);
        rows.remove(0);
        assert_eq!(rows.capture(true).keys, [12, 14]);
        assert_eq!(rows.capture(false), Captured::default());
    }

    #[test]
    fn a_key_that_comes_back_is_not_among_the_removed() {
        let mut rows = Rows::new(1);
        (0..3).for_each(|key| put(&mut rows, key, &[1.0]));
        let _ = rows.capture(true);
        for key in [2, 1, 2] {
            rows.remove(rows.find(key).expect("there"));
            put(&mut rows, key, &[2.0]);
        }
        rows.remove(0);
        let increment = rows.capture(false);
        assert_eq!((increment.removed, rows.len()), (vec![0], 2));
    }

    #[test]
    fn refuses_what_does_not_make_rows() {
        let refused = |keys: &[u64], data: &[f32]| Rows::restored(2, keys, data).expect_err("no rows");
        assert_eq!(refused(&[5], &[0.0; 3]), RowsError::Length { keys: 1, floats: 3, width: 2 });
        assert_eq!(refused(&[5, 5], &[0.0; 4]), RowsError::Duplicate { key: 5 });
    }
}
