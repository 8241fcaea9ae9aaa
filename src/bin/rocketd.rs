//! The daemon: learns from clicks as they happen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rocket_launching::daemon::{self, Failure, demo};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Learns from ad clicks as they happen, and publishes the small net that ad servers score with.
#[derive(Parser)]
#[command(name = "rocketd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM.
    Run {
        /// TOML file; `config/production.toml` lists every key.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Would it start? Touches neither state nor topics.
    Check {
        /// TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Ask the broker for its topics too.
        #[arg(long)]
        online: bool,
    },
    /// The whole system in one process: events, training, snapshots, a scorer under load, a rollback.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    rocket_launching::failpoint::arm();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version come this way too; nothing is left to do when the terminal is gone.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { daemon::USAGE } else { 0 });
        }
    };
    daemon::exit_code("rocketd", dispatch(arguments.command))
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { config } => daemon::run(&config, daemon::environment()),
        Command::Check { config, online } => daemon::check(&config, online, daemon::environment(), &mut std::io::stdout()),
        Command::Demo(options) => demo::demo(&options, daemon::environment()),
    }
}
