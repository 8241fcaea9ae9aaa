//! Promise: what an ad server computes from a snapshot equals what the trainer's backend computes from its weights, to 1e-5.

mod support;

use std::time::Duration;

use rocket_launching::batch::{BatchBuilder, Pace};
use rocket_launching::checkpoint::CheckpointStore;
use rocket_launching::config::{Activation, Config, Heads, HiddenConfig, ModelConfig};
use rocket_launching::domain::Role;
use rocket_launching::features::FeatureSpec;
use rocket_launching::join::{JoinOutput, Joiner};
use rocket_launching::pipeline::State;
use rocket_launching::publish::Publisher;
use rocket_launching::serving::{Catalog, ServedModel};
use rocket_launching::stream::{LogReader, MemoryLog};
use rocket_launching::train::Learner;
use rocket_launching::wire::{Decoded, EventDecoder};
use support::world;

#[test]
fn the_scorer_equals_the_trainer() {
    assert_equal(|_| {});
}

#[test]
fn the_scorer_equals_a_light_net_that_shares_nothing() {
    assert_equal(|config| {
        config.model = ModelConfig { shared: vec![12], sharing: false, control: false, ..config.model.clone() };
    });
}

#[test]
fn the_scorer_equals_every_form_of_hidden_layer() {
    for activation in [Activation::Prelu, Activation::Dice] {
        assert_equal(|config| {
            config.model.hidden = HiddenConfig { layer_norm: true, activation };
            config.model.shared = vec![12];
        });
    }
}

#[test]
fn the_scorer_equals_the_trainer_over_slots_of_several_dims() {
    let widen = |config: &mut Config| {
        world::widen(config);
        // Where rows are narrower, the same steps make less of them: at the default rate logits stay within 0.45.
        config.train.optimizer.dense_lr *= 2.0;
    };
    assert_equal(widen);
    assert_equal(|config| {
        widen(config);
        config.model = ModelConfig { shared: vec![12], sharing: false, control: false, ..config.model.clone() };
    });
}

#[test]
fn the_scorer_equals_the_light_net_beside_a_booster_with_attention() {
    assert_equal(|config| {
        world::attend(config);
        // Of the tags it reads two at most, and learns the less from them: at twice the rate its logits stay within 0.33.
        config.train.optimizer.dense_lr *= 4.0;
    });
}

#[test]
fn the_scorer_equals_a_light_net_alone() {
    assert_equal(|config| {
        config.model.control = false;
        config.train.heads = Heads::Light;
        // Without a booster the trunk learns more slowly: at the default rate its logits stay within 0.46.
        config.train.optimizer.dense_lr *= 10.0;
    });
}

fn assert_equal(change: impl FnOnce(&mut Config)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = world::config(dir.path(), "labelled", "");
    // The stream is short: a strong hint brings light from the booster what its labels alone do not by then.
    config.train.hint.weight = 0.3;
    // From one half, its logits have some way to go.
    config.train.base_rate = Some(0.5);
    change(&mut config);
    // One snapshot, near the end of the stream: an early one would be of a net that has learnt little.
    config.checkpoint.every_samples = u64::MAX;
    config.publish.every_samples = 18_000;
    let log = MemoryLog::default();
    let publisher = Publisher::open(&config, "test", Box::new(log.clone()), Box::new(log.clone())).expect("the lease is free");
    let (partitions, records) = world::labelled_stream(20_000);
    let (summary, _) = world::run(&config, State::Durable, (partitions, records.clone()), Some(publisher), true);
    let version = summary.status.published.unwrap_or_else(|| panic!("nothing published: {:?}", summary.status.publish_problem));
    assert!(summary.status.promoted, "{:?}", summary.status.publish_problem);

    // The snapshot as a server sees it.
    let mut reader = log;
    let mut catalog = Catalog::new(&config.name);
    while let Some(record) = reader.next(Duration::ZERO).expect("the log reads") {
        catalog.apply(&record).expect("every record is good");
    }
    assert_eq!(catalog.target(0), Some(version));
    let offsets = catalog.chunk_offsets(version).expect("all chunks are there");
    let chunks = reader.read_at(&offsets, Duration::from_secs(1)).expect("chunks read");
    let artifact: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.value.expect("a chunk has bytes")).collect();
    let served = ServedModel::open(catalog.manifests()[&version].clone(), &artifact).expect("the snapshot is good");

    // The learner at the same checkpoint.
    let spec = FeatureSpec::new(&config.schema).expect("the schema is valid");
    let store = CheckpointStore::open(dir.path(), 3).expect("the state opens");
    let mut learner = Learner::new(&config.model, &config.train, config.early_labels(), &spec).expect("the CPU is there");
    let commit = store.commit(version.0).expect("the published checkpoint is kept");
    learner.restore(CheckpointStore::load(dir.path(), &commit).expect("the commit is whole").learner).expect("same model");

    let decoder = EventDecoder::new(&config.schema);
    let mut joiner = Joiner::new(config.topics.mode, &config.join, 1, []);
    let mut builder = BatchBuilder::new(spec.for_serving(), Pace { rows: 20_001, linger_ms: i64::MAX }, 0);
    let mut raw = Vec::new();
    for record in &records {
        assert_eq!(record.role, Role::Labelled);
        let Ok(Decoded::Event(event)) = decoder.decode(record) else { continue };
        raw.push((event.time, serde_json::from_slice::<serde_json::Map<_, _>>(record.payload.as_deref().expect("set")).expect("JSON")));
        let mut out = Vec::new();
        joiner.push(event, 0, &mut out);
        for output in out {
            let JoinOutput::Sample(sample) = output else { panic!("labelled events pass") };
            assert!(builder.push(sample, 0).is_none());
        }
    }
    let logits = learner.predict(&builder.flush().expect("there are samples")).light.expect("there is a light head");
    assert_eq!(logits.len(), raw.len());
    let spread = logits.iter().fold(0.0f32, |widest, logit| widest.max(logit.abs()));
    assert!(spread > 0.5, "the net has learnt something: {spread}");
    for ((time, columns), logit) in raw.iter().zip(&logits) {
        let expected = 1.0 / (1.0 + (-f64::from(*logit)).exp());
        let empty = serde_json::Map::new();
        let found = served.score(*time, &empty, std::slice::from_ref(columns)).expect("the columns are good")[0];
        assert!((f64::from(found) - expected).abs() < 1e-5, "{found} against {expected}");
    }
}
