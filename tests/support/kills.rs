//! A stream with everything in it, a daemon that is killed over it and started again, and what must hold at its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rocket_launching::checkpoint::{CheckpointStore, Commit, Loaded};
use rocket_launching::config::{Config, KeysConfig, Span};
use rocket_launching::domain::{Books, PartitionPosition, Record, Role, Version};
use rocket_launching::evaluate::Report;
use rocket_launching::keys::{self, Signer, Trust};
use rocket_launching::pipeline::{State, Status};
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::{KafkaLogReader, KafkaProducer, KafkaSource, LogReader, Polled, Source, read_dead_letters};

use super::daemon::{Daemon, PATIENCE};
use super::world;

/// One wait for events.
const POLL: Duration = Duration::from_millis(100);
/// Waits without an event after which there are no more.
const QUIET_POLLS: u32 = 10;

/// Impressions and clicks on a broker, duplicates, late ones and broken ones among them, and what one undisturbed pass in memory makes of
/// them: the reference for everything that was read from a broker by daemons that were killed.
pub struct Stream {
    brokers: String,
    rows: usize,
    change: fn(&mut Config),
    events: u64,
    books: Books,
    report: Report,
}

/// Where a daemon ended.
pub struct End {
    commit: Commit,
    loaded: Loaded,
}

impl Stream {
    /// A stream of `rows` impressions, of which nothing is sent; `change` is made to every configuration.
    pub fn of(brokers: String, rows: usize, change: fn(&mut Config)) -> Self {
        Stream { brokers, rows, change, events: 0, books: Books::default(), report: Report::default() }
    }

    /// Sends everything to topics that `create` makes.
    pub fn produce(brokers: String, rows: usize, change: fn(&mut Config), create: impl Fn(&Config)) -> Self {
        let stream = Self::of(brokers, rows, change);
        let config = stream.config(Path::new("unused"), "reference");
        create(&config);
        let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
        for record in &stream.records() {
            send(&producer, &config, record);
        }
        producer.flush().expect("the events are acknowledged");
        stream.with_reference()
    }

    /// Its events, in an order in which they may come.
    pub fn records(&self) -> Vec<Record> {
        world::joined_stream(self.rows, 3).1
    }

    /// What one undisturbed pass in memory makes of what lies on the broker.
    pub fn with_reference(mut self) -> Self {
        let config = self.config(Path::new("unused"), "reference");
        let mut source = KafkaSource::open(&config, &[]).expect("the broker is read");
        let (mut records, mut quiet) = (Vec::new(), 0);
        while quiet < QUIET_POLLS {
            match source.poll(&mut records, POLL).expect("the broker is read") {
                Polled::Records => quiet = 0,
                _ => quiet += 1,
            }
        }
        assert!(records.len() >= self.records().len(), "{} events of {} are there", records.len(), self.records().len());
        self.events = records.len() as u64;
        let (reference, _) = world::run(&config, State::Memory, (source.partitions().to_vec(), records), None, false);
        (self.books, self.report) = (reference.status.books, reference.status.report);
        self
    }

    /// A daemon of this name: the events are those of all, its snapshots and dead letters its own.
    pub fn config(&self, dir: &Path, name: &str) -> Config {
        let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", self.brokers);
        let mut config = world::config(&dir.join(name), "joined", &more);
        // A partition that is at its end holds the watermark back however long that takes: the same samples close every time.
        config.join.idle = Span::from_secs(3600);
        config.name = name.to_owned();
        config.keys = make_keys(dir, name);
        for (topic, events) in [(&mut config.topics.impressions, "impressions"), (&mut config.topics.clicks, "clicks")] {
            *topic = format!("world-{}.{events}", self.rows);
        }
        (self.change)(&mut config);
        config
    }

    /// Events sent.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Everything is read, and every batch that can close is trained. What ended since the last batch is booked when the daemon leaves.
    pub fn is_done(&self, status: &Status) -> bool {
        status.read == self.events && status.books.trained == self.books.trained
    }

    /// Runs a daemon until everything is done, and asks it to leave.
    pub fn run_to_end(&self, config: &Config) -> End {
        let daemon = Daemon::start(config);
        daemon.wait_until("all events done", |status| self.is_done(status));
        assert!(daemon.terminate().success());
        self.end(config)
    }

    /// Where it ended: conservation, and metrics equal to the reference.
    pub fn end(&self, config: &Config) -> End {
        let commit = last_commit(config);
        let loaded = CheckpointStore::load(&config.state.dir, &commit).expect("the commit is whole");
        assert_eq!(commit.books, self.books, "{}: every event is done once, as what it was", config.name);
        let counted: u64 = commit.positions.iter().map(|position| position.count()).sum();
        assert_eq!(counted, self.books.done(), "{}: positions say the same as the books", config.name);
        assert_eq!(commit.report, self.report, "{}: metrics of the reference", config.name);
        let (_, letters) = read_dead_letters(config, usize::MAX).expect("dead letters are read");
        let mut buried: Vec<_> = letters.into_iter().map(|letter| letter.source).collect();
        buried.sort();
        buried.dedup();
        assert_eq!(buried.len() as u64, self.books.dead_lettered, "{}: no broken event without its letter", config.name);
        End { commit, loaded }
    }
}

/// A key of the trainer's own, and the list that trusts it: what is not signed does not count.
fn make_keys(dir: &Path, name: &str) -> KeysConfig {
    let [trusted, trainer] = ["trusted.toml", "trainer.pem"].map(|file| dir.join(format!("{name}.{file}")));
    if dir.is_dir() && !trainer.exists() {
        let signer = Signer::generate().expect("random bytes");
        signer.save(&trainer).expect("the key is written");
        std::fs::write(&trusted, signer.public().trusted_as(keys::Role::Trainer)).expect("the list is written");
    }
    KeysConfig { trusted, trainer, ..KeysConfig::default() }
}

/// The newest commit of a daemon that has ended.
pub fn last_commit(config: &Config) -> Commit {
    let store = CheckpointStore::open(&config.state.dir, config.checkpoint.keep).expect("the state opens");
    store.latest().expect("something was committed").clone()
}

/// Queues one event.
pub fn send(producer: &KafkaProducer, config: &Config, record: &Record) {
    let topic = if record.role == Role::Impression { config.impressions_topic() } else { config.clicks_topic() };
    producer.send(&topic, Some(0), None, record.payload.as_deref(), None).expect("the event is queued");
}

impl End {
    /// Bit by bit the state of `other`, whatever the numbers of their checkpoints.
    pub fn assert_equals(&self, other: &End, case: &str) {
        // Which of the records before it marks a position depends on how many were read at once.
        let positions = |end: &End| {
            let unmarked = |position: &PartitionPosition| PartitionPosition { mark: None, ..position.clone() };
            end.commit.positions.iter().map(unmarked).collect::<Vec<_>>()
        };
        assert_eq!(positions(self), positions(other), "{case}: positions");
        assert_eq!(self.commit.evaluation, other.commit.evaluation, "{case}: aggregates");
        assert_eq!(self.loaded.memory, other.loaded.memory, "{case}: memory of the join");
        assert!(self.loaded.learner == other.loaded.learner, "{case}: weights, rows, optimizer");
    }
}

/// An ad server that follows a daemon's snapshots, whatever happens to the daemon, and trusts what is signed alone.
pub struct Watcher {
    subscriber: Arc<Subscriber>,
    stop: Arc<AtomicBool>,
    watching: JoinHandle<BTreeMap<Version, String>>,
}

impl Watcher {
    pub fn start(config: &Config, cache: &Path) -> Self {
        let (kafka, topic) = (config.kafka.clone(), config.snapshots_topic());
        let open = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
        let trust = Trust::load(&config.keys.trusted).expect("the list is good");
        let server = SubscriberConfig { trust, ..SubscriberConfig::new(&config.name, cache) };
        let subscriber = Subscriber::start(server, open).expect("the subscriber starts");
        let (subscriber, stop) = (Arc::new(subscriber), Arc::new(AtomicBool::new(false)));
        let watching = std::thread::spawn({
            let (subscriber, stop) = (Arc::clone(&subscriber), Arc::clone(&stop));
            move || {
                let mut served = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Some(model) = subscriber.model() {
                        let hash = model.manifest().artifact.blake3.clone();
                        let before = served.insert(model.version(), hash.clone());
                        assert!(before.is_none_or(|before| before == hash), "version {} was two snapshots", model.version());
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                served
            }
        });
        Watcher { subscriber, stop, watching }
    }

    /// Waits until what the topic says is served. It never was sent a snapshot that it had to refuse, nor one that was another later.
    pub fn finish(self) -> BTreeMap<Version, String> {
        let started = Instant::now();
        loop {
            let status = self.subscriber.status();
            if status.version == status.target && status.behind == Some(0) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "what the topic says is not served: {status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stop.store(true, Ordering::Relaxed);
        let served = self.watching.join().expect("the watcher saw nothing wrong");
        let status = self.subscriber.status();
        assert!(status.rejected.is_empty(), "{:?}: {:?}", status.rejected, status.last_error);
        served
    }
}
