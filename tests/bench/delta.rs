//! What a minute of traffic costs the snapshot topic and its servers: 1 M rows of 16 floats, 24 slots, ids by Zipf, a light net of 128 and 64.
//!
//! `cargo bench --bench delta [-- RATE …]`, on Linux, rates in samples per second. Versions are made by the publisher from a learner that
//! trains, and followed by a subscriber that holds the version before. It takes 4 GiB of memory.

#[path = "../support/snapshots.rs"]
mod snapshots;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use rocket_launching::batch::Batch;
use rocket_launching::checkpoint::{Evidence, Loaded};
use rocket_launching::config::{self, Codec, Config, RowType, TrainConfig};
use rocket_launching::domain::Version;
use rocket_launching::features::FeatureSpec;
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, Published, Publisher};
use rocket_launching::serving::{ServedModel, Subscriber, SubscriberConfig};
use rocket_launching::stream::{LogReader, MemoryLog};
use rocket_launching::train::{Learner, LearnerState, RowsState};

const ROWS: u64 = 1_000_000;
const DIM: usize = 16;
const SLOTS: usize = 24;
const NUMBERS: usize = 8;
const BATCH: usize = 2048;
/// Skew of the ids: as in logs of ads.
const ZIPF: f64 = 1.05;
/// Samples per second, unless the command line says others.
const RATES: [u64; 4] = [30, 100, 300, 1000];
/// How often a version is published.
const CADENCE_S: u64 = 60;
/// Batches before the first version, so that the optimizer has found its step sizes.
const WARM_UP: usize = 200;

fn main() {
    // `cargo bench` passes --bench.
    let given: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rates = if given.is_empty() { RATES.to_vec() } else { given };
    let mut traffic = Traffic::new();
    for _ in 0..WARM_UP {
        traffic.step();
    }
    let mut states = vec![traffic.learner.capture(true)];
    for rate in &rates {
        // The rest of a batch is trained in the next minute, as it would be.
        for _ in 0..(rate * CADENCE_S).div_ceil(BATCH as u64) {
            traffic.step();
        }
        states.push(traffic.learner.capture(true));
    }
    drop(traffic);
    println!("a version a minute; bytes as sent; time in ms on the clock");
    println!(
        "{:>5} {:>6} {:>10} | {:>10} {:>10} {:>7} | {:>8} {:>8} {:>8} {:>8} | {:>14} {:>14}",
        "rows", "codec", "samples/s", "whole", "delta", "share", "publish", "follow", "open", "whole*", "peak, follow", "peak, whole*"
    );
    for (rows, codec) in [
        (RowType::F32, Codec::None),
        (RowType::F32, Codec::Zstd),
        (RowType::F16, Codec::None),
        (RowType::F16, Codec::Zstd),
        (RowType::I8, Codec::None),
        (RowType::I8, Codec::Zstd),
    ] {
        measure(rows, codec, &rates, &states);
    }
    println!("* by a server that has nothing yet; with the artifact in memory twice over, as with a delta, and the net beside it");
}

fn config() -> Config {
    let features: String = (0..SLOTS)
        .map(|slot| format!("[[schema.features]]\nname = \"slot{slot}\"\nkind = \"categorical\"\n"))
        .chain((0..NUMBERS).map(|number| format!("[[schema.features]]\nname = \"number{number}\"\nkind = \"log1p\"\n")))
        .collect();
    let text = format!(
        "name = \"{}\"\nmodel = {{ embedding = {{ dim = {DIM} }}, light = [128, 64], booster = [64], control = false }}\n\
         [schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\n{features}",
        snapshots::MODEL
    );
    config::parse(&text, "bench.toml", std::iter::empty()).expect("a sound configuration")
}

struct Traffic {
    learner: Learner,
    random: ChaCha8Rng,
    zipf: Zipf<f64>,
}

impl Traffic {
    fn new() -> Self {
        let config = config();
        let spec = FeatureSpec::new(&config.schema).expect("a sound schema");
        let train = TrainConfig { threads: 2, ..config.train.clone() };
        let mut learner = Learner::new(&config.model, &train, None, &spec).expect("the CPU is always there");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut state = learner.capture(true);
        let table = &mut state.rows[0];
        let keys: Vec<u64> = (0..ROWS).map(key).collect();
        let mut data = vec![0.01; keys.len() * table.width];
        for row in data.chunks_exact_mut(table.width) {
            row[..DIM].iter_mut().for_each(|weight| *weight = random.random_range(-0.1..0.1));
        }
        *table = RowsState { rows: Some(keys.len()), keys, data, ..std::mem::take(table) };
        learner.restore(state).expect("its own state");
        Traffic { learner, random, zipf: Zipf::new(ROWS as f64, ZIPF).expect("a distribution") }
    }

    fn step(&mut self) {
        let mut id = || key((self.zipf.sample(&mut self.random) as u64 - 1) % ROWS);
        let ids = (0..BATCH * SLOTS).map(|_| id()).collect();
        let numbers = (0..BATCH * NUMBERS).map(|_| self.random.random_range(0.0..1.0)).collect();
        let labels = (0..BATCH).map(|_| self.random.random_bool(0.1)).collect();
        let batch = Batch { ids, numbers, labels, bounds: (0..=(BATCH * SLOTS) as u32).collect(), ..Batch::default() };
        assert!(self.learner.step(&batch).applied);
    }
}

fn measure(rows: RowType, codec: Codec, rates: &[u64], states: &[LearnerState]) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = MemoryLog::default();
    let mut config = config();
    (config.publish.rows, config.publish.codec, config.publish.full_every) = (rows, codec, 128);
    let publisher = Publisher::open(&config, "bench", Box::new(log.clone()), Box::new(log.clone())).expect("the lease is free");
    let mut publisher = publisher.keeping_bases(&dir.path().join("bases"));
    let mut publish = |number: u64, state: &LearnerState| -> (Published, Duration) {
        let loaded = Loaded {
            learner: state.clone(),
            memory: Vec::new(),
            open: Vec::new(),
            probes: Vec::new(),
            evidence: Evidence::default(),
            schema: None,
        };
        let begun = Instant::now();
        let published = publisher.publish(&snapshots::commit(number), &loaded, snapshots::CREATED_MS).expect("memory takes it");
        (published, begun.elapsed())
    };
    let (first, _) = publish(1, &states[0]);
    let (server, whole, whole_peak) = {
        let (before, begun) = (reset_peak(), Instant::now());
        let server = follow(&dir.path().join("server"), &log, 1);
        (server, begun.elapsed(), peak() - before)
    };
    for ((number, state), rate) in (2..).zip(&states[1..]).zip(rates) {
        let before = reset_peak();
        let (published, made) = publish(number, state);
        let begun = Instant::now();
        until(&server, number);
        let followed = begun.elapsed();
        let highest = peak().saturating_sub(before);
        let mut operator =
            Operator::open(snapshots::MODEL, "bench", Keyring::default(), Box::new(log.clone()), Box::new(log.clone())).expect("memory");
        let (manifest, artifact) = operator.fetch(Version(number)).expect("it is there");
        let begun = Instant::now();
        drop(ServedModel::open(manifest, &artifact).expect("it was served"));
        let opened = begun.elapsed();
        let share = published.sent_bytes as f64 / first.sent_bytes as f64;
        println!(
            "{:>5} {:>6} {rate:>10} | {:>10} {:>10} {:>6.1}% | {:>8} {:>8} {:>8} {:>8} | {:>10} MiB {:>10} MiB",
            format!("{rows:?}").to_lowercase(),
            codec.name(),
            first.sent_bytes,
            if published.base.is_some() { published.sent_bytes.to_string() } else { "whole".to_owned() },
            share * 100.0,
            made.as_millis(),
            followed.as_millis(),
            opened.as_millis(),
            whole.as_millis(),
            highest >> 20,
            whole_peak >> 20,
        );
    }
    server.stop().expect("no panic");
}

fn follow(dir: &std::path::Path, log: &MemoryLog, version: u64) -> Subscriber {
    let log = log.clone();
    let config = SubscriberConfig { poll: Duration::from_millis(1), ..SubscriberConfig::new(snapshots::MODEL, dir) };
    let server = Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("the directory is usable");
    until(&server, version);
    server
}

fn until(server: &Subscriber, version: u64) {
    while server.status().version != Some(Version(version)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes what is used now the peak, and says how much that is, bytes.
fn reset_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    peak()
}

/// The most memory used since, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("every process has one");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// Keys as XXH3 would make them: spread over all 64 bits.
fn key(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
