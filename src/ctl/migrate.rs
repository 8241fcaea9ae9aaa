//! `rocketctl migrate`.

use super::context::Context;
use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {}

pub(super) fn run(_context: &Context, _arguments: MigrateArgs) -> Result<(), Failure> {
    Ok(())
}
