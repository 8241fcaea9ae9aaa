//! `rocketctl bench`: the program's own speed on this machine. It needs no configuration: what is measured is [`crate::bench`]'s own.

use super::output::{self, Format, View, pairs};
use crate::bench::{TrainBench, TrainFigures, Workload};
use crate::config::TrainConfig;
use crate::daemon::Failure;

/// Rows of a batch and samples measured, unless told otherwise.
const BATCH: u32 = 2048;
const SAMPLES: u32 = 80_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    /// Training: hashing, lookup, one step of both nets and their tables, GAUC.
    Train(TrainArgs),
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

pub(super) fn run(format: Format, command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Train(arguments) => output::print(format, &train(arguments)?),
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
