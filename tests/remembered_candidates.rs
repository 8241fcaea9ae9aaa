//! Promise: what a model remembers of candidates changes no score, whatever requests came before: contexts and candidates of any columns, parsed
//! or as JSON, through a cache that is too small, after a swap.

mod serving_support;

use std::sync::Arc;

use proptest::prelude::*;
use rocket_launching::config::HiddenConfig;
use rocket_launching::domain::EventTime;
use rocket_launching::serving::{ServedModel, Subscriber};
use rocket_launching::stream::LogReader;
use serde_json::{Map, Value, json};
use serving_support::every_kind::{request, snapshot};
use serving_support::{TIME, Topic, candidates, config, context, until_serves};

/// A request of [`request`]'s columns.
#[derive(Debug, Clone)]
struct Asked {
    /// Of its candidates; 1 bears columns of the context.
    candidates: Vec<usize>,
    /// Columns that stand in the context and in no candidate.
    shared: Vec<&'static str>,
    /// Columns of the candidates that the context has as well.
    both: Vec<&'static str>,
    is_json: bool,
    hours: i64,
}

const OWN: [&str; 3] = ["item_id", "tags", "price"];

fn asked() -> impl Strategy<Value = Asked> {
    let some = || prop_oneof![3 => Just(vec![]), 1 => proptest::sample::subsequence(OWN.to_vec(), 0..=3)];
    let candidate = prop_oneof![30 => 2usize..40, 1 => 0..2usize];
    (proptest::collection::vec(candidate, 0..30), some(), some(), any::<bool>(), 0i64..30)
        .prop_map(|(candidates, shared, both, is_json, hours)| Asked { candidates, shared, both, is_json, hours })
}

impl Asked {
    fn columns(&self) -> (Map<String, Value>, Vec<Map<String, Value>>) {
        let (mut context, all) = request();
        let of = |columns: &[&'static str]| {
            let columns = all[3].iter().filter(|(name, _)| columns.contains(&name.as_str()));
            columns.map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
        };
        context.extend(of(&self.shared).into_iter().chain(of(&self.both)));
        let mut candidates: Vec<_> = self.candidates.iter().map(|candidate| all[*candidate].clone()).collect();
        candidates.iter_mut().for_each(|candidate| candidate.retain(|name, _| !self.shared.contains(&name.as_str())));
        (context, candidates)
    }

    fn scores(&self, model: &ServedModel) -> Vec<f32> {
        let (context, candidates) = self.columns();
        let time = EventTime(TIME.0 + self.hours * 3_600_000);
        if !self.is_json {
            return model.score(time, &context, &candidates).expect("good columns");
        }
        let json = |columns: &Map<String, Value>| Value::from(columns.clone()).to_string();
        let candidates: Vec<_> = candidates.iter().map(json).collect();
        let candidates: Vec<_> = candidates.iter().map(String::as_str).collect();
        model.score_json(time, &json(&context), &candidates).expect("good columns")
    }
}

proptest! {
    #[test]
    fn scores_are_those_of_a_model_that_remembers_nothing(
        requests in proptest::collection::vec(asked(), 1..12),
        cache in prop_oneof![Just(1 << 20), Just(4096)],
    ) {
        let model = snapshot(HiddenConfig::default()).open();
        let (remembers, forgets) = (model.clone().with_candidate_cache(cache), model.with_candidate_cache(0));
        for asked in requests {
            let (found, expected) = (asked.scores(&remembers), asked.scores(&forgets));
            prop_assert_eq!(found.len(), asked.candidates.len());
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-6, "{} instead of {} in {:?}", found, expected, asked);
            }
        }
    }
}

#[test]
fn a_column_that_candidates_did_not_bear_before_counts() {
    let model = snapshot(HiddenConfig::default()).open();
    let object = |value: Value| value.as_object().expect("an object").clone();
    let score =
        |candidate: Value| model.score(TIME, &object(json!({ "user_id": "u3", "country": "cz" })), &[object(candidate)]).expect("good")[0];
    let plain = score(json!({ "item_id": 3 }));
    let tagged = score(json!({ "item_id": 3, "tags": "t1" }));
    assert_ne!(plain, tagged);
    let nearly = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    for _ in 0..2 {
        nearly(score(json!({ "item_id": 3 })), plain);
        nearly(score(json!({ "item_id": 3, "tags": "t1" })), tagged);
    }
}

#[test]
fn json_is_told_apart_from_what_it_is_not() {
    let model = snapshot(HiddenConfig::default()).open();
    for _ in 0..2 {
        let scores = model.score_json(TIME, "{}", &["{\"item_id\": 3}", "{ \"item_id\":\t\"3\" }"]).expect("good columns");
        assert!((scores[0] - scores[1]).abs() < 1e-6, "one item: {scores:?}");
        for (candidate, why) in
            [("3", "expected an object"), ("{", "EOF"), ("{} {}", "trailing"), ("{\"price\":1,\"price\":1}", "stands in the object twice")]
        {
            let (index, error) = model.score_json(TIME, "{}", &["{}", candidate]).expect_err(candidate);
            assert_eq!((index, error.to_string().contains(why)), (1, true), "{candidate}: {error}");
        }
        assert!(model.score_json(TIME, "[]", &[]).is_err());
    }
}

#[test]
fn after_a_swap_scores_are_the_new_models() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let versions = [topic.publish(1), topic.publish(2)];
    topic.promote(1);
    let log = topic.log.clone();
    let subscriber = Subscriber::start(config(dir.path()), move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("it starts");
    let json = |columns: &Map<String, Value>| Value::from(columns.clone()).to_string();
    let (context, candidates) = (json(&context()), candidates(300).iter().map(json).collect::<Vec<_>>());
    let candidates: Vec<_> = candidates.iter().map(String::as_str).collect();
    let score = |model: &ServedModel| model.score_json(TIME, &context, &candidates).expect("good columns");
    for (round, number) in [1, 2, 1, 2].into_iter().enumerate() {
        topic.promote(number);
        until_serves(&subscriber, number);
        let served: Arc<ServedModel> = subscriber.model().expect("served");
        let expected = score(&versions[number as usize - 1].open().with_candidate_cache(0));
        for (found, expected) in score(&served).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "round {round}: {found} instead of {expected}");
        }
    }
    subscriber.stop().expect("no panic");
}
