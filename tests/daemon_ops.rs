//! Promise: alerts ask for metrics there are and link to pages there are, and the README names files there are.

use rocket_launching::telemetry::names::{self, Kind};

const RULES: &str = include_str!("../ops/prometheus/rules.yml");
const RUNBOOK: &str = include_str!("../ops/runbook.md");
const README: &str = include_str!("../README.md");

#[test]
fn alerts_ask_for_metrics_there_are_and_link_to_headings_there_are() {
    let mut asked = 0;
    for expression in RULES.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("rocket_")) {
            let metric = names::ALL.iter().find(|metric| metric.name == word);
            let metric = metric.unwrap_or_else(|| panic!("`{expression}` asks for {word}, which is no metric"));
            let rated = expression.contains(&format!("rate({word}")) || expression.contains(&format!("increase({word}"));
            assert!(metric.kind != Kind::Counter || rated, "`{expression}` reads the counter {word} without a rate");
            asked += 1;
        }
    }
    assert!(asked >= 10, "only {asked} metrics found: is the file still written the same way?");

    let anchors: Vec<String> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
    let links: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("runbook: \"ops/runbook.md#")?.strip_suffix('"')).collect();
    assert_eq!(links.len(), RULES.matches("- alert:").count(), "each alert has its page");
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "no heading of the runbook is #{link}: {anchors:?}");
    }
}

/// As Markdown viewers make them.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn files_that_the_readme_names_are_there() {
    let mut named = 0;
    for word in README.split(['`', '(', ')', ' ', '\n']) {
        let path = word.split('#').next().unwrap_or_default().trim_end_matches(['/', '.', ',']);
        if ["ops/", "config/", "tests/", "src/"].iter().any(|room| path.starts_with(room)) && !path.contains(['*', '<', '…']) {
            assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path} is not there");
            named += 1;
        }
    }
    assert!(named >= 5, "only {named} paths found");
}
