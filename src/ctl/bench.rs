//! `rocketctl bench`: the program's own speed on this machine. It needs no configuration: what is measured is [`crate::bench`]'s own.

mod score;

use super::output::{self, Format, View, pairs};
use crate::bench::{BrokerBench, BrokerFigures, GaucBench, GaucFigures, IngestBench, IngestFigures, TrainBench, TrainFigures, Workload};
use crate::config::{EventFormat, TrainConfig};
use crate::daemon::Failure;

/// Rows of a batch and samples measured, unless told otherwise.
const BATCH: u32 = 2048;
const SAMPLES: u32 = 80_000;
/// Events measured, unless told otherwise: 150 MB.
const EVENTS: u32 = 500_000;
/// A topic's, and how often it is read, likewise.
const PARTITIONS: i32 = 4;
const ROUNDS: u32 = 3;

#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    /// Training: hashing, lookup, one step of both nets and their tables, GAUC.
    Train(TrainArgs),
    /// Scoring through the library: one user and many candidates a request, on one thread.
    Score(score::ScoreArgs),
    /// Ingest on one core: events of 300 bytes from memory through decoding, validation, joining and hashing. With --brokers: from a running
    /// broker, beside a bare consumer.
    Ingest(IngestArgs),
    /// GAUC of users in sled, and what share of the training it takes, which is measured first.
    Gauc(GaucArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    /// Rows of a batch.
    #[arg(long, default_value_t = BATCH, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Threads that compute; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// As train.device: cpu, tch-cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Samples measured.
    #[arg(long, default_value_t = SAMPLES, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Rows in the embedding tables.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(100..))]
    rows: u32,
    /// Distinct users.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Begin with the bytes of events in this format, in memory: end to end.
    #[arg(long, value_name = "FORMAT")]
    from: Option<Written>,
}

#[derive(Debug, clap::Args)]
pub(super) struct IngestArgs {
    /// What events are written in: as topics.format.
    #[arg(long, default_value = "json")]
    format: Written,
    /// Rows of a batch.
    #[arg(long, default_value_t = BATCH, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Events measured.
    #[arg(long, default_value_t = EVENTS, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Send the events to a running broker (`host:port`, comma-separated) and read them there, by the daemon's ingest and by a bare consumer in
    /// turns. The topics are made for it, begin with rocket-bench- and are deleted afterwards.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Partitions of the topic.
    #[arg(long, default_value_t = PARTITIONS, requires = "brokers", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// How often each reads; medians count.
    #[arg(long, default_value_t = ROUNDS, requires = "brokers", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// As [`EventFormat`].
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Written {
    Json,
    Protobuf,
}

impl From<Written> for EventFormat {
    fn from(written: Written) -> Self {
        match written {
            Written::Json => EventFormat::Json,
            Written::Protobuf => EventFormat::Protobuf,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct GaucArgs {
    /// Distinct users.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Samples measured.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Samples trained before, for the share.
    #[arg(long, default_value_t = SAMPLES, value_parser = clap::value_parser!(u32).range(1..))]
    trained: u32,
}

/// JSON of `bench gauc`.
#[derive(Debug, serde::Serialize)]
struct GaucShare {
    #[serde(flatten)]
    figures: GaucFigures,
    /// Samples per second of `bench train` with one thread per core, which holds users in memory.
    train_samples_per_s: f64,
    /// GAUC's part of the time that a sample takes end to end on one thread after the other.
    share: f64,
}

pub(super) fn run(format: Format, command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Train(arguments) => output::print(format, &train(arguments)?),
        BenchCommand::Score(arguments) => output::print(format, &score::score(arguments)?),
        BenchCommand::Ingest(arguments) => match &arguments.brokers {
            None => output::print(format, &ingest(arguments)),
            Some(brokers) => output::print(format, &ingest_from(brokers, arguments)?),
        },
        BenchCommand::Gauc(arguments) => output::print(format, &gauc(arguments)?),
    }
}

fn train(arguments: &TrainArgs) -> Result<TrainFigures, Failure> {
    let &TrainArgs { batch, threads, ref device, samples, rows, users, from } = arguments;
    let workload = Workload { rows: rows as usize, users: users as usize, ..Workload::default() };
    let train = TrainConfig { device: device.clone(), threads, ..TrainConfig::default() };
    Ok(TrainBench { workload, batch: batch as usize, samples: samples as usize, train, events: from.map(EventFormat::from) }.run()?)
}

fn ingest(arguments: &IngestArgs) -> IngestFigures {
    let &IngestArgs { format, batch, events, .. } = arguments;
    IngestBench { workload: Workload::compact(), format: format.into(), batch: batch as usize, events: events as usize }.run()
}

fn ingest_from(brokers: &str, arguments: &IngestArgs) -> Result<BrokerFigures, Failure> {
    let &IngestArgs { format, batch, events, partitions, rounds, .. } = arguments;
    let bench = BrokerBench {
        brokers: brokers.to_owned(),
        workload: Workload::compact(),
        format: format.into(),
        batch: batch as usize,
        events: events as usize,
        partitions,
        rounds: rounds as usize,
    };
    Ok(bench.run()?)
}

fn gauc(arguments: &GaucArgs) -> Result<GaucShare, Failure> {
    let &GaucArgs { users, samples, trained } = arguments;
    let bench = GaucBench::default();
    let workload = Workload { users: users as usize, ..Workload::default() };
    let training = TrainBench { workload, batch: BATCH as usize, samples: trained as usize, train: TrainConfig::default(), events: None };
    let training = training.run()?;
    let workload = Workload { users: users as usize, ..bench.workload };
    let figures = GaucBench { workload, samples: samples as usize, ..bench }.run()?;
    let seconds = 1.0 / figures.samples_per_s;
    let share = seconds / (seconds + 1.0 / training.samples_per_s);
    Ok(GaucShare { figures, train_samples_per_s: training.samples_per_s, share })
}

impl View for TrainFigures {
    fn text(&self) -> String {
        let of = |seconds: f64| format!("{seconds:.2} s, {:.1} %", 100.0 * seconds / self.seconds);
        pairs([
            ("samples/s", format!("{:.0}", self.samples_per_s)),
            ("samples", format!("{} in batches of {}", self.samples, self.batch)),
            ("events", self.events.map_or_else(|| "none: samples".to_owned(), |format| format!("{format:?}, decoded and joined"))),
            ("table rows", self.table_rows.to_string()),
            ("device", format!("{}, {} threads", self.device, self.threads)),
            ("seconds", format!("{:.2}", self.seconds)),
            ("steps", format!("{}; median {:.2} ms", of(self.step_seconds), self.step_p50_ms)),
            ("hashing", of(self.hash_seconds)),
            ("gauc", of(self.gauc_seconds)),
            ("loss", format!("{:.6}; of the last step {:.6}", self.loss, self.last_loss)),
        ])
    }
}

impl View for IngestFigures {
    fn text(&self) -> String {
        let of = |ns: f64| format!("{ns:.0} ns per event");
        pairs([
            ("events/s", format!("{:.0} on one core", self.events_per_s)),
            ("events", format!("{} of {:.0} bytes, {:?}, {} features", self.events, self.event_bytes, self.format, self.features)),
            ("seconds", format!("{:.2}", self.seconds)),
            ("decoding", of(self.decode_ns)),
            ("joining", of(self.join_ns)),
            ("hashing", of(self.hash_ns)),
        ])
    }
}

impl View for BrokerFigures {
    fn text(&self) -> String {
        pairs([
            ("events/s", format!("{:.0} from the broker to batches", self.events_per_s)),
            ("bare consumer", format!("{:.0} events/s", self.bare_events_per_s)),
            ("ratio", format!("{:.2}", self.ratio)),
            ("events", format!("{} of {:.0} bytes, {:?}, in {} partitions", self.events, self.event_bytes, self.format, self.partitions)),
            ("rounds", format!("{}, medians", self.rounds)),
        ])
    }
}

impl View for GaucShare {
    fn text(&self) -> String {
        let figures = &self.figures;
        pairs([
            ("samples/s", format!("{:.0} on one core", figures.samples_per_s)),
            ("samples", format!("{} of {} users", figures.samples, figures.users)),
            ("observing", format!("{:.0} ns per sample", figures.observe_ns)),
            ("commits", format!("{:.0} ns per sample, one every {}", figures.commit_ns, figures.commit_every)),
            ("on disk", format!("{:.0} bytes per user, of which {:.0} live", figures.disk_bytes_per_user, figures.live_bytes_per_user)),
            ("in memory", format!("{} users after the last commit", figures.cached_users)),
            ("training", format!("{:.0} samples/s", self.train_samples_per_s)),
            ("share", format!("{:.1} % of the time end to end", 100.0 * self.share)),
        ])
    }
}
