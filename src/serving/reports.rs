//! What servers tell of themselves: sent beside serving, and folded by whoever wants to know where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::{Shared, now_ms};
use super::subscriber::SubscriberConfig;
use crate::stream::{LogRecord, LogWriter, StreamError};
use crate::telemetry::names;
use crate::wire::snapshot::{PROTOCOL, RecordError, ServerReport};

/// How often a server says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How soon a change is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// First wait after a report that was not taken; doubles.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Servers kept in memory; the one that was heard of longest ago gives way.
const HOSTS_MAX: usize = 10_000;

/// Opens the acknowledgement topic for writing.
type OpenWriter = dyn Fn() -> Result<Box<dyn LogWriter>, StreamError> + Send + Sync;

/// Where reports go, and how often at least.
#[derive(Clone)]
pub struct Reporting {
    open: Arc<OpenWriter>,
    /// Without a change one is sent this often.
    pub every: Duration,
}

impl Reporting {
    /// `open` is called on a thread of its own, again after every report that was not taken.
    pub fn new(open: impl Fn() -> Result<Box<dyn LogWriter>, StreamError> + Send + Sync + 'static) -> Self {
        Reporting { open: Arc::new(open), every: HEARTBEAT }
    }
}

impl std::fmt::Debug for Reporting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporting").field("every", &self.every).finish_non_exhaustive()
    }
}

/// Sends where the server stands whenever that changes, and now and then. What is sent is always how it is now: nothing queues up while the
/// broker is away, and serving never waits.
pub(super) fn report(config: &SubscriberConfig, reporting: &Reporting, shared: &Shared) {
    let mut writer: Option<Box<dyn LogWriter>> = None;
    let mut sent: Option<(ServerReport, Instant)> = None;
    let (mut backoff, mut not_before) = (BACKOFF_MIN, Instant::now());
    while !shared.is_stopping() {
        let now = current(config, shared);
        let news = sent
            .as_ref()
            .is_none_or(|(last, at)| ServerReport { at_ms: now.at_ms, ..last.clone() } != now || at.elapsed() >= reporting.every);
        if news && Instant::now() >= not_before {
            match send(&mut writer, &reporting.open, &now) {
                Ok(()) => {
                    metrics::counter!(names::SERVER_REPORTS, "result" => "sent").increment(1);
                    (sent, backoff) = (Some((now, Instant::now())), BACKOFF_MIN);
                }
                Err(error) => {
                    metrics::counter!(names::SERVER_REPORTS, "result" => "failed").increment(1);
                    tracing::debug!(%error, "report not sent");
                    (writer, not_before) = (None, Instant::now() + backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
        std::thread::park_timeout(LOOK);
    }
}

fn current(config: &SubscriberConfig, shared: &Shared) -> ServerReport {
    let (version, target, state) = shared.standing();
    ServerReport {
        proto: PROTOCOL,
        model: config.model.clone(),
        host: config.host.clone(),
        group: config.group.clone(),
        version,
        target,
        state,
        at_ms: now_ms(),
    }
}

fn send(writer: &mut Option<Box<dyn LogWriter>>, open: &Arc<OpenWriter>, report: &ServerReport) -> Result<(), StreamError> {
    let writer = match writer {
        Some(writer) => writer,
        None => writer.insert(open()?),
    };
    writer.append(&[(report.host.clone().into_bytes(), Some(report.encode()))])
}

/// The fold of an acknowledgement topic: the latest report of each server. No I/O.
#[derive(Debug, Clone)]
pub struct Reports {
    model: String,
    by_host: BTreeMap<String, ServerReport>,
}

impl Reports {
    /// Empty, for this model; reports of others are passed over.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Reports { model: model.to_owned(), by_host: BTreeMap::new() }
    }

    /// Takes one record in; a tombstone forgets its server.
    ///
    /// # Errors
    /// [`RecordError`]: no report; nothing has changed.
    pub fn apply(&mut self, record: &LogRecord) -> Result<(), RecordError> {
        let Some(value) = &record.value else {
            if let Ok(host) = std::str::from_utf8(&record.key) {
                self.by_host.remove(host);
            }
            return Ok(());
        };
        let report = ServerReport::decode(&record.key, value)?;
        if report.model != self.model {
            return Ok(());
        }
        if self.by_host.len() == HOSTS_MAX && !self.by_host.contains_key(&report.host) {
            let oldest = self.by_host.values().min_by_key(|report| report.at_ms).map(|report| report.host.clone());
            oldest.into_iter().for_each(|host| drop(self.by_host.remove(&host)));
        }
        self.by_host.insert(report.host.clone(), report);
        Ok(())
    }

    /// The latest report of every server, by name.
    pub fn servers(&self) -> impl Iterator<Item = &ServerReport> {
        self.by_host.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Version;
    use crate::wire::snapshot::ServerState;

    fn record(host: &str, version: u64, at_ms: i64) -> LogRecord {
        let (model, state) = ("ctr".to_owned(), ServerState::Serving);
        let version = Some(Version(version));
        let report = ServerReport { proto: PROTOCOL, model, host: host.to_owned(), group: None, version, target: version, state, at_ms };
        LogRecord { offset: 0, key: host.into(), value: Some(report.encode()) }
    }

    #[test]
    fn the_latest_report_of_each_server_of_the_model_is_kept() {
        let mut reports = Reports::new("ctr");
        for record in [record("b", 1, 1), record("a", 1, 2), record("b", 2, 3)] {
            reports.apply(&record).unwrap();
        }
        let held: Vec<_> = reports.servers().map(|report| (report.host.as_str(), report.version.unwrap().0)).collect();
        assert_eq!(held, [("a", 1), ("b", 2)]);
        assert!(reports.apply(&LogRecord { offset: 0, key: b"a".to_vec(), value: Some(b"?".to_vec()) }).is_err());
        reports.apply(&LogRecord { offset: 0, key: b"a".to_vec(), value: None }).unwrap();
        assert_eq!(reports.servers().count(), 1);
        let mut other = Reports::new("search");
        other.apply(&record("a", 1, 1)).unwrap();
        assert_eq!(other.servers().count(), 0);
    }

    #[test]
    fn many_names_push_out_those_heard_of_longest_ago_and_no_more() {
        let mut reports = Reports::new("ctr");
        for number in 0..HOSTS_MAX + 5 {
            reports.apply(&record(&format!("h{number}"), 1, number as i64)).unwrap();
        }
        assert_eq!(reports.servers().count(), HOSTS_MAX);
        assert_eq!(reports.servers().map(|report| report.at_ms).min(), Some(5));
    }
}
