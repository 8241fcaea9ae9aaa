use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::KafkaError;

use super::context::Context;
use super::metadata::{TopicShape, Topics};
use super::settings;
use super::topic_admin::block_on;
use crate::config::{Config, StreamMode};
use crate::stream::StreamError;

/// Bytes of a record beside its value: key, headers, and the frame of a batch of one.
const RECORD_MARGIN: u64 = 4 << 10;
/// Largest manifest, pointer or other small record of the snapshot topic.
const SNAPSHOT_RECORD_BYTES: u64 = 1 << 20;
/// Replicas below which a lost broker can lose acknowledged records.
const REPLICAS_SAFE: usize = 3;

/// What is right and wrong with one topic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicCheck {
    /// Topic.
    pub topic: String,
    /// What it is for: `events`, `impressions`, `clicks`, `dead_letters`, `snapshots`, `acks`.
    pub role: &'static str,
    /// Partitions; `None`: it does not exist.
    pub partitions: Option<i32>,
    /// What is wrong and the way out; empty: nothing.
    pub problems: Vec<String>,
    /// What could not be checked on this broker, and what is allowed but weak.
    pub notes: Vec<String>,
}

/// The configured topics and what they are for.
pub(super) fn configured(config: &Config) -> Vec<(String, &'static str)> {
    let mut all = match config.topics.mode {
        StreamMode::Labelled => vec![(config.events_topic(), "events")],
        StreamMode::Joined => vec![(config.impressions_topic(), "impressions"), (config.clicks_topic(), "clicks")],
    };
    all.extend([(config.dead_letters_topic(), "dead_letters"), (config.snapshots_topic(), "snapshots"), (config.acks_topic(), "acks")]);
    all
}

/// Bytes that `max.message.bytes` of the snapshot topic must allow.
pub(super) fn snapshot_message_bytes(config: &Config) -> u64 {
    config.publish.chunk.0.saturating_add(RECORD_MARGIN).max(SNAPSHOT_RECORD_BYTES)
}

/// Checks every topic of the configuration: that it exists, its partitions, and its settings where the broker tells them.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::Setting`].
pub fn check_topics(config: &Config) -> Result<Vec<TopicCheck>, StreamError> {
    let admin: AdminClient<Context> = settings::admin(&config.kafka)?;
    let known = Topics::fetch(admin.inner(), &config.kafka)?;
    let topics = configured(config);
    let existing: Vec<&str> = topics.iter().map(|(topic, _)| topic.as_str()).filter(|topic| known.get(topic).is_some()).collect();
    let told = topic_settings(&admin, &existing, config.kafka.timeout.0);
    let check = |(topic, role): &(String, &'static str)| {
        let mut check = TopicCheck { topic: topic.clone(), role, partitions: None, problems: Vec::new(), notes: Vec::new() };
        let Some(shape) = known.get(topic) else {
            let why = "does not exist; create it with `rocketctl topics create`";
            if *role == "acks" && config.publish.canary.share == 0.0 {
                check.notes.push(format!("{why}, before servers report or publish.canary.share is set"));
            } else {
                check.problems.push(why.to_owned());
            }
            return check;
        };
        check_shape(&mut check, shape);
        match told.as_ref().map(|told| told.get(topic)) {
            Ok(Some(found)) => check_settings(&mut check, found, config),
            Ok(None) => check.notes.push("this broker does not tell its settings".to_owned()),
            Err(why) => check.notes.push(format!("this broker does not tell its settings ({why})")),
        }
        check
    };
    Ok(topics.iter().map(check).collect())
}

fn check_shape(check: &mut TopicCheck, shape: &TopicShape) {
    check.partitions = Some(shape.partitions);
    if matches!(check.role, "snapshots" | "acks") && shape.partitions != 1 {
        check.problems.push(format!(
            "has {} partitions; exactly one keeps the order of its records: make it anew under another name and set topics.{}",
            shape.partitions, check.role
        ));
    }
    for partition in &shape.leaderless {
        check.problems.push(format!("partition {partition} has no leader; bring its broker back"));
    }
    if shape.replicas < REPLICAS_SAFE {
        check.notes.push(format!("{} replica(s); production wants {REPLICAS_SAFE} with min.insync.replicas=2", shape.replicas));
    }
}

fn check_settings(check: &mut TopicCheck, found: &BTreeMap<String, String>, config: &Config) {
    let policy = found.get("cleanup.policy").map_or("delete", String::as_str);
    if check.role == "snapshots" {
        if policy != "compact" {
            check.problems.push(format!(
                "cleanup.policy is {policy}; with anything but compact the version that is served can be deleted: set it to compact"
            ));
        }
        let wanted = snapshot_message_bytes(config);
        match found.get("max.message.bytes").map(|value| value.parse::<u64>()) {
            Some(Ok(bytes)) if bytes < wanted => {
                check.problems.push(format!("max.message.bytes is {bytes}; a chunk needs {wanted}: raise it, or lower publish.chunk"));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => check.notes.push(format!("max.message.bytes is not told; it must be at least {wanted}")),
        }
    } else if check.role == "acks" {
        if policy != "compact" {
            check.problems.push(format!("cleanup.policy is {policy}; what every server last reported has to stay: set it to compact"));
        }
    } else if policy.contains("compact") {
        check.problems.push(format!("cleanup.policy is {policy}; compaction drops records that share a key: set it to delete"));
    }
    let is_events = matches!(check.role, "events" | "impressions" | "clicks");
    if is_events && found.get("message.timestamp.type").is_some_and(|value| value == "CreateTime") {
        check
            .notes
            .push("message.timestamp.type is CreateTime: retention deletes events that are sent with old times as they come in".to_owned());
    }
    if found.get("min.insync.replicas").is_some_and(|value| value == "1") {
        check.notes.push("min.insync.replicas is 1: an acknowledged record can be lost with its broker; production wants 2".to_owned());
    }
}

/// Settings by topic, in one request; a topic that the broker says nothing about is left out.
fn topic_settings(
    admin: &AdminClient<Context>,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, KafkaError> {
    let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answers = block_on(admin.describe_configs(&asked, &AdminOptions::new().request_timeout(Some(timeout))))?;
    let told = answers.into_iter().flatten().filter_map(|resource| match resource.specifier {
        OwnedResourceSpecifier::Topic(topic) if !resource.entries.is_empty() => {
            Some((topic, resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()))
        }
        _ => None,
    });
    Ok(told.collect())
}
