//! Promise: `rollback --rewind-trainer` takes the trainer back to where the version came from, and what is put into quarantine is skipped for
//! good: nothing of it is learnt, every event is counted once, and restarts and later returns keep it. Where the trainer cannot go back,
//! nothing is written.

mod support;

use std::path::{Path, PathBuf};

use rocket_launching::checkpoint::{self, CheckpointStore, Commit};
use rocket_launching::config::Config;
use rocket_launching::domain::{DropReason, Quarantine, Record, TopicPartition};
use rocket_launching::evaluate::Report;
use rocket_launching::pipeline::{State, Status};
use rocket_launching::serving::Subscriber;
use rocket_launching::train::LearnerState;
use support::daemon::{Daemon, log_of};
use support::operator::{Operator, Site, wait_until_served};
use support::world;

/// Time of the first event of [`world::labelled_stream`].
const START_MS: i64 = 1_700_000_000_000;

/// From one event of the stream to before another.
fn range(from: i64, to: i64) -> (i64, i64) {
    (START_MS + from * world::STEP_MS, START_MS + to * world::STEP_MS)
}

fn argument((from, to): (i64, i64)) -> String {
    let time = |ms| jiff::Timestamp::from_millisecond(ms).expect("a time").to_string();
    format!("{}..{}", time(from), time(to))
}

/// Those of these events that can be read: the others are dead letters, wherever they lie.
fn readable(events: std::ops::Range<usize>) -> u64 {
    events.filter(|number| number % 97 != 13).count() as u64
}

fn quarantined(status: &Status) -> u64 {
    status.books.dropped.get(&DropReason::Quarantined).copied().unwrap_or(0)
}

fn newest(dir: &Path) -> Commit {
    checkpoint::newest_commit(dir).expect("readable").expect("there is one")
}

type Stream = (Vec<TopicPartition>, Vec<Record>);

fn run(config: &Config, (partitions, records): &Stream, events: usize, finish: bool) -> Status {
    world::run(config, State::Durable, (partitions.clone(), records[..events].to_vec()), None, finish).0.status
}

fn end(config: &Config) -> (LearnerState, Report) {
    let commit = newest(&config.state.dir);
    assert_eq!(checkpoint::verify(&config.state.dir, &commit).expect("kept"), Vec::<String>::new(), "the books and positions add up");
    (CheckpointStore::load(&config.state.dir, &commit).expect("whole").learner, commit.report)
}

fn config_in(dir: &Path) -> Config {
    let mut config = world::config(&dir.join("state"), "labelled", "");
    config.checkpoint.keep = 20;
    config
}

#[test]
fn what_is_learnt_is_what_would_have_been_learnt_without_the_events_in_quarantine() {
    let dirs = [tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir")];
    let stream = world::labelled_stream(1000);
    let config = config_in(dirs[0].path());
    run(&config, &stream, 200, false);
    let good = newest(&config.state.dir).number;
    let before = run(&config, &stream, 700, false);
    assert!(before.books.done() > 600 && quarantined(&before) == 0, "the bad ones are learnt");

    let restore = |number: u64, quarantine: Quarantine| {
        let mut store = CheckpointStore::open(&config.state.dir, 20).expect("ours");
        store.restore_skipping(number, &quarantine, 1).expect("kept").number
    };
    restore(good, vec![range(400, 500)].into());
    let after = run(&config, &stream, 800, false);
    assert_eq!(quarantined(&after), readable(400..500));
    // Gone back once more, without a word of it.
    restore(good, Quarantine::default());
    let after = run(&config, &stream, 1000, true);
    assert_eq!((after.books.done(), quarantined(&after)), (1000, readable(400..500)));
    assert_eq!(after.quarantine, vec![range(400, 500)].into());

    let (partitions, mut records) = stream;
    records.retain(|record| !(400..500).contains(&record.origin.offset) || record.origin.offset % 97 == 13);
    let without = config_in(dirs[1].path());
    let status = run(&without, &(partitions, records.clone()), records.len(), true);
    assert_eq!(status.books.samples, after.books.samples);
    assert!(end(&config) == end(&without), "bit-equal to a run that never saw them");
}

#[test]
fn quarantine_survives_the_loss_of_the_newest_checkpoint() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (config, stream) = (config_in(dir.path()), world::labelled_stream(600));
    run(&config, &stream, 200, false);
    let good = newest(&config.state.dir).number;
    CheckpointStore::open(&config.state.dir, 20).expect("ours").restore_skipping(good, &vec![range(300, 350)].into(), 1).expect("kept");
    run(&config, &stream, 250, false);
    let dense = newest(&config.state.dir).dense.name;
    std::fs::write(config.state.dir.join("checkpoints").join(dense), "damaged").expect("ours");
    let after = run(&config, &stream, 600, true);
    assert_eq!((after.books.done(), quarantined(&after)), (600, readable(300..350)));
}

#[test]
fn in_joined_mode_impressions_and_clicks_of_the_range_are_skipped_and_the_books_add_up() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = world::config(&dir.path().join("state"), "joined", "");
    config.checkpoint.keep = 20;
    let (partitions, records) = world::joined_stream(800, 3);
    let all = records.len() as u64;
    let run = |events: usize, finish| world::run(&config, State::Durable, (partitions.clone(), records[..events].to_vec()), None, finish).0;
    run(400, false);
    let good = newest(&config.state.dir).number;
    run(700, false);
    CheckpointStore::open(&config.state.dir, 20).expect("ours").restore_skipping(good, &vec![range(500, 600)].into(), 1).expect("kept");
    let status = run(records.len(), true).status;
    assert_eq!((status.books.done(), status.pending), (all, 0));
    assert!((100..250).contains(&quarantined(&status)), "{:?}", status.books);
    assert_eq!(checkpoint::verify(&config.state.dir, &newest(&config.state.dir)).expect("kept"), Vec::<String>::new());
}

/// Three versions on a real broker, 300 events each, all served; the second is the one that was still good.
struct Night {
    site: Site,
    versions: Vec<u64>,
    servers: Vec<Subscriber>,
    daemon: Daemon,
}

fn night(dir: &Path) -> Night {
    let site = Site::new(dir, 1500, |config| config.checkpoint.keep = 1);
    let servers = vec![site.server(dir, "ad-1", None)];
    let daemon = Daemon::start(&site.config);
    let mut versions = Vec::new();
    for part in 1..=3usize {
        site.feed(part * 300 - 300..part * 300);
        versions.push(site.publish(&daemon, part as u64 * 300).0.0);
    }
    wait_until_served(&servers, rocket_launching::domain::Version(versions[2]));
    Night { site, versions, servers, daemon }
}

#[test]
fn a_running_daemon_goes_back_in_place_and_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let Night { site, versions, servers, daemon } = night(dir.path());
    let (to, skipped) = (versions[1].to_string(), argument(range(650, 750)));
    let order = ["rollback", "--to", &to, "--reason", "labels flipped", "--rewind-trainer", "--quarantine", &skipped];
    let pid = daemon.pid();

    let (code, words) = site.operator.refused(&order);
    assert!(code == Some(64) && words.contains("trainer goes back to") && words.contains("skipped for good"), "{words}");
    let dry = site.operator.json(&[&order[..], &["--dry-run"]].concat());
    assert_eq!((&dry["written"], &dry["rewind"]["checkpoint"], &dry["rewind"]["number"]), (&false.into(), &versions[1].into(), &().into()));
    assert!(dry["rewind"]["samples_undone"].as_u64().expect("a number") > 250, "{dry}");
    assert_eq!(daemon.status().expect("it runs").books.done(), 900, "nothing has happened");

    let done = site.operator.json(&[&order[..], &["--yes"]].concat());
    let number = done["rewind"]["number"].as_u64().expect("a new checkpoint");
    assert!(number > versions[2], "no number is used twice: {done}");
    wait_until_served(&servers, rocket_launching::domain::Version(versions[1]));
    let status = daemon.wait_until("all is read again", |status| status.books.done() == 900 && quarantined(status) > 0);
    assert_eq!((quarantined(&status), daemon.pid()), (readable(650..750), pid));
    assert_eq!(status.quarantine, vec![range(650, 750)].into());

    site.feed(900..1200);
    let (held, promoted) = site.publish(&daemon, 1200);
    assert!(held.0 > number && !promoted, "the pin holds, and numbers go on");
    // The bad ones once more: skipped as well, after a restart too.
    assert!(daemon.terminate().success());
    let daemon = Daemon::start(&site.config);
    site.feed(650..750);
    let status = daemon.wait_until("they are skipped", |status| status.books.done() == 1300);
    assert_eq!(quarantined(&status), 2 * readable(650..750));
    site.operator.json(&["unpin", "--reason", "on", "--yes"]);
    site.feed(1200..1500);
    let (next, promoted) = site.publish(&daemon, 1600);
    assert!(promoted);
    wait_until_served(&servers, next);
    assert!(daemon.terminate().success());
    let log = log_of(&site.config);
    assert!(log.contains("draining, nothing is published") && !log.contains("do not add up"), "{log}");
}

#[test]
fn without_a_daemon_the_state_directory_is_changed_and_where_the_checkpoint_is_gone_nothing_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let Night { site, versions, servers, daemon } = night(dir.path());
    assert!(daemon.terminate().success());
    let commit = |number: u64| -> PathBuf { site.config.state.dir.join(format!("commits/commit-{number:020}.json")) };
    assert!(versions.iter().all(|number| commit(*number).exists()), "what was promoted last is kept, beyond checkpoint.keep = 1");

    std::fs::remove_file(commit(versions[0])).expect("it is there");
    let history = |operator: &Operator| operator.json(&["history"])["entries"].as_array().expect("a list").len();
    let before = (history(&site.operator), newest(&site.config.state.dir).number);
    let refused = |to: u64, more: &[&str]| {
        let to = to.to_string();
        site.operator.refused(&[&["rollback", "--to", &to, "--reason", "r", "--rewind-trainer", "--yes"], more].concat())
    };
    let (code, words) = refused(versions[0], &[]);
    let (gone, kept) = (format!("no checkpoint {}", versions[0]), format!(", {}", versions[1]));
    assert!(code == Some(1) && words.contains(&gone) && words.contains("kept are") && words.contains(&kept), "{words}");
    for wrong in ["yesterday..today", "2026-11-24T03:00:00Z..2026-11-24T02:00:00Z"] {
        let (code, words) = refused(versions[1], &["--quarantine", wrong]);
        assert!(code == Some(64) && words.contains("write it like"), "{words}");
    }
    let alone = site.operator.refused(&["rollback", "--to", "1", "--reason", "r", "--quarantine", &argument(range(1, 2))]);
    assert!(alone.0 == Some(64) && alone.1.contains("--rewind-trainer"), "{}", alone.1);
    assert_eq!((history(&site.operator), newest(&site.config.state.dir).number), before, "nothing was written");

    let (to, skipped) = (versions[1].to_string(), argument(range(650, 750)));
    let order = ["rollback", "--to", &to, "--reason", "labels flipped", "--rewind-trainer", "--quarantine", &skipped, "--yes"];
    let done = site.operator.json(&order);
    assert_eq!(done["rewind"]["number"].as_u64(), Some(newest(&site.config.state.dir).number));
    wait_until_served(&servers, rocket_launching::domain::Version(versions[1]));
    let daemon = Daemon::start(&site.config);
    let status = daemon.wait_until("all is read again", |status| status.books.done() == 900);
    assert_eq!(quarantined(&status), readable(650..750));
    assert!(daemon.terminate().success());
}
