//! `rocketctl keys generate` and `show`: made on the machine that signs; only the public line travels.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::Context;
use super::output::{self, Format, View, maybe, table};
use crate::daemon::Failure;
use crate::keys::{KeyError, PublicKey, Role, Signer, Trust};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// Make a private key and print the line that trusts it.
    Generate(GenerateArgs),
    /// Names and roles of keys, from their private or public PEM files.
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// What it will sign.
    #[arg(long, value_parser = ["trainer", "operator"])]
    role: String,
    /// Where the private key goes, mode 0600; a file that is there is left alone.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// PEM files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// List of trusted keys [default: keys.trusted of the configuration, where one is given].
    #[arg(long, value_name = "FILE")]
    trusted: Option<PathBuf>,
}

/// JSON of `keys generate`.
#[derive(Debug, Serialize)]
struct Generated {
    /// Name of the key.
    id: String,
    /// What it will sign.
    role: Role,
    /// File of the private key.
    file: String,
    /// The public key as trust files have it.
    public: String,
    /// The whole line for the trust file.
    line: String,
}

/// JSON of `keys show`.
#[derive(Debug, Serialize)]
struct Keys {
    /// In the order given.
    keys: Vec<KeyLine>,
}

/// One key.
#[derive(Debug, Serialize)]
struct KeyLine {
    /// Its file.
    file: String,
    /// Its name.
    id: String,
    /// Its role, if it is trusted.
    role: Option<Role>,
    /// The public key as trust files have it.
    public: String,
}

/// With a configuration its list of trusted keys is looked at; none is needed.
pub(super) fn run(context: Option<&Context>, format: Format, command: &KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Generate(arguments) => output::print(format, &generate(arguments)?),
        KeysCommand::Show(arguments) => {
            let trust = match (&arguments.trusted, context) {
                (Some(trusted), _) => Trust::load(trusted)?,
                (None, Some(context)) => context.trust()?,
                (None, None) => Trust::default(),
            };
            let keys = arguments.files.iter().map(|file| line(file, &trust)).collect::<Result<_, _>>()?;
            output::print(format, &Keys { keys })
        }
    }
}

fn generate(arguments: &GenerateArgs) -> Result<Generated, Failure> {
    let role = if arguments.role == Role::Trainer.name() { Role::Trainer } else { Role::Operator };
    // A file that is there, or a folder that is not, is no fault of the configuration.
    let signer = Signer::generate().and_then(|signer| signer.save(&arguments.out).map(|()| signer));
    let signer = signer.map_err(|error| Failure::Failed(error.into()))?;
    Ok(Generated {
        id: signer.id().to_owned(),
        role,
        file: arguments.out.display().to_string(),
        public: signer.public().text(),
        line: format!("{}  # {}", signer.public().trusted_as(role), signer.id()),
    })
}

fn line(file: &Path, trust: &Trust) -> Result<KeyLine, Failure> {
    let key = PublicKey::load(file).map_err(|error: KeyError| Failure::Failed(error.into()))?;
    Ok(KeyLine { file: file.display().to_string(), id: key.id().to_owned(), role: trust.role(key.id()), public: key.text() })
}

impl View for Generated {
    /// The line alone: it can be appended to the list as it is.
    fn text(&self) -> String {
        self.line.clone()
    }
}

impl View for Keys {
    fn text(&self) -> String {
        let rows = self.keys.iter().map(|key| [key.id.clone(), maybe(key.role), key.public.clone(), key.file.clone()]);
        table(["key", "trusted as", "public", "file"], rows)
    }
}
