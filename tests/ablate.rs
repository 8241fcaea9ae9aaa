//! Promise: an ablation is what single passes over the same rows give, and its files say so.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const CONFIG: &str = r#"
name = "ablate"
topics.mode = "joined"
join = { window = "30s", grace = "5s", memory = "10m" }
model = { embedding = { dim = 4 }, light = [8], booster = [16, 8] }
train = { batch_rows = 64, threads = 1 }

[schema]
time = "ts_ms"
user = "user_id"
item = "item_id"
impression = "impression_id"
features = [{ name = "user_id", kind = "categorical" }, { name = "item_id", kind = "categorical" }]
"#;

fn program(path: &str, arguments: &[&str]) -> Output {
    Command::new(path).args(arguments).output().expect("the program runs")
}

fn rocketctl(dir: &Path, arguments: &[&str]) -> Output {
    let config = dir.join("ablate.toml");
    let config = config.to_str().expect("UTF-8");
    program(env!("CARGO_BIN_EXE_rocketctl"), &[arguments, &["--config", config]].concat())
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object")
}

#[test]
fn arms_are_single_passes_and_the_files_hold_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("ablate.toml"), CONFIG).expect("writable");
    let (rows, out) = (dir.path().join("rows.jsonl"), dir.path().join("out"));
    let (rows, out) = (rows.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let written = program(env!("CARGO_BIN_EXE_rocketd"), &["demo", "--write", rows, "--rows", "5000"]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));

    let mut broken = std::fs::OpenOptions::new().append(true).open(rows).expect("it is there");
    writeln!(broken, "{{\"label\": 0}}").expect("writable");

    let arms = "light_only,booster_only,rocket,mimic";
    let command = ["ablate", rows, "--arms", arms, "--sweep", "4", "--seeds", "2", "--booster-first", "1000", "--out", out, "-o", "json"];
    let output = rocketctl(dir.path(), &command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("1 events could not be used").count(), 1, "said once for all passes: {said}");
    let found = json(&output);
    let names: Vec<&str> = found["arms"].as_array().expect("arms").iter().map(|arm| arm["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["light_only", "booster_only", "rocket", "mimic", "light_only 4", "rocket 4"]);
    for arm in found["arms"].as_array().expect("arms") {
        assert!(arm["runs"].as_array().expect("runs").iter().all(|run| run["rows"] == 5000), "{}", arm["name"]);
    }

    // The arm `rocket` is the configuration as it is: its first seed is a backtest.
    let alone = json(&rocketctl(dir.path(), &["backtest", rows, "-o", "json"]));
    assert_eq!(found["arms"][2]["runs"][0]["heads"], alone["heads"]);
    assert_ne!(found["arms"][2]["runs"][1]["heads"], alone["heads"], "another seed, other weights");
    // Inputs 8, light 8, booster 16-8.
    assert_eq!(found["arms"][2]["multiplications"]["light"], 8 * 8 + 8);
    assert_eq!(found["arms"][1]["multiplications"], serde_json::json!({ "booster": 8 * 16 + 16 * 8 + 8 }));
    assert!(found["arms"][0]["heads"].get("booster").is_none());
    assert_eq!(found["arms"][0]["versus_alone"]["auc"]["mean"], 0.0);
    assert!(found["recovered"].get("auc").is_some());

    let file = std::fs::read(Path::new(out).join("ablation.json")).expect("written");
    assert_eq!(serde_json::from_slice::<Value>(&file).expect("JSON"), found);
    let chart = std::fs::read_to_string(Path::new(out).join("arms.svg")).expect("drawn");
    assert!(names.iter().all(|name| chart.contains(name)) && chart.contains("GAUC"), "{chart}");
    assert!(std::fs::read_to_string(Path::new(out).join("sweep.svg")).expect("drawn").contains("multiplications"));
}

#[test]
fn an_unknown_arm_is_a_usage_error_that_lists_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("ablate.toml"), CONFIG).expect("writable");
    let output = rocketctl(dir.path(), &["ablate", "rows.jsonl", "--arms", "rockit", "--out", "out"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("rockit") && said.contains("two_stage_kd"), "{said}");
    let shape = rocketctl(dir.path(), &["ablate", "rows.jsonl", "--sweep", "64-0", "--out", "out"]);
    assert_eq!(shape.status.code(), Some(64));
}
