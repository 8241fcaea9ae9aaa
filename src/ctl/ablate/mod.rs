//! `rocketctl ablate`: the arms of the learning rule, one after the other over the same rows in the same order.

mod arms;
mod charts;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use crate::daemon::Failure;
use crate::evaluate::Report;

use super::context::Context;
use super::progress::Progress;
use super::{backtest, one_pass, output};
use report::{Ablation, ArmReport, Run};

/// Seeds unless said otherwise: the fewest that have a standard error worth the name.
const SEEDS: u64 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct AblateArgs {
    /// TSV, CSV or JSONL; .gz too.
    file: PathBuf,
    /// Which arms, separated by commas; all unless given.
    #[arg(long, value_name = "ARMS", value_delimiter = ',', value_parser = arms::names())]
    arms: Vec<String>,
    /// Light nets of other shapes to train alone and by rocket: hidden widths joined by `-`, shapes separated by commas, e.g. 64-32,16.
    #[arg(long, value_name = "SHAPES", value_delimiter = ',', value_parser = arms::shape)]
    sweep: Vec<arms::Shape>,
    /// Initial weights to train each arm from, counted up from train.seed.
    #[arg(long, default_value_t = SEEDS, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Measure only impressions from this time on; training covers all. RFC 3339, e.g. 2022-04-27T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = backtest::rfc3339)]
    eval_from: Option<String>,
    /// Rows that train the booster alone, in the arms where it comes first (measure later rows only, by --eval-from); in `rocket_kd`, rows
    /// after which the booster becomes the teacher, again and again.
    #[arg(long, value_name = "ROWS", default_value_t = arms::BOOSTER_FIRST)]
    booster_first: u64,
    /// Directory for ablation.json and the charts; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(context: &Context, arguments: AblateArgs) -> Result<(), Failure> {
    let mut base = context.config.clone();
    base.evaluate.from = arguments.eval_from.or(base.evaluate.from);
    let arms = arms::select(&base, &arguments.arms, &arguments.sweep, arguments.booster_first);
    let failed = |e: std::io::Error| Failure::failed(format!("--out {}: {e}", arguments.out.display()));
    std::fs::create_dir_all(&arguments.out).map_err(failed)?;

    let runs = arms.len() as u64 * arguments.seeds;
    let mut reports = Vec::new();
    for (number, arm) in (0u64..).zip(&arms) {
        let mut report = ArmReport::new(arm);
        for seed in 0..arguments.seeds {
            let done = number * arguments.seeds + seed;
            let progress = Progress::new(format!("{}/{runs} {}", done + 1, arm.name), true);
            let mut config = arm.config.clone();
            config.train.seed = config.train.seed.wrapping_add(seed);
            let (seed, started) = (config.train.seed, Instant::now());
            let (summary, letters) = one_pass::run(config, &arguments.file, progress)?;
            if done == 0 {
                // The others read the same rows.
                one_pass::say_unusable(&letters);
            }
            let status = summary.status;
            report.multiplications = status.multiplications;
            let Report { rows, heads, .. } = status.report;
            report.runs.push(Run { seed, seconds: started.elapsed().as_secs_f64(), rows, heads });
        }
        reports.push(report);
    }
    let ablation = Ablation::new(&arguments.file, base.evaluate.from, reports);
    let json = serde_json::to_string_pretty(&ablation)? + "\n";
    std::fs::write(arguments.out.join("ablation.json"), json).map_err(failed)?;
    charts::draw(&arguments.out, &ablation).map_err(|why| Failure::failed(format!("--out {}: {why}", arguments.out.display())))?;
    output::print(context.format, &ablation)
}
