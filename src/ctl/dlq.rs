//! `rocketctl dlq ls`: events that could not be used, and why.

use serde::Serialize;

use super::context::Context;
use super::output::{self, View, table, time};
use crate::daemon::Failure;
use crate::stream::{DeadLetterView, read_dead_letters};

/// Dead letters listed unless told otherwise: a screenful.
const LIMIT: usize = 20;
/// Characters of a payload in the table; JSON has more.
const PAYLOAD_SHOWN: usize = 60;

#[derive(Debug, clap::Subcommand)]
pub(super) enum DlqCommand {
    /// The newest dead letters, newest last.
    Ls {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = LIMIT)]
        limit: usize,
    },
}

/// JSON of `dlq ls`.
#[derive(Debug, Serialize)]
struct DeadLetters {
    /// On the topic in all.
    total: u64,
    /// The newest, newest last.
    letters: Vec<DeadLetterView>,
}

pub(super) fn run(context: &Context, command: DlqCommand) -> Result<(), Failure> {
    let DlqCommand::Ls { limit } = command;
    let (total, letters) = read_dead_letters(&context.config, limit)?;
    output::print(context.format, &DeadLetters { total, letters })
}

impl View for DeadLetters {
    fn text(&self) -> String {
        let rows = self.letters.iter().map(|letter| {
            [
                format!("{}/{}", letter.partition, letter.offset),
                letter.timestamp_ms.map_or_else(|| output::NONE.to_owned(), time),
                letter.source.clone(),
                letter.stage.clone(),
                letter.message.clone(),
                letter.payload.chars().take(PAYLOAD_SHOWN).collect(),
            ]
        });
        let listing = table(["at", "when", "source", "stage", "why", "payload"], rows);
        format!("{listing}\n\n{} of {} dead letters", self.letters.len(), self.total)
    }
}
