//! Clients that never stop asking the scorer: each impression as an ad server would have asked before showing it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::client::Client;
use super::ranking::Scored;
use super::scorer;
use super::traffic::Offer;
use crate::daemon::Failure;

/// Requests in flight.
const CLIENTS: usize = 3;
/// Between two requests of one client: constant load that leaves the cores to the trainer.
const THINK: Duration = Duration::from_millis(5);
/// No new impression for this long: the last one is asked for again, so that the load does not pause when the producer does.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    failed: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_failure: Option<String>,
    versions: BTreeSet<u64>,
    scored: Vec<Scored>,
    latencies_us: Vec<u32>,
}

impl Tally {
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        self.seen().first_failure.clone()
    }

    /// Versions that answered.
    pub(super) fn versions(&self) -> BTreeSet<u64> {
        self.seen().versions.clone()
    }

    /// The scorer's own scores of impressions asked for once, with their labels.
    pub(super) fn scored(&self) -> Vec<Scored> {
        self.seen().scored.clone()
    }

    /// Latency in milliseconds that this share of requests stayed below; `None` before the first one.
    pub(super) fn latency_ms(&self, share: f64) -> Option<f64> {
        let mut all = self.seen().latencies_us.clone();
        if all.is_empty() {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
        let index = ((all.len() - 1) as f64 * share) as usize;
        let (_, value, _) = all.select_nth_unstable(index);
        Some(f64::from(*value) / 1000.0)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A client that panicked has left plain numbers behind; its thread reports the panic.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, answer: Result<(u64, f32), String>, offer: &Offer, fresh: bool, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen();
        seen.latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        match answer {
            Ok((version, score)) => {
                seen.versions.insert(version);
                if fresh {
                    seen.scored.push(Scored { group: offer.group, score: f64::from(score), clicked: offer.clicked });
                }
            }
            Err(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                seen.first_failure.get_or_insert(why);
            }
        }
    }
}

/// The clients, until they are told to stop.
pub(super) struct Load {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts asking `address` for what comes from `offers`.
    pub(super) fn start(address: SocketAddr, offers: &Receiver<Offer>) -> Result<Self, Failure> {
        let mut load = Load { tally: Arc::default(), stop: Arc::default(), clients: Vec::new() };
        for n in 0..CLIENTS {
            let (offers, tally, stop) = (offers.clone(), Arc::clone(&load.tally), Arc::clone(&load.stop));
            let client = std::thread::Builder::new().name(format!("demo-client-{n}"));
            let work = move || ask_on(&mut Client::new(address), &offers, &tally, &stop);
            load.clients.push(client.spawn(work).map_err(|e| Failure::failed(format!("starting a client: {e}")))?);
        }
        Ok(load)
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Waits for the requests in flight.
    pub(super) fn stop(mut self) -> Result<Arc<Tally>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().map_err(|_| Failure::failed("a client panicked; its message is in the log"))?;
        }
        Ok(Arc::clone(&self.tally))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask_on(client: &mut Client, offers: &Receiver<Offer>, tally: &Tally, stop: &AtomicBool) {
    let mut last: Option<Offer> = None;
    while !stop.load(Ordering::Relaxed) {
        let fresh = match offers.recv_timeout(PATIENCE) {
            Ok(offer) => {
                last = Some(offer);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                // The producer is done: go on with the last one.
                std::thread::sleep(PATIENCE);
                false
            }
        };
        let Some(offer) = &last else { continue };
        let asked = Instant::now();
        let answer = scorer::ask(client, offer);
        tally.answered(answer, offer, fresh, asked.elapsed());
        std::thread::sleep(THINK);
    }
}

#[cfg(test)]
impl Tally {
    /// As if these versions had answered, and this many requests had failed.
    pub(super) fn saw_for_test(&self, versions: &[u64], failed: u64) {
        self.seen().versions.extend(versions);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }
}
