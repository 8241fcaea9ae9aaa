//! Promise: systemd hears when the daemon is ready, that it lives and that it leaves; a second daemon started by mistake does not end the
//! publishing of the first.

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rocket_launching::config::Config;
use rocket_launching::stream::{EmbeddedBroker, KafkaProducer};
use rocket_launching::telemetry::admin::{Answer, Request, ask};
use support::daemon::{Daemon, write_config};
use support::world;

fn site(dir: &Path) -> (EmbeddedBroker, Config) {
    let broker = EmbeddedBroker::start().expect("the embedded broker starts");
    let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
    let config = world::config(&dir.join("state"), "labelled", &more);
    for topic in [config.events_topic(), config.dead_letters_topic(), config.snapshots_topic()] {
        broker.create_topic(&topic, 1).expect("the topic is made");
    }
    (broker, config)
}

fn rocketd(config: &Config) -> Command {
    let mut rocketd = Command::new(env!("CARGO_BIN_EXE_rocketd"));
    rocketd.args(["run", "--config"]).arg(write_config(config)).stdout(Stdio::null());
    rocketd
}

/// A child that does not outlive its test.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Gone already where the test went well.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn a_refused_second_daemon_leaves_the_lease_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (_broker, config) = site(dir.path());
    let first = Daemon::start(&config);
    let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
    for record in world::labelled_stream(100).1 {
        producer.send(&config.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("queued");
    }
    producer.flush().expect("acknowledged");
    first.wait_until("the events are read", |status| status.read == 100);

    let second = rocketd(&config).output().expect("rocketd runs");
    let words = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{words}");
    assert!(words.contains(&config.state.dir.display().to_string()) && words.contains("in use"), "{words}");
    let published = ask(&config.admin_socket(), &Request::SnapshotNow).expect("the first answers");
    assert!(matches!(published, Answer::Ok(_)), "the first no longer publishes: {published:?}");
    assert!(first.terminate().success());
}

#[test]
fn systemd_hears_ready_watchdog_and_stopping() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (_broker, config) = site(dir.path());
    let path = dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("binding the notify socket");
    socket.set_read_timeout(Some(support::PATIENCE)).expect("a timeout");
    let child = rocketd(&config)
        .env("NOTIFY_SOCKET", &path)
        // Fed at half of it.
        .env("WATCHDOG_USEC", Duration::from_millis(400).as_micros().to_string())
        .env_remove("WATCHDOG_PID")
        .stderr(Stdio::null())
        .spawn()
        .expect("rocketd starts");
    let mut child = Kept(child);
    let hear = |wanted: &str| {
        let mut message = [0; 4096];
        loop {
            let length = socket.recv(&mut message).unwrap_or_else(|e| panic!("{wanted} did not come: {e}"));
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    let pid = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    hear("STOPPING=1");
    assert!(child.0.wait().expect("it ends").success());
}
