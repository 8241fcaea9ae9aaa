//! Configuration → application → run: one file per command of rocketd.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, or asked to leave and left with everything committed |
//! | 1 | failed; the last line says what, where and the way out |
//! | 64 | usage: the command line cannot be |
//! | 78 | configuration: a key or value that has to change before a next try |

mod check;
pub mod demo;
mod failure;
mod gauges;
mod outage;
mod rewind;
mod run;
mod signals;
mod systemd;

pub use check::check;
pub use failure::{Failure, USAGE, exit_code};
pub use run::run;

/// The variables of this process that are text; a name or value that is not cannot be one of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
