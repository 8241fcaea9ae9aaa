//! Promise: rocketctl's exit codes, errors and JSON can be relied on, and it changes what is served only when it is told to.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_launching::config::{self, Config};
use rocket_launching::domain::{Role, Version};
use rocket_launching::evaluate::{HeadReport, Report, UserLine};
use rocket_launching::keys::Keyring;
use rocket_launching::pipeline::Status;
use rocket_launching::publish::{Operator, Publisher};
use rocket_launching::stream::{EmbeddedBroker, KafkaLogReader, KafkaLogWriter, KafkaSource, Source};
use rocket_launching::telemetry::admin::{self, Answer, Handler, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Runs the real binary with nothing on its standard input and nothing of ours in its environment.
fn rocketctl(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketctl"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROCKET")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).env_remove("RUST_LOG").env("USER", "ann").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let outcome = Outcome { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!outcome.out.contains('\x1b') && !outcome.err.contains('\x1b'), "no colours: {arguments:?}");
    outcome
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A directory with a configuration file.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rocket.toml"), text).unwrap();
        Desk { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let config = self.path("rocket.toml");
        rocketctl(&[arguments, &["--config", config.to_str().unwrap()]].concat())
    }
}

/// A desk beside a broker with three published versions.
struct Site {
    desk: Desk,
    config: Config,
    broker: EmbeddedBroker,
}

impl Site {
    fn new(mode: &str) -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        let text = snapshots::config_text(&format!(
            "kafka.brokers = \"{}\"\ntopics.mode = \"{mode}\"\nstate.dir = \"/nowhere\"",
            broker.bootstrap()
        ))
        .replace("item = \"item\"", "item = \"item\"\nimpression = \"impression_id\"");
        let config = config::parse(&text, "rocket.toml", std::iter::empty()).unwrap();
        Site { desk: Desk::new(&text), config, broker }
    }

    fn create_topics(&self) {
        let config = &self.config;
        for topic in [config.events_topic(), config.impressions_topic(), config.clicks_topic(), config.dead_letters_topic()] {
            self.broker.create_topic(&topic, 2).unwrap();
        }
        self.broker.create_topic(&config.snapshots_topic(), 1).unwrap();
    }

    fn publish(&self, numbers: std::ops::RangeInclusive<u64>) {
        let (reader, writer) = self.log();
        let mut publisher = Publisher::open(&self.config, "test", reader, writer).unwrap();
        for number in numbers {
            publisher.publish(&snapshots::commit(number), &snapshots::loaded(number), snapshots::CREATED_MS).unwrap();
        }
    }

    fn log(&self) -> (Box<KafkaLogReader>, Box<KafkaLogWriter>) {
        let topic = self.config.snapshots_topic();
        let reader = KafkaLogReader::open(&self.config.kafka, &topic).unwrap();
        (Box::new(reader), Box::new(KafkaLogWriter::open(&self.config.kafka, &topic).unwrap()))
    }

    /// The version being served, and how many acts the audit log holds.
    fn served(&self) -> (Option<u64>, usize) {
        let (reader, writer) = self.log();
        let operator = Operator::open(&self.config.name, "test", Keyring::default(), reader, writer).unwrap();
        (operator.catalog().target(0).map(|Version(number)| number), operator.catalog().audit().count())
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.desk.run(arguments)
    }
}

#[test]
fn a_command_line_that_cannot_be_exits_with_64() {
    let desk = Desk::new(&snapshots::config_text(""));
    for arguments in [
        &["frobnicate"][..],
        &["rollback", "--to", "1"],
        &["rollback", "--to", "one", "--reason", "r"],
        &["rollback", "--to", "1", "--reason", ""],
        &["rollback", "--to", "1", "--reason", "r", "--yes", "--dry-run"],
        &["status", "-o", "yaml"],
        &["backtest", "f.tsv", "--eval-from", "yesterday"],
        &["replay", "f.tsv", "--rate", "fast"],
        &["topics", "create", "--partitions", "0"],
    ] {
        let outcome = desk.run(arguments);
        assert_eq!(outcome.code, 64, "{arguments:?}: {}", outcome.err);
        assert!(!outcome.err.is_empty() && outcome.out.is_empty(), "{arguments:?}");
    }
    assert_eq!(rocketctl(&[]).code, 64);
    let without = rocketctl(&["history"]);
    assert_eq!(without.code, 64);
    assert!(without.err.contains("--config FILE"), "{}", without.err);
    for arguments in [&["--help"][..], &["--version"], &["rollback", "--help"]] {
        let outcome = rocketctl(arguments);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{arguments:?}");
        assert!(!outcome.out.is_empty());
    }
}

#[test]
fn a_configuration_that_cannot_be_exits_with_78_and_names_the_place() {
    let desk = Desk::new(&snapshots::config_text("publish = { kepe = 3 }"));
    let outcome = desk.run(&["history"]);
    assert_eq!(outcome.code, 78, "{}", outcome.err);
    for part in ["rocket.toml", "kepe", "line 4"] {
        assert!(outcome.err.contains(part), "{part}: {}", outcome.err);
    }
    let missing = rocketctl(&["history", "--config", "/nowhere/rocket.toml"]);
    assert_eq!(missing.code, 78);
    assert!(missing.err.contains("/nowhere/rocket.toml") && missing.err.contains("--config"), "{}", missing.err);
}

#[test]
fn what_only_a_new_configuration_can_mend_exits_with_78() {
    let device = Desk::new(&snapshots::config_text("train = { device = \"cuda:4096\" }"));
    rows(&device.path("rows.tsv"), 1);
    let outcome = device.run(&["backtest", device.path("rows.tsv").to_str().unwrap()]);
    assert!(outcome.code == 78 && outcome.err.contains("train.device"), "{}: {}", outcome.code, outcome.err);
    let setting = Desk::new(&snapshots::config_text("kafka.properties = { \"socket.nagle.disable\" = \"perhaps\" }"));
    let outcome = setting.run(&["history"]);
    assert!(outcome.code == 78 && outcome.err.contains("socket.nagle.disable"), "{}: {}", outcome.code, outcome.err);
}

#[test]
fn an_unreachable_broker_exits_with_1_and_the_way_out() {
    let desk = Desk::new(&snapshots::config_text("kafka = { brokers = \"127.0.0.1:1\", timeout = \"1s\" }"));
    for arguments in [&["history"][..], &["snapshot", "ls"], &["rollback", "--to", "1", "--reason", "r", "--yes"], &["topics", "check"]] {
        let outcome = desk.run(arguments);
        assert_eq!(outcome.code, 1, "{arguments:?}: {}", outcome.err);
        let last = outcome.err.lines().last().unwrap();
        assert!(last.starts_with("rocketctl: ") && last.contains("127.0.0.1:1") && last.contains("check kafka.brokers"), "{}", outcome.err);
        assert_eq!(outcome.out, "");
    }
}

#[test]
fn without_a_daemon_its_commands_exit_with_1_and_name_the_socket() {
    let desk = Desk::new(&snapshots::config_text("state.dir = \"/nowhere\""));
    for arguments in [&["status"][..], &["gauc"], &["snapshot", "now"]] {
        let outcome = desk.run(arguments);
        assert_eq!(outcome.code, 1, "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains("/nowhere/admin.sock"), "{}", outcome.err);
    }
}

/// A daemon that answers on the socket with canned figures.
fn canned_daemon(socket: PathBuf) -> tokio::runtime::Runtime {
    let head = HeadReport { auc: Some(0.75), gauc: Some(0.6), gauc_users: 7, ..HeadReport::default() };
    let report = Report { rows: 10, heads: [("light".to_owned(), head)].into(), ..Report::default() };
    let status = Status { model: "hand".to_owned(), ready: true, read: 12, report: report.clone(), ..Status::default() };
    let user = UserLine { user: "u1".to_owned(), impressions: 4, clicks: 1, auc: [("light".to_owned(), 0.5)].into() };
    let handler: Handler = Arc::new(move |request| match request {
        Request::Status => Answer::Ok(serde_json::to_value(&status).unwrap()),
        Request::Gauc { top } => Answer::Ok(json!({ "report": report, "top_users": vec![user.clone(); top] })),
        Request::Rewind { .. } => Answer::Error("not here".to_owned()),
        Request::SnapshotNow => Answer::Error("publish.enabled is false in the configuration".to_owned()),
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = socket.clone();
    runtime.spawn(async move { admin::serve(&path, handler, std::future::pending()).await });
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    runtime
}

#[test]
fn the_daemon_is_asked_over_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(&snapshots::config_text(&format!("state.dir = {:?}", dir.path())));
    let _daemon = canned_daemon(dir.path().join("admin.sock"));

    let status: Status = serde_json::from_value(desk.run(&["status", "-o", "json"]).json()).unwrap();
    assert_eq!((status.model.as_str(), status.read, status.report.heads["light"].auc), ("hand", 12, Some(0.75)));
    let table = desk.run(&["status"]);
    assert!(table.out.contains("ready") && table.out.contains("0.75000"), "{}", table.out);

    let gauc = desk.run(&["gauc", "--top", "2", "-o", "json"]).json();
    assert_eq!(keys(&gauc), ["report", "top_users"]);
    assert_eq!(gauc["top_users"].as_array().unwrap().len(), 2);
    assert_eq!(keys(&gauc["top_users"][0]), ["auc", "clicks", "impressions", "user"]);
    assert!(desk.run(&["gauc"]).out.contains("light auc".to_uppercase().as_str()));

    let refused = desk.run(&["snapshot", "now"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("the daemon refused: publish.enabled is false"), "{}", refused.err);
}

#[test]
fn a_store_without_pending_steps_needs_no_migration() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(&snapshots::config_text(&format!("state.dir = {:?}", dir.path())));
    let listed = desk.run(&["migrate", "--dry-run", "-o", "json"]).json();
    assert_eq!(keys(&listed), ["pending", "store"]);
    assert_eq!(listed["pending"].as_array().unwrap().len(), 0);
    let refused = desk.run(&["migrate"]);
    assert!(refused.code == 64 && refused.err.contains("--dry-run"), "{}", refused.err);
}

#[test]
fn a_missing_snapshot_topic_says_how_to_create_it() {
    let site = Site::new("labelled");
    let outcome = site.run(&["snapshot", "ls"]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("hand.snapshots") && outcome.err.contains("rocketctl topics create"), "{}", outcome.err);
}

#[test]
fn an_operator_looks_goes_back_and_comes_forward_again() {
    let site = Site::new("labelled");
    site.create_topics();
    site.publish(1..=3);

    let listing = site.run(&["snapshot", "ls", "-o", "json"]).json();
    assert_eq!(keys(&listing), ["current", "model", "pin", "publisher", "served", "versions"]);
    assert_eq!((&listing["served"], &listing["current"], &listing["pin"]), (&3.into(), &3.into(), &Value::Null));
    assert_eq!(keys(&listing["publisher"]), ["at_ms", "epoch", "instance"]);
    let version = &listing["versions"][0];
    let fields =
        ["bytes", "chunks", "created_ms", "current", "epoch", "expires_ms", "pinned", "quality", "samples", "served", "version", "whole"];
    assert_eq!(keys(version), fields);
    assert_eq!((&version["version"], &version["whole"], &version["served"]), (&1.into(), &true.into(), &false.into()));
    assert_eq!(version["quality"]["heads"]["light"]["gauc"], 0.601);
    let table = site.run(&["snapshot", "ls"]);
    assert!(table.out.starts_with("VERSION") && table.out.contains("served current"), "{}", table.out);

    let shown = site.run(&["snapshot", "show", "2", "-o", "json"]).json();
    assert_eq!(keys(&shown), ["current", "manifest", "pinned", "served", "whole"]);
    assert_eq!(shown["manifest"]["version"], 2);
    assert_eq!(site.run(&["snapshot", "show", "-o", "json"]).json()["manifest"]["version"], 3, "the served one unless told");
    let verified = site.run(&["snapshot", "verify", "2", "-o", "json"]).json();
    assert_eq!(keys(&verified), ["bytes", "chunks", "ok", "probes", "tensors", "version"]);
    assert_eq!(verified["ok"], true);
    exports(&site);

    refusals(&site);
    there_and_back(&site);
}

/// A version as files for other programs.
fn exports(site: &Site) {
    for format in ["onnx", "safetensors"] {
        let out = site.desk.path(format);
        let out = out.to_str().unwrap();
        let exported = site.run(&["snapshot", "export", "2", "--format", format, "--out", out, "-o", "json"]).json();
        assert_eq!(keys(&exported), ["bytes", "file", "format", "version"]);
        assert_eq!((&exported["version"], &exported["format"]), (&2.into(), &format.into()));
        assert_eq!(std::fs::metadata(out).unwrap().len(), exported["bytes"].as_u64().unwrap());
    }
    let nowhere = site.run(&["snapshot", "export", "--format", "onnx", "--out", "/nowhere/model.onnx"]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("/nowhere/model.onnx"), "{}", nowhere.err);
    assert_eq!(site.run(&["snapshot", "export", "--format", "pickle", "--out", "model.pkl"]).code, 64);
}

/// What must not change anything.
fn refusals(site: &Site) {
    let unknown = site.run(&["rollback", "--to", "9", "--reason", "typo", "--yes"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("version 9 is not on the snapshot topic; it holds 1, 2, 3"), "{}", unknown.err);

    let dry = site.run(&["rollback", "--to", "1", "--reason", "revenue fell", "--dry-run", "-o", "json"]).json();
    let fields = ["act", "actor", "dry_run", "from", "pinned", "quality", "reason", "to", "written"];
    assert_eq!(keys(&dry), fields);
    assert_eq!((&dry["act"], &dry["from"], &dry["to"], &dry["pinned"]), (&"rollback".into(), &3.into(), &1.into(), &1.into()));
    assert_eq!((&dry["dry_run"], &dry["written"]), (&true.into(), &false.into()));
    let gauc = dry["quality"].as_array().unwrap().iter().find(|line| line["metric"] == "gauc").unwrap();
    assert_eq!(keys(gauc), ["difference", "from", "head", "metric", "to"]);
    assert!((gauc["difference"].as_f64().unwrap() + 0.002).abs() < 1e-9, "{gauc}");

    let unasked = site.run(&["rollback", "--to", "1", "--reason", "revenue fell"]);
    assert_eq!(unasked.code, 64);
    assert!(unasked.err.contains("--yes") && unasked.err.contains("light gauc") && unasked.out.is_empty(), "{}", unasked.err);
    assert_eq!(site.run(&["unpin", "--reason", "r", "--yes"]).code, 1, "nothing is pinned");
    assert_eq!(site.served(), (Some(3), 3));
}

fn there_and_back(site: &Site) {
    let done = site.run(&["rollback", "--to", "1", "--reason", "revenue fell", "--yes", "-o", "json"]).json();
    assert_eq!((&done["dry_run"], &done["written"]), (&false.into(), &true.into()));
    assert_eq!(site.served(), (Some(1), 4));
    site.publish(4..=4);
    assert_eq!(site.served(), (Some(1), 4), "the trainer does not promote over the pin");

    assert_eq!(site.run(&["pin", "2", "--reason", "compare", "--actor", "bob", "--yes"]).code, 0);
    assert_eq!(site.served(), (Some(2), 5));
    assert_eq!(site.run(&["pin", "2", "--reason", "once more"]).code, 0, "what changes nothing needs no consent");
    assert_eq!(site.run(&["unpin", "--reason", "compared", "--yes"]).code, 0);
    assert_eq!(site.served(), (Some(1), 7));

    let history = site.run(&["history", "-o", "json"]).json();
    assert_eq!(keys(&history), ["entries", "model"]);
    let entries = history["entries"].as_array().unwrap();
    assert_eq!(keys(&entries[0]), ["act", "actor", "at_ms", "from", "reason", "seq", "to"]);
    let acts: Vec<&str> = entries.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["promote", "promote", "promote", "rollback", "pin", "pin", "unpin"]);
    assert!(entries[3]["actor"].as_str().unwrap().starts_with("ann"), "{}", entries[3]);
    assert_eq!((&entries[4]["actor"], &entries[4]["reason"]), (&"bob".into(), &"compare".into()));
    let newest = site.run(&["history", "--limit", "1", "-o", "json"]).json();
    assert_eq!(newest["entries"].as_array().unwrap().len(), 1);
    assert_eq!(newest["entries"][0]["act"], "unpin");
}

#[test]
fn keys_are_made_shown_and_asked_for() {
    let site = Site::new("labelled");
    site.create_topics();
    let path = |name: &str| site.desk.path(name).display().to_string();
    let [trainer, operator, trusted] = ["trainer.pem", "operator.pem", "trusted.toml"].map(path);
    let made = rocketctl(&["keys", "generate", "--role", "trainer", "--out", &trainer, "-o", "json"]).json();
    assert_eq!(keys(&made), ["file", "id", "line", "public", "role"]);
    let line = rocketctl(&["keys", "generate", "--role", "operator", "--out", &operator]);
    assert_eq!((line.code, line.out.lines().count()), (0, 1), "{}", line.err);
    let again = rocketctl(&["keys", "generate", "--role", "operator", "--out", &operator]);
    assert!(again.code == 1 && again.err.contains("operator.pem"), "{}", again.err);
    assert_eq!(rocketctl(&["keys", "generate", "--role", "boss", "--out", &trainer]).code, 64);

    std::fs::write(&trusted, format!("{}\n{}", made["line"].as_str().unwrap(), line.out)).unwrap();
    let shown = rocketctl(&["keys", "show", &trainer, &operator, "--trusted", &trusted, "-o", "json"]).json();
    assert_eq!(keys(&shown["keys"][0]), ["file", "id", "public", "role"]);
    assert_eq!((&shown["keys"][0]["id"], &shown["keys"][0]["role"]), (&made["id"], &"trainer".into()));
    assert_eq!(shown["keys"][1]["role"], "operator");
    assert_eq!(rocketctl(&["keys", "show", &trainer, "-o", "json"]).json()["keys"][0]["role"], Value::Null);
    assert_eq!(rocketctl(&["keys", "show", &trusted]).code, 1, "no key file");

    let mut signed = site.config.clone();
    signed.keys = config::KeysConfig { trusted: trusted.into(), trainer: trainer.clone().into(), ..config::KeysConfig::default() };
    let site = Site { desk: Desk::new(&toml::to_string(&signed).unwrap()), config: signed, broker: site.broker };
    site.publish(1..=2);
    assert_eq!(site.run(&["snapshot", "ls", "-o", "json"]).json()["served"], 2);
    let rollback = ["rollback", "--to", "1", "--reason", "drill", "--yes"];
    let keyless = site.run(&rollback);
    assert!(keyless.code == 78 && keyless.err.contains("--key, ROCKET_KEY or keys.operator"), "{}", keyless.err);
    let wrong = site.run(&[&rollback[..], &["--key", &trainer]].concat());
    assert!(wrong.code == 78 && wrong.err.contains("not trusted as operator"), "{}", wrong.err);
    assert_eq!(site.run(&["snapshot", "ls", "-o", "json"]).json()["served"], 2, "nothing was written");
    let done = site.run(&[&rollback[..], &["--key", &operator]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    let listing = site.run(&["snapshot", "ls", "-o", "json"]).json();
    assert_eq!((&listing["served"], &listing["pin"]["version"]), (&1.into(), &1.into()));
}

#[test]
fn topics_check_names_what_is_missing() {
    let site = Site::new("labelled");
    let missing = site.run(&["topics", "check", "-o", "json"]);
    assert_eq!(missing.code, 1, "{}", missing.err);
    let found: Value = serde_json::from_str(&missing.out).unwrap();
    assert_eq!(keys(&found), ["ok", "topics"]);
    assert_eq!(found["ok"], false);
    assert_eq!(keys(&found["topics"][0]), ["notes", "partitions", "problems", "role", "topic"]);
    assert!(missing.out.contains("hand.snapshots"), "{}", missing.out);

    site.create_topics();
    let found = site.run(&["topics", "check", "-o", "json"]);
    let snapshots = serde_json::from_str::<Value>(&found.out).unwrap()["topics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|topic| topic["role"] == "snapshots")
        .unwrap()
        .clone();
    assert_eq!(snapshots["partitions"], 1);
}

#[test]
fn dead_letters_are_listed() {
    let site = Site::new("labelled");
    site.create_topics();
    let listing = site.run(&["dlq", "ls", "-o", "json"]).json();
    assert_eq!(keys(&listing), ["letters", "total"]);
    assert_eq!(listing["total"], 0);
}

/// Rows of `ts_ms user_id item age impression_id label`, one a second; every third is clicked.
fn rows(path: &Path, count: i64) {
    let mut text = "ts_ms\tuser_id\titem\tage\timpression_id\tlabel\n".to_owned();
    for n in 0..count {
        let line = format!("{}\tu{}\titem{}\t{}\ti{n}\t{}\n", 1_700_000_000_000 + n * 1000, n % 7, n % 5, n % 40, i64::from(n % 3 == 0));
        text.push_str(&line);
    }
    std::fs::write(path, text).unwrap();
}

#[test]
fn replay_sends_impressions_and_their_clicks_where_their_time_comes() {
    let site = Site::new("joined");
    site.create_topics();
    let file = site.desk.path("rows.tsv");
    rows(&file, 30);
    let sent = site.run(&["replay", file.to_str().unwrap(), "--click-delay", "5s", "-o", "json"]).json();
    assert_eq!(keys(&sent), ["clicks", "events", "rows", "seconds"]);
    assert_eq!((&sent["rows"], &sent["events"], &sent["clicks"]), (&30.into(), &40.into(), &10.into()));

    let mut source = KafkaSource::open(&site.config, &[]).unwrap();
    let (mut records, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
    while records.len() < 40 && Instant::now() < deadline {
        source.poll(&mut records, Duration::from_millis(100)).unwrap();
    }
    let of = |role: Role| records.iter().filter(|record| record.role == role).collect::<Vec<_>>();
    assert_eq!((of(Role::Impression).len(), of(Role::Click).len()), (30, 10));
    let click: Value = serde_json::from_slice(of(Role::Click)[0].payload.as_deref().unwrap()).unwrap();
    let (id, time) = (click["impression_id"].as_str().unwrap(), click["ts_ms"].as_str().unwrap().parse::<i64>().unwrap());
    assert_eq!(time, 1_700_000_000_000 + id.trim_start_matches('i').parse::<i64>().unwrap() * 1000 + 5000);
    assert!(records.iter().all(|record| record.key.as_ref().is_some_and(|key| key[0] == b'u')), "keyed by user");
}

#[test]
fn replay_and_backtest_name_the_file_that_is_not_there() {
    let site = Site::new("labelled");
    for command in ["replay", "backtest"] {
        let outcome = site.run(&[command, "/nowhere/rows.tsv"]);
        assert_eq!(outcome.code, 1, "{}", outcome.err);
        assert!(outcome.err.contains("/nowhere/rows.tsv"), "{}", outcome.err);
    }
}

#[test]
fn backtest_prints_one_object() {
    let desk = Desk::new(&snapshots::config_text(""));
    let file = desk.path("rows.tsv");
    rows(&file, 600);
    let file = file.to_str().unwrap();
    let whole = desk.run(&["backtest", file, "-o", "json"]).json();
    for field in ["rows", "users", "seconds", "samples_per_s", "heads", "hint", "windows", "dropped", "dead_letters"] {
        assert!(whole.get(field).is_some(), "{field}");
    }
    assert_eq!((&whole["rows"], &whole["rows_measured"], &whole["users"]), (&600.into(), &600.into(), &7.into()));
    for head in ["light", "booster"] {
        for field in ["auc", "gauc", "gauc_users", "gauc_stderr", "logloss", "calibration"] {
            assert!(whole["heads"][head].get(field).is_some(), "{head} {field}");
        }
    }
    assert_eq!(keys(&whole["hint"]), ["gradient_share", "mse"]);

    let late = desk.run(&["backtest", file, "--eval-from", "2023-11-14T22:18:20Z", "-o", "json"]).json();
    assert_eq!((&late["rows"], &late["rows_measured"]), (&600.into(), &300.into()));
    let table = desk.run(&["backtest", file]);
    assert!(table.code == 0 && table.out.contains("light") && table.err.is_empty(), "{}{}", table.out, table.err);
}
