//! `rocketd run`: the daemon, from its configuration to its exit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};

use super::failure::{Failure, panicked};
use super::rewind::{self, Live, Order};
use super::signals::Signals;
use super::{environment, gauges, outage, systemd};
use crate::checkpoint::CheckpointStore;
use crate::config::{self, Config, Heads};
use crate::pipeline::{Control, Parts, PipelineError, Running, State, Summary};
use crate::publish::{Publisher, ReportTopic, trainer_keys};
use crate::serving::Objects;
use crate::stream::{KafkaDeadLetters, KafkaLogReader, KafkaLogWriter, KafkaSource, Source};
use crate::telemetry::admin::{Answer, Handler, Request};
use crate::telemetry::{self, Health, admin, init_logs, names};

/// Directory, in that of the state, of the artifacts that deltas of snapshots are made from.
const SNAPSHOTS: &str = "snapshots";
/// Two: sockets and timers only; the work is done on the pipeline's own threads.
const IO_THREADS: usize = 2;
/// What is still running on a blocking thread after the pipeline has ended is only an answer to an operator.
const ABANDON: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, or until something fails.
///
/// # Errors
/// [`Failure`], with its exit code.
pub fn run(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    let config = config::load(path, environment)?;
    refuse_without_light(&config)?;
    if config.publish.enabled {
        // Before a broker is asked for anything: no broker mends it.
        trainer_keys(&config.keys)?;
    }
    init_logs(&config.log)?;
    let metrics = names::install().map_err(|e| Failure::Failed(e.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("starting the I/O threads: {e}")))?;
    let outcome = runtime.block_on(live(config, metrics));
    runtime.shutdown_timeout(ABANDON);
    outcome
}

/// The daemon publishes light nets: there has to be one, or it must not be asked to.
pub(super) fn refuse_without_light(config: &Config) -> Result<(), Failure> {
    if config.publish.enabled && config.train.heads == Heads::Booster {
        let why = "train.heads = \"booster\" trains no light head, the one that is published; set publish.enabled = false, or train.heads = \
                   \"both\" or \"light\"";
        return Err(Failure::Config(anyhow::Error::msg(why)));
    }
    Ok(())
}

/// Build, announce, spawn, wait for a reason to leave, drain.
async fn live(config: Config, metrics: PrometheusHandle) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|e| Failure::failed(format!("listening for signals: {e}")))?;
    let health = Health::new(config.admin.stall.0);
    let (leave, leaving) = watch::channel(false);
    serve_pages(&config, metrics, &health, leaving.clone()).await?;

    let Some(mut running) = build_when_it_can_be(&config, &mut signals, &health).await? else { return Ok(()) };

    let live = Live::new(running.control());
    // 1: one at a time.
    let (orders_in, mut orders) = mpsc::channel(1);
    let mut admin = serve_admin(&config, live.clone(), orders_in, leaving);
    tokio::spawn(gauges::keep(live.clone()));
    tokio::spawn(systemd::feed_watchdog(health.clone()));
    let (reason, control, pipeline) = loop {
        let control = running.control();
        live.set(Ok(control.clone()));
        let mut pipeline = tokio::task::spawn_blocking(move || running.join());
        health.ready(true);
        systemd::ready("recovered and reading");
        tracing::info!(model = config.name, device = config.train.device, admin = %config.admin_socket().display(), "reading");

        let order = tokio::select! {
            ended = &mut pipeline => return Err(ended_alone(ended)),
            refused = &mut admin => break (Err(admin_failure(refused)), control, pipeline),
            signal = signals.next() => break (Ok(signal), control, pipeline),
            // Its sender lives with the admin socket, whose end is noticed above.
            Some(order) = orders.recv() => order,
        };
        let what = format!("going back to checkpoint {}", order.checkpoint);
        tracing::warn!("{what}: draining, nothing is published");
        live.set(Err(format!("the daemon is {what}; ask again soon")));
        health.ready(false);
        health.waiting_for(Some(what));
        go_back(&config, order, drain(&control, pipeline, &mut signals, config.admin.shutdown_deadline.0)).await?;
        match build_when_it_can_be(&config, &mut signals, &health).await? {
            Some(next) => running = next,
            None => return Ok(()),
        }
    };
    systemd::stopping();
    health.ready(false);
    if let Ok(signal) = reason {
        tracing::info!(deadline_s = config.admin.shutdown_deadline.0.as_secs_f64(), "{signal}: draining");
    }
    let drained = drain(&control, pipeline, &mut signals, config.admin.shutdown_deadline.0).await;
    leave.send_replace(true);
    if reason.is_ok() {
        // The admin socket is removed by its server; what it still answers does not hold up the exit.
        let _late = tokio::time::timeout(ABANDON, admin).await;
    }
    reason?;
    let summary = drained?;
    tracing::info!(checkpoint = summary.status.checkpoint.map(|version| version.0), samples = summary.status.books.samples, "left");
    Ok(())
}

/// A pipeline, as soon as a broker answers. `None`: a signal came first.
async fn build_when_it_can_be(config: &Config, signals: &mut Signals, health: &Health) -> Result<Option<Running>, Failure> {
    let (config, own) = (config.clone(), health.clone());
    outage::build(signals, health, move || build(config.clone(), own.clone())).await
}

/// Once the pipeline has `drained`, makes the earlier checkpoint the newest commit, and tells who has asked. Where that cannot be, the state
/// stays as it was, and is gone on from.
async fn go_back(config: &Config, order: Order, drained: impl Future<Output = Result<Summary, Failure>>) -> Result<(), Failure> {
    if let Err(failure) = drained.await {
        // Who does not wait any more reads it in the log.
        let _gone = order.reply.send(Err(failure.to_string()));
        return Err(failure);
    }
    let (dir, keep) = (config.state.dir.clone(), config.checkpoint.keep);
    let restoring = tokio::task::spawn_blocking(move || {
        let restored = rewind::restore(&dir, keep, &order, jiff::Timestamp::now().as_millisecond());
        match &restored {
            Ok(number) => tracing::warn!(checkpoint = order.checkpoint, number, "went back; it is gone on from there"),
            Err(error) => tracing::error!(checkpoint = order.checkpoint, %error, "not gone back; it is gone on from where it was"),
        }
        let _gone = order.reply.send(restored.map_err(|error| error.to_string()));
    });
    restoring.await.map_err(panicked)
}

/// Everything that touches the broker and the disk before the first event. Blocking.
fn build(config: Config, health: Health) -> Result<Running, Failure> {
    // Before the lease: a second daemon started by mistake must not end the first one's publishing.
    CheckpointStore::refuse_if_in_use(&config.state.dir).map_err(PipelineError::from)?;
    let dead_letters = KafkaDeadLetters::open(&config)?;
    let publisher = if config.publish.enabled { Some(open_publisher(&config)?) } else { None };
    let opened = config.clone();
    let parts = Parts {
        config,
        state: State::Durable,
        source: Box::new(move |positions| Ok(Box::new(KafkaSource::open(&opened, positions)?) as Box<dyn Source>)),
        dead_letters: Box::new(dead_letters),
        publisher,
        health,
        finish_at_end: false,
    };
    Ok(Running::start(parts)?)
}

/// Takes the publisher's lease on the snapshot topic.
pub(super) fn open_publisher(config: &Config) -> Result<Publisher, Failure> {
    if config.keys.trusted.as_os_str().is_empty() {
        tracing::warn!("records of the snapshot topic are not verified: whoever may write to it says what is served; set keys.trusted");
    }
    let topic = config.snapshots_topic();
    let reader = KafkaLogReader::open(&config.kafka, &topic)?;
    let writer = KafkaLogWriter::open(&config.kafka, &topic)?;
    let publisher = Publisher::open(config, &instance(), Box::new(reader), Box::new(writer))?;
    let objects = Objects::open(&config.publish.claim_check, environment())?;
    let publisher = publisher.keeping_bases(&config.state.dir.join(SNAPSHOTS)).storing_objects(objects);
    if config.publish.canary.share == 0.0 {
        return Ok(publisher);
    }
    let reader = KafkaLogReader::open(&config.kafka, &config.acks_topic())?;
    Ok(publisher.hearing(ReportTopic::new(&config.name, Box::new(reader))))
}

/// Host, process and start time: what the lease names this publisher by.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}/{}/{}", if host.is_empty() { "localhost" } else { host }, std::process::id(), jiff::Timestamp::now())
}

async fn serve_pages(config: &Config, metrics: PrometheusHandle, health: &Health, leaving: watch::Receiver<bool>) -> Result<(), Failure> {
    let address = &config.admin.http;
    if address.is_empty() {
        return Ok(());
    }
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Failure::failed(format!("admin.http = \"{address}\": {e}; free the port, or set another address, or \"\" for none"))
    })?;
    let health = health.clone();
    tokio::spawn(async move {
        if let Err(e) = telemetry::http::serve(listener, metrics, health, left(leaving)).await {
            tracing::error!("serving /metrics, /livez and /readyz: {e}");
        }
    });
    Ok(())
}

fn serve_admin(
    config: &Config,
    live: Live,
    orders: mpsc::Sender<Order>,
    leaving: watch::Receiver<bool>,
) -> JoinHandle<Result<(), admin::AdminError>> {
    let (socket, dir) = (config.admin_socket(), config.state.dir.clone());
    let handler: Handler = Arc::new(move |request| answer(&live, &dir, &orders, request).unwrap_or_else(Answer::Error));
    tokio::spawn(async move { admin::serve(&socket, handler, left(leaving)).await })
}

fn answer(live: &Live, dir: &Path, orders: &mpsc::Sender<Order>, request: Request) -> Result<Answer, String> {
    let control = live.control()?;
    let value = match request {
        Request::Rewind { checkpoint, quarantine } => serde_json::to_value(rewind::ask(dir, orders, checkpoint, quarantine)?),
        Request::Status => serde_json::to_value(control.status()),
        Request::SnapshotNow => serde_json::to_value(control.snapshot_now()?),
        Request::Gauc { top } => {
            let top_users = control.top_users(top)?;
            Ok(serde_json::json!({ "report": control.status().report, "top_users": top_users }))
        }
    };
    value.map(Answer::Ok).map_err(|e| e.to_string())
}

/// Resolves when the daemon leaves.
async fn left(mut leaving: watch::Receiver<bool>) {
    // The sender lives as long as the daemon: an error means the same.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// Stops reading and waits for the last checkpoint, no longer than `deadline`; a second signal ends the wait.
async fn drain(
    control: &Control,
    pipeline: JoinHandle<Result<Summary, PipelineError>>,
    signals: &mut Signals,
    deadline: Duration,
) -> Result<Summary, Failure> {
    let control = control.clone();
    let draining = async {
        tokio::task::spawn_blocking(move || control.stop()).await.map_err(panicked)?;
        Ok(pipeline.await.map_err(panicked)??)
    };
    let kept = "nothing is lost: the next start goes on from the last committed checkpoint";
    tokio::select! {
        drained = tokio::time::timeout(deadline, draining) => drained.unwrap_or_else(|_| {
            Err(Failure::failed(format!("not drained within admin.shutdown_deadline ({} s); {kept}", deadline.as_secs_f64())))
        }),
        signal = signals.next() => Err(Failure::failed(format!("a second {signal} while draining; {kept}"))),
    }
}

fn ended_alone(ended: Result<Result<Summary, PipelineError>, JoinError>) -> Failure {
    match ended {
        Ok(Ok(_)) => Failure::failed("the pipeline ended without being asked to"),
        Ok(Err(error)) => error.into(),
        Err(error) => panicked(error),
    }
}

fn admin_failure(ended: Result<Result<(), admin::AdminError>, JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::failed("the admin socket ended without being asked to"),
        Ok(Err(error)) => Failure::Failed(error.into()),
        Err(error) => panicked(error),
    }
}
