//! Promise: a C program scores with a snapshot as a Rust one does, and every mistake is an answer with a reason.

mod serving_support;

use std::path::Path;
use std::process::{Command, Output};

use serving_support::{MODEL, TIME, Topic, candidates, context, follow, scores, until_serves};

fn run(command: &mut Command) -> Output {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn the_example_in_c_gives_the_scores_of_the_model_on_disk() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    topic.publish(4);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 4);
    let expected = scores(&subscriber.model().expect("served"), 25);
    subscriber.stop().expect("no panic");

    let built = text(run(&mut Command::new("ops/capi/build")).stdout);
    let folder = Path::new(built.trim());
    let program = tempfile::tempdir().expect("tempdir");
    let program = program.path().join("example");
    let warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror"];
    run(Command::new("cc")
        .args(warnings)
        .args(["-Iops/capi", "ops/capi/example.c", "-lrocket_launching", "-L"])
        .arg(folder)
        .arg("-o")
        .arg(&program));

    // Nothing answers at this address: the snapshot on disk is enough.
    let request = [serde_json::to_string(&context()), serde_json::to_string(&candidates(25))].map(|json| json.expect("JSON"));
    let mut example = Command::new(&program);
    example.args([MODEL, "127.0.0.1:1"]).arg(dir.path()).args(&request).arg(TIME.0.to_string()).env("LD_LIBRARY_PATH", folder);
    let output = run(&mut example);
    let said = text(output.stdout);
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("4"));
    let found: Vec<f32> = lines.map(|line| line.parse().expect("a number")).collect();
    assert_eq!(found, expected);
    let told = text(output.stderr);
    assert!(told.contains("context: not a JSON object: EOF while parsing") && told.contains("\"version\":4"), "{told}");
}
