//! rocketctl, the operator's tool: one file per command.
//!
//! Results go to standard output, as a table or (`-o json`) as one JSON object whose fields only ever grow; everything else goes to
//! standard error. No output is coloured, so there is nothing for `NO_COLOR` to switch off.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the last line of standard error says what, where and the way out |
//! | 64 | usage: the command line cannot be |
//! | 78 | configuration |

mod ablate;
mod act;
mod arguments;
mod backtest;
mod bench;
mod checkpoint;
mod consent;
mod context;
mod dlq;
mod export;
mod gauc;
mod history;
mod keys;
mod metrics_table;
mod migrate;
mod offsets;
mod one_pass;
mod output;
mod progress;
mod replay;
mod rewind;
mod rollout;
mod snapshot;
mod status;
mod store;
mod topics;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::daemon::{Failure, exit_code};
use arguments::{Arguments, Command};
use context::Context;

/// Parses the command line and does what it says. `environment` holds configuration overrides (`ROCKET__…`) and who the operator is.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: impl IntoIterator<Item = (String, String)>) -> ExitCode {
    let outcome = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => dispatch(arguments, environment.into_iter().collect()),
        Err(message) => {
            // Help and version come as errors too, with exit code 0 and standard output; nothing is left to do if that is closed.
            let _ = message.print();
            return if message.use_stderr() { ExitCode::from(crate::daemon::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    exit_code("rocketctl", outcome)
}

fn dispatch(arguments: Arguments, environment: Vec<(String, String)>) -> Result<(), Failure> {
    if arguments.global.config.is_none() {
        match &arguments.command {
            // Where keys are made there is often no configuration yet.
            Command::Keys(command) => return keys::run(None, arguments.global.output, command),
            Command::Bench(command) => return bench::run(arguments.global.output, command),
            _ => {}
        }
    }
    let context = Context::new(arguments.global, environment)?;
    match arguments.command {
        Command::Status => status::run(&context),
        Command::Snapshot(command) => snapshot::run(&context, command),
        Command::Rollback(arguments) => act::rollback(&context, arguments),
        Command::Promote(arguments) => act::promote(&context, arguments),
        Command::Pin(arguments) => act::pin(&context, arguments),
        Command::Unpin(arguments) => act::unpin(&context, arguments),
        Command::Rollout(command) => rollout::run(&context, command),
        Command::History(arguments) => history::run(&context, arguments),
        Command::Checkpoint(command) => checkpoint::run(&context, command),
        Command::Gauc(arguments) => gauc::run(&context, arguments),
        Command::Dlq(command) => dlq::run(&context, command),
        Command::Offsets(command) => offsets::run(&context, command),
        Command::Topics(command) => topics::run(&context, command),
        Command::Keys(command) => keys::run(Some(&context), context.format, &command),
        Command::Replay(arguments) => replay::run(&context, arguments),
        Command::Backtest(arguments) => backtest::run(&context, arguments),
        Command::Ablate(arguments) => ablate::run(&context, arguments),
        Command::Bench(command) => bench::run(context.format, &command),
        Command::Store(command) => store::run(&context, command),
        Command::Migrate(arguments) => migrate::run(&context, arguments),
    }
}
