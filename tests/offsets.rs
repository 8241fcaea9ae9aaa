//! Promise: a position that cannot be gone on from is refused, each by name, until `rocketctl offsets reset` says how; whatever it says, the
//! books stay exact and nothing that was learnt or measured is lost.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use rocket_launching::checkpoint::{Commit, input_of, newest_commit};
use rocket_launching::config::{Config, Span};
use rocket_launching::domain::{DropReason, PartitionPosition};
use rocket_launching::pipeline::{Move, Reset, State};
use rocket_launching::stream::{EmbeddedBroker, KafkaProducer, create_topics, delete_topics};
use serde_json::Value;
use support::broker::RealBroker;
use support::daemon::{Daemon, log_of};
use support::{wait_for, world};

const PARTITIONS: i32 = 2;
const ROWS: usize = 400;

fn site(dir: &Path, brokers: &str) -> Config {
    let more = format!("kafka.brokers = \"{brokers}\"\nadmin.http = \"\"");
    let mut config = world::config(&dir.join("state"), "labelled", &more);
    config.publish.enabled = false;
    config.train.linger = Span::from_millis(50);
    config
}

/// Sends rows `from..to` of the stream to each partition.
fn produce(config: &Config, from: usize, to: usize) {
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    for record in &world::labelled_stream(to).1[from..] {
        for partition in 0..PARTITIONS {
            producer.send(&config.events_topic(), Some(partition), None, record.payload.as_deref(), None).unwrap();
        }
    }
    producer.flush().unwrap();
}

/// Runs the daemon until so many events are done, and stops it.
fn run_to(config: &Config, done: u64) -> Commit {
    let daemon = Daemon::start(config);
    let status = daemon.wait_until("all events are done", |status| status.books.done() >= done && status.pending == 0);
    assert_eq!(status.metrics_restarted, None, "GAUC goes on");
    assert!(daemon.terminate().success(), "{}", log_of(config));
    let commit = committed(config);
    assert_eq!(commit.books.done(), done);
    commit
}

fn committed(config: &Config) -> Commit {
    let commit = newest_commit(&config.state.dir).unwrap().unwrap();
    let counted: u64 = commit.positions.iter().map(PartitionPosition::count).sum();
    assert_eq!(counted, commit.books.done(), "the books add up");
    commit
}

/// The daemon refuses to start; what it says last.
fn refusal(config: &Config) -> String {
    assert_eq!(Daemon::spawn(config).wait().code(), Some(1));
    log_of(config).lines().last().unwrap().to_owned()
}

/// Exit code, standard output as JSON, standard error.
fn rocketctl(config: &Config, arguments: &[&str]) -> (i32, Value, String) {
    let file = support::daemon::write_config(config);
    let output = Command::new(env!("CARGO_BIN_EXE_rocketctl"))
        .args(["-o", "json", "--config", file.to_str().unwrap()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), out, String::from_utf8(output.stderr).unwrap())
}

fn reset(config: &Config, arguments: &[&str]) -> Value {
    let (code, out, err) = rocketctl(config, &[&["offsets", "reset", "--yes"], arguments].concat());
    assert_eq!(code, 0, "{err}");
    out
}

#[test]
fn a_topic_made_anew_is_refused_though_its_offsets_look_right_and_reset_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 0, ROWS);
    let before = run_to(&config, 2 * ROWS as u64);

    delete_topics(&config.kafka, &[config.events_topic()]).unwrap();
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 1000, 1000 + ROWS + 50);
    let words = refusal(&config);
    for part in ["world.events[0]", "world.events[1]", &format!("position {ROWS}"), "rocketctl offsets reset"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let (_, shown, _) = rocketctl(&config, &["offsets", "show"]);
    for line in shown["partitions"].as_array().unwrap() {
        assert_eq!((line["low"].as_u64(), line["lag"].as_u64()), (Some(ROWS as u64), Some(50)));
        assert_eq!(line["loss"]["other_record"]["offset"], 384, "{line}");
    }

    let changed = reset(&config, &["--to", "earliest"]);
    assert_eq!(changed["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(changed["checkpoint"].as_u64(), Some(before.number + 1));
    let moved = committed(&config);
    assert_eq!((&moved.books, &moved.evaluation, &moved.dense), (&before.books, &before.evaluation, &before.dense));
    let after = run_to(&config, 2 * (ROWS + ROWS + 50) as u64);
    assert!(after.report.rows > before.report.rows && after.books.dropped.is_empty());
    assert!(after.positions.iter().all(|position| position.earlier == ROWS as u64 && position.low == (ROWS + 50) as i64));
}

#[test]
fn a_shorter_topic_made_anew_is_refused_and_one_with_fewer_partitions_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 0, ROWS);
    run_to(&config, 2 * ROWS as u64);

    delete_topics(&config.kafka, &[config.events_topic()]).unwrap();
    create_topics(&config, 1, 1).unwrap();
    let words = refusal(&config);
    assert!(words.contains("world.events[0]: position 400") && words.contains("world.events[1]: position 400"), "{words}");
    reset(&config, &["--to", "latest"]);
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    producer.send(&config.events_topic(), Some(0), None, None, None).unwrap();
    producer.flush().unwrap();
    let after = run_to(&config, 2 * ROWS as u64 + 1);
    assert_eq!(after.books.dropped[&DropReason::Tombstone], 1);
}

#[test]
fn what_retention_took_unread_is_refused_until_reset_counts_it_as_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start().unwrap();
    let config = site(dir.path(), &broker.bootstrap());
    broker.create_topic(&config.events_topic(), PARTITIONS).unwrap();
    broker.create_topic(&config.dead_letters_topic(), 1).unwrap();
    produce(&config, 0, ROWS);
    let before = run_to(&config, 2 * ROWS as u64);

    // 12 MB of tombstones with long keys per partition: the broker keeps 5 MiB.
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    for number in 0..1200 {
        for partition in 0..PARTITIONS {
            producer.send(&config.events_topic(), Some(partition), Some(&[b'k'; 10_000]), None, None).unwrap();
        }
        if number % 50 == 49 {
            producer.flush().unwrap();
        }
    }
    producer.flush().unwrap();
    let words = refusal(&config);
    assert!(words.contains("world.events[0]: position 400") && words.contains("world.events[1]: position 400"), "{words}");

    let (code, _, err) = rocketctl(&config, &["offsets", "reset", "--to", "earliest"]);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("--yes"), "{err}");
    let (code, dry, err) = rocketctl(&config, &["offsets", "reset", "--to", "earliest", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!((dry["dry_run"].as_bool(), dry["checkpoint"].as_u64()), (Some(true), None));
    assert_eq!(committed(&config), before, "nothing was changed");

    let changed = reset(&config, &["--to", "earliest"]);
    let skipped: u64 = changed["partitions"].as_array().unwrap().iter().map(|line| line["skipped"].as_u64().unwrap()).sum();
    assert!(skipped > 0);
    assert_eq!(committed(&config).books.dropped[&DropReason::SkippedByOperator], skipped);
    let after = run_to(&config, 2 * (ROWS + 1200) as u64);
    assert_eq!(after.books.dropped[&DropReason::SkippedByOperator] + after.books.dropped[&DropReason::Tombstone], 2 * 1200);
    assert_eq!(after.evaluation, before.evaluation, "tombstones are not measured, and what was is kept");
}

#[test]
fn an_operator_may_skip_and_go_back_and_the_daemon_must_not_be_running() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    let (code, _, err) = rocketctl(&config, &["offsets", "reset", "--to", "latest", "--all", "--yes"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no checkpoint") && !config.state.dir.exists(), "{err}");
    produce(&config, 0, ROWS);
    run_to(&config, 2 * ROWS as u64);
    assert!(reset(&config, &["--to", "latest"])["partitions"].as_array().unwrap().is_empty(), "nothing is lost");

    // 100 more, of which one partition skips all but the last ten.
    let time = jiff::Timestamp::now().to_string();
    produce(&config, ROWS, ROWS + 100);
    let topic = config.events_topic();
    let changed = reset(&config, &["--to", "490", "--topic", &topic, "--partition", "1"]);
    assert_eq!((changed["partitions"][0]["skipped"].as_u64(), changed["partitions"].as_array().unwrap().len()), (Some(90), 1));
    let skipped = run_to(&config, 2 * (ROWS + 100) as u64);
    assert_eq!(skipped.books.dropped[&DropReason::SkippedByOperator], 90);

    // Back to the first of those, in both.
    let changed = reset(&config, &["--to", &time, "--all"]);
    for line in changed["partitions"].as_array().unwrap() {
        assert_eq!((line["from"].as_u64(), line["to"].as_u64(), line["new_pass"].as_bool()), (Some(500), Some(400), Some(true)));
    }
    run_to(&config, 2 * (ROWS + 200) as u64);

    let daemon = Daemon::start(&config);
    let (code, _, err) = rocketctl(&config, &["offsets", "reset", "--to", "latest", "--all", "--yes"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("in use by another process"), "{err}");
    let (code, shown, err) = rocketctl(&config, &["offsets", "show"]);
    assert_eq!((code, shown["partitions"].as_array().unwrap().len()), (0, 2), "{err}");
    assert_eq!((shown["partitions"][0]["lag"].as_u64(), shown["partitions"][0]["earlier"].as_u64()), (Some(0), Some(500)));
    assert!(daemon.terminate().success());

    for wrong in
        [&["--to", "501", "--all"][..], &["--to", "latest", "--topic", "nowhere"], &["--to", "soon"], &["--to", "1", "--partition", "0"]]
    {
        let (code, _, err) = rocketctl(&config, &[&["offsets", "reset", "--yes"], wrong].concat());
        assert_eq!(code, 64, "{wrong:?}: {err}");
    }
}

#[test]
fn a_topic_that_goes_while_it_is_read_ends_the_daemon_with_all_committed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let mut config = site(dir.path(), &broker.bootstrap());
    config.checkpoint.every_samples = u64::MAX >> 1;
    // What the client takes for a topic that is still coming.
    config.kafka.properties.insert("topic.metadata.propagation.max.ms".to_owned(), "100".to_owned());
    config.kafka.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "500".to_owned());
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 0, ROWS);
    let daemon = Daemon::start(&config);
    daemon.wait_until("all events are done", |status| status.books.done() == 2 * ROWS as u64);
    delete_topics(&config.kafka, &[config.events_topic()]).unwrap();
    assert_eq!(daemon.wait().code(), Some(1));
    let words = wait_for("the last words", || log_of(&config).lines().last().map(str::to_owned));
    assert!(words.contains("world.events") && words.contains("rocketctl"), "{words}");
    assert_eq!(committed(&config).books.done(), 2 * ROWS as u64);
}

#[test]
fn a_topic_made_anew_behind_our_back_is_found_out_and_refused_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 0, ROWS);
    let daemon = Daemon::start(&config);
    daemon.wait_until("all events are done", |status| status.books.done() == 2 * ROWS as u64);
    // Stopped, it cannot see the topic go and come back, longer than it was.
    daemon.signal("STOP");
    delete_topics(&config.kafka, &[config.events_topic()]).unwrap();
    create_topics(&config, PARTITIONS, 1).unwrap();
    produce(&config, 1000, 1000 + ROWS + 50);
    daemon.signal("CONT");
    assert_eq!(daemon.wait().code(), Some(1));
    for words in [log_of(&config).lines().last().unwrap().to_owned(), refusal(&config)] {
        assert!(words.contains("world.events[0]: the record at offset") && words.contains("rocketctl offsets reset"), "{words}");
    }
    let before = committed(&config).books.done();
    assert!(before >= 2 * ROWS as u64, "what was done is committed");
    reset(&config, &["--to", "earliest"]);
    run_to(&config, before + 2 * (ROWS + 50) as u64);
}

#[test]
fn where_labels_come_early_open_impressions_go_with_their_position() {
    let dir = tempfile::tempdir().unwrap();
    let (partitions, records) = world::joined_stream(1200, 1);
    let half = (partitions.clone(), records[..records.len() / 2].to_vec());
    // Forward over some impressions, and back to before the open ones.
    for (name, by) in [("forward", 40), ("back", -60)] {
        let mut config = world::config(&dir.path().join(name), "joined", "");
        world::early(&mut config, None);
        let (stopped, _) = world::run(&config, State::Durable, half.clone(), None, false);
        let open = input_of(&config.state.dir, &committed(&config)).unwrap().open;
        assert!(!open[0].1.is_empty(), "some windows are open");

        let mut reset = Reset::open(&config).unwrap().unwrap();
        let low = reset.commit().positions[0].low;
        let goal = Move { partition: partitions[0].clone(), to: low + by, loss: None };
        let moved = reset.apply(&[goal]).to_vec();
        assert_eq!((moved[0].new_pass, moved[0].from), (by < 0, Some(low)));
        reset.write(0).unwrap();

        let (ended, _) = world::run(&config, State::Durable, (partitions.clone(), records.clone()), None, true);
        let counted: u64 = ended.status.positions.iter().map(PartitionPosition::count).sum();
        assert_eq!((counted, ended.status.pending), (ended.status.books.done(), 0), "{name}");
        assert_eq!(ended.status.metrics_restarted, None, "{name}");
        assert!(input_of(&config.state.dir, &committed(&config)).unwrap().open.is_empty(), "{name}: every window is closed");
        // What is read once more counts once more; what is skipped counts as that.
        let again = if by < 0 { stopped.status.positions[0].count() - (low + by) as u64 } else { 0 };
        assert_eq!(counted, records.len() as u64 + again, "{name}");
        let skipped = ended.status.books.dropped.get(&DropReason::SkippedByOperator).copied().unwrap_or_default();
        assert_eq!(skipped, moved[0].skipped, "{name}");
    }
}
