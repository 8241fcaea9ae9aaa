use std::time::Duration;

use crate::telemetry::server::ConnectionLimits;

/// Several pages of candidates of one auction; a request of this many takes a few milliseconds.
const CANDIDATES_MAX: usize = 5000;
/// Five thousand candidates of some eight hundred bytes each.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Requests held at once; times the body's limit, it bounds their memory. More are told to come back.
const IN_FLIGHT_MAX: usize = 256;
/// A body that has not come by then comes from a client that has gone.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// An auction has long been decided by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Some thousand ad servers with a few connections each have a load balancer before them.
const CONNECTIONS_MAX: usize = 4096;
/// Cookies and tracing headers of a request that came through several proxies.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Pools of connections keep them idle this long, as a rule.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that has read nothing by then has gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Candidates per request, those of a whole batch taken together.
    pub candidates_max: usize,
    /// Bytes per request body.
    pub body_bytes_max: usize,
    /// Requests held at once; above it the answer is 503.
    pub in_flight_max: usize,
    /// Requests computed at once, each on a thread of its own.
    pub computing_max: usize,
    /// How long the body of a request over HTTP may take to come; then the answer is 408.
    pub body_timeout: Duration,
    /// How long a scoring request may take in all, waiting for a core included; then the answer is 503.
    pub request_timeout: Duration,
    /// What a connection may cost.
    pub connection: ConnectionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            candidates_max: CANDIDATES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            // One per core: more would only slow each other.
            computing_max: std::thread::available_parallelism().map_or(1, usize::from),
            body_timeout: BODY_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            connection: ConnectionLimits {
                connections_max: CONNECTIONS_MAX,
                header_bytes_max: HEADER_BYTES_MAX,
                header_timeout: HEADER_TIMEOUT,
                write_timeout: WRITE_TIMEOUT,
            },
        }
    }
}
