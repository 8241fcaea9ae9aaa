//! Promise: `rocket-scorer` says whose fault a failed start is by its exit code, starts without a broker, and leaves on SIGTERM with 0.

mod serving_support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serving_support::{MODEL, Topic, agent, follow, until_serves};

fn scorer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocket-scorer"));
    command
        .env_remove("RUST_LOG")
        .env_remove("ROCKET_MODEL")
        .env_remove("ROCKET_BROKERS")
        .env_remove("ROCKET_HOST")
        .env_remove("ROCKET_GROUP");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = scorer().args(arguments).stdin(Stdio::null()).output().expect("it runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn exit_codes_say_whose_fault_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let cache = dir.path().join("cache");
    let cache = cache.to_str().expect("text");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("writes");

    let (code, text) = run(&[]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("--model"), "{text}");
    let (code, text) = run(&["--model", MODEL, "-X", "nonsense"]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("security.protocol=ssl"), "{text}");
    let (code, text) = run(&["--model", MODEL, "--group", "EU"]);
    assert!(code == Some(64) && text.contains("`EU` is no group of servers"), "{text}");
    let (code, text) = run(&["--model", MODEL, "--listen", "127.0.0.1:0", "--cache", cache, "--host", "", "--report"]);
    assert!(code == Some(78) && text.contains("--host"), "{text}");
    let (code, text) = run(&["--model", MODEL, "--listen", "127.0.0.1:0", "--cache", file.to_str().expect("text")]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("--cache"), "{text}");
    let (code, text) = run(&["--model", MODEL, "--log-filter", "info,,=loud=", "--cache", cache]);
    assert_eq!(code, Some(78), "{text}");
    let (code, text) = run(&["--model", MODEL, "--listen", "127.0.0.1:0", "--cache", cache, "-X", "no.such.setting=1"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("no.such.setting"), "{text}");
    let (code, text) = run(&["--model", MODEL, "--listen", "127.0.0.1:0", "--cache", cache, "--trusted", "/nowhere/trusted.toml"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("--trusted") && text.contains("/nowhere/trusted.toml"), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, text) = run(&["--model", MODEL, "--listen", &address, "--cache", cache]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains(&address), "{text}");
}

#[test]
fn it_serves_from_disk_without_a_broker_and_leaves_on_sigterm() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    topic.publish(4);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 4);
    subscriber.stop().expect("no panic");

    let mut child = scorer()
        .args(["--model", MODEL, "--listen", "127.0.0.1:0", "--brokers", "127.0.0.1:1", "--log-format", "json", "--cache"])
        .arg(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("it announces its address before it ends").expect("text");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON lines");
        if line["message"] == "scoring" {
            break line["address"].as_str().expect("an address").to_owned();
        }
    };
    let drain = std::thread::spawn(move || lines.for_each(drop));

    let ready = agent().get(format!("http://{address}/readyz")).call().expect("answers");
    assert_eq!((ready.status().as_u16(), ready.headers()["x-model-version"].to_str().expect("text")), (200, "4"));
    let mut metrics = agent().get(format!("http://{address}/metrics")).call().expect("answers");
    assert!(metrics.body_mut().read_to_string().expect("text").contains("rocket_served_version{model=\"ctr\"} 4"));

    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let mut left = None;
    for _ in 0..600 {
        left = child.try_wait().expect("a child of ours");
        if left.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(left.expect("it left").code(), Some(0));
    drain.join().expect("no panic");
}
