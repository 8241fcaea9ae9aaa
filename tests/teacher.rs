//! Promise: with `train.teacher`, light is taught by the booster of the version that is served, also after a restart; in a pass over a
//! file, which serves nothing, by the booster as it was.
#![cfg(feature = "trainer")]

mod support;

use rocket_launching::pipeline::State;
use rocket_launching::publish::Publisher;
use rocket_launching::stream::MemoryLog;
use support::world;

/// The published one.
const WEIGHT: f64 = 1.8;

#[test]
fn a_daemon_that_starts_again_is_taught_by_the_version_that_is_served() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = world::config(dir.path(), "labelled", "");
    config.train.teacher.weight = WEIGHT;
    // One snapshot, near the end of the first run.
    (config.checkpoint.every_samples, config.publish.every_samples) = (u64::MAX, 1500);
    let log = MemoryLog::default();
    let publisher = || Some(Publisher::open(&config, "test", Box::new(log.clone()), Box::new(log.clone())).expect("the lease is free"));
    let (partitions, records) = world::labelled_stream(2500);
    let (first, _) = world::run(&config, State::Durable, (partitions.clone(), records[..2000].to_vec()), publisher(), false);
    assert!(first.status.promoted, "{:?}", first.status.publish_problem);
    let served = first.status.published;
    let (second, _) = world::run(&config, State::Durable, (partitions, records), publisher(), false);
    assert!(second.status.books.samples > first.status.books.samples);
    assert!(served.is_some() && second.status.teacher == served, "{:?} is served, {:?} teaches", served, second.status.teacher);
}

#[test]
fn without_the_rule_nobody_teaches_and_in_a_file_the_booster_as_it_was_does() {
    let run = |weight| {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = world::config(dir.path(), "labelled", "");
        config.train.teacher.weight = weight;
        let (summary, _) = world::run(&config, State::Memory, world::labelled_stream(1500), None, true);
        assert_eq!(summary.status.teacher, None);
        summary.status.report.heads
    };
    let [taught, again, alone] = [WEIGHT, WEIGHT, 0.0].map(run);
    assert_eq!(taught, again, "a pass over a file gives the same figures every time");
    assert_ne!(taught["light"], alone["light"], "the teacher is not heard");
}
