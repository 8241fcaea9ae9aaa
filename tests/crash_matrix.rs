//! Promise: wherever the daemon ends without warning, before or after any act that makes something durable, nothing is lost and nothing is
//! counted twice: it ends bit-equal to one that ran through, with the metrics of an undisturbed pass, and ad servers never serve a torn
//! snapshot.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rocket_launching::config::Config;
use rocket_launching::stream::EmbeddedBroker;
use support::daemon::{Daemon, PATIENCE, log_of};
use support::kills::{End, Stream, Watcher};

const ROWS: usize = 1600;
/// `abort`, which a point armed with `return(kill)` calls: no destructor, no handler, nothing flushed.
const SIGABRT: i32 = 6;
/// Cases at once: most of a case is waiting.
const WORKERS: usize = 3;
/// Says the name of every point that is reached.
const TRACE: (&str, &str) = ("RUST_LOG", "error,failpoint=trace");

/// Where to kill: a point, and how often it is passed before.
type Kill = (String, usize);

struct Matrix {
    broker: EmbeddedBroker,
    stream: Stream,
    whole: End,
    /// How often a run that is not disturbed reaches each point.
    reached: BTreeMap<String, usize>,
}

impl Matrix {
    fn new(dir: &Path) -> Self {
        let broker = EmbeddedBroker::start().expect("the broker starts");
        let stream = Stream::produce(
            broker.bootstrap(),
            ROWS,
            |_| {},
            |config| {
                for topic in [config.impressions_topic(), config.clicks_topic()] {
                    broker.create_topic(&topic, 1).expect("the topic is created");
                }
            },
        );
        let config = stream.config(dir, "whole");
        create_own_topics(&broker, &config);
        let daemon = Daemon::start_with(&config, &[TRACE]);
        daemon.wait_until("all events done", |status| stream.is_done(status));
        assert!(daemon.terminate().success());
        let whole = stream.end(&config);
        let mut reached = BTreeMap::new();
        for point in points(&log_of(&config)) {
            *reached.entry(point).or_default() += 1;
        }
        Matrix { broker, stream, whole, reached }
    }

    /// Kills daemons one after the other at these points, lets one run to the end, and compares. Returns the points that only a start
    /// after a kill reaches.
    fn case(&self, dir: &Path, kills: &[Kill]) -> BTreeSet<String> {
        let name = kills.iter().map(|(point, passes)| format!("{}-{passes}", point.replace('.', "-"))).collect::<Vec<_>>().join("--");
        let config = self.stream.config(dir, &name);
        create_own_topics(&self.broker, &config);
        let watcher = Watcher::start(&config, &dir.join(&name).join("ad-server"));
        for (point, passes) in kills {
            self.kill(&config, point, *passes);
        }
        let before = log_of(&config).len();
        let daemon = Daemon::start_with(&config, &[TRACE]);
        daemon.wait_until(&format!("{name}: all events done"), |status| self.stream.is_done(status));
        assert!(daemon.terminate().success(), "{name}");
        self.stream.end(&config).assert_equals(&self.whole, &name);
        let served = watcher.finish();
        assert!(!served.is_empty(), "{name}: nothing was served");
        points(&log_of(&config)[before..]).filter(|point| !self.reached.contains_key(point)).collect()
    }

    /// Ends a daemon at `point` after `passes`, or, where this run reaches it less often, at its first time.
    fn kill(&self, config: &Config, point: &str, passes: usize) {
        let action = if passes == 0 { "return(kill)".to_owned() } else { format!("{passes}*off->return(kill)") };
        let mut daemon = Daemon::spawn_with(config, &[("FAILPOINTS", &format!("{point}={action}")), ("RUST_LOG", "error")]);
        let started = Instant::now();
        let ended = loop {
            if let Some(ended) = daemon.ended() {
                break ended;
            }
            if daemon.status().is_some_and(|status| self.stream.is_done(&status)) {
                break daemon.terminate();
            }
            assert!(started.elapsed() < PATIENCE, "{point} after {passes}: neither reached nor done");
            std::thread::sleep(Duration::from_millis(5));
        };
        match ended.signal() {
            Some(SIGABRT) => {}
            _ => assert!(ended.success() && passes > 0, "{point} after {passes}: {ended}; its log:\n{}", log_of(config)),
        }
    }

    /// All cases, several at once; then those of the points that only a start after a kill reaches.
    fn run(&self, dir: &Path, cases: Vec<Kill>) {
        let mut done = cases.len();
        let after = self.share(dir, cases.into_iter().map(|kill| vec![kill]).collect());
        let doubled: Vec<Vec<Kill>> = after.into_iter().map(|(point, first)| vec![first, (point, 0)]).collect();
        done += doubled.len();
        self.share(dir, doubled);
        println!("{done} cases, each one kill or two, at {} points: none lost, none counted twice", self.reached.len());
    }

    /// Returns the points that only starts after a kill have reached, each with such a kill.
    fn share(&self, dir: &Path, cases: Vec<Vec<Kill>>) -> BTreeMap<String, Kill> {
        let (queue, after) = (Mutex::new(cases), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("no case has failed").pop();
                        let Some(kills) = next else { return };
                        let points = self.case(dir, &kills);
                        after.lock().expect("no case has failed").extend(points.into_iter().map(|point| (point, kills[0].clone())));
                    }
                });
            }
        });
        after.into_inner().expect("no case has failed")
    }
}

fn create_own_topics(broker: &EmbeddedBroker, config: &Config) {
    for topic in [config.snapshots_topic(), config.dead_letters_topic()] {
        broker.create_topic(&topic, 1).expect("the topic is created");
    }
}

/// The points named in a log, in the order in which they were reached.
fn points(log: &str) -> impl Iterator<Item = String> {
    let named = |line: &str| line.contains("failpoint: ").then(|| line.split("point=\"").nth(1)?.split('"').next().map(str::to_owned))?;
    log.lines().filter_map(named)
}

#[test]
fn one_kill_at_every_point() {
    let dir = tempfile::tempdir().expect("tempdir");
    let matrix = Matrix::new(dir.path());
    let cases = matrix.reached.iter().map(|(point, times)| (point.clone(), times / 2)).collect();
    matrix.run(dir.path(), cases);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn a_kill_at_every_point_the_first_time_and_every_later_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let matrix = Matrix::new(dir.path());
    let cases = matrix.reached.iter().flat_map(|(point, times)| (0..*times).map(|passes| (point.clone(), passes)));
    matrix.run(dir.path(), cases.collect());
}
