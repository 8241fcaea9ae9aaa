//! How long a capture holds up training: batches of 2048 rows with 24 slots, Zipf, rows of 16 floats with Adagrad.
//!
//! `cargo bench --bench checkpoint [-- ROWS]`, on Linux: what a step does on the training thread is told by the time that thread was on a
//! core, which other load on the machine leaves alone; times on the clock stand beside it. It takes 12 GiB of memory.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};
use rocket_launching::batch::Batch;
use rocket_launching::config::{EmbeddingConfig, FeatureConfig, FeatureKind, ModelConfig, SchemaConfig, TrainConfig};
use rocket_launching::features::FeatureSpec;
use rocket_launching::train::{Learner, LearnerCopy, RowsState};

/// Rows of the tables unless the command line says another number, and rows touched before an increment.
const ROWS: [u64; 2] = [1_000_000, 10_000_000];
const TOUCHED: u64 = 1_000_000;
const DIM: usize = 16;
const SLOTS: usize = 24;
const NUMBERS: usize = 8;
const BATCH: usize = 2048;
/// Skew of the ids: as in logs of ads.
const ZIPF: f64 = 1.05;
/// Steps measured without a capture.
const STEPS: usize = 40;
/// As the pipeline does it: copied for so long after each step, looking at the clock every so many rows.
const SLICE: Duration = Duration::from_millis(4);
const ROWS_PER_LOOK: usize = 512;

fn main() {
    // `cargo bench` passes --bench.
    let given = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    println!("ms on a core of the training thread (ms on the clock)");
    println!(
        "{:>10} {:>9} {:>10} | {:>14} {:>14} {:>14} {:>16} {:>14} | {:>12} {:>12} {:>12}",
        "rows",
        "capture",
        "copied",
        "begin",
        "longest slice",
        "longest step",
        "without capture",
        "in all, longest",
        "steps",
        "until copied",
        "put together"
    );
    for rows in given.map_or(ROWS.to_vec(), |rows| vec![rows]) {
        let mut bench = Bench::new(rows);
        bench.measure(true);
        bench.touch(TOUCHED.min(rows));
        bench.measure(false);
        let begun = Time::now();
        let state = bench.learner.capture(true);
        println!("{rows:>10} all at once: {} for {} rows, the way it would hold up a step", begun.elapsed(), state.rows[0].keys.len());
    }
}

/// Times of one thread: on a core, and on the clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
struct Time {
    core: Duration,
    clock: Duration,
}

struct Begun(Duration, Instant);

impl Time {
    fn now() -> Begun {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
        let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok()).expect("a number");
        Begun(Duration::from_nanos(nanos), Instant::now())
    }

    fn longest(self, other: Time) -> Time {
        Time { core: self.core.max(other.core), clock: self.clock.max(other.clock) }
    }
}

impl Begun {
    fn elapsed(&self) -> Time {
        let clock = self.1.elapsed();
        Time { core: Time::now().0 - self.0, clock }
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        f.pad(&format!("{:.1} ({:.0})", ms(self.core), ms(self.clock)))
    }
}

struct Bench {
    learner: Learner,
    rows: u64,
    random: ChaCha8Rng,
    zipf: Zipf<f64>,
}

impl Bench {
    /// A learner whose table has so many rows.
    fn new(rows: u64) -> Self {
        let slots = (0..SLOTS).map(|slot| FeatureConfig::new(&format!("slot{slot}"), FeatureKind::Categorical));
        let numbers = (0..NUMBERS).map(|number| FeatureConfig::new(&format!("number{number}"), FeatureKind::Log1p));
        let spec = FeatureSpec::new(&SchemaConfig::labelled(slots.chain(numbers).collect())).expect("a sound schema");
        let model = ModelConfig {
            embedding: EmbeddingConfig { dim: DIM, ..EmbeddingConfig::default() },
            light: vec![128, 64],
            booster: vec![1024, 512, 256],
            ..ModelConfig::default()
        };
        let config = TrainConfig { threads: 1, ..TrainConfig::default() };
        let mut learner = Learner::new(&model, &config, None, &spec).expect("the CPU is always there");
        let mut state = learner.capture(true);
        let table = &mut state.rows[0];
        let keys: Vec<u64> = (0..rows).map(key).collect();
        let data = vec![0.01; keys.len() * table.width];
        *table = RowsState { rows: Some(keys.len()), keys, data, ..std::mem::take(table) };
        learner.restore(state).expect("its own state");
        let zipf = Zipf::new(rows as f64, ZIPF).expect("a distribution");
        Bench { learner, rows, random: ChaCha8Rng::seed_from_u64(1), zipf }
    }

    fn batch(&mut self, rows: usize, mut id: impl FnMut(&mut Self) -> u64) -> Batch {
        let ids = (0..rows * SLOTS).map(|_| key(id(self))).collect();
        let numbers = (0..rows * NUMBERS).map(|_| self.random.random_range(0.0..1.0)).collect();
        let labels = (0..rows).map(|_| self.random.random_bool(0.1)).collect();
        Batch { ids, numbers, labels, bounds: (0..=(rows * SLOTS) as u32).collect(), ..Batch::default() }
    }

    fn step(&mut self) -> Time {
        let batch = self.batch(BATCH, |bench| (bench.zipf.sample(&mut bench.random) as u64 - 1) % bench.rows);
        let begun = Time::now();
        assert!(self.learner.step(&batch).applied);
        begun.elapsed()
    }

    /// Touches so many rows, spread over the table.
    fn touch(&mut self, touched: u64) {
        let (stride, mut next) = (self.rows / touched, 0);
        while next < touched {
            let batch = self.batch(BATCH * 4, |_| {
                next += 1;
                next % touched * stride
            });
            assert!(self.learner.step(&batch).applied);
        }
    }

    fn measure(&mut self, full: bool) {
        let without = (0..STEPS).map(|_| self.step()).fold(Time::default(), Time::longest);
        let begun = Time::now();
        self.learner.begin_capture(full);
        let (begin, mut steps) = (begun.elapsed(), 0);
        let [mut slice, mut step, mut both] = [Time::default(); 3];
        loop {
            let copying = Time::now();
            let mut copied = 1;
            while copied > 0 && copying.1.elapsed() < SLICE {
                copied = self.learner.copy(ROWS_PER_LOOK);
            }
            let sliced = copying.elapsed();
            slice = slice.longest(sliced);
            if copied == 0 {
                break;
            }
            let stepped = self.step();
            step = step.longest(stepped);
            both = both.longest(Time { core: sliced.core + stepped.core, clock: sliced.clock + stepped.clock });
            steps += 1;
        }
        let copy = self.learner.end_capture().expect("it was begun");
        let until = begun.elapsed();
        let together = std::thread::spawn(|| {
            let begun = Time::now();
            let state = LearnerCopy::state(copy);
            (state.rows[0].keys.len(), begun.elapsed())
        });
        let (copied, together) = together.join().expect("it is put together");
        println!(
            "{:>10} {:>9} {copied:>10} | {begin:>14} {slice:>14} {step:>14} {without:>16} {both:>14} | {steps:>12} {:>12} {together:>12}",
            self.rows,
            if full { "full" } else { "increment" },
            format!("{:.1} s", until.clock.as_secs_f64()),
        );
    }
}

/// Keys as XXH3 would make them: spread over all 64 bits.
fn key(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
