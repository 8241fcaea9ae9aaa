//! Reference ad server: HTTP scoring over the subscriber library.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use rocket_launching::config::{KafkaConfig, LogConfig, LogFormat};
use rocket_launching::keys::Trust;
use rocket_launching::serving::http::{Limits, serve};
use rocket_launching::serving::{Objects, Reporting, Subscriber, SubscriberConfig, SubscriberError};
use rocket_launching::stream::{KafkaLogReader, KafkaLogWriter, LogReader, LogWriter};
use rocket_launching::telemetry::{init_logs, names};
use rocket_launching::wire::snapshot::Group;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit codes, as sysexits.h names them: EX_USAGE and EX_CONFIG.
const USAGE: u8 = 64;
const CONFIGURATION: u8 = 78;
/// Requests in flight at SIGTERM are answered within this; a load balancer has long looked elsewhere by then.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the following thread is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Scores candidates over HTTP with the light net of a snapshot topic, always the version that the topic says.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Kafka brokers: host:port, comma-separated.
    #[arg(long, env = "ROCKET_BROKERS", default_value = "127.0.0.1:9092")]
    brokers: String,
    /// Name of the model: the trainer's config `name`.
    #[arg(long, env = "ROCKET_MODEL")]
    model: String,
    /// Snapshot topic; `MODEL.snapshots` unless given.
    #[arg(long)]
    topic: Option<String>,
    /// Trusted public keys, the trainer's `keys.trusted`; records that none of them has signed do not count.
    #[arg(long, env = "ROCKET_TRUSTED", value_name = "FILE")]
    trusted: Option<PathBuf>,
    /// Name of this server, its own among all: whether it takes part in a canary follows from it [default: the host's name].
    #[arg(long, env = "ROCKET_HOST")]
    host: Option<String>,
    /// Group of servers that it is pinned with: 1 to 32 of a to z, 0 to 9 and `-`.
    #[arg(long, env = "ROCKET_GROUP")]
    group: Option<Group>,
    /// Report which version it serves, for `rocketctl rollout status` and for canaries.
    #[arg(long)]
    report: bool,
    /// Topic of the reports; `MODEL.acks` unless given.
    #[arg(long, requires = "report")]
    acks_topic: Option<String>,
    /// Directory of the snapshots on disk, this scorer's own.
    #[arg(long, default_value = "scorer-cache")]
    cache: PathBuf,
    /// Snapshots kept there.
    #[arg(long, default_value_t = 3)]
    keep: usize,
    /// Prefix in an object store for what is too large for the topic, the trainer's `publish.claim_check`.
    #[arg(long, env = "ROCKET_CLAIM_CHECK", value_name = "URL", default_value = "")]
    claim_check: String,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Most candidates per request.
    #[arg(long, default_value_t = Limits::default().candidates_max)]
    candidates_max: usize,
    /// Log lines for people or for machines.
    #[arg(long, default_value = "human", value_parser = ["human", "json"])]
    log_format: String,
    /// Log filter, like "info" or "info,rocket_launching::serving=debug"; RUST_LOG wins.
    #[arg(long, default_value = "info")]
    log_filter: String,
    /// A further librdkafka setting; may be repeated. Others can read a command line: secrets belong into --properties.
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = property)]
    settings: Vec<(String, String)>,
    /// A file of librdkafka settings, KEY=VALUE a line, `#` before comments; -X wins.
    #[arg(long, env = "ROCKET_PROPERTIES", value_name = "FILE")]
    properties: Option<PathBuf>,
}

/// The settings of a file; of a line that is none only its number is told.
fn properties(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| property(line).map_err(|why| anyhow::anyhow!("{} line {number} is no setting: {why}", path.display())))
        .collect()
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it like security.protocol=ssl")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What Linux says the host is called.
fn host_name() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
}

/// What went wrong, and the exit code that says whose it is.
struct Failure(u8, anyhow::Error);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure(1, error)
    }
}

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    rocket_launching::failpoint::arm();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, error)) => {
            eprintln!("rocket-scorer: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let configuration = |error: anyhow::Error| Failure(CONFIGURATION, error);
    let format = if args.log_format == "json" { LogFormat::Json } else { LogFormat::Human };
    init_logs(&LogConfig { filter: args.log_filter, format }).map_err(|error| configuration(error.into()))?;
    let metrics = names::install().context("metrics")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("tokio runtime")?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(args.listen));
    let listener = listener.with_context(|| format!("--listen {}", args.listen)).map_err(configuration)?;
    let address = listener.local_addr().context("--listen")?;

    let given = args.properties.as_deref().map(properties).transpose().context("--properties").map_err(configuration)?;
    let properties = given.into_iter().flatten().chain(args.settings).collect();
    let kafka = KafkaConfig { brokers: args.brokers, properties, ..KafkaConfig::default() };
    let topic = args.topic.unwrap_or_else(|| format!("{}.snapshots", args.model));
    let trust = match &args.trusted {
        Some(path) => Trust::load(path).map_err(|error| configuration(anyhow::Error::from(error).context("--trusted")))?,
        None => {
            tracing::warn!(
                "records of the snapshot topic are not verified: whoever may write to it says what is served; give --trusted FILE"
            );
            Trust::default()
        }
    };
    let host = args.host.or_else(host_name).unwrap_or_default();
    let acks = args.acks_topic.unwrap_or_else(|| format!("{}.acks", args.model));
    let reports = args.report.then(|| {
        let kafka = kafka.clone();
        Reporting::new(move || Ok(Box::new(KafkaLogWriter::open(&kafka, &acks)?) as Box<dyn LogWriter>))
    });
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let objects = Objects::open(&args.claim_check, environment).context("--claim-check").map_err(configuration)?;
    let (group, keep) = (args.group, args.keep);
    let config = SubscriberConfig { trust, host, group, reports, keep, objects, ..SubscriberConfig::new(&args.model, args.cache) };
    let open_reader = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
    let subscriber = Subscriber::start(config, open_reader).map_err(|error| match error {
        SubscriberError::NoHost => configuration(anyhow::Error::from(error).context("--host")),
        SubscriberError::Cache(_) => configuration(anyhow::Error::from(error).context("--cache")),
        error => Failure(1, error.into()),
    })?;

    let subscriber = Arc::new(subscriber);
    let limits = Limits { candidates_max: args.candidates_max, ..Limits::default() };
    tracing::info!(address = %address, model = args.model, "scoring");
    let ended = runtime.block_on(async {
        let (stop, mut stopped) = watch::channel(());
        let server = serve(listener, Arc::clone(&subscriber), limits, metrics, async move {
            let _ = stopped.changed().await;
        });
        let server = tokio::spawn(server);
        let ended = wait(&subscriber).await;
        let _ = stop.send(());
        tracing::info!("answering what is in flight, then leaving");
        match tokio::time::timeout(DRAIN, server).await {
            Ok(served) => served.context("HTTP server")?.context("HTTP server")?,
            Err(_) => tracing::warn!("requests were still in flight after {DRAIN:?}"),
        }
        ended
    });
    runtime.shutdown_timeout(Duration::ZERO);
    drop(subscriber);
    ended
}

/// Until a signal says to leave, or the following thread has ended.
async fn wait(subscriber: &Subscriber) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = look.tick() => match subscriber.refusal() {
                Some(refusal) => return Err(Failure(CONFIGURATION, anyhow::anyhow!(refusal))),
                None if !subscriber.is_following() => return Err(Failure(1, SubscriberError::Panicked.into())),
                None => {}
            },
        }
    }
}
