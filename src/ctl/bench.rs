//! `rocketctl bench`: the program's own speed on this machine. It needs no configuration: what is measured is [`crate::bench`]'s own.

use std::path::PathBuf;

use serde::Serialize;

use super::output::{self, Format, View, pairs};
use crate::bench::{Phase, Quantiles, ScoreBench, ScoreFigures, ServiceBench, ServiceFigures, Shape, TrainBench, TrainFigures, Workload};
use crate::config::TrainConfig;
use crate::daemon::Failure;

/// Rows of a batch and samples measured, unless told otherwise.
const BATCH: u32 = 2048;
const SAMPLES: u32 = 80_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    /// Training: hashing, lookup, one step of both nets and their tables, GAUC.
    Train(TrainArgs),
    /// Scoring through the library: one user and many candidates a request, on one thread.
    Score(ScoreArgs),
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
}

#[derive(Debug, clap::Args)]
pub(super) struct ScoreArgs {
    /// The net and its features: `light` is 392-128-64-1, `published` 576-200-80-1; both unless given.
    #[arg(long, value_parser = Shape::ALL.map(|shape| shape.name))]
    shape: Option<String>,
    /// Candidates of a request.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,
    /// Requests measured.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Rows in the embedding tables.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(100..))]
    rows: u32,
    /// Then also under a constant load of so many requests per second, through the library and over HTTP, with and without swaps.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seconds of each such load.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Also write the model, a request and our answer into this directory, for other programs to do the same.
    #[arg(long, value_name = "DIR", requires = "shape")]
    export: Option<PathBuf>,
}

pub(super) fn run(format: Format, command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Train(arguments) => output::print(format, &train(arguments)?),
        BenchCommand::Score(arguments) => output::print(format, &score(arguments)?),
    }
}

fn train(arguments: &TrainArgs) -> Result<TrainFigures, Failure> {
    let &TrainArgs { batch, threads, ref device, samples, rows, users } = arguments;
    let workload = Workload { rows: rows as usize, users: users as usize, ..Workload::default() };
    let train = TrainConfig { device: device.clone(), threads, ..TrainConfig::default() };
    Ok(TrainBench { workload, batch: batch as usize, samples: samples as usize, train }.run()?)
}

impl View for TrainFigures {
    fn text(&self) -> String {
        let of = |seconds: f64| format!("{seconds:.2} s, {:.1} %", 100.0 * seconds / self.seconds);
        pairs([
            ("samples/s", format!("{:.0}", self.samples_per_s)),
            ("samples", format!("{} in batches of {}", self.samples, self.batch)),
            ("table rows", self.table_rows.to_string()),
            ("device", format!("{}, {} threads", self.device, self.threads)),
            ("seconds", format!("{:.2}", self.seconds)),
            ("steps", format!("{}; median {:.2} ms", of(self.step_seconds), self.step_p50_ms)),
            ("hashing", of(self.hash_seconds)),
            ("gauc", of(self.gauc_seconds)),
        ])
    }
}

/// Of every shape.
#[derive(Debug, Serialize)]
struct Scored {
    shapes: Vec<ScoreFigures>,
    /// Under load, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceFigures>,
}

fn score(arguments: &ScoreArgs) -> Result<Scored, Failure> {
    let &ScoreArgs { ref shape, candidates, requests, rows, rate, seconds, ref export } = arguments;
    let wanted = Shape::ALL.into_iter().filter(|known| shape.as_ref().is_none_or(|shape| shape == known.name));
    let mut scored = Scored { shapes: Vec::new(), services: Vec::new() };
    for shape in wanted {
        let score = ScoreBench { shape, rows: rows as usize, candidates: candidates as usize, requests: requests as usize };
        export.as_ref().map_or(Ok(()), |dir| score.export(dir))?;
        scored.shapes.push(score.run()?);
        if let Some(rate_per_s) = rate {
            scored.services.push(ServiceBench { score, rate_per_s, seconds }.run()?);
        }
    }
    Ok(scored)
}

impl View for Scored {
    fn text(&self) -> String {
        let shapes = self.shapes.iter().map(shape_text);
        shapes.chain(self.services.iter().map(service_text)).collect::<Vec<_>>().join("\n\n")
    }
}

fn shape_text(figures: &ScoreFigures) -> String {
    pairs([
        ("shape", format!("{}, {} inputs, {} rows", figures.shape, figures.inputs, figures.rows)),
        ("requests", format!("{} of {} candidates", figures.requests, figures.candidates)),
        ("request ms", quantiles(&figures.request_ms)),
        ("features ms", quantiles(&figures.features_ms)),
        ("look-up ms", quantiles(&figures.look_up_ms)),
        ("net ms", quantiles(&figures.net_ms)),
    ])
}

fn service_text(figures: &ServiceFigures) -> String {
    let phase = |phase: &Phase| {
        let Phase { requests, failed, swaps, latency_ms } = phase;
        format!("{}; {requests} requests, {failed} failed, {swaps} swaps", quantiles(latency_ms))
    };
    let swaps = &figures.swaps;
    let [one, fifty, hundred] = swaps.after_mib;
    pairs([
        ("load", format!("{} requests/s of {} candidates, {}", figures.rate_per_s, figures.candidates, figures.shape)),
        ("library ms", phase(&figures.library)),
        ("... swapping", phase(&figures.library_swapping)),
        ("http ms", phase(&figures.http)),
        ("... swapping", phase(&figures.http_swapping)),
        ("swaps in a row", phase(&swaps.load)),
        ("resident MiB", format!("{one:.1} after 1 swap, {fifty:.1} after 50, {hundred:.1} after 100")),
        ("... at most", format!("{:.1}, {:.2} models of {:.1}", swaps.peak_mib, swaps.peak_models, swaps.artifact_mib)),
    ])
}

fn quantiles(spent: &Quantiles) -> String {
    format!("p50 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}", spent.p50, spent.p99, spent.p999, spent.max)
}
