//! The collisionless growing embedding table with sparse optimizers.
//!
//! [`Rows`] stores fixed-width rows by exact key; [`Table`] is such rows with initial weights and an optimizer. All slots of `dim` weights
//! per id share one table; where there are slots of several dims, each dim has a table and a [`Gather`] of its own. A batch is read in
//! three moves: [`Gather::read`] pools its ids into one input matrix on the host, so that autodiff sees a leaf of `[rows, width]` and never
//! the table; [`Gather::scatter`] turns the gradient of that matrix into one gradient per distinct id; [`Gather::apply`] updates those rows.
//! Nothing in the table changes before `apply`, so a batch that is given up leaves no trace, not even rows for its new ids.
//!
//! Everything runs on the calling thread and in the order of the batch: the same batches give the same bits.

mod admission;
mod click_counts;
mod copying;
mod expiry;
mod gather;
mod index;
mod layout;
mod optimizer;
mod random;
mod rows;
mod state;
mod table;

pub use admission::AdmissionState;
pub use click_counts::{ClickCounts, CountsCopy, CountsError, CountsState};
pub use copying::RowsCopy;
pub use expiry::SweepState;
pub use gather::Gather;
pub use layout::{InputLayout, SequenceLayout, SlotLayout};
pub use optimizer::RowOptimizer;
pub use rows::{Captured, Rows, RowsError};
pub use state::{RowsState, TableError};
pub use table::{Table, TableCopy};
