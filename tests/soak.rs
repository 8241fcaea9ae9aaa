//! Promise: hours of traffic with faults at random, killed and stopped daemons and brokers among them, end with the books and the metrics of
//! an undisturbed pass; ad servers are served throughout; memory and file handles stay flat, and so does the disk.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::config::Config;
use rocket_launching::domain::Record;
use rocket_launching::stream::{KafkaProducer, create_topics};
use support::broker::RealBroker;
use support::daemon::Daemon;
use support::kills::{Stream, Watcher, send};

/// Impressions a second: what one of two busy cores trains with ease, so that faults and not the load decide what is behind.
const IMPRESSIONS_PER_S: usize = 400;
/// Events are sent in bursts, this often.
const BURST: Duration = Duration::from_millis(100);
/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between two faults.
const CALM: std::ops::Range<f64> = 2.0..12.0;
/// How much more the last half may take than the first, once warm: noise of the allocator, and of when a look falls between two checkpoints.
const GROWTH: f64 = 1.25;

/// Only a run this long is long past everything that fills at the start.
const PLATEAU: Duration = Duration::from_secs(300);

/// What is done to the system.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillDaemon,
    StopDaemon,
    PauseDaemon,
    KillBroker,
}

/// One look at the daemon.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    memory_kb: u64,
    files: u64,
    state_kb: u64,
}

fn soak(length: Duration) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut broker = RealBroker::start();
    let rows = IMPRESSIONS_PER_S * length.as_secs() as usize;
    // Users are full early: from then on nothing has a reason to grow.
    let stream = Stream::of(broker.bootstrap(), rows, |config| config.evaluate.user_impressions_max = 64);
    let config = stream.config(dir.path(), "soak");
    create_topics(&config, 1, 1).expect("topics are created");

    let sending = Arc::new(AtomicBool::new(true));
    let producer = std::thread::spawn({
        let (config, sending, records) = (config.clone(), Arc::clone(&sending), stream.records());
        move || {
            send_over(&config, &records, length);
            sending.store(false, Ordering::Relaxed);
        }
    });
    let watcher = Watcher::start(&config, &dir.path().join("ad-server"));
    let looks = Arc::new(Mutex::new(Vec::new()));
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (started, mut faults) = (Instant::now(), 0);
    let mut daemon = Daemon::start(&config);
    while sending.load(Ordering::Relaxed) {
        calm(&daemon, &config, Duration::from_secs_f64(rng.random_range(CALM)), started, &looks);
        let fault =
            *[Fault::KillDaemon, Fault::StopDaemon, Fault::PauseDaemon, Fault::KillBroker].choose(&mut rng).expect("there are some");
        println!("{:>6.1} s  {fault:?}", started.elapsed().as_secs_f64());
        faults += 1;
        match fault {
            Fault::KillDaemon => daemon.kill_9(),
            Fault::StopDaemon => assert!(daemon.terminate().success()),
            Fault::PauseDaemon => {
                daemon.signal("STOP");
                std::thread::sleep(Duration::from_secs_f64(rng.random_range(1.0..8.0)));
                daemon.signal("CONT");
                continue;
            }
            Fault::KillBroker => {
                broker.kill_9();
                std::thread::sleep(Duration::from_secs_f64(rng.random_range(0.0..5.0)));
                broker.restart();
                continue;
            }
        }
        daemon = Daemon::start(&config);
    }
    producer.join().expect("every event was acknowledged");
    drop(daemon);
    let stream = stream.with_reference();
    stream.run_to_end(&config);
    let versions = watcher.finish().len();
    let looks = looks.lock().expect("no look failed").clone();
    assert!(versions > 0 && !looks.is_empty());
    println!("{faults} faults in {length:?}, {} events, {versions} versions served: none lost, none counted twice", stream.events());
    if length >= PLATEAU {
        flat(&looks);
    }
}

/// Lets time pass, and looks at the daemon.
fn calm(daemon: &Daemon, config: &Config, time: Duration, started: Instant, looks: &Mutex<Vec<(f64, Look)>>) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        if let Some(look) = look(daemon, &config.state.dir) {
            looks.lock().expect("no look failed").push((started.elapsed().as_secs_f64(), look));
        }
    }
}

fn look(daemon: &Daemon, state: &Path) -> Option<Look> {
    let memory_kb = daemon.memory_kb()?;
    let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).ok()?.count() as u64;
    let disk = Command::new("du").args(["-sk", "--"]).arg(state).output().ok()?;
    let state_kb = String::from_utf8_lossy(&disk.stdout).split_whitespace().next()?.parse().ok()?;
    Some(Look { memory_kb, files, state_kb })
}

/// Compares medians: a daemon that has just started holds less than one that runs, and faults come at random in both halves.
fn flat(looks: &[(f64, Look)]) {
    let warm = &looks[looks.len() / 4..];
    let (first, last) = warm.split_at(warm.len() / 2);
    for (what, of) in [
        ("memory, KB", (|look: &Look| look.memory_kb) as fn(&Look) -> u64),
        ("file handles", |look| look.files),
        ("state on disk, KB", |look| look.state_kb),
    ] {
        let middle = |half: &[(f64, Look)]| {
            let mut values: Vec<u64> = half.iter().map(|(_, look)| of(look)).collect();
            values.sort_unstable();
            (values[values.len() / 2], values[values.len() - 1])
        };
        let ((before, _), (after, most)) = (middle(first), middle(last));
        println!("{what}: median {before}, then {after}; at most {most}");
        assert!(after as f64 <= before as f64 * GROWTH, "{what} grew from {before} to {after}");
    }
}

/// Sends the events in their order, spread over `length`.
fn send_over(config: &Config, records: &[Record], length: Duration) {
    let started = Instant::now();
    let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
    let mut sent = 0;
    while sent < records.len() {
        let share = started.elapsed().as_secs_f64() / length.as_secs_f64();
        let due = ((records.len() as f64 * share) as usize).min(records.len());
        records[sent..due].iter().for_each(|record| send(&producer, config, record));
        producer.flush().expect("the events are acknowledged");
        sent = due;
        std::thread::sleep(BURST);
    }
}

#[test]
fn half_a_minute() {
    soak(Duration::from_secs(30));
}

#[test]
#[ignore = "takes half an hour"]
fn half_an_hour() {
    soak(Duration::from_secs(30 * 60));
}
