//! The per-user store at the size of a real site: how long measuring is held up, and what the rest takes beside it.
//!
//! `cargo bench --bench store` · `cargo bench --bench store -- USERS DIRTY`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_launching::config::EvaluateConfig;
use rocket_launching::domain::{EventTime, ScoredSample, UserId};
use rocket_launching::evaluate::{AggregateState, Evaluator, UserWriter};
use rocket_launching::store::{Export, Exports, SledUsers};

/// Users, and those of them that change between two commits.
const SIZE: [usize; 2] = [1_000_000, 100_000];
/// Impressions of each at every visit.
const IMPRESSIONS: usize = 8;
const CACHE_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` hands on its own flags.
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [users, dirty] = <[usize; 2]>::try_from(arguments).unwrap_or(SIZE);
    let dir = tempfile::tempdir()?;
    let (path, exports) = (dir.path().join("users.sled"), Exports::new(&dir.path().join("exports")));
    let (reading, mut writer) = SledUsers::open(&path, CACHE_BYTES, 0)?;
    let mut evaluator = Evaluator::new(&EvaluateConfig::default(), Arc::new(reading), AggregateState::default())?;
    let rounds = users.div_ceil(dirty);
    let (mut captures, mut commits, mut wrote, mut number) = (Vec::new(), Vec::new(), Vec::new(), 0);
    // Once round for every user to come, then some rounds over users that the store holds.
    for round in 0..rounds + 2 {
        for user in 0..dirty {
            evaluator.observe(&visit((round % rounds) * dirty + user, round))?;
        }
        number += 1;
        let started = Instant::now();
        let mut capture = evaluator.capture(number);
        captures.push(started.elapsed());
        let started = Instant::now();
        writer.write(number, &mut capture.records())?;
        wrote.push(started.elapsed());
        writer.committed(number);
        let started = Instant::now();
        evaluator.committed(number);
        commits.push(started.elapsed());
    }
    let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    println!("{users} users, {dirty} dirty per commit; {} MB live, {} MB on disk", writer.live_bytes() >> 20, writer.size_on_disk()? >> 20);
    println!("measuring held up at most: {:?} by a capture, {:?} by a commit", longest(&captures), longest(&commits));
    println!("encoding and writing the dirty ones beside it, at most: {:?}; the last: {:?}", longest(&wrote), wrote.last());
    let started = Instant::now();
    let ranked = evaluator.top_users().rank(10, || false)?;
    println!("ranking all users beside it: {:?} ({} lines)", started.elapsed(), ranked.map_or(0, |lines| lines.len()));
    let started = Instant::now();
    let export = exports.add(&writer, "bench")?;
    println!("export: {:?}, {} MB", started.elapsed(), std::fs::metadata(&export)?.len() >> 20);
    drop((evaluator, writer));
    let started = Instant::now();
    drop(SledUsers::open(&path, CACHE_BYTES, number)?);
    println!("opening, every record read and the sum compared: {:?}", started.elapsed());
    let started = Instant::now();
    let imported = dir.path().join("imported.sled");
    Export::open(&export)?.import(&imported, CACHE_BYTES)?;
    println!("import: {:?}", started.elapsed());
    let started = Instant::now();
    let (_, writer) = SledUsers::open(&imported, CACHE_BYTES, number)?;
    println!("opening what was imported: {:?}, {} MB on disk", started.elapsed(), writer.size_on_disk()? >> 20);
    Ok(())
}

fn visit(user: usize, round: usize) -> Vec<ScoredSample> {
    let sample = |impression: usize| ScoredSample {
        user: UserId(format!("user-{user:012}").into()),
        time: EventTime(1_700_000_000_000 + (round * IMPRESSIONS + impression) as i64 * 1000),
        label: (user + impression).is_multiple_of(7),
        logits: [Some(impression as f32 / 3.0), Some(user as f32 / 1e6), None],
        hint_share: Some(0.1),
    };
    (0..IMPRESSIONS).map(sample).collect()
}
