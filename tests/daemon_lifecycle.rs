//! Promise: rocketd starts, says that it is ready, answers, and leaves on SIGTERM with everything committed; what cannot start says why,
//! where and the way out, with the right exit code.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use rocket_launching::checkpoint::CheckpointStore;
use rocket_launching::config::{Config, Span};
use rocket_launching::keys::{Role, Signer};
use rocket_launching::stream::{EmbeddedBroker, KafkaProducer};
use rocket_launching::telemetry::names;
use support::daemon::{Daemon, write_config};
use support::{wait_for, world};

const ROWS: usize = 600;

fn rocketd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rocketd")).args(arguments).env_remove("RUST_LOG").output().expect("rocketd runs")
}

/// Exit code, standard output, standard error.
fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn config_file(dir: &Path, more: &str) -> String {
    let config = world::config(&dir.join("state"), "labelled", more);
    write_config(&config).display().to_string()
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Status code and body; `None` while nobody listens.
fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

#[test]
fn a_command_line_that_cannot_be_exits_with_64() {
    for arguments in [&[][..], &["fly"], &["run"], &["check", "--offline"], &["demo", "--rows", "3"], &["demo", "--data", "f.tsv"]] {
        let (code, out, err) = outcome(&rocketd(arguments));
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
    assert_eq!(rocketd(&["--help"]).status.code(), Some(0));
}

#[test]
fn check_says_what_is_right_and_touches_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = config_file(dir.path(), "");
    let (code, out, err) = outcome(&rocketd(&["check", "--config", &file]));
    assert_eq!(code, Some(0), "{err}");
    for part in ["config    ok", "features  ok", "device    ok  cpu"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert!(!dir.path().join("state").exists());
}

#[test]
fn a_configuration_that_cannot_be_exits_with_78_and_names_key_and_line() {
    let dir = tempfile::tempdir().expect("tempdir");
    let good = std::fs::read_to_string(config_file(dir.path(), "")).expect("written");
    let path = dir.path().join("bad.toml");
    let line = good.lines().position(|line| line.starts_with("batch_rows")).expect("the key is written") + 1;
    std::fs::write(&path, good.replace("batch_rows", "batch_rose")).expect("write");
    for command in ["check", "run"] {
        let (code, _, err) = outcome(&rocketd(&[command, "--config", &path.display().to_string()]));
        assert_eq!(code, Some(78), "{err}");
        for part in ["bad.toml", "batch_rose", &format!("line {line}")] {
            assert!(err.contains(part), "{part} is not in {err}");
        }
    }

    let device = config_file(dir.path(), "").replace("state.toml", "device.toml");
    std::fs::write(&device, good.replace("device = \"cpu\"", "device = \"abacus\"")).expect("write");
    let (code, _, err) = outcome(&rocketd(&["check", "--config", &device]));
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains("train.device") && err.contains("abacus"), "{err}");
}

#[test]
fn a_list_of_trusted_keys_without_a_key_of_its_own_exits_with_78_before_any_broker_is_asked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (trusted, trainer) = (dir.path().join("trusted.toml"), dir.path().join("trainer.pem"));
    let signer = Signer::generate().expect("random bytes");
    signer.save(&trainer).expect("the key is written");
    let refused = |role: Role, keys: &str, named: &str| {
        std::fs::write(&trusted, signer.public().trusted_as(role)).expect("written");
        let more = format!("kafka.brokers = \"127.0.0.1:1\"\nadmin.http = \"\"\nkeys = {{ trusted = {trusted:?}, {keys} }}");
        let (code, _, err) = outcome(&rocketd(&["run", "--config", &config_file(dir.path(), &more)]));
        assert!(code == Some(78) && err.contains(named), "{code:?}: {err}");
    };
    refused(Role::Trainer, "", "keys.trainer");
    refused(Role::Operator, &format!("trainer = {trainer:?}"), "not trusted as trainer");
    std::fs::set_permissions(&trainer, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
    refused(Role::Trainer, &format!("trainer = {trainer:?}"), "chmod 600");
}

#[test]
fn without_a_broker_check_exits_with_1_and_names_the_way_out() {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = config_file(dir.path(), "kafka = { brokers = \"127.0.0.1:1\", timeout = \"1s\" }\nadmin.http = \"\"");
    let (code, _, err) = outcome(&rocketd(&["check", "--online", "--config", &file]));
    assert_eq!(code, Some(1), "{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.contains("127.0.0.1:1") && last.contains("check kafka.brokers"), "{err}");
}

#[test]
fn without_a_broker_it_waits_says_for_what_and_leaves_when_asked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let http = free_address();
    let more = format!("kafka = {{ brokers = \"127.0.0.1:1\", timeout = \"1s\" }}\nadmin.http = \"{http}\"\nadmin.stall = \"1s\"");
    let config = world::config(&dir.path().join("state"), "labelled", &more);
    let daemon = Daemon::spawn(&config);
    let named = |page: &str| page.contains("waiting") && page.contains("127.0.0.1:1") && page.contains("check kafka.brokers");
    wait_for("it waits", || get(&http, "/readyz").filter(|(code, page)| *code == 503 && named(page)));
    // Beyond admin.stall, it is alive.
    let log = config.state.dir.with_extension("log");
    wait_for("several attempts", || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        (lines.matches("waiting for the broker").count() >= 3).then_some(())
    });
    assert_eq!(get(&http, "/livez").map(|(code, _)| code), Some(200));
    assert_eq!(get(&http, "/readyz").map(|(code, _)| code), Some(503));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn without_its_topics_it_exits_with_1_and_names_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = EmbeddedBroker::start().expect("the broker starts");
    let file = config_file(dir.path(), &format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap()));
    for arguments in [&["run", "--config", &file][..], &["check", "--online", "--config", &file]] {
        let (code, _, err) = outcome(&rocketd(arguments));
        assert_eq!(code, Some(1), "{arguments:?}: {err}");
        assert!(err.contains("rocketctl topics create"), "{arguments:?}: {err}");
    }
}

/// A configuration whose schedule never commits: what is committed at the end was committed by leaving.
fn site(dir: &Path, http: &str) -> (EmbeddedBroker, Config) {
    let broker = EmbeddedBroker::start().expect("the broker starts");
    let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"{http}\"", broker.bootstrap());
    let mut config = world::config(&dir.join("state"), "labelled", &more);
    config.train.linger = Span::from_millis(100);
    config.checkpoint.every_samples = u64::MAX >> 1;
    config.publish.every_samples = u64::MAX >> 1;
    for topic in [config.events_topic(), config.dead_letters_topic(), config.snapshots_topic()] {
        broker.create_topic(&topic, 1).expect("the topic is created");
    }
    (broker, config)
}

#[test]
fn it_gets_ready_answers_and_leaves_on_sigterm_with_all_committed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let http = free_address();
    let (_broker, config) = site(dir.path(), &http);
    let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
    let (_, records) = world::labelled_stream(ROWS);
    for record in &records {
        producer.send(&config.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("queued");
    }
    producer.flush().expect("acknowledged");

    let daemon = Daemon::start(&config);
    wait_for("readiness", || get(&http, "/readyz").filter(|(code, _)| *code == 200));
    assert_eq!(get(&http, "/livez").map(|(code, _)| code), Some(200));
    let all = records.len() as u64;
    let status = daemon.wait_until("every event is done", |status| status.books.done() == all);
    assert_eq!((status.ready, status.checkpoint), (true, None));
    let read = format!("{} {all}", names::EVENTS_READ);
    let page = wait_for("fresh metrics", || get(&http, "/metrics").map(|(_, page)| page).filter(|page| page.contains(&read)));
    for name in [names::EVENTS_TRAINED, names::EVENTS_DROPPED, names::EVENTS_PENDING, names::TABLE_ROWS, names::READY] {
        assert!(page.contains(name), "{name} is not in\n{page}");
    }

    assert_eq!(daemon.terminate().code(), Some(0));
    let store = CheckpointStore::open(&config.state.dir, config.checkpoint.keep).expect("the state opens");
    let commit = store.latest().expect("leaving commits a checkpoint");
    assert_eq!(commit.books.done(), all);
    assert!(!config.admin_socket().exists(), "the socket goes with its daemon");
    assert!(get(&http, "/livez").is_none(), "nobody listens any more");
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (_broker, config) = site(dir.path(), "");
    let daemon = Daemon::start(&config);
    let mut second = config.clone();
    second.publish.enabled = false;
    let path = dir.path().join("second.toml");
    std::fs::write(&path, toml::to_string(&second).expect("TOML")).expect("write");
    let (code, _, err) = outcome(&rocketd(&["run", "--config", &path.display().to_string()]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("in use by another process"), "{err}");
    assert!(daemon.status().is_some_and(|status| status.ready));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn a_taken_http_address_is_refused_by_its_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = taken.local_addr().expect("its address").to_string();
    let (_broker, config) = site(dir.path(), &http);
    let (code, _, err) = outcome(&rocketd(&["run", "--config", &write_config(&config).display().to_string()]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("admin.http") && err.contains(&http), "{err}");
}
