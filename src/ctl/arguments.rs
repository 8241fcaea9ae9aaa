//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::output::Format;
use super::{
    ablate, act, backtest, bench, checkpoint, dlq, gauc, history, keys, migrate, offsets, replay, rollout, snapshot, store, topics,
};

/// Looks at and steers a Rocket Launching trainer and its snapshots.
#[derive(Debug, Parser)]
#[command(name = "rocketctl", version, about)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct GlobalArgs {
    /// The daemon's configuration file: it names the broker, the topics and the admin socket.
    #[arg(long, global = true, value_name = "FILE", env = "ROCKET_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    /// Who acts, for the audit log [default: USER@HOST].
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) actor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// One look at the running daemon.
    Status,
    /// What is on the snapshot topic.
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Serve an earlier version again, pinned so that the trainer does not promote over it.
    Rollback(act::RollbackArgs),
    /// Make a later version current by hand: one that a gate held back, or ahead of a canary's time.
    Promote(act::PromoteArgs),
    /// Hold every server, or those of a group, at a version.
    Pin(act::PinArgs),
    /// Lift the pin: servers follow the trainer again.
    Unpin(act::UnpinArgs),
    /// How far the servers are.
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Who made what current, when and why.
    History(history::HistoryArgs),
    /// What the daemon committed.
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Metrics of the running daemon, and the users that weigh most in GAUC.
    Gauc(gauc::GaucArgs),
    /// Events that could not be used.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Where reading of the event topics goes on.
    #[command(subcommand)]
    Offsets(offsets::OffsetsCommand),
    /// The topics of the configuration.
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Keys that sign what is on the snapshot topic.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Send a file (TSV, CSV, JSONL; .gz too) into the event topics.
    Replay(replay::ReplayArgs),
    /// One pass over a file through the daemon's pipeline, without a broker: predict, then train.
    Backtest(backtest::BacktestArgs),
    /// The arms of the learning rule on the same rows in the same order: what each part of it is worth.
    Ablate(ablate::AblateArgs),
    /// The program's own speed on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// The users of the state directory, in a file; the daemon must not be running.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Bring the store of the state directory to this program's format.
    Migrate(migrate::MigrateArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
