//! Committed checkpoint → snapshot on the topic; and the operator's acts on the same topic.
//!
//! architecture invariant: no Burn, no nets. A snapshot is read back from the committed files, so that only what is durable is published.

mod artifact;
mod bases;
mod delta;
mod gates;
mod manifest;
mod operator;
mod package;
mod publisher;
mod report_topic;
mod retention;
mod rollout;
mod rows;
mod topic;

pub use operator::{Operator, OperatorError, held_versions};
pub use publisher::{PublishError, Published, Publisher, trainer_keys};
pub use report_topic::ReportTopic;
pub use rollout::{Rollout, Trial};
pub use topic::Exhausted;
