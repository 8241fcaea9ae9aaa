use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::model::{MODEL, Published};
use crate::bench::BenchError;
use crate::domain::Version;
use crate::serving::http::{Limits, Service, serve};
use crate::serving::{Subscriber, SubscriberConfig};
use crate::stream::{LogReader, LogWriter, MemoryLog};
use crate::wire::snapshot::{Key, Lease, Manifest, PROTOCOL, Pointer, seal_as};

/// As the publisher cuts artifacts.
const CHUNK_BYTES: usize = 512 << 10;
/// The publisher's epoch.
const EPOCH: u64 = 1;
/// A swap of a gigabyte takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

/// A snapshot topic in memory, a subscriber that follows it, and the scorer's HTTP over that.
pub(super) struct Site {
    log: MemoryLog,
    seq: u64,
    pub(super) subscriber: Arc<Subscriber>,
    /// The subscriber's cache; removed at the end.
    dir: PathBuf,
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl Site {
    /// With these versions on the topic; none is served yet.
    pub(super) fn open(versions: Vec<Published>, candidate_cache_bytes: usize) -> Result<Self, BenchError> {
        let dir = std::env::temp_dir().join(format!("rocketctl-bench-{}-{:?}", std::process::id(), std::thread::current().id()));
        let log = MemoryLog::default();
        let read = log.clone();
        let open_reader = move || Ok(Box::new(read.clone()) as Box<dyn LogReader>);
        let subscriber =
            Arc::new(Subscriber::start(SubscriberConfig { candidate_cache_bytes, ..SubscriberConfig::new(MODEL, &dir) }, open_reader)?);
        let service = Service::new(Arc::clone(&subscriber), Limits::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = std::thread::Builder::new().name("scorer".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let metrics = PrometheusBuilder::new().build_recorder().handle();
                serve(TcpListener::from_std(listener)?, service, metrics, async {
                    let _ = stopped.await;
                })
                .await
            })
        })?;
        let mut site = Site { log, seq: 0, subscriber, dir, address, stop: Some(stop), server: Some(server) };
        let lease =
            Lease { proto: PROTOCOL, model: MODEL.to_owned(), seq: site.next(), epoch: EPOCH, instance: "bench".to_owned(), at_ms: 0 };
        site.record(&Key::Lease, &lease)?;
        for version in versions {
            site.send(version)?;
        }
        Ok(site)
    }

    /// Names the version that is to be served and waits until it is; `meanwhile` is called about every millisecond.
    pub(super) fn serve(&mut self, version: Version, mut meanwhile: impl FnMut() -> Result<(), BenchError>) -> Result<(), BenchError> {
        let (actor, reason) = ("bench".to_owned(), "bench".to_owned());
        let seq = self.next();
        let pointer =
            Pointer { proto: PROTOCOL, model: MODEL.to_owned(), seq, epoch: EPOCH, version, highest: None, actor, reason, at_ms: 0 };
        self.record(&Key::Current, &pointer)?;
        let begun = Instant::now();
        while self.subscriber.version() != Some(version) {
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::NotServed { version, status: format!("{:?}", self.subscriber.status()) });
            }
            meanwhile()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn send(&mut self, Published { mut manifest, artifact }: Published) -> Result<(), BenchError> {
        let chunks: Vec<&[u8]> = artifact.chunks(CHUNK_BYTES).collect();
        for (index, chunk) in (0..).zip(&chunks) {
            let key = Key::Chunk(manifest.version, index);
            self.log.append(&[(key.encode().into_bytes(), Some(chunk.to_vec()))])?;
        }
        manifest.artifact.chunk_bytes = Some(CHUNK_BYTES as u64);
        manifest.artifact.chunks = chunks.iter().map(|chunk| blake3::hash(chunk).to_hex().to_string()).collect();
        let manifest = Manifest { seq: self.next(), epoch: EPOCH, ..manifest };
        self.record(&Key::Manifest(manifest.version), &manifest)
    }

    fn record(&self, key: &Key, payload: &impl Serialize) -> Result<(), BenchError> {
        Ok(self.log.append(&[(key.encode().into_bytes(), Some(seal_as(key, payload, None)))])?)
    }

    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.take();
        // What went wrong with the server has shown in the answers.
        let _ = self.server.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
