//! `rocketd demo`: the whole system in one process.
//!
//! ```text
//! generator (or a file) ─▶ topics on the embedded broker ─▶ pipeline ─▶ snapshot topic ─▶ scorer ◀─ clients
//!                                                                            ▲
//!                                                                        operator: roll back, unpin
//! ```
//! It ends with exit code 0 only if every event is accounted for, no request failed, at least two versions answered, and the scorer
//! followed the rollback.

mod client;
mod feed;
mod file_traffic;
mod generator;
mod load;
mod operator;
mod ranking;
mod scorer;
mod show;
mod traffic;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::run::open_publisher;
use crate::config::{self, Config, KeysConfig, StreamMode};
use crate::domain::Version;
use crate::keys::{Role, Signer};
use crate::pipeline::{Control, Parts, PipelineError, Running, State, Summary};
use crate::publish::Published;
use crate::stream::{EmbeddedBroker, KafkaDeadLetters, KafkaSource, Source};
use crate::telemetry::{Health, init_logs, names};
use feed::{Ending, FeedProgress, Traffic};
use file_traffic::FileTraffic;
use load::Load;
use operator::Drill;
use scorer::Scorer;
use show::{Live, Look, Outcome};
use traffic::Synthetic;

/// The configuration unless `--config` gives another.
const CONFIG: &str = include_str!("../../../config/demo.toml");
/// A minute at [`RATE`].
const ROWS: u64 = 300_000;
/// Impressions a second: what two cores can train while they also serve, and few enough snapshots for the embedded broker to hold.
const RATE: u64 = 5_000;
/// Below it, event time is too short for windows to close before the end.
const ROWS_MIN: u64 = 5_000;
/// Partitions of each event topic: each may hold 5 MiB on the embedded broker.
const PARTITIONS: i32 = 4;
/// Impressions waiting for a client: a few requests' worth, the rest is not asked for.
const OFFERS: usize = 64;
/// Versions served before the operator goes back, and the share of the rows that has to be sent by then.
const SWAPS_BEFORE: u64 = 3;
const SHARE_BEFORE: f64 = 0.6;
/// Between two looks at everything.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_ON_TERMINAL: Duration = Duration::from_millis(500);
/// Between two looks at what is waited for.
const GLANCE: Duration = Duration::from_millis(10);
/// What is waited for takes seconds at most, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// `rocketd demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Impressions to generate, or rows of the file at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(ROWS_MIN..))]
    rows: Option<u64>,
    /// Impressions a second at most.
    #[arg(long, value_name = "N", default_value_t = RATE, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Seed of the generated world.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only write the generated impressions to FILE, as labelled JSON lines, for `rocketctl backtest` and `ablate`.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    write: Option<PathBuf>,
    /// A TSV, CSV or JSONL file (.gz too) instead of the generator.
    #[arg(long, value_name = "FILE", requires = "config")]
    data: Option<PathBuf>,
    /// Configuration; needed with --data for its schema.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the demo and prints its summary.
///
/// # Errors
/// [`Failure`]: something could not start, or is not as it has to be at the end.
pub fn demo(options: &Options, environment: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    let mut config = match &options.config {
        Some(path) => config::load(path, environment)?,
        None => config::parse(CONFIG, "config/demo.toml", environment)?,
    };
    if options.data.is_none() && config.topics.mode != StreamMode::Joined {
        return Err(Failure::Usage(anyhow::anyhow!("the generator sends impressions and clicks apart: set topics.mode = \"joined\"")));
    }
    if let Some(path) = &options.write {
        return write::labelled(path, &config, options.seed, options.rows.unwrap_or(ROWS));
    }
    let rows = options.rows.or(options.data.is_none().then_some(ROWS));
    init_logs(&config.log)?;
    let metrics = names::install().map_err(|e| Failure::Failed(e.into()))?;
    let place = Place::new()?;
    config.state.dir = place.dir.join("state");
    config.keys = place.keys()?;
    let traffic = open_traffic(options, &config)?;

    let broker = EmbeddedBroker::start()?;
    config.kafka.brokers = broker.bootstrap();
    create_topics(&broker, &config)?;
    let scorer = Scorer::start(&config, &place.dir.join("scorer"), metrics)?;
    Stage::open(config, scorer, traffic, rows, options.rate)?.play()
}

fn open_traffic(options: &Options, config: &Config) -> Result<Traffic, Failure> {
    Ok(match &options.data {
        Some(path) => {
            let rows = options.rows.unwrap_or(u64::MAX);
            Traffic::File(Box::new(FileTraffic::open(path, rows, &config.schema, &config.topics)?))
        }
        None => {
            Traffic::Synthetic(Box::new(Synthetic::new(options.seed, options.rows.unwrap_or(ROWS), &config.join, config.topics.format)))
        }
    })
}

fn create_topics(broker: &EmbeddedBroker, config: &Config) -> Result<(), Failure> {
    let events = match config.topics.mode {
        StreamMode::Labelled => vec![config.events_topic()],
        StreamMode::Joined => vec![config.impressions_topic(), config.clicks_topic()],
    };
    for topic in events {
        broker.create_topic(&topic, PARTITIONS)?;
    }
    broker.create_topic(&config.dead_letters_topic(), 1)?;
    Ok(broker.create_topic(&config.snapshots_topic(), 1)?)
}

/// A directory for state and snapshots, gone when the demo is.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("rocketd-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::failed(format!("{}: {e}; set TMPDIR to a writable directory", dir.display())))?;
        Ok(Place { dir })
    }

    /// A key for the trainer and one for the operator, made for this run, and the list that trusts the two.
    fn keys(&self) -> Result<KeysConfig, Failure> {
        let [trusted, trainer, operator] = ["trusted.toml", "trainer.pem", "operator.pem"].map(|name| self.dir.join(name));
        let mut lines = String::new();
        for (role, file) in [(Role::Trainer, &trainer), (Role::Operator, &operator)] {
            let signer = Signer::generate()?;
            signer.save(file)?;
            lines.push_str(&signer.public().trusted_as(role));
            lines.push('\n');
        }
        std::fs::write(&trusted, lines)?;
        Ok(KeysConfig { trusted, trainer, operator })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!("removing {}: {e}", self.dir.display());
        }
    }
}

type Pipeline = JoinHandle<Result<Summary, PipelineError>>;
type Producer = JoinHandle<Result<Traffic, Failure>>;

/// Everything that runs while the demo does.
struct Stage {
    config: Config,
    /// Rows to be sent, where that is known.
    rows: Option<u64>,
    started: Instant,
    control: Control,
    pipeline: Pipeline,
    producer: Producer,
    progress: Arc<FeedProgress>,
    /// How many records the stream has: known when the producer is done and nothing more is to be shown.
    total: Arc<OnceLock<u64>>,
    offers: crossbeam_channel::Receiver<traffic::Offer>,
    scorer: Scorer,
    live: std::cell::RefCell<(Live, Instant)>,
    load: OnceLock<Load>,
}

impl Stage {
    fn open(config: Config, scorer: Scorer, traffic: Traffic, rows: Option<u64>, rate: u64) -> Result<Self, Failure> {
        let total = Arc::new(OnceLock::new());
        let running = Running::start(parts(&config, Arc::clone(&total))?)?;
        let control = running.control();
        let pipeline = std::thread::Builder::new()
            .name("demo-pipeline".to_owned())
            .spawn(move || running.join())
            .map_err(|e| Failure::failed(format!("waiting for the pipeline: {e}")))?;
        let (offers_in, offers) = crossbeam_channel::bounded(OFFERS);
        let progress = Arc::new(FeedProgress::at_most(rate));
        let producer = feed::start(&config, traffic, control.clone(), Arc::clone(&progress), offers_in)?;
        let started = Instant::now();
        let live = std::cell::RefCell::new((Live::new(), started));
        Ok(Stage { config, rows, started, control, pipeline, producer, progress, total, offers, scorer, live, load: OnceLock::new() })
    }

    /// The demo's story.
    fn play(self) -> Result<(), Failure> {
        self.say("training on the stream; the first snapshot is on its way");
        self.first_version()?;
        let load = Load::start(self.scorer.address(), &self.offers)?;
        let _ = self.load.set(load);
        self.say("a snapshot is served; clients ask the scorer without pause");
        self.several_versions()?;
        let drill = operator::drill(&self)?;
        self.say(&format!(
            "rolled back from version {} to {}: served after {:.2} s; unpinned, version {} is served",
            drill.from,
            drill.to,
            drill.took.as_secs_f64(),
            drill.resumed
        ));
        self.wait_long("the rest of the events", || self.producer.is_finished().then_some(()))?;
        self.finish(&drill)
    }

    /// Serving needs one snapshot; a stream too short for the schedule gets one as `rocketctl snapshot now` would.
    fn first_version(&self) -> Result<(), Failure> {
        self.wait_long("a first snapshot", || (self.served().is_some() || self.producer.is_finished()).then_some(()))?;
        if self.served().is_none() {
            self.publish_now()?;
            self.wait("the first snapshot to be served", || self.served())?;
        }
        Ok(())
    }

    fn several_versions(&self) -> Result<(), Failure> {
        self.wait_long("several versions", || {
            let far = self.rows.is_none_or(|rows| self.progress.rows() as f64 >= SHARE_BEFORE * rows as f64);
            (far && self.scorer.swaps() >= SWAPS_BEFORE || self.producer.is_finished()).then_some(())
        })?;
        while self.scorer.swaps() < 2 {
            let published = self.publish_now()?.version;
            self.wait("a further snapshot to be served", || (self.served() == Some(published)).then_some(()))?;
        }
        Ok(())
    }

    /// Ends the stream, waits for the pipeline, and judges.
    fn finish(mut self, drill: &Drill) -> Result<(), Failure> {
        let produced = self.progress.events();
        let traffic = self.producer.join().map_err(|_| Failure::failed("the producer panicked; its message is in the log"))??;
        // Set once, here.
        let _ = self.total.set(produced);
        let summary = self.pipeline.join().map_err(|_| Failure::failed("the pipeline panicked; its message is in the log"))??;
        let swaps = self.scorer.swaps();
        let tally = self.load.take().ok_or_else(|| Failure::failed("no client ever started"))?.stop()?;
        let outcome = Outcome {
            elapsed: self.started.elapsed(),
            status: &summary.status,
            produced,
            expected: traffic.expected(),
            truth: traffic.truth(),
            tally: &tally,
            swaps,
            drill,
        };
        outcome.print();
        let problems = outcome.problems();
        self.scorer.stop()?;
        if problems.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(problems.join("; ")))
    }

    /// The version that the scorer answers with.
    fn served(&self) -> Option<Version> {
        self.scorer.version()
    }

    /// As `rocketctl snapshot now`.
    fn publish_now(&self) -> Result<Published, Failure> {
        self.control.snapshot_now().map_err(|why| Failure::failed(format!("publishing a snapshot: {why}")))
    }

    /// Waits for `done`, at most [`PATIENCE`].
    fn wait<T>(&self, what: &str, done: impl Fn() -> Option<T>) -> Result<T, Failure> {
        self.wait_until(Some(Instant::now() + PATIENCE), what, done)
    }

    /// Waits for `done` as long as events flow.
    fn wait_long<T>(&self, what: &str, done: impl Fn() -> Option<T>) -> Result<T, Failure> {
        self.wait_until(None, what, done)
    }

    fn wait_until<T>(&self, deadline: Option<Instant>, what: &str, done: impl Fn() -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(done) = done() {
                return Ok(done);
            }
            if self.pipeline.is_finished() {
                return Err(Failure::failed(format!("the pipeline ended while waiting for {what}; the log says why")));
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(Failure::failed(format!("waited {} s for {what}", PATIENCE.as_secs())));
            }
            self.look();
            std::thread::sleep(GLANCE);
        }
    }

    fn say(&self, text: &str) {
        self.live.borrow_mut().0.say(text);
    }

    /// Shows everything, when it is time.
    fn look(&self) {
        let (live, next) = &mut *self.live.borrow_mut();
        if Instant::now() < *next {
            return;
        }
        *next = Instant::now() + if live.on_terminal() { LOOK_ON_TERMINAL } else { LOOK };
        live.show(&Look {
            elapsed: self.started.elapsed(),
            status: &self.control.status(),
            served: self.served(),
            swaps: self.scorer.swaps(),
            tally: self.load.get().map(|load| load.tally().as_ref()),
        });
    }
}

fn parts(config: &Config, total: Arc<OnceLock<u64>>) -> Result<Parts, Failure> {
    let opened = config.clone();
    Ok(Parts {
        config: config.clone(),
        state: State::Durable,
        source: Box::new(move |positions| {
            Ok(Box::new(Ending::new(Box::new(KafkaSource::open(&opened, positions)?), Arc::clone(&total))) as Box<dyn Source>)
        }),
        dead_letters: Box::new(KafkaDeadLetters::open(config)?),
        publisher: Some(open_publisher(config)?),
        health: Health::new(config.admin.stall.0),
        finish_at_end: true,
    })
}
