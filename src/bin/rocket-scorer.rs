//! Reference ad server: scoring over HTTP and gRPC with the subscriber library.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use rocket_launching::config::{KafkaConfig, LogConfig, LogFormat};
use rocket_launching::keys::Trust;
use rocket_launching::serving::service::{Limits, Models, Service};
use rocket_launching::serving::{CANDIDATE_CACHE_BYTES, Objects, Reporting, Subscriber, SubscriberConfig, SubscriberError, grpc, http};
use rocket_launching::stream::{KafkaLogReader, KafkaLogWriter, LogReader, LogWriter};
use rocket_launching::telemetry::{init_logs, names};
use rocket_launching::wire::snapshot::Group;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit codes, as sysexits.h names them: EX_USAGE and EX_CONFIG.
const USAGE: u8 = 64;
const CONFIGURATION: u8 = 78;
/// Requests in flight at SIGTERM are answered within this; a load balancer has long looked elsewhere by then.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the following thread is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Scores candidates over HTTP and gRPC with the light nets of snapshot topics, always the version that the topic says.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Kafka brokers: host:port, comma-separated.
    #[arg(long, env = "ROCKET_BROKERS", default_value = "127.0.0.1:9092")]
    brokers: String,
    /// Name of the model: the trainer's config `name`. May be repeated, or separated by commas; the first is meant where a request names
    /// none. Each may have a directory for its snapshots; unless given, it is --cache, or of several models a directory each below it.
    #[arg(long = "model", env = "ROCKET_MODEL", value_name = "NAME[=DIR]", value_delimiter = ',', required = true, value_parser = followed)]
    models: Vec<Followed>,
    /// Snapshot topic of the one model; `MODEL.snapshots` unless given.
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
    /// Columns that requests bear, separated by commas: a version that reads others is refused, and the one before is served on. Any, unless
    /// given.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Directory of the snapshots on disk, this scorer's own.
    #[arg(long, default_value = "scorer-cache")]
    cache: PathBuf,
    /// Snapshots kept there.
    #[arg(long, default_value_t = 3)]
    keep: usize,
    /// Mebibytes in which each model remembers candidates that it has scored, a kilobyte or so each; 0: it remembers none.
    #[arg(long, value_name = "MIB", default_value_t = CANDIDATE_CACHE_BYTES >> 20)]
    candidate_cache: usize,
    /// Score in 8 bits where that moves no probe's logit by more than this; in floats otherwise, and unless given. Takes AVX2 to be faster.
    #[arg(long, value_name = "LOGIT")]
    eight_bits: Option<f32>,
    /// Prefix in an object store for what is too large for the topic, the trainer's `publish.claim_check`.
    #[arg(long, env = "ROCKET_CLAIM_CHECK", value_name = "URL", default_value = "")]
    claim_check: String,
    /// Address to listen on for HTTP.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address to listen on for gRPC (HTTP/2 without TLS); none unless given.
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Most candidates per request, those of a whole batch taken together.
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

/// A model to follow, and where its snapshots lie.
#[derive(Debug, Clone)]
struct Followed {
    name: String,
    cache: Option<PathBuf>,
}

fn followed(text: &str) -> Result<Followed, String> {
    let (name, cache) = text.split_once('=').map_or((text, None), |(name, dir)| (name, Some(dir)));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Err("a model's name is of letters, digits, `_` and `-`; write it like ctr or ctr=/var/lib/rocket-scorer/ctr".to_owned());
    }
    Ok(Followed { name: name.to_owned(), cache: cache.filter(|dir| !dir.is_empty()).map(PathBuf::from) })
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

fn configuration(error: impl Into<anyhow::Error>) -> Failure {
    Failure(CONFIGURATION, error.into())
}

fn run(args: Args) -> Result<(), Failure> {
    let format = if args.log_format == "json" { LogFormat::Json } else { LogFormat::Human };
    init_logs(&LogConfig { filter: args.log_filter.clone(), format }).map_err(configuration)?;
    let metrics = names::install().context("metrics")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("tokio runtime")?;
    let (listener, address) = listen(&runtime, "--listen", args.listen)?;
    let grpc = args.grpc_listen.map(|address| listen(&runtime, "--grpc-listen", address)).transpose()?;
    let models = follow(&args)?;

    let limits = Limits { candidates_max: args.candidates_max, ..Limits::default() };
    let service = Service::new(models.clone(), limits);
    let names: Vec<&str> = models.iter().map(|subscriber| subscriber.name()).collect();
    let grpc_address = grpc.as_ref().map(|(_, address)| address.to_string());
    tracing::info!(address = %address, grpc = grpc_address, model = names.join(","), "scoring");
    let ended = runtime.block_on(async {
        let (stop, stopped) = watch::channel(());
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                let _ = stopped.changed().await;
            }
        };
        let mut servers = JoinSet::new();
        servers.spawn(http::serve(listener, service.clone(), metrics, until()));
        if let Some((listener, _)) = grpc {
            servers.spawn(grpc::serve(listener, service, until()));
        }
        let ended = wait(&models).await;
        let _ = stop.send(());
        tracing::info!("answering what is in flight, then leaving");
        match tokio::time::timeout(DRAIN, servers.join_all()).await {
            Ok(served) => served.into_iter().collect::<std::io::Result<()>>().context("server")?,
            Err(_) => tracing::warn!("requests were still in flight after {DRAIN:?}"),
        }
        ended
    });
    runtime.shutdown_timeout(Duration::ZERO);
    drop(models);
    ended
}

fn listen(runtime: &Runtime, option: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = runtime.block_on(TcpListener::bind(address)).with_context(|| format!("{option} {address}")).map_err(configuration)?;
    let bound = listener.local_addr().context("the address listened on")?;
    Ok((listener, bound))
}

/// Starts to follow every model.
fn follow(args: &Args) -> Result<Models, Failure> {
    let several = args.models.len() > 1;
    if several && args.topic.is_some() {
        return Err(Failure(USAGE, anyhow::anyhow!("--topic is one model's; of several models each follows NAME.snapshots")));
    }
    let given = args.properties.as_deref().map(properties).transpose().context("--properties").map_err(configuration)?;
    let properties = given.into_iter().flatten().chain(args.settings.iter().cloned()).collect();
    let kafka = KafkaConfig { brokers: args.brokers.clone(), properties, ..KafkaConfig::default() };
    let trust = match &args.trusted {
        Some(path) => Trust::load(path).map_err(|error| configuration(anyhow::Error::from(error).context("--trusted")))?,
        None => {
            tracing::warn!(
                "records of the snapshot topic are not verified: whoever may write to it says what is served; give --trusted FILE"
            );
            Trust::default()
        }
    };
    let host = args.host.clone().or_else(host_name).unwrap_or_default();
    let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let objects = Objects::open(&args.claim_check, environment).context("--claim-check").map_err(configuration)?;
    let mut subscribers = Vec::new();
    for Followed { name, cache } in &args.models {
        let below = || if several { args.cache.join(name) } else { args.cache.clone() };
        let reports = args.report.then(|| {
            let (kafka, acks) = (kafka.clone(), args.acks_topic.clone().unwrap_or_else(|| format!("{name}.acks")));
            Reporting::new(move || Ok(Box::new(KafkaLogWriter::open(&kafka, &acks)?) as Box<dyn LogWriter>))
        });
        let config = SubscriberConfig {
            trust: trust.clone(),
            host: host.clone(),
            group: args.group.clone(),
            columns: (!args.columns.is_empty()).then(|| args.columns.iter().cloned().collect()),
            reports,
            keep: args.keep,
            eight_bits: args.eight_bits,
            candidate_cache_bytes: args.candidate_cache.saturating_mul(1 << 20),
            objects: objects.clone(),
            ..SubscriberConfig::new(name, cache.clone().unwrap_or_else(below))
        };
        let (kafka, topic) = (kafka.clone(), args.topic.clone().unwrap_or_else(|| format!("{name}.snapshots")));
        let open_reader = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
        let subscriber = Subscriber::start(config, open_reader).map_err(|error| match error {
            SubscriberError::NoHost => configuration(anyhow::Error::from(error).context("--host")),
            SubscriberError::Cache(_) => configuration(anyhow::Error::from(error).context("--cache")),
            error => Failure(1, error.into()),
        })?;
        subscribers.push(Arc::new(subscriber));
    }
    Models::new(subscribers).map_err(|error| Failure(USAGE, error.into()))
}

/// Until a signal says to leave, or a following thread has ended.
async fn wait(models: &Models) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = look.tick() => models.iter().try_for_each(|subscriber| look_at(subscriber))?,
        }
    }
}

fn look_at(subscriber: &Subscriber) -> Result<(), Failure> {
    match subscriber.refusal() {
        Some(refusal) => Err(configuration(anyhow::anyhow!(refusal))),
        None if !subscriber.is_following() => Err(Failure(1, SubscriberError::Panicked.into())),
        None => Ok(()),
    }
}
