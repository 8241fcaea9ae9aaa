//! Points where tests end the program or make a file operation fail. In a build without the feature `failpoints` they are nothing.
//!
//! A point is named after what is being made durable and how far that has come: `commit.rename`. The environment variable `FAILPOINTS` arms
//! points, in the language of the crate [`fail`](https://docs.rs/fail): `commit.rename=2*off->return(kill)` spares the first two times.
//!
//! | action | does |
//! |---|---|
//! | `return(kill)` | ends the process at once: no destructor, no handler, nothing flushed |
//! | `return(28)` | the operation fails with this error of the operating system (28: no space left, 5: input/output error) |
//!
//! Each time a point is reached, target `failpoint` says its name at level trace.

use std::fmt::Arguments;
use std::io;

/// Reads `FAILPOINTS`. Once, before anything else.
#[cfg(feature = "failpoints")]
pub fn arm() {
    // Its drop would disarm the points.
    std::mem::forget(fail::FailScenario::setup());
}

/// The program is at `point`, where it may be told to end, or that the operation it is about to do has failed.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: Arguments<'_>) -> io::Result<()> {
    let point = point.to_string();
    tracing::trace!(target: "failpoint", point);
    fail::fail_point!(&point, |action| match action.as_deref().map(str::parse) {
        Some(Ok(code)) => Err(io::Error::from_raw_os_error(code)),
        _ => std::process::abort(),
    });
    Ok(())
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "the shape of its other self")]
#[inline]
pub(crate) fn reach(_point: Arguments<'_>) -> io::Result<()> {
    Ok(())
}
