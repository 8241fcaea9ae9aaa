//! Promise: a version is served by a share of the servers first, becomes current once it had its time and they report it good, and is taken
//! back as soon as they refuse it; a restart of the trainer forgets nothing of it, newer versions starve nothing, and no stranger can
//! have anything served.

#[path = "support/snapshots.rs"]
mod snapshots;

mod serving_support;

use rocket_launching::config::{CanaryConfig, Config, Span};
use rocket_launching::domain::Version;
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, Published, Publisher, ReportTopic, Rollout};
use rocket_launching::serving::{Catalog, Reporting, Subscriber, SubscriberConfig};
use rocket_launching::stream::{LogReader, LogWriter, MemoryLog};
use rocket_launching::wire::snapshot::{Act, Canary, Key, PROTOCOL, ServerReport, ServerState, WHOLE_PPM, canary_place};
use serving_support::{Topic, follow, trainer, until, until_serves};
use snapshots::{MODEL, commit, loaded};

const T0: i64 = snapshots::CREATED_MS;
const DELAY: i64 = 60_000;

/// A trainer, its topic and what servers report.
struct Stage {
    config: Config,
    log: MemoryLog,
    acks: MemoryLog,
    publisher: Publisher,
}

impl Stage {
    fn new(reports: usize, rejects: usize) -> Self {
        let mut config = snapshots::config(8);
        config.publish.canary = CanaryConfig { share: 0.3, delay: Span::from_millis(DELAY as u64), reports, rejects };
        let (log, acks) = (MemoryLog::default(), MemoryLog::default());
        let publisher = open(&config, &log, &acks);
        let mut stage = Stage { config, log, acks, publisher };
        assert!(stage.publish(1, T0).promoted, "where nothing is current there is nothing else to serve");
        stage
    }

    fn restart(&mut self) {
        self.publisher = open(&self.config, &self.log, &self.acks);
    }

    fn publish(&mut self, number: u64, now_ms: i64) -> Published {
        self.publisher.publish(&commit(number), &loaded(number), now_ms).expect("published")
    }

    fn advance(&mut self, now_ms: i64) -> Option<u64> {
        self.publisher.advance(now_ms).expect("the topics can be read").map(|version| version.0)
    }

    fn rollout(&mut self, now_ms: i64) -> Rollout {
        self.publisher.rollout(now_ms).expect("the topics can be read")
    }

    fn report(&self, host: &str, version: u64, target: u64, state: ServerState) {
        let [version, target] = [version, target].map(|version| Some(Version(version)));
        let report =
            ServerReport { proto: PROTOCOL, model: MODEL.into(), host: host.into(), group: None, version, target, state, at_ms: 0 };
        self.acks.append(&[(host.into(), Some(report.encode()))]).expect("memory takes it");
    }

    fn serves(&self, host: &str, version: u64) {
        self.report(host, version, version, ServerState::Serving);
    }

    fn refuses(&self, host: &str, version: u64) {
        self.report(host, version - 1, version, ServerState::refused("probe 3 is off"));
    }

    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new(MODEL);
        let mut reader = self.log.clone();
        while let Some(record) = reader.next(std::time::Duration::ZERO).expect("memory") {
            catalog.apply(&record).expect("an honest trainer's records");
        }
        catalog
    }

    /// What servers outside and inside the share should serve.
    fn targets(&self) -> [u64; 2] {
        let catalog = self.catalog();
        [outside(0), inside(0)].map(|host| catalog.target_of(&host, None, 0).expect("something is current").0)
    }
}

fn open(config: &Config, log: &MemoryLog, acks: &MemoryLog) -> Publisher {
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).expect("the lease");
    publisher.hearing(ReportTopic::new(MODEL, Box::new(acks.clone())))
}

/// Names of servers in a share of 0.3, and of others.
fn inside(number: usize) -> String {
    named(number, |place| place < 300_000)
}

fn outside(number: usize) -> String {
    named(number, |place| place >= 300_000)
}

fn named(number: usize, holds: impl Fn(u32) -> bool) -> String {
    let names = (0..).map(|number| format!("ad-{number}"));
    names.filter(|name| holds(canary_place(MODEL, name))).nth(number).expect("there are many names")
}

#[test]
fn after_its_delay_and_enough_good_reports_a_version_becomes_current() {
    let mut stage = Stage::new(2, 1);
    let published = stage.publish(2, T0);
    assert!(!published.promoted && published.held_by.is_none() && published.tried.expect("how").contains("30.0 %"));
    assert_eq!(stage.targets(), [1, 2]);
    stage.serves(&inside(0), 2);
    stage.serves(&outside(0), 2);
    assert_eq!(stage.advance(T0 + DELAY), None, "one of the share serves it, and who is outside does not count");
    let trial = stage.rollout(T0 + DELAY).trial.expect("one is tried");
    assert_eq!((trial.version, trial.serving, trial.refused, trial.since_ms), (Version(2), 1, 0, T0));
    stage.serves(&inside(1), 2);
    assert_eq!(stage.advance(T0 + DELAY - 1), None, "not before its delay");
    assert_eq!(stage.advance(T0 + DELAY), Some(2));
    assert_eq!(stage.targets(), [2, 2]);
    assert_eq!(stage.rollout(T0 + DELAY), Rollout::default());
    let acts: Vec<Act> = stage.catalog().audit().map(|entry| entry.act).collect();
    assert_eq!(acts, [Act::Promote, Act::Canary, Act::Promote]);
}

#[test]
fn without_reports_asked_for_the_delay_alone_counts() {
    let mut stage = Stage::new(0, 1);
    stage.publish(2, T0);
    assert_eq!((stage.advance(T0 + DELAY - 1), stage.advance(T0 + DELAY)), (None, Some(2)));
}

#[test]
fn a_refusal_takes_it_back_and_the_reason_is_told() {
    let mut stage = Stage::new(1, 2);
    stage.publish(2, T0);
    stage.refuses(&inside(0), 2);
    stage.refuses(&outside(0), 2);
    assert_eq!((stage.advance(T0 + 1), stage.targets()), (None, [1, 2]), "one of two, and one who cannot have tried it");
    stage.refuses(&inside(1), 2);
    assert_eq!((stage.advance(T0 + 2), stage.targets()), (None, [1, 1]));
    let told = stage.rollout(T0 + 2).fell_back.expect("why");
    assert!(told.contains("version 2 was taken back") && told.contains("probe 3 is off") && told.contains(&inside(0)), "{told}");
    stage.restart();
    assert_eq!(stage.rollout(T0 + 3).fell_back, Some(told.clone()), "a restart forgets nothing");
    let again = stage.publish(2, T0 + 3);
    assert!(again.held_by.expect("why").contains("was tried and taken back"), "the same version is not tried again");
    assert_eq!(stage.targets(), [1, 1]);

    stage.publish(3, T0 + 4);
    assert_eq!(stage.targets(), [1, 3], "the next one is");
    stage.serves(&inside(0), 3);
    assert_eq!(stage.advance(T0 + 4 + DELAY), Some(3));
    assert_eq!(stage.rollout(T0 + 4 + DELAY).fell_back, None);
    let entry = stage.catalog().audit().find(|entry| entry.act == Act::FallBack).cloned().expect("it is in the history");
    assert_eq!((entry.from, entry.to), (Some(Version(2)), Some(Version(1))));
}

#[test]
fn a_trainer_that_publishes_faster_than_the_delay_starves_nothing() {
    let mut stage = Stage::new(0, 1);
    let mut promoted = Vec::new();
    let mut number = 1;
    for second in 0..300 {
        let now_ms = T0 + second * 1000;
        if second % 10 == 0 {
            number += 1;
            stage.publish(number, now_ms);
        }
        promoted.extend(stage.advance(now_ms));
    }
    let history: Vec<u64> =
        stage.catalog().audit().filter(|entry| entry.act == Act::Promote).filter_map(|entry| Some(entry.to?.0)).collect();
    assert_eq!(history, [1, 2, 7, 13, 19], "one a minute, each the newest when its turn came");
    assert!(promoted.iter().all(|version| history.contains(version)));
}

#[test]
fn one_that_nobody_reports_gives_way_to_a_newer_one_after_its_time() {
    let mut stage = Stage::new(1, 1);
    stage.publish(2, T0);
    stage.publish(3, T0 + 10);
    assert_eq!(stage.rollout(T0 + 10).trial.map(|trial| (trial.version, trial.next)), Some((Version(2), Some(Version(3)))));
    assert_eq!((stage.advance(T0 + DELAY - 1), stage.targets()), (None, [1, 2]));
    assert_eq!((stage.advance(T0 + DELAY), stage.targets()), (None, [1, 3]));
}

#[test]
fn a_restarted_trainer_goes_on_with_what_is_tried() {
    let mut stage = Stage::new(1, 1);
    stage.publish(2, T0);
    stage.serves(&inside(0), 2);
    stage.log.compact(false);
    stage.restart();
    assert!(stage.publish(2, T0 + 5).tried.is_some(), "published once more, it is still tried");
    assert_eq!((stage.advance(T0 + DELAY - 1), stage.advance(T0 + DELAY)), (None, Some(2)));
    assert_eq!(stage.targets(), [2, 2]);
}

#[test]
fn an_operator_ends_a_trial_in_either_direction() {
    let operator = |stage: &Stage| {
        Operator::open(MODEL, "ann", Keyring::default(), Box::new(stage.log.clone()), Box::new(stage.log.clone())).expect("reads")
    };
    let mut stage = Stage::new(1, 1);
    stage.publish(2, T0);
    operator(&stage).promote(Version(2), "looked at it", T0 + 1).expect("forward");
    assert_eq!((stage.targets(), stage.advance(T0 + DELAY)), ([2, 2], None));
    stage.publish(3, T0 + 2);
    assert_eq!(stage.targets(), [2, 3]);
    operator(&stage).rollback(Version(1), "no", T0 + 3).expect("back");
    assert_eq!(stage.targets(), [1, 1]);
    stage.serves(&inside(0), 3);
    assert_eq!(stage.advance(T0 + 2 + DELAY), None);
    operator(&stage).unpin("on", T0 + DELAY * 2).expect("pinned");
    assert_eq!((stage.targets(), stage.advance(T0 + DELAY * 2)), ([1, 1], None), "what was fled from does not come back");
    stage.publish(4, T0 + DELAY * 2);
    assert_eq!(stage.targets(), [1, 4]);
}

#[test]
fn what_is_tried_stays_on_the_topic() {
    let mut stage = Stage::new(1, 1);
    (2..=30).for_each(|number| drop(stage.publish(number, T0)));
    assert!(stage.catalog().chunk_offsets(Version(2)).is_some(), "however many come after it");
    assert!(stage.publisher.held(T0).contains(&Version(2)));
}

/// A record under `a/canary` of a signed topic on which 3 is served and 2 lies.
fn refused(reason: &str, write: impl Fn(&mut Topic)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    (2..=3).for_each(|version| drop(topic.publish(version)));
    let config = SubscriberConfig { host: "ad-1".to_owned(), ..serving_support::config_of(dir.path(), &topic) };
    let log = topic.log.clone();
    let subscriber = Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("starts");
    until_serves(&subscriber, 3);
    write(&mut topic);
    let status = until(&subscriber, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.iter().collect::<Vec<_>>(), [(&reason.to_owned(), &1)], "{status:?}");
    assert_eq!((status.version, status.target), (Some(Version(3)), Some(Version(3))));
    subscriber.stop().expect("no panic");
}

fn canary(topic: &mut Topic, version: u64) -> Canary {
    Canary {
        proto: PROTOCOL,
        model: serving_support::MODEL.to_owned(),
        seq: topic.next_seq(),
        epoch: topic.epoch,
        version: Version(version),
        share_ppm: WHOLE_PPM,
        actor: "trainer".to_owned(),
        reason: "new".to_owned(),
        at_ms: 0,
    }
}

#[test]
fn a_strangers_canary_is_refused_and_a_trainers_goes_only_forward() {
    let by = |signer: Option<rocket_launching::keys::Signer>, version: u64| {
        move |topic: &mut Topic| {
            let canary = canary(topic, version);
            topic.record_as(&Key::Canary, &canary, signer.as_ref());
        }
    };
    refused("record_unsigned", by(None, 4));
    refused("record_unknown_key", by(Some(rocket_launching::keys::Signer::from_seed(&[66; 32])), 4));
    refused("record_backward", by(Some(trainer()), 2));
    refused("record_malformed", |topic| {
        let canary = Canary { share_ppm: WHOLE_PPM + 1, ..canary(topic, 4) };
        topic.record_as(&Key::Canary, &canary, Some(&trainer()));
    });
}

#[test]
fn a_server_reports_what_it_serves_and_what_it_refuses_and_serves_on_without_a_broker_for_that() {
    let dirs = [tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir")];
    let mut topic = Topic::new();
    topic.publish(1);
    let acks = MemoryLog::default();
    let start = |dir: &std::path::Path, reporting: Reporting| {
        let log = topic.log.clone();
        let config = SubscriberConfig { host: "ad-1".to_owned(), reports: Some(reporting), ..serving_support::config(dir) };
        Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("starts")
    };
    let writer = acks.clone();
    let subscriber = start(dirs[0].path(), Reporting::new(move || Ok(Box::new(writer.clone()) as Box<dyn LogWriter>)));
    let deaf = start(
        dirs[1].path(),
        Reporting::new(|| Err(rocket_launching::stream::StreamError::Unreachable { brokers: "b".into(), why: "down".into() })),
    );
    let mut reader = acks.clone();
    let mut next = |what: &str, holds: &dyn Fn(&ServerReport) -> bool| {
        for _ in 0..600 {
            let record = reader.next(std::time::Duration::from_millis(100)).expect("memory");
            let report = record.map(|record| ServerReport::decode(&record.key, &record.value.expect("no tombstone")).expect("a report"));
            if report.as_ref().is_some_and(holds) {
                return report.expect("there is one");
            }
        }
        panic!("never reported: {what}");
    };
    next("version 1", &|report| report.version == Some(Version(1)) && report.state == ServerState::Serving);
    let mut bad = serving_support::Snapshot::new(2);
    bad.manifest.probes[0].logit += 1.0;
    topic.send(&bad);
    topic.promote(2);
    let refused = next("the refusal", &|report| matches!(report.state, ServerState::Refused { .. }));
    assert_eq!((refused.version, refused.target), (Some(Version(1)), Some(Version(2))));
    assert!(matches!(&refused.state, ServerState::Refused { reason } if reason.contains("version 2")), "{refused:?}");
    topic.publish(3);
    next("version 3", &|report| report.version == Some(Version(3)) && report.state == ServerState::Serving);
    until_serves(&deaf, 3);
    for server in [subscriber, deaf] {
        server.stop().expect("no panic");
    }
    let nameless = SubscriberConfig {
        reports: Some(Reporting::new(move || Ok(Box::new(acks.clone()) as Box<dyn LogWriter>))),
        ..serving_support::config(dirs[0].path())
    };
    let log = topic.log.clone();
    assert!(Subscriber::start(nameless, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).is_err());
    let _unnamed = follow(dirs[1].path(), &topic);
}
