//! Files as streams: rows, what replay makes of a row, and a finite source.

mod rows;
mod source;
mod split;

pub use rows::FileRows;
pub use source::FileSource;
pub use split::{RowError, SplitRow, split_row};
