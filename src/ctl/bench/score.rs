//! `rocketctl bench score`.

use std::path::PathBuf;

use serde::Serialize;

use crate::bench::{Phase, Quantiles, ScoreBench, ScoreFigures, ServiceBench, ServiceFigures, Shape};
use crate::ctl::output::{View, pairs};
use crate::daemon::Failure;

#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct ScoreArgs {
    /// The net and its features: `workload` is 392-128-64-1, `published` 576-200-80-1; both unless given.
    #[arg(long, value_parser = Shape::ALL.map(|shape| shape.name))]
    shape: Option<String>,
    /// Candidates of a request.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,
    /// Requests measured.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Candidates that there are, of which each request has some: most of them have been scored before; 0: none has.
    #[arg(long, default_value_t = 10_000)]
    catalogue: u32,
    /// Score in 8 bits, if that moves no probe's logit by more than this. Of the load of --rate, nothing is.
    #[arg(long, value_name = "LOGIT")]
    eight_bits: Option<f32>,
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

/// Of every shape.
#[derive(Debug, Serialize)]
pub(super) struct Scored {
    shapes: Vec<ScoreFigures>,
    /// Under load, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceFigures>,
}

pub(super) fn score(arguments: &ScoreArgs) -> Result<Scored, Failure> {
    let &ScoreArgs { ref shape, candidates, requests, catalogue, eight_bits, rows, rate, seconds, ref export } = arguments;
    let wanted = Shape::ALL.into_iter().filter(|known| shape.as_ref().is_none_or(|shape| shape == known.name));
    let mut scored = Scored { shapes: Vec::new(), services: Vec::new() };
    for shape in wanted {
        let score = ScoreBench {
            shape,
            rows: rows as usize,
            candidates: candidates as usize,
            requests: requests as usize,
            catalogue: (catalogue > 0).then_some(catalogue as usize),
            eight_bits,
        };
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
        ("requests", format!("{} of {} candidates, {}", figures.requests, figures.candidates, catalogue(figures.catalogue))),
        (
            "net",
            figures.eight_bits_error.map_or("in floats".to_owned(), |error| format!("in 8 bits, a probe's logit moves by up to {error}")),
        ),
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
        (
            "load",
            format!(
                "{} requests/s of {} candidates, {}, {}",
                figures.rate_per_s,
                figures.candidates,
                catalogue(figures.catalogue),
                figures.shape
            ),
        ),
        ("library ms", phase(&figures.library)),
        ("... swapping", phase(&figures.library_swapping)),
        ("http ms", phase(&figures.http)),
        ("... swapping", phase(&figures.http_swapping)),
        ("swaps in a row", phase(&swaps.load)),
        ("resident MiB", format!("{one:.1} after 1 swap, {fifty:.1} after 50, {hundred:.1} after 100")),
        ("... at most", format!("{:.1}, {:.2} models of {:.1}", swaps.peak_mib, swaps.peak_models, swaps.artifact_mib)),
    ])
}

fn catalogue(catalogue: Option<usize>) -> String {
    catalogue.map_or("each a new one".to_owned(), |catalogue| format!("out of {catalogue}"))
}

fn quantiles(spent: &Quantiles) -> String {
    format!("p50 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3}", spent.p50, spent.p99, spent.p999, spent.max)
}
