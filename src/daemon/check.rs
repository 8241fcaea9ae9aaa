//! `rocketd check`: would `rocketd run` start? Touches neither state nor topics.

use std::io::Write;
use std::path::Path;

use super::failure::Failure;
use super::run::refuse_without_light;
use crate::config::{self, Config};
use crate::features::FeatureSpec;
use crate::stream::{TopicCheck, check_topics};
use crate::train::Learner;

/// Checks the file, the features, the nets on their device, and with `online` the broker and the topics. One line each to `out`.
///
/// # Errors
/// [`Failure`] with the exit code that `run` would end with.
pub fn check(path: &Path, online: bool, environment: impl Iterator<Item = (String, String)>, out: &mut impl Write) -> Result<(), Failure> {
    let config = config::load(path, environment)?;
    refuse_without_light(&config)?;
    say(out, &format!("config    ok  {} (model {}, hash {})", path.display(), config.name, config.hash()))?;
    let spec = FeatureSpec::new(&config.schema)?;
    let inputs = spec.inputs(config.model.embedding.dim);
    say(out, &format!("features  ok  {} slots, {} numbers, {inputs} inputs", spec.slots().len(), spec.numbers().len()))?;
    Learner::new(&config.model, &config.train, config.early_labels(), &spec)?;
    say(out, &format!("device    ok  {}", config.train.device))?;
    if online { check_broker(&config, out) } else { Ok(()) }
}

fn check_broker(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let topics = check_topics(config)?;
    say(out, &format!("broker    ok  {}", config.kafka.brokers))?;
    for topic in &topics {
        for line in lines(topic) {
            say(out, &line)?;
        }
    }
    let wrong = topics.iter().filter(|topic| !topic.problems.is_empty()).count();
    if wrong == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{wrong} of {} topics cannot be used as they are; `rocketctl topics create` makes missing ones",
        topics.len()
    )))
}

fn lines(topic: &TopicCheck) -> Vec<String> {
    let partitions = topic.partitions.map_or_else(|| "missing".to_owned(), |count| format!("{count} partitions"));
    let verdict = if topic.problems.is_empty() { "ok " } else { "BAD" };
    let mut lines = vec![format!("topic     {verdict} {} ({}, {partitions})", topic.topic, topic.role)];
    lines.extend(topic.problems.iter().map(|problem| format!("              {problem}")));
    lines.extend(topic.notes.iter().map(|note| format!("              note: {note}")));
    lines
}

fn say(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}").map_err(|e| Failure::failed(format!("writing the result: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_without_a_light_head_is_a_wrong_configuration() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("booster.toml");
        let checked = |enabled: bool| {
            let schema = "[schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]\n";
            let arm = format!("model.control = false\ntrain.heads = \"booster\"\npublish.enabled = {enabled}\n");
            std::fs::write(&path, format!("name = \"a\"\n{arm}{schema}")).expect("the file is written");
            check(&path, false, std::iter::empty(), &mut Vec::new())
        };
        let refused = checked(true).expect_err("there is nothing to publish");
        assert_eq!(refused.code(), 78);
        assert!(refused.to_string().contains("publish.enabled = false"), "{refused}");
        checked(false).expect("a booster may be trained for itself");
    }

    #[test]
    fn a_topic_shows_its_problems_and_notes() {
        let topic = TopicCheck {
            topic: "ads.snapshots".to_owned(),
            role: "snapshots",
            partitions: Some(3),
            problems: vec!["has 3 partitions; needs 1".to_owned()],
            notes: vec!["retention could not be read".to_owned()],
        };
        let text = lines(&topic).join("\n");
        for part in ["BAD ads.snapshots", "3 partitions", "needs 1", "note: retention"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
