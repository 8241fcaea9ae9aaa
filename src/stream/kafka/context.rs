//! What librdkafka says on its own account, and what its errors mean to us.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::config::KafkaConfig;
use crate::stream::StreamError;

/// Context of consumers and admin clients: log lines and errors go to `tracing`.
#[derive(Debug, Default)]
pub(super) struct Context {
    commit_failed: AtomicBool,
}

impl Context {
    /// Says once that advisory commits fail; lag tools are off then, training is not.
    pub(super) fn warn_commit(&self, error: &KafkaError) {
        if !self.commit_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "offsets for lag tools cannot be committed; training does not depend on them");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        match result {
            Ok(()) => self.commit_failed.store(false, Ordering::Relaxed),
            Err(error) => self.warn_commit(&error),
        }
    }
}

/// A line of librdkafka's own log.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// An error event. Most are outages that librdkafka gets over by itself; the end of a partition comes this way too and is none.
pub(super) fn log_error(error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

/// What an error from polling a consumer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// librdkafka gets over it; it is in the log already.
    Passing,
    /// The broker no longer (or not yet) has the position.
    PositionLost,
    /// The topic or a partition seems to be gone.
    TopicGone,
    /// Reading cannot go on.
    Fatal,
}

/// Judges an error of polling.
pub(super) fn judge(error: &KafkaError) -> Verdict {
    use RDKafkaErrorCode as Code;
    match error {
        KafkaError::MessageConsumptionFatal(_) => Verdict::Fatal,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => Verdict::PositionLost,
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => Verdict::TopicGone,
            Code::Fatal | Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::TopicAuthorizationFailed => Verdict::Fatal,
            _ => Verdict::Passing,
        },
        _ => Verdict::Passing,
    }
}

/// An error of a request to the broker.
pub(super) fn request_error(kafka: &KafkaConfig, doing: &'static str, error: &KafkaError) -> StreamError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::Resolve
            | Code::RequestTimedOut,
        ) => StreamError::Unreachable { brokers: kafka.brokers.clone(), why: error.to_string() },
        _ => StreamError::Client { doing, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_passes_and_a_lost_position_does_not() {
        use RDKafkaErrorCode as Code;
        for (code, verdict) in [
            (Code::AllBrokersDown, Verdict::Passing),
            (Code::BrokerTransportFailure, Verdict::Passing),
            (Code::NotLeaderForPartition, Verdict::Passing),
            (Code::AutoOffsetReset, Verdict::PositionLost),
            (Code::UnknownTopicOrPartition, Verdict::TopicGone),
            (Code::BadMessage, Verdict::Fatal),
        ] {
            assert_eq!(judge(&KafkaError::MessageConsumption(code)), verdict, "{code:?}");
        }
        assert_eq!(judge(&KafkaError::MessageConsumptionFatal(Code::AllBrokersDown)), Verdict::Fatal);
    }
}
