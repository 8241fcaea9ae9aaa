use proptest::prelude::*;

use super::*;
use crate::config::FeatureConfig;

fn feature(name: &str, kind: FeatureKind) -> FeatureConfig {
    FeatureConfig::new(name, kind)
}

fn schema(features: Vec<FeatureConfig>) -> SchemaConfig {
    SchemaConfig::labelled(features)
}

fn every_kind() -> FeatureSpec {
    FeatureSpec::new(&schema(vec![
        feature("age", FeatureKind::Standardise { mean: 30.0, std: 10.0 }),
        feature("item", FeatureKind::Categorical),
        feature("tags", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".into(), last: None }),
        feature("price", FeatureKind::Log1p),
        feature("length", FeatureKind::Buckets { bounds: vec![1.0, 2.0, 4.0] }),
        feature("hour", FeatureKind::Hour),
    ]))
    .unwrap()
}

fn text(value: &str) -> Field {
    Field::Text(value.into())
}

#[test]
fn slots_and_numbers_keep_the_order_of_features() {
    let spec = every_kind();
    assert_eq!(spec.slots().iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["item", "tags", "length", "hour"]);
    assert_eq!(spec.numbers(), ["age", "price"]);
    assert_eq!(spec.inputs(8), 4 * 8 + 2);

    let fields = [
        Field::Number(50.0),
        text("i7"),
        Field::List(["a".into(), "b".into(), "a".into()].into()),
        Field::Number(-1.0),
        Field::Number(2.0),
        Field::Missing,
    ];
    let mut features = Features::default();
    spec.extract(EventTime(25 * MS_PER_HOUR + 1), &fields, &mut features);
    assert_eq!(features.bounds, [0, 1, 4, 5, 6]);
    let a = slot_key("tags", "a");
    assert_eq!(features.ids, [slot_key("item", "i7"), a, slot_key("tags", "b"), a, slot_key("length", "2"), slot_key("hour", "1")]);
    assert_eq!(features.numbers, [2.0, -(2f32.ln())]);
}

#[test]
fn buckets_hold_their_lower_bound() {
    let spec = FeatureSpec::new(&schema(vec![feature("x", FeatureKind::Buckets { bounds: vec![1.0, 2.0] })])).unwrap();
    let mut features = Features::default();
    for (x, bucket) in [(0.999, "0"), (1.0, "1"), (1.999, "1"), (2.0, "2"), (f64::MAX, "2"), (f64::MIN, "0")] {
        spec.extract(EventTime(0), &[Field::Number(x)], &mut features);
        assert_eq!(features.ids, [slot_key("x", bucket)], "{x}");
    }
}

#[test]
fn missing_is_no_id_and_zero() {
    let spec = every_kind();
    let mut features = Features { ids: vec![1], bounds: vec![9], numbers: vec![1.0], click_rates: vec![7] };
    spec.extract(EventTime(-1), &[], &mut features);
    assert_eq!(features.ids, [slot_key("hour", "23")]);
    assert_eq!(features.bounds, [0, 0, 0, 0, 1]);
    assert_eq!(features.numbers, [0.0, 0.0]);
}

fn of(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn extract(spec: &FeatureSpec, time: i64, fields: &[Field]) -> Features {
    let mut features = Features::default();
    spec.extract(EventTime(time), fields, &mut features);
    features
}

#[test]
fn weekdays_start_on_monday_and_reach_before_1970() {
    let spec = FeatureSpec::new(&schema(vec![feature("day", FeatureKind::Weekday)])).unwrap();
    // 2024-01-01 was a Monday; 1969-12-31 a Wednesday.
    for (time, day) in [(1_704_067_200_000, "0"), (1_704_067_199_999, "6"), (0, "3"), (-1, "2")] {
        assert_eq!(extract(&spec, time, &[]).ids, [slot_key("day", day)], "{time}");
    }
}

#[test]
fn of_a_sequence_the_last_count() {
    let bag = |last| FeatureKind::Bag { pooling: Pooling::Sum, separator: ",".into(), last };
    let spec = FeatureSpec::new(&schema(vec![feature("two", bag(Some(2))), feature("all", bag(None))])).unwrap();
    let list = |values: &[&str]| Field::List(values.iter().map(|value| (*value).into()).collect());
    let features = extract(&spec, 0, &[list(&["a", "b", "c"]), list(&["a", "b", "c"])]);
    assert_eq!(features.bounds, [0, 2, 5]);
    assert_eq!(features.ids[..2], [slot_key("two", "b"), slot_key("two", "c")]);
    assert_eq!(extract(&spec, 0, &[list(&["a"])]).bounds, [0, 1, 1]);
}

#[test]
fn features_of_one_table_share_their_ids_and_what_is_made_of_them_keeps_its_name() {
    let bag = FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".into(), last: None };
    let buckets = FeatureKind::Buckets { bounds: vec![1.0, 2.0] };
    let within = |table: &str, feature: FeatureConfig| FeatureConfig { table: Some(table.to_owned()), ..feature };
    let spec = FeatureSpec::new(&schema(vec![
        within("item", feature("clicked", bag)),
        feature("item", FeatureKind::Categorical),
        within("prices", feature("price", buckets.clone())),
        within("prices", feature("old_price", buckets)),
        feature("pair", FeatureKind::Cross { of: of(&["clicked", "item"]) }),
    ]))
    .unwrap();
    let fields = [Field::List(["a".into(), "b".into()].into()), text("b"), Field::Number(1.5), Field::Number(1.0)];
    let ([a, b], price) = (["a", "b"].map(|value| slot_key("item", value)), slot_key("prices", "1"));
    let pairs = [a, b].map(|clicked| joint_key("pair", [clicked, b].into_iter()));
    assert_eq!(extract(&spec, 0, &fields).ids, [a, b, b, price, price, pairs[0], pairs[1]]);
}

fn composed() -> FeatureSpec {
    let hidden = FeatureConfig { embed: false, ..feature("user", FeatureKind::Categorical) };
    let position = FeatureConfig { training_only: true, ..feature("position", FeatureKind::Categorical) };
    FeatureSpec::new(&schema(vec![
        hidden,
        position,
        feature("tags", FeatureKind::Bag { pooling: Pooling::Sum, separator: ",".into(), last: None }),
        feature("user_tags", FeatureKind::Cross { of: of(&["user", "tags"]) }),
        feature("both", FeatureKind::ClickRate { of: of(&["user", "position"]), prior: 5.0 }),
        feature("user_rate", FeatureKind::ClickRate { of: of(&["user"]), prior: 20.0 }),
    ]))
    .unwrap()
}

#[test]
fn crosses_and_click_rates_are_made_of_the_ids_of_their_parts() {
    let spec = composed();
    assert_eq!(spec.slots().iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["position", "tags", "user_tags"]);
    assert_eq!(spec.click_rates().iter().map(|rate| rate.prior).collect::<Vec<_>>(), [5.0, 20.0]);
    assert_eq!(spec.inputs(8), 3 * 8 + 2 * 2);
    let [user, position] = [slot_key("user", "u"), slot_key("position", "3")];
    let tags = ["a", "b"].map(|tag| slot_key("tags", tag));
    let features = extract(&spec, 0, &[text("u"), text("3"), Field::List(["a".into(), "b".into()].into())]);
    let pairs = tags.map(|tag| joint_key("user_tags", [user, tag].into_iter()));
    assert_eq!(features.ids, [position, tags[0], tags[1], pairs[0], pairs[1]]);
    assert_eq!(features.bounds, [0, 1, 3, 5]);
    assert_eq!(features.click_rates, [joint_key("both", [user, position].into_iter()), joint_key("user_rate", [user].into_iter())]);
}

#[test]
fn without_a_part_there_is_no_cross_and_no_click_rate() {
    let features = extract(&composed(), 0, &[text("u"), Field::Missing, Field::Missing]);
    assert_eq!((features.bounds.as_slice(), features.ids.as_slice()), ([0, 0, 0, 0].as_slice(), [].as_slice()));
    assert_eq!(features.click_rates, [NO_KEY, joint_key("user_rate", [slot_key("user", "u")].into_iter())]);
}

#[test]
fn what_is_known_in_training_only_is_missing_when_served() {
    let (spec, fields) = (composed(), [text("u"), text("3"), text("a")]);
    let served = extract(&spec.for_serving(), 0, &fields);
    assert_eq!(served, extract(&spec, 0, &[text("u"), Field::Missing, text("a")]));
    assert_ne!(served, extract(&spec, 0, &fields));
}

#[test]
fn a_bad_schema_names_its_feature() {
    for (features, name) in [
        (vec![feature("a", FeatureKind::Categorical), feature("a", FeatureKind::Log1p)], "a"),
        (vec![feature("b", FeatureKind::Buckets { bounds: vec![2.0, 1.0] })], "b"),
        (vec![feature("c", FeatureKind::Standardise { mean: 0.0, std: 0.0 })], "c"),
        (vec![feature("d", FeatureKind::ClickRate { of: of(&["d"]), prior: 1.0 })], "d"),
    ] {
        let error = FeatureSpec::new(&schema(features)).unwrap_err();
        assert_eq!(error.feature, name);
        assert!(!error.why.is_empty());
    }
}

proptest! {
    #[test]
    fn any_number_gives_a_finite_input(x in proptest::num::f64::ANY, mean in -1e300..1e300, std in 1e-300..1e300) {
        let spec = FeatureSpec::new(&schema(vec![
            feature("a", FeatureKind::Log1p),
            feature("b", FeatureKind::Standardise { mean, std }),
            feature("c", FeatureKind::Buckets { bounds: vec![0.0] }),
        ])).unwrap();
        let mut features = Features::default();
        spec.extract(EventTime(0), &[Field::Number(x), Field::Number(x), Field::Number(x)], &mut features);
        prop_assert!(features.numbers.iter().all(|x| x.is_finite()));
    }
}
