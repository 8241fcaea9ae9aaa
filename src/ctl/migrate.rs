//! `rocketctl migrate --dry-run`: what the daemon will do to its store when it starts.

use serde::Serialize;

use super::context::Context;
use super::output::{self, View};
use crate::daemon::Failure;
use crate::pipeline::USERS_STORE;
use crate::store::pending_migrations;

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// List the pending steps and change nothing. Needed: it is the daemon that runs them, when it starts.
    #[arg(long, required = true)]
    dry_run: bool,
}

/// JSON of `migrate --dry-run`.
#[derive(Debug, Serialize)]
struct Pending {
    /// Directory of the per-user store.
    store: String,
    /// Steps, in their order.
    pending: Vec<String>,
}

pub(super) fn run(context: &Context, _arguments: MigrateArgs) -> Result<(), Failure> {
    let store = context.config.state.dir.join(USERS_STORE);
    let pending = pending_migrations(&store)?;
    output::print(context.format, &Pending { store: store.display().to_string(), pending })
}

impl View for Pending {
    fn text(&self) -> String {
        match self.pending.as_slice() {
            [] => format!("{} needs no migration", self.store),
            steps => format!("{}: the daemon will run {} at its next start", self.store, steps.join(", ")),
        }
    }
}
