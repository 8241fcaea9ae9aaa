//! Readiness and the watchdog of systemd. Without systemd (no `NOTIFY_SOCKET`) all of it does nothing.

use sd_notify::NotifyState;

use crate::telemetry::Health;

/// Recovered and reading.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Leaving.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog at half its interval, only while the training loop makes progress: a stuck trainer is restarted, not kept warm.
/// Never returns; ends at once where no watchdog is asked for.
pub(super) async fn feed_watchdog(health: Health) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut rounds = tokio::time::interval(limit / 2);
    loop {
        rounds.tick().await;
        let verdict = health.live();
        if verdict.ok {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("systemd's watchdog is not fed: {}", verdict.why);
        }
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("telling systemd: {e}");
    }
}
