//! A broker that does not answer yet is waited for: systemd would give up, or begin all over, where waiting is all there is to do.

use std::time::Duration;

use super::failure::{Failure, panicked};
use super::signals::Signals;
use super::systemd;
use crate::telemetry::Health;

/// First and longest pause between two attempts: prompt after a short outage, one line of log in half a minute during a long one.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What `build` makes, however long it takes until a broker answers. `None`: a signal came first.
///
/// # Errors
/// Every other failure of `build`, at once.
pub(super) async fn build<T, B>(signals: &mut Signals, health: &Health, build: B) -> Result<Option<T>, Failure>
where
    T: Send + 'static,
    B: Fn() -> Result<T, Failure> + Clone + Send + 'static,
{
    let mut pause = PAUSE.0;
    loop {
        let why = tokio::select! {
            built = tokio::task::spawn_blocking(build.clone()) => match built.map_err(panicked)? {
                Ok(built) => {
                    health.waiting_for(None);
                    return Ok(Some(built));
                }
                Err(Failure::Outage(why)) => format!("{why:#}"),
                Err(failure) => return Err(failure),
            },
            signal = signals.next() => return leave(signal),
        };
        tracing::warn!(pause_s = pause.as_secs(), "waiting for the broker: {why}");
        systemd::waiting(&format!("waiting for the broker: {why}"));
        health.waiting_for(Some(why));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            signal = signals.next() => return leave(signal),
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what `build` returns")]
fn leave<T>(signal: &str) -> Result<Option<T>, Failure> {
    tracing::info!("{signal} while recovering: leaving, nothing was changed");
    Ok(None)
}
