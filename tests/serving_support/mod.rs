//! Small random nets, a topic to publish them on, and a scorer in this process.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod every_kind;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use rocket_launching::config::{HiddenConfig, SchemaConfig};
use rocket_launching::domain::{EventTime, Version};
use rocket_launching::features::slot_key;
use rocket_launching::keys::{Role, Signer, Trust};
use rocket_launching::serving::http::{Limits, Service, serve};
use rocket_launching::serving::{Candidate, ServedModel, Subscriber, SubscriberConfig, SubscriberStatus};
use rocket_launching::stream::{LogReader, LogWriter, MemoryLog};
use rocket_launching::wire::snapshot::{
    Architecture, Artifact, Key, Lease, Manifest, PROTOCOL, Pin, Pointer, Probe, Provenance, Quality, TensorInfo, schema_hash, seal_as,
};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Serialize;
use serde_json::{Value, json};

pub const MODEL: &str = "ctr";
pub const TIME: EventTime = EventTime(1_700_000_000_000);
/// Users and items that have rows.
pub const KNOWN: usize = 20;
const DIM: usize = 4;
const HIDDEN: usize = 8;
const INPUTS: usize = 3 * DIM + 1;
const CHUNK_BYTES: usize = 700;
/// What a wait in a test takes at most; none is expected to come near it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// A snapshot as it would be sent, open to alteration.
#[derive(Clone)]
pub struct Snapshot {
    pub manifest: Manifest,
    pub chunks: Vec<Vec<u8>>,
}

pub struct Noise(pub u64);

impl Noise {
    pub fn float(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

pub fn schema() -> SchemaConfig {
    serde_json::from_value(json!({
        "time": "ts", "user": "user", "item": "item",
        "features": [
            { "name": "user", "kind": "categorical" },
            { "name": "item", "kind": "categorical" },
            { "name": "tags", "kind": "bag", "pooling": "mean", "separator": "," },
            { "name": "price", "kind": "log1p" },
        ],
    }))
    .expect("the test's schema is valid")
}

/// The tensors of version `version`: random, another net for each.
pub fn tensors(version: u64) -> Vec<Tensor> {
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15 ^ (version + 1).wrapping_mul(0xD134_2543_DE82_EF95));
    let mut float = |name: &str, shape: &[usize]| Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).flat_map(|_| noise.float().to_le_bytes()).collect(),
    };
    let mut keys: Vec<u64> = ["user", "item", "tags"]
        .iter()
        .flat_map(|slot| (0..KNOWN).map(move |value| slot_key(slot, &format!("{}{value}", &slot[..1]))))
        .collect();
    keys.sort_unstable();
    vec![
        Tensor {
            name: "embedding.keys".to_owned(),
            dtype: Dtype::U64,
            shape: vec![keys.len()],
            data: keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
        },
        float("embedding.rows", &[keys.len(), DIM]),
        float("light.0.weight", &[INPUTS, HIDDEN]),
        float("light.0.bias", &[HIDDEN]),
        float("light.1.weight", &[HIDDEN, 1]),
        float("light.1.bias", &[1]),
    ]
}

fn floats(tensors: &[Tensor], name: &str) -> Vec<f64> {
    let tensor = tensors.iter().find(|tensor| tensor.name == name).expect("a tensor of the net");
    tensor.data.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes")))).collect()
}

/// The formula, in f64.
fn logit(tensors: &[Tensor], user: &str, item: &str, tags: &[&str], price: f64) -> f64 {
    let keys: Vec<u64> = tensors[0].data.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect();
    let rows = floats(tensors, "embedding.rows");
    let mut input = Vec::new();
    for (slot, values) in [("user", &[user][..]), ("item", &[item][..]), ("tags", tags)] {
        let mut vector = [0.0; DIM];
        for value in values {
            let Some(row) = keys.iter().position(|key| *key == slot_key(slot, value)) else { continue };
            (0..DIM).for_each(|d| vector[d] += rows[row * DIM + d] / values.len() as f64);
        }
        input.extend(vector);
    }
    input.push(price.ln_1p());
    let (weight, bias) = (floats(tensors, "light.0.weight"), floats(tensors, "light.0.bias"));
    let hidden: Vec<f64> =
        (0..HIDDEN).map(|o| (bias[o] + (0..INPUTS).map(|i| input[i] * weight[i * HIDDEN + o]).sum::<f64>()).max(0.0)).collect();
    let (weight, bias) = (floats(tensors, "light.1.weight"), floats(tensors, "light.1.bias"));
    bias[0] + hidden.iter().zip(weight).map(|(h, w)| h * w).sum::<f64>()
}

pub fn encode(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|t| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.data).expect("length fits the shape")));
    serialize(views, None).expect("tensors encode")
}

impl Snapshot {
    /// A good snapshot.
    pub fn new(version: u64) -> Snapshot {
        let tensors = tensors(version);
        let probes = (0..8)
            .map(|n| {
                let (user, item, price) = (format!("u{n}"), format!("i{}", n * 5), n as f64 * 1.5);
                let logit = logit(&tensors, &user, &item, &["t1", "t2", "t999"], price) as f32;
                Probe {
                    time_ms: TIME.0,
                    fields: vec![json!(user), json!(item), json!(["t1", "t2", "t999"]), json!(price)],
                    logit,
                    tolerance: 1e-4,
                }
            })
            .collect();
        let schema = schema();
        let mut snapshot = Snapshot {
            manifest: Manifest {
                proto: PROTOCOL,
                model: MODEL.to_owned(),
                version: Version(version),
                seq: 0,
                epoch: 0,
                created_ms: 0,
                expires_ms: i64::MAX,
                artifact: Artifact {
                    format: "safetensors".to_owned(),
                    codec: "none".to_owned(),
                    chunk_bytes: Some(CHUNK_BYTES as u64),
                    ..Artifact::default()
                },
                delta: None,
                rows_loss: None,
                architecture: Architecture {
                    embedding_dim: DIM,
                    further_dims: Vec::new(),
                    inputs: INPUTS,
                    shared: Vec::new(),
                    light: vec![HIDDEN],
                    hidden: HiddenConfig::default(),
                },
                schema_hash: schema_hash(&schema),
                schema,
                provenance: Provenance { positions: Vec::new(), samples: 0, config_hash: String::new(), code: String::new() },
                quality: Quality::default(),
                probes,
            },
            chunks: Vec::new(),
        };
        snapshot.hold(&tensors);
        snapshot
    }

    /// A good snapshot with `rows` further rows, which no request asks for.
    pub fn of_rows(version: u64, rows: usize) -> Snapshot {
        let mut tensors = tensors(version);
        let [keys, weights, ..] = &mut tensors[..] else { unreachable!("tables come first") };
        let mut noise = Noise(version);
        // Below every hash that a request has, most likely; the keys must rise.
        let further: Vec<u8> = (1..=rows as u64).flat_map(u64::to_le_bytes).collect();
        keys.data.splice(..0, further);
        weights.data.splice(..0, (0..rows * DIM).flat_map(|_| noise.float().to_le_bytes()));
        keys.shape[0] += rows;
        weights.shape[0] += rows;
        let mut snapshot = Snapshot::new(version);
        snapshot.hold(&tensors);
        snapshot
    }

    /// A snapshot of other tensors, listed and hashed as an honest publisher would.
    pub fn hold(&mut self, tensors: &[Tensor]) {
        let info = |t: &Tensor| TensorInfo { name: t.name.clone(), dtype: t.dtype.to_string(), shape: t.shape.clone() };
        self.manifest.artifact.tensors = tensors.iter().map(info).collect();
        self.hold_bytes(&encode(tensors));
    }

    /// A snapshot of other bytes, hashed as an honest publisher would.
    pub fn hold_bytes(&mut self, artifact: &[u8]) {
        self.chunks = artifact.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
        let said = &mut self.manifest.artifact;
        said.bytes = artifact.len() as u64;
        said.blake3 = blake3::hash(artifact).to_hex().to_string();
        said.chunks = self.chunks.iter().map(|chunk| blake3::hash(chunk).to_hex().to_string()).collect();
    }

    /// What its scores are.
    pub fn open(&self) -> ServedModel {
        ServedModel::open(self.manifest.clone(), &self.chunks.concat()).expect("a good snapshot")
    }
}

/// The trainer's key of topics that are signed.
pub fn trainer() -> Signer {
    Signer::from_seed(&[1; 32])
}

/// The operator's.
pub fn operator() -> Signer {
    Signer::from_seed(&[2; 32])
}

/// Both, each in its role.
pub fn trust() -> Trust {
    Trust::new([(trainer().public(), Role::Trainer), (operator().public(), Role::Operator)])
}

/// A snapshot topic in memory and its publisher.
#[derive(Clone, Default)]
pub struct Topic {
    pub log: MemoryLog,
    /// Records are signed, pins by the operator and the rest by the trainer.
    pub signed: bool,
    /// Whose; [`MODEL`]'s unless said.
    pub model: Option<String>,
    pub seq: u64,
    pub epoch: u64,
}

impl Topic {
    /// With a lease.
    pub fn new() -> Topic {
        let mut topic = Topic::default();
        topic.lease();
        topic
    }

    /// Another model's, with a lease.
    pub fn of(model: &str) -> Topic {
        let mut topic = Topic { model: Some(model.to_owned()), ..Topic::default() };
        topic.lease();
        topic
    }

    fn model(&self) -> String {
        self.model.clone().unwrap_or_else(|| MODEL.to_owned())
    }

    /// With a lease, all of it signed.
    pub fn signed() -> Topic {
        let mut topic = Topic { signed: true, ..Topic::default() };
        topic.lease();
        topic
    }

    pub fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub fn put(&self, key: &Key, value: Option<Vec<u8>>) {
        self.log.append(&[(key.encode().into_bytes(), value)]).expect("memory takes it");
    }

    pub fn record(&self, key: &Key, payload: &impl Serialize) {
        let signer = if matches!(key, Key::PinAll | Key::PinGroup(_)) { operator() } else { trainer() };
        self.record_as(key, payload, self.signed.then_some(&signer));
    }

    pub fn record_as(&self, key: &Key, payload: &impl Serialize, signer: Option<&Signer>) {
        self.put(key, Some(seal_as(key, payload, signer)));
    }

    pub fn lease(&mut self) {
        self.epoch += 1;
        let lease = Lease { proto: PROTOCOL, model: self.model(), seq: self.next_seq(), epoch: self.epoch, instance: "t".into(), at_ms: 0 };
        self.record(&Key::Lease, &lease);
    }

    /// Chunks, then the manifest.
    pub fn send(&mut self, snapshot: &Snapshot) {
        for (index, chunk) in (0u32..).zip(&snapshot.chunks) {
            self.put(&Key::Chunk(snapshot.manifest.version, index), Some(chunk.clone()));
        }
        let manifest = Manifest { model: self.model(), seq: self.next_seq(), epoch: self.epoch, ..snapshot.manifest.clone() };
        self.record(&Key::Manifest(manifest.version), &manifest);
    }

    pub fn pointer(&mut self, version: u64) -> Pointer {
        Pointer {
            proto: PROTOCOL,
            model: self.model(),
            seq: self.next_seq(),
            epoch: self.epoch,
            version: Version(version),
            highest: None,
            actor: "trainer".into(),
            reason: "new".into(),
            at_ms: 0,
        }
    }

    pub fn promote(&mut self, version: u64) {
        let pointer = self.pointer(version);
        self.record(&Key::Current, &pointer);
    }

    pub fn pin(&mut self, version: Option<u64>) {
        let pin = self.pin_record(version);
        self.record(&Key::PinAll, &pin);
    }

    pub fn pin_record(&mut self, version: Option<u64>) -> Pin {
        Pin {
            proto: PROTOCOL,
            model: self.model(),
            seq: self.next_seq(),
            epoch: self.epoch,
            version: version.map(Version),
            expires_ms: None,
            actor: "anna".into(),
            reason: "test".into(),
            at_ms: 0,
        }
    }

    /// Sends and promotes a good snapshot.
    pub fn publish(&mut self, version: u64) -> Snapshot {
        let snapshot = Snapshot::new(version);
        self.send(&snapshot);
        self.promote(version);
        snapshot
    }
}

/// What follows a signed topic asks for signatures.
pub fn config_of(dir: &Path, topic: &Topic) -> SubscriberConfig {
    SubscriberConfig { trust: if topic.signed { trust() } else { Trust::default() }, ..config(dir) }
}

pub fn config(dir: &Path) -> SubscriberConfig {
    SubscriberConfig {
        poll: Duration::from_millis(5),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..SubscriberConfig::new(MODEL, dir)
    }
}

pub fn follow(dir: &Path, topic: &Topic) -> Subscriber {
    let log = topic.log.clone();
    Subscriber::start(config_of(dir, topic), move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("the cache is usable")
}

/// Waits for what a subscriber will come to say.
pub fn until(subscriber: &Subscriber, what: &str, holds: impl Fn(&SubscriberStatus) -> bool) -> SubscriberStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = subscriber.status();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "never came: {what}: {status:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn until_serves(subscriber: &Subscriber, version: u64) -> SubscriberStatus {
    until(subscriber, &format!("version {version}"), |status| status.version == Some(Version(version)))
}

pub fn context() -> serde_json::Map<String, Value> {
    json!({ "user": "u3", "tags": ["t1", "t7"] }).as_object().cloned().expect("an object")
}

pub fn candidates(count: usize) -> Vec<Candidate> {
    let one = |n: usize| json!({ "item": format!("i{}", n % (KNOWN + 5)), "price": n as f64 });
    (0..count).map(|n| one(n).as_object().cloned().expect("an object")).collect()
}

pub fn scores(model: &ServedModel, count: usize) -> Vec<f32> {
    model.score(TIME, &context(), &candidates(count)).expect("good columns")
}

/// A scorer on a free port; it drains and ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(subscriber: &Arc<Subscriber>, limits: Limits) -> Server {
        Server::of(Service::new(Arc::clone(subscriber), limits))
    }

    pub fn of(service: Service) -> Server {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                tell.send(listener.local_addr().expect("bound")).expect("the test waits");
                let metrics = PrometheusBuilder::new().build_recorder().handle();
                let shutdown = async {
                    let _ = stopped.await;
                };
                serve(listener, service, metrics, shutdown).await.expect("serves");
            });
        });
        Server { address: told.recv().expect("it started"), stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

/// An agent that hands over answers of any status.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}
