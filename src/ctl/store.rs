//! `rocketctl store export` and `store import`: the users that GAUC is made of, in a file.

use std::path::PathBuf;

use serde::Serialize;

use super::consent::{ConsentArgs, Decision};
use super::context::Context;
use super::output::{self, View, maybe, pairs};
use crate::checkpoint::CheckpointStore;
use crate::daemon::Failure;
use crate::pipeline::{PipelineError, USERS_STORE};
use crate::store::{Export, SledUsers, set_aside};

#[derive(Debug, clap::Subcommand)]
pub(super) enum StoreCommand {
    /// Write every user, as of the last commit, to a file.
    Export(ExportArgs),
    /// Replace the store by a file of exported users; the old one is moved aside. The daemon then goes on from the file's checkpoint.
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Where to; an existing file is replaced once the new one is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// What `store export`, or the daemon itself (`exports/` of the state directory), has written.
    file: PathBuf,
    #[command(flatten)]
    consent: ConsentArgs,
}

/// JSON of `store export`.
#[derive(Debug, Serialize)]
struct Exported {
    /// File.
    file: String,
    /// As of which checkpoint.
    checkpoint: u64,
    /// Users in it.
    users: u64,
    /// Its length.
    bytes: u64,
}

/// JSON of `store import`.
#[derive(Debug, Serialize)]
struct Imported {
    /// File.
    file: String,
    /// Checkpoint that the daemon goes on from.
    checkpoint: u64,
    /// Checkpoint that it would have gone on from; the events between are read again.
    newest: u64,
    /// Users in the file.
    users: u64,
    /// Where the old store lies now.
    aside: Option<String>,
    /// Nothing was changed.
    dry_run: bool,
}

pub(super) fn run(context: &Context, command: StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Export(arguments) => export(context, arguments),
        StoreCommand::Import(arguments) => import(context, arguments),
    }
}

fn export(context: &Context, ExportArgs { out }: ExportArgs) -> Result<(), Failure> {
    let config = &context.config;
    let store = open(context)?;
    let commit = store.latest().ok_or_else(|| Failure::failed("nothing was committed yet: there are no users to export"))?;
    let (_, users) = SledUsers::open(&config.state.dir.join(USERS_STORE), config.state.sled_cache.0, commit.users_of())?;
    users.export(&config.name, &out)?;
    let bytes = std::fs::metadata(&out)?.len();
    output::print(
        context.format,
        &Exported { file: out.display().to_string(), checkpoint: users.checkpoint(), users: users.users(), bytes },
    )
}

fn import(context: &Context, ImportArgs { file, consent }: ImportArgs) -> Result<(), Failure> {
    let config = &context.config;
    let store = open(context)?;
    let newest = store.latest().ok_or_else(|| Failure::failed("nothing was committed yet: users alone are of no use"))?;
    let (newest, reaches) = (newest.number, newest.users_of());
    let export = Export::open(&file)?;
    let checkpoint = export.checkpoint();
    let users = export.check(&config.name, checkpoint)?;
    if checkpoint > reaches {
        let why = format!("checkpoint {checkpoint} is not part of the state any more, which is that of {reaches}; import an older file");
        return Err(Failure::failed(why));
    }
    store.whole(checkpoint).map_err(|error| {
        Failure::failed(format!(
            "users as of checkpoint {checkpoint} belong to its weights and positions, which are not to be had: {error}; import another file"
        ))
    })?;
    let mut done = Imported { file: file.display().to_string(), checkpoint, newest, users, aside: None, dry_run: false };
    match consent.decide(true, &done.text())? {
        Decision::DryRun => done.dry_run = true,
        Decision::Act => {
            let users_dir = config.state.dir.join(USERS_STORE);
            done.aside = set_aside(&users_dir, &format!("before-import-of-{checkpoint}"))?.map(|path| path.display().to_string());
            Export::open(&file)?.import(&users_dir, config.state.sled_cache.0)?;
        }
    }
    output::print(context.format, &done)
}

/// The state directory, locked: no daemon runs on it.
fn open(context: &Context) -> Result<CheckpointStore, Failure> {
    let store = CheckpointStore::open(&context.config.state.dir, context.config.checkpoint.keep);
    Ok(store.map_err(PipelineError::from)?)
}

impl View for Exported {
    fn text(&self) -> String {
        pairs([
            ("file", self.file.clone()),
            ("checkpoint", self.checkpoint.to_string()),
            ("users", self.users.to_string()),
            ("size", output::length(self.bytes)),
        ])
    }
}

impl View for Imported {
    fn text(&self) -> String {
        let state = if self.dry_run { "dry run: nothing was changed" } else { "the daemon goes on from this checkpoint when it starts" };
        pairs([
            ("file", self.file.clone()),
            ("users", self.users.to_string()),
            ("checkpoint", self.checkpoint.to_string()),
            ("newest checkpoint", format!("{} (events after {} are read again)", self.newest, self.checkpoint)),
            ("old store", maybe(self.aside.clone())),
            ("state", state.to_owned()),
        ])
    }
}
