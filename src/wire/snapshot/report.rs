use serde::{Deserialize, Serialize};

use super::{Group, RecordError};
use crate::domain::Version;

/// Largest report a reader looks at.
const REPORT_BYTES_MAX: usize = 8 << 10;
/// Longest name of a server.
const HOST_BYTES_MAX: usize = 255;
/// Longest reason that is sent.
const REASON_CHARS_MAX: usize = 500;

/// Where a server stands: a record of the acknowledgement topic, under the server's name, plain JSON.
///
/// Nobody signs it, since servers have no keys. Whoever may write to that topic can hold a canary up or have it taken back, and can say that
/// a canary is served which no server serves; he cannot have anything served that a trusted key has not signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// The server's name.
    pub host: String,
    /// The group that it is pinned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// What it serves.
    pub version: Option<Version>,
    /// What the snapshot topic tells it to serve.
    pub target: Option<Version>,
    /// How far it is with that.
    #[serde(flatten)]
    pub state: ServerState,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// How far a server is with its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServerState {
    /// It serves it.
    Serving,
    /// Not yet.
    Waiting,
    /// It has refused it, and serves on what it served before.
    Refused {
        /// Why.
        reason: String,
    },
}

impl ServerState {
    /// Refused for this reason, cut to what a report holds.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        ServerState::Refused { reason: reason.chars().take(REASON_CHARS_MAX).collect() }
    }
}

impl ServerReport {
    /// The record's value.
    ///
    /// # Panics
    /// Never: a report is plain data with string keys.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a report is plain data with string keys")
    }

    /// Reads a record of the acknowledgement topic.
    ///
    /// # Errors
    /// [`RecordError`]: not a report, of a newer program, or not the one its key says.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let malformed = |why: String| RecordError::Malformed { what: "report", why };
        if value.len() > REPORT_BYTES_MAX {
            return Err(malformed(format!("{} bytes are above the limit of {REPORT_BYTES_MAX}", value.len())));
        }
        let report: ServerReport = super::envelope::payload_of("report", value)?;
        if report.host.is_empty() || report.host.len() > HOST_BYTES_MAX {
            return Err(malformed(format!("a server's name has 1 to {HOST_BYTES_MAX} bytes")));
        }
        if report.host.as_bytes() != key {
            return Err(malformed(format!("it is of `{}`, and its key of another server", report.host)));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::snapshot::PROTOCOL;

    fn any_report() -> impl Strategy<Value = ServerReport> {
        let state = prop_oneof![
            Just(ServerState::Serving),
            Just(ServerState::Waiting),
            ".{0,700}".prop_map(|reason| ServerState::refused(&reason)),
        ];
        let group = proptest::option::of("[a-z]{4,32}".prop_filter_map("no group", |name| name.parse().ok()));
        (".{1,40}", group, any::<Option<u64>>(), state, any::<i64>()).prop_map(|(host, group, version, state, at_ms)| ServerReport {
            proto: PROTOCOL,
            model: "ctr".to_owned(),
            host,
            group,
            version: version.map(Version),
            target: Some(Version(7)),
            state,
            at_ms,
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(report in any_report()) {
            let read = ServerReport::decode(report.host.as_bytes(), &report.encode());
            prop_assert_eq!(read, Ok(report));
        }

        #[test]
        fn any_bytes_are_survived(key in proptest::collection::vec(any::<u8>(), 0..20), value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _refused = ServerReport::decode(&key, &value);
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let good = r#"{"proto":1,"model":"ctr","host":"ad-1","version":7,"target":8,"state":"refused","reason":"hash","at_ms":5}"#;
        let report = ServerReport::decode(b"ad-1", good.as_bytes()).unwrap();
        assert_eq!((report.state, report.group), (ServerState::refused("hash"), None));
        for (key, value) in [
            ("ad-2", good.to_owned()),
            ("ad-1", good.replace("refused", "dancing")),
            ("ad-1", good.replace("\"proto\":1", "\"proto\":99")),
            ("ad-1", good.replace("hash", &"x".repeat(REPORT_BYTES_MAX))),
            ("", good.replace("ad-1", "")),
            ("ad-1", "{}".to_owned()),
        ] {
            assert!(ServerReport::decode(key.as_bytes(), value.as_bytes()).is_err(), "{value}");
        }
    }
}
