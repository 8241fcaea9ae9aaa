use std::process::ExitCode;

use tokio::task::JoinError;

use crate::bench::BenchError;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::evaluate::EvaluateError;
use crate::features::FeatureError;
use crate::keys::KeyError;
use crate::pipeline::PipelineError;
use crate::publish::{OperatorError, PublishError};
use crate::serving::ObjectError;
use crate::store::StoreError;
use crate::stream::StreamError;
use crate::telemetry::LogError;
use crate::telemetry::admin::AdminError;
use crate::train::TrainError;

/// Exit code of a command line that cannot be (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;
/// Exit code of a configuration that has to change before a next try (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// What it was that ended a command, by exit code. Below this room errors are typed; from here on they are only shown.
#[derive(Debug)]
pub enum Failure {
    /// Something failed while running: 1.
    Failed(anyhow::Error),
    /// The command line cannot be: 64.
    Usage(anyhow::Error),
    /// The configuration has to change before a next try: 78.
    Config(anyhow::Error),
    /// No broker answered: 1. The daemon waits for one instead.
    Outage(anyhow::Error),
}

impl Failure {
    /// The process's exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) | Failure::Outage(_) => 1,
            Failure::Usage(_) => USAGE,
            Failure::Config(_) => CONFIG,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Failure::Failed(anyhow::Error::msg(message.into()))
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(anyhow::Error::msg(message.into()))
    }
}

/// Every cause on one line.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Failed(error) | Failure::Usage(error) | Failure::Config(error) | Failure::Outage(error) => write!(f, "{error:#}"),
        }
    }
}

/// Says on standard error why a command of `program` failed, and gives its exit code.
#[must_use]
pub fn exit_code(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error.into())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Failure::Config(error.into())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Failure::Config(error.into())
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unusable { .. } => Failure::Config(error.into()),
            _ => Failure::Failed(error.into()),
        }
    }
}

impl From<FeatureError> for Failure {
    fn from(error: FeatureError) -> Self {
        Failure::Config(error.into())
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Device { .. } => Failure::Config(error.into()),
            _ => Failure::Failed(error.into()),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Train(error) => error.into(),
            BenchError::Store(error) => error.into(),
            BenchError::Stream(error) => error.into(),
            error => Failure::Failed(error.into()),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Setting { .. } => Failure::Config(error.into()),
            StreamError::Unreachable { .. } => Failure::Outage(error.into()),
            _ => Failure::Failed(error.into()),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Stream(error) => error.into(),
            PublishError::Key(error) => error.into(),
            _ => Failure::Failed(error.into()),
        }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Stream(error) => error.into(),
            PipelineError::Feature(error) => error.into(),
            PipelineError::Train(error) => error.into(),
            PipelineError::Evaluate(EvaluateError::From { .. }) => Failure::Config(error.into()),
            _ => Failure::Failed(error.into()),
        }
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Stream(error) => error.into(),
            _ => Failure::Failed(error.into()),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(super) fn panicked(error: JoinError) -> Failure {
    Failure::failed(format!("a thread of the daemon panicked ({error}); its message is in the log"))
}

/// Errors that no configuration mends.
macro_rules! failed {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Failed(error.into())
            }
        })+
    };
}

failed!(AdminError, CheckpointError, StoreError, serde_json::Error, std::io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_answer_is_told_from_the_rest() {
        let down = || StreamError::Unreachable { brokers: "b".to_owned(), why: "refused".to_owned() };
        let outages: [Failure; 3] = [down().into(), PipelineError::Stream(down()).into(), PublishError::Stream(down()).into()];
        assert!(outages.iter().all(|failure| matches!(failure, Failure::Outage(_)) && failure.code() == 1), "{outages:?}");
    }

    #[test]
    fn what_only_a_new_config_can_mend_is_78_and_the_rest_1() {
        let device = || TrainError::Device { device: "cuda:9".to_owned(), why: "no such device".to_owned() };
        let setting = || StreamError::Setting { key: "acks".to_owned(), why: "ours".to_owned() };
        let config: [Failure; 4] =
            [device().into(), setting().into(), PipelineError::Train(device()).into(), PipelineError::Stream(setting()).into()];
        assert!(config.iter().all(|failure| failure.code() == 78), "{config:?}");

        let missing = StreamError::MissingTopic { topic: "t".to_owned(), brokers: "b".to_owned() };
        let failed: [Failure; 3] = [PipelineError::Stream(missing).into(), PipelineError::Panicked("trainer").into(), Failure::failed("x")];
        assert!(failed.iter().all(|failure| failure.code() == 1), "{failed:?}");
    }
}
