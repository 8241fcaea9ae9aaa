//! Promise: `kill -9` at any moment, again and again, against a real broker: nothing is lost and nothing is counted twice, metrics are those
//! of an undisturbed pass, weights end bit-equal to those of a daemon that ran through, and ad servers never serve a torn snapshot.

mod support;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::config::Config;
use rocket_launching::stream::create_topics;
use support::broker::RealBroker;
use support::daemon::Daemon;
use support::kills::{Stream, Watcher};
use support::world;

const ROWS: usize = 6400;

/// Kills daemons at moments that are drawn anew, each going on where the one before was killed, and begins with nothing whenever one has got
/// through.
fn kills(count: usize, change: fn(&mut Config)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let topics = |config: &_| {
        create_topics(config, 1, 1).expect("topics are created");
    };
    let stream = Stream::produce(broker.bootstrap(), ROWS, change, topics);
    let config = stream.config(dir.path(), "whole");
    topics(&config);
    let started = Instant::now();
    let whole = stream.run_to_end(&config);
    let longest = started.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut killed, mut lives, mut versions) = (0, 0, 0);
    while killed < count {
        lives += 1;
        let config = stream.config(dir.path(), &format!("life-{lives}"));
        topics(&config);
        let watcher = Watcher::start(&config, &dir.path().join(&config.name).join("ad-server"));
        loop {
            let daemon = Daemon::spawn(&config);
            let until = Instant::now() + longest.mul_f64(rng.random_range(0.0..1.0));
            let mut done = false;
            while !done && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
                done = daemon.status().is_some_and(|status| stream.is_done(&status));
            }
            daemon.kill_9();
            killed += 1;
            if done || killed >= count {
                break;
            }
        }
        stream.run_to_end(&config).assert_equals(&whole, &config.name);
        versions += watcher.finish().len();
    }
    println!("{killed} kills in {lives} lives of {} events, {versions} versions served: none lost, none counted twice", stream.events());
}

#[test]
fn of_a_daemon_that_waits_for_labels() {
    kills(20, |_| {});
}

#[test]
fn of_a_daemon_that_trains_before_labels_are_final() {
    kills(10, |config| world::early(config, None));
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_and_fifty_times() {
    kills(250, |_| {});
}
