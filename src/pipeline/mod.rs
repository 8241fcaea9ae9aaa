//! Stages, channels, threads, shutdown: the only wiring.
//!
//! ```text
//! reader ─chunks─▶ ingest (decode, join, batch) ─batches─▶ trainer ─evaluations─▶ evaluate (reads sled)
//!                                                            └─jobs─▶ checkpoint (writes sled, files) ─▶ publish (snapshot topic)
//! ```
//! Every arrow is a bounded channel; a full one waits, and a reader that waits pauses its source but keeps polling it. A thread ends when
//! what feeds it ends, so a stop runs down the line. An error or a panic on any thread ends the pipeline with an error.
//!
//! A source may bring new partitions while it runs. Each is told down the line before its first record: to ingest, which follows its offsets
//! and lets it take part in the watermark, and with the next batch to the trainer, which keeps its books. So nothing has to stop for it.
//!
//! Where labels come early, an impression is trained, and so done, before its label is final. Until it is, the trainer keeps the scores it
//! got first (they are part of the checkpoint) and holds its partition's position at it: after a restart it is read again and given to the
//! join with its window open, counted once all the same. Its label is final at its click or when the join closes its window; then those
//! scores go to evaluate.

mod control;
mod evidence;
mod exporting;
mod freshness;
mod ingest;
mod intake;
mod keeper;
mod letters;
mod memory;
mod open;
mod progress;
mod reader;
mod recover;
mod reset;
mod rolling;
mod run;
mod schema_change;
mod seen;
mod shared;
mod status;
mod teaching;
mod trainer;

pub use control::Control;
pub use freshness::Freshness;
pub use intake::Intake;
pub use reset::{Move, Moved, Reset};
pub use run::{OpenSource, Parts, PipelineError, Running, State, Summary};
pub(crate) use run::{USERS_EXPORTS, USERS_STORE};
pub use status::{HeldBack, Status};
