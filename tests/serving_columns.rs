//! Promise: after a change of the trainer's schema, a server that cannot feed or does not know a feature refuses the version, says which
//! feature, and serves the old one on.

mod serving_support;

use std::collections::BTreeSet;

use rocket_launching::config::{FeatureConfig, FeatureKind};
use rocket_launching::domain::Version;
use rocket_launching::serving::{Subscriber, SubscriberConfig, SubscriberStatus};
use rocket_launching::stream::LogReader;
use rocket_launching::wire::snapshot::{Key, schema_hash};
use serde_json::Value;
use serving_support::{Snapshot, Topic, config, scores, until, until_serves};

fn follow(dir: &std::path::Path, topic: &Topic, columns: &[&str]) -> Subscriber {
    let columns: BTreeSet<String> = columns.iter().map(|&column| column.to_owned()).collect();
    let log = topic.log.clone();
    Subscriber::start(SubscriberConfig { columns: Some(columns), ..config(dir) }, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>))
        .expect("it starts")
}

fn serves_on(subscriber: &Subscriber, status: &SubscriberStatus, good: &Snapshot) {
    let (served, good) = (subscriber.model().expect("served"), good.open());
    assert_eq!((served.version(), scores(&served, 10)), (good.version(), scores(&good, 10)), "{status:?}");
}

#[test]
fn a_feature_that_requests_do_not_bear() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let good = topic.publish(1);
    let read: Vec<&str> = good.manifest.schema.features.iter().filter_map(FeatureConfig::column).collect();
    let subscriber = follow(dir.path(), &topic, &read);
    until_serves(&subscriber, 1);

    // The same net over another column.
    let mut newer = Snapshot::new(2);
    newer.manifest.schema.features[0].column = Some("session_id".to_owned());
    newer.manifest.schema_hash = schema_hash(&newer.manifest.schema);
    topic.send(&newer);
    topic.promote(2);
    let status = until(&subscriber, "schema", |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.get("schema"), Some(&1), "{status:?}");
    assert!(status.last_error.as_ref().is_some_and(|error| error.what.contains("column `session_id`")), "{status:?}");
    serves_on(&subscriber, &status, &good);
    topic.publish(3);
    until_serves(&subscriber, 3);
    subscriber.stop().expect("no panic");
}

#[test]
fn a_kind_of_feature_that_this_program_does_not_know() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let good = topic.publish(1);
    let subscriber = serving_support::follow(dir.path(), &topic);
    until_serves(&subscriber, 1);

    let mut newer = Snapshot::new(2).manifest;
    newer.schema.features.push(FeatureConfig::new("now", FeatureKind::Hour));
    newer.seq = topic.next_seq();
    let mut newer: Value = serde_json::to_value(&newer).expect("a manifest is JSON");
    let features = newer["schema"]["features"].as_array_mut().expect("features");
    features.last_mut().expect("pushed above")["kind"] = "phase_of_the_moon".into();
    topic.record(&Key::Manifest(Version(2)), &newer);
    topic.promote(2);
    let status = until(&subscriber, "record_malformed", |status| status.waiting.is_some());
    assert_eq!(status.rejected.get("record_malformed"), Some(&1), "{status:?}");
    assert!(status.last_error.as_ref().is_some_and(|error| error.what.contains("phase_of_the_moon")), "{status:?}");
    serves_on(&subscriber, &status, &good);
    topic.publish(3);
    until_serves(&subscriber, 3);
    subscriber.stop().expect("no panic");
}
