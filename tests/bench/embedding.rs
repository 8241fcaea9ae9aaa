//! The embedding table at ten million rows of 16 floats with row-wise Adagrad: memory, growth, updates, expiry.
//!
//! `cargo bench --bench embedding [-- ROWS]`, on Linux (it reads its own resident memory). Run it on an idle machine.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::config::{EmbeddingConfig, EmbeddingOptimizer, ExpiryConfig, OptimizerConfig};
use rocket_launching::domain::EventTime;
use rocket_launching::embedding::Table;

/// Rows unless the command line says another number.
const ROWS: u64 = 10_000_000;
/// Floats per row, and those of its optimizer.
const DIM: usize = 16;
const STATE: usize = 1;
/// Distinct ids of a batch: a batch of 2048 with 24 slots, Zipf.
const BATCH: u64 = 27_000;
/// Batches measured.
const BATCHES: usize = 100;

fn main() {
    // `cargo bench` passes --bench.
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROWS);
    let optimizer = OptimizerConfig { embedding: EmbeddingOptimizer::RowwiseAdagrad, ..OptimizerConfig::default() };
    let before = resident();
    let mut table = Table::new(&EmbeddingConfig { dim: DIM, ..EmbeddingConfig::default() }, &optimizer, 1);
    let growth = grow(&mut table, rows, 0);
    let (held, floats) = (resident() - before, rows * (DIM + STATE) as u64 * 4);
    println!("rows                        {rows} of {DIM} floats, row-wise Adagrad");
    println!("resident / rows and state   {:.3} ({} of {} MiB)", held as f64 / floats as f64, held >> 20, floats >> 20);
    println!("growth, longest insert      {:?}", growth.insert);
    println!(
        "growth, longest batch       {:?} for {BATCH} new rows; {:?} on average",
        growth.batch,
        growth.total * BATCH as u32 / rows as u32
    );

    let [find, read, update] = updates(&mut table, rows);
    println!("batch of {BATCH} random rows  find {find:?}, read {read:?}, update {update:?} (medians)");

    drop(table);
    let expiry = ExpiryConfig { rows_max: rows as usize, ..ExpiryConfig::default() };
    let mut table = Table::new(&EmbeddingConfig { dim: DIM, expiry, ..EmbeddingConfig::default() }, &optimizer, 1);
    let growth = grow(&mut table, rows + rows / 4, 1_700_000_000_000);
    println!("full, longest batch         {:?} for {BATCH} new rows, {:?} of it to remove old ones", growth.batch, growth.sweep);
    assert!(table.len() as u64 <= rows, "{} rows held of {rows}", table.len());
}

/// Keys as XXH3 would make them: spread over all 64 bits.
fn key(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

struct Growth {
    insert: Duration,
    batch: Duration,
    sweep: Duration,
    total: Duration,
}

/// New rows in batches, each ten seconds of event time after the one before.
fn grow(table: &mut Table, rows: u64, start_ms: i64) -> Growth {
    let mut growth = Growth { insert: Duration::ZERO, batch: Duration::ZERO, sweep: Duration::ZERO, total: Duration::ZERO };
    for batch in 0..rows.div_ceil(BATCH) {
        let begun = Instant::now();
        table.begin((start_ms > 0).then_some(EventTime(start_ms + batch as i64 * 10_000)));
        let mut last = begun;
        for number in batch * BATCH..((batch + 1) * BATCH).min(rows) {
            table.update(key(number), None, &[0.01; DIM], 1);
            let now = Instant::now();
            growth.insert = growth.insert.max(now - last);
            last = now;
        }
        table.end();
        growth.sweep = growth.sweep.max(last.elapsed());
        growth.batch = growth.batch.max(begun.elapsed());
        growth.total += begun.elapsed();
    }
    growth
}

/// Median times to find, read and update a batch of random rows.
fn updates(table: &mut Table, rows: u64) -> [Duration; 3] {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..BATCHES {
        let keys: Vec<u64> = (0..BATCH).map(|_| key(random.random_range(0..rows))).collect();
        let begun = Instant::now();
        let found: Vec<Option<u32>> = keys.iter().map(|key| table.find(*key)).collect();
        times[0].push(begun.elapsed());
        assert!(found.iter().all(Option::is_some));
        let (mut weights, mut sum) = ([0.0; DIM], 0.0);
        let begun = Instant::now();
        for (key, row) in keys.iter().zip(&found) {
            table.read(*key, *row, &mut weights);
            sum += weights[0];
        }
        times[1].push(begun.elapsed());
        assert!(f32::is_finite(sum));
        // What a forward and backward pass does to the caches.
        let evict: Vec<u8> = std::hint::black_box(vec![1; 64 << 20]);
        drop(evict);
        let begun = Instant::now();
        for (keys, found) in keys.chunks(16).zip(found.chunks(16)) {
            table.warm(found);
            keys.iter().zip(found).for_each(|(key, row)| table.update(*key, *row, &[0.01; DIM], 1));
        }
        times[2].push(begun.elapsed());
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}
