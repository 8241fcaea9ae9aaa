//! `rocketd check`: would `rocketd run` start? Touches neither state nor topics.

use std::io::Write;
use std::path::Path;

use super::failure::Failure;
use super::run::refuse_without_light;
use crate::config::{self, Config};
use crate::features::FeatureSpec;
use crate::keys::{Keyring, Role};
use crate::publish::trainer_keys;
use crate::stream::{TopicCheck, check_topics};
use crate::train::Learner;

/// Checks the file, the features, the nets on their device, the keys, and with `online` the broker and the topics. One line each to `out`.
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
    say(out, &keys(&config)?)?;
    if online { check_broker(&config, out) } else { Ok(()) }
}

/// What the configuration's keys come to. A daemon that does not publish needs none of its own.
fn keys(config: &Config) -> Result<String, Failure> {
    let keys = if config.publish.enabled { trainer_keys(&config.keys)? } else { Keyring::default() };
    let signs = keys.signer.as_ref().map_or_else(|| "signs nothing".to_owned(), |signer| format!("signs as {}", signer.id()));
    Ok(match (keys.trust.count(Role::Trainer), keys.trust.count(Role::Operator)) {
        (0, 0) => format!("keys      ok  {signs}, records of the snapshot topic are not verified"),
        (trainers, operators) => {
            format!("keys      ok  {signs}, trusts {trainers} trainer and {operators} operator keys of {}", config.keys.trusted.display())
        }
    })
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
    use crate::keys::Signer;

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
    fn keys_that_cannot_be_are_a_wrong_configuration_and_good_ones_are_counted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name);
        let signer = Signer::from_seed(&[3; 32]);
        signer.save(&path("trainer.pem")).expect("the key is written");
        let checked = |keys: &str| {
            let schema = "[schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]\n";
            let keys = keys.replace("DIR", &dir.path().display().to_string());
            std::fs::write(path("c.toml"), format!("name = \"a\"\n{keys}\n{schema}")).expect("the file is written");
            let mut out = Vec::new();
            let outcome = check(&path("c.toml"), false, std::iter::empty(), &mut out);
            outcome.map(|()| String::from_utf8(out).expect("text"))
        };
        assert!(
            checked("").expect("keys are no must").contains("keys      ok  signs nothing, records of the snapshot topic are not verified")
        );

        let both = "keys = { trusted = \"DIR/trusted.toml\", trainer = \"DIR/trainer.pem\" }";
        std::fs::write(path("trusted.toml"), format!("\"{}\" = \"trainer\"", signer.public().text())).expect("written");
        let told = checked(both).expect("a good pair");
        assert!(told.contains(&format!("signs as {}, trusts 1 trainer and 0 operator keys", signer.id())), "{told}");
        let keyless = checked("keys.trusted = \"DIR/trusted.toml\"").expect_err("its records would be refused");
        assert!(keyless.code() == 78 && keyless.to_string().contains("keys.trainer"), "{keyless}");
        checked("keys.trusted = \"DIR/trusted.toml\"\npublish.enabled = false").expect("it writes nothing");

        std::fs::write(path("trusted.toml"), format!("\"{}\" = \"operator\"", signer.public().text())).expect("written");
        let other = checked(both).expect_err("of another role");
        assert!(other.code() == 78 && other.to_string().contains("not trusted as trainer"), "{other}");
        assert_eq!(checked("keys.trusted = \"DIR/none.toml\"").expect_err("not there").code(), 78);
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
