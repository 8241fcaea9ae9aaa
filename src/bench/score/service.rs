use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde::{Deserialize, Serialize};

use super::ScoreBench;
use super::load::{Answers, Load};
use super::site::Site;
use crate::bench::{BenchError, Quantiles};
use crate::domain::Version;
use crate::serving::CANDIDATE_CACHE_BYTES;

/// Different requests that are sent in turn.
const BODIES: usize = 64;
/// Versions that are swapped for one another.
const VERSIONS: [Version; 2] = [Version(1), Version(2)];
/// Between two swaps of a phase.
const SWAP_EVERY: Duration = Duration::from_secs(1);
/// Swaps in a row, and after which of them memory is looked at.
const SWAPS: usize = 100;
const LOOKED_AT: [usize; 3] = [1, 50, 100];
/// Between two looks at whether a load has ended.
const LOOK: Duration = Duration::from_millis(5);
const MIB: f64 = (1 << 20) as f64;

/// A constant load on a scorer of this process, with and without swaps: the subscriber follows a topic in memory and boots each version
/// from its files, HTTP goes over the loopback. Client and server share the cores.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceBench {
    /// The model and the requests.
    pub score: ScoreBench,
    /// Requests per second.
    pub rate_per_s: u32,
    /// Seconds of each phase.
    pub seconds: u32,
}

/// What [`ServiceBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceFigures {
    /// Name of the shape.
    pub shape: String,
    /// Candidates of a request.
    pub candidates: usize,
    /// Candidates that there are.
    pub catalogue: Option<usize>,
    /// Requests per second.
    pub rate_per_s: u32,
    /// Through the library, one version.
    pub library: Phase,
    /// Through the library, a swap each second.
    pub library_swapping: Phase,
    /// Over HTTP, one version.
    pub http: Phase,
    /// Over HTTP, a swap each second.
    pub http_swapping: Phase,
    /// A hundred swaps, one as soon as the one before is served, under the load over HTTP.
    pub swaps: SwapFigures,
}

/// One load for some seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Requests sent.
    pub requests: usize,
    /// ... of which were not answered with scores.
    pub failed: usize,
    /// Versions swapped meanwhile.
    pub swaps: usize,
    /// From when a request was due to its answer.
    pub latency_ms: Quantiles,
}

/// Memory over many swaps, MiB of this process: the topic's records are part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwapFigures {
    /// Requests sent meanwhile, and what became of them.
    pub load: Phase,
    /// The artifact's length.
    pub artifact_mib: f64,
    /// Resident before a model was served.
    pub without_model_mib: f64,
    /// Resident with one model: the least of several looks, since the allocator gives back what is free in its own time.
    pub one_model_mib: f64,
    /// Resident after 1, 50 and 100 swaps.
    pub after_mib: [f64; 3],
    /// The most that was resident.
    pub peak_mib: f64,
    /// The peak in models: (peak − without) / (one − without).
    pub peak_models: f64,
}

impl ServiceBench {
    /// Measures.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn run(&self) -> Result<ServiceFigures, BenchError> {
        let bodies: Vec<Bytes> = self.score.bodies().take(BODIES).map(Bytes::from).collect();
        let versions: Vec<_> = VERSIONS.iter().map(|version| self.score.model(version.0)).collect();
        let artifact_mib = versions[0].artifact.len() as f64 / MIB;
        // The requests come again and again: what nobody is to have asked for before must not be remembered from one turn to the next.
        let candidate_cache_bytes = if self.score.catalogue.is_some() { CANDIDATE_CACHE_BYTES } else { 0 };
        let mut site = Site::open(versions, candidate_cache_bytes)?;
        let without_model = resident_mib()?;
        // Both versions come from disk from here on, as after a rollback.
        for version in [VERSIONS[0], VERSIONS[1], VERSIONS[0]] {
            site.serve(version, || Ok(()))?;
        }
        let one_model = resident_mib()?;

        let load = Load { rate_per_s: self.rate_per_s, requests: Some((self.rate_per_s * self.seconds) as usize) };
        let (subscriber, address) = (Arc::clone(&site.subscriber), site.address);
        let library = |stop: &AtomicBool| load.through_library(&subscriber, &bodies, stop);
        let http = |stop: &AtomicBool| load.over_http(address, &bodies, stop);
        Ok(ServiceFigures {
            shape: self.score.shape.name.to_owned(),
            candidates: self.score.candidates,
            catalogue: self.score.catalogue,
            rate_per_s: self.rate_per_s,
            library: still(library)?,
            library_swapping: swapping(&mut site, library)?,
            http: still(http)?,
            http_swapping: swapping(&mut site, http)?,
            swaps: {
                let endless = Load { requests: None, ..load };
                let (load, [after @ .., peak]) = many_swaps(&mut site, |stop| endless.over_http(address, &bodies, stop))?;
                let one_model = after.into_iter().fold(one_model, f64::min);
                SwapFigures {
                    load,
                    artifact_mib,
                    without_model_mib: without_model,
                    one_model_mib: one_model,
                    after_mib: after,
                    peak_mib: peak,
                    peak_models: (peak - without_model) / (one_model - without_model),
                }
            },
        })
    }
}

fn still(load: impl FnOnce(&AtomicBool) -> Result<Answers, BenchError>) -> Result<Phase, BenchError> {
    Ok(Phase::of(load(&AtomicBool::new(false))?, 0))
}

/// The versions in turn for as long as the load lasts.
fn swapping(site: &mut Site, load: impl FnOnce(&AtomicBool) -> Result<Answers, BenchError> + Send) -> Result<Phase, BenchError> {
    let (answers, swaps) = beside(load, |running| {
        let mut swaps = 0;
        for version in others() {
            let begun = Instant::now();
            while begun.elapsed() < SWAP_EVERY {
                if !running() {
                    return Ok(swaps);
                }
                std::thread::sleep(LOOK);
            }
            site.serve(version, || Ok(()))?;
            swaps += 1;
        }
        Ok(swaps)
    })?;
    Ok(Phase::of(answers, swaps))
}

/// [`SWAPS`] swaps, and what was resident after some of them and at most.
fn many_swaps(
    site: &mut Site,
    load: impl FnOnce(&AtomicBool) -> Result<Answers, BenchError> + Send,
) -> Result<(Phase, [f64; 4]), BenchError> {
    let (answers, resident) = beside(load, |_| {
        let mut resident = [0.0_f64; 4];
        for (number, version) in (1..=SWAPS).zip(others()) {
            site.serve(version, || {
                resident[3] = resident[3].max(resident_mib()?);
                Ok(())
            })?;
            if let Some(place) = LOOKED_AT.iter().position(|looked_at| *looked_at == number) {
                resident[place] = resident_mib()?;
            }
        }
        Ok(resident)
    })?;
    Ok((Phase::of(answers, SWAPS), resident))
}

/// Does `work`, which is told whether the load still runs, while it does; at the end of `work` it is stopped.
fn beside<T>(
    load: impl FnOnce(&AtomicBool) -> Result<Answers, BenchError> + Send,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, BenchError>,
) -> Result<(Answers, T), BenchError> {
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(move || load(stop));
        let done = work(&|| !running.is_finished());
        stop.store(true, Ordering::Relaxed);
        let answers = running.join().expect("a load does not panic")?;
        Ok((answers, done?))
    })
}

/// The versions in turn, beginning with the one that is not served.
fn others() -> impl Iterator<Item = Version> {
    VERSIONS.into_iter().cycle().skip(1)
}

impl Phase {
    fn of(answers: Answers, swaps: usize) -> Self {
        let Answers { latencies, failed } = answers;
        Phase { requests: latencies.len() + failed, failed, swaps, latency_ms: Quantiles::of_ms(latencies) }
    }
}

/// What Linux says this process has resident.
fn resident_mib() -> Result<f64, BenchError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(kib.unwrap_or(f64::NAN) / 1024.0)
}
