//! Impressions ⋈ clicks on the impression id, in event time. No clock: time comes in as an argument.
//!
//! The **watermark** says how far event time has come: the least of the partitions' newest event times, idle partitions left out. An event
//! may come up to `grace` later than the watermark, so everything up to *watermark − grace* is **settled**: what is going to come has come.
//!
//! | happening | when |
//! |---|---|
//! | a click counts | `t_impression − grace <= t_click <= t_impression + window` (a click's clock may be behind) |
//! | an impression closes | settled time reaches `t_impression + window`: watermark `>= t_impression + window + grace` |
//! | a click without impression is given up | settled time reaches `t_click + grace`, the last time its impression may bear |
//! | a closed impression is forgotten | settled time passes `t_impression + memory` |
//!
//! With `emit = "in_order"` events are sorted until they are settled and then taken in the order of (time, partition, offset): as long as
//! nothing comes later than `grace` within its own partition, all output is the same for every interleaving of the partitions. With
//! `emit = "on_click"` events are taken as they arrive.
//!
//! With `emit = "early"` they are taken in order, and an impression does not wait for its window to close. What leaves, and when, `wait`
//! being 0 where there is none:
//!
//! | what happens to an impression | leaves as |
//! |---|---|
//! | clicked by `t_impression + wait` (never without a wait) | at its click, `Final` positive |
//! | not clicked by then | at that time, `Open` negative |
//! | clicked after that, in its window | at its click, `Delayed` positive |
//! | not clicked in its window either | at its end, told as closed: it was a negative for good |

mod joiner;
mod watermark;
mod windows;

pub use joiner::{JoinOutput, Joiner};
