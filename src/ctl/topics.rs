//! `rocketctl topics check` and `create`.

use serde::Serialize;

use super::context::Context;
use super::output::{self, View, maybe, table};
use crate::daemon::Failure;
use crate::stream::{TopicCheck, check_topics, create_topics};

/// Partitions of new event topics: room to read with several consumers later, since a topic's keys move when partitions are added.
const PARTITIONS: i32 = 6;
/// Copies of new topics: what a single development broker can hold.
const REPLICATION: i32 = 1;

#[derive(Debug, clap::Subcommand)]
pub(super) enum TopicsCommand {
    /// Look whether every topic exists and is configured as this program needs it; exit code 1 if not.
    Check,
    /// Create the topics that are missing.
    Create {
        /// Partitions of event topics; snapshots always have one.
        #[arg(long, value_name = "N", default_value_t = PARTITIONS, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        /// Copies of each; 3 in production.
        #[arg(long, value_name = "N", default_value_t = REPLICATION, value_parser = clap::value_parser!(i32).range(1..))]
        replication: i32,
    },
}

/// JSON of `topics check`.
#[derive(Debug, Serialize)]
struct Checked {
    /// No topic has a problem.
    ok: bool,
    /// Every topic of the configuration.
    topics: Vec<TopicCheck>,
}

/// JSON of `topics create`.
#[derive(Debug, Serialize)]
struct Created {
    /// What was missing and is there now.
    created: Vec<String>,
}

pub(super) fn run(context: &Context, command: TopicsCommand) -> Result<(), Failure> {
    match command {
        TopicsCommand::Check => {
            let topics = check_topics(&context.config)?;
            let wrong = topics.iter().filter(|topic| !topic.problems.is_empty()).count();
            output::print(context.format, &Checked { ok: wrong == 0, topics })?;
            if wrong == 0 { Ok(()) } else { Err(Failure::failed(format!("{wrong} topics are not as they should be"))) }
        }
        TopicsCommand::Create { partitions, replication } => {
            let created = create_topics(&context.config, partitions, replication)?;
            output::print(context.format, &Created { created })
        }
    }
}

impl View for Checked {
    fn text(&self) -> String {
        let rows = self.topics.iter().flat_map(|topic| {
            let first = if topic.problems.is_empty() { vec!["ok".to_owned()] } else { topic.problems.clone() };
            let notes = topic.notes.iter().map(|note| format!("note: {note}"));
            first.into_iter().chain(notes).map(|line| [topic.topic.clone(), topic.role.to_owned(), maybe(topic.partitions), line])
        });
        table(["topic", "role", "partitions", "state"], rows)
    }
}

impl View for Created {
    fn text(&self) -> String {
        if self.created.is_empty() {
            "every topic exists; nothing was created".to_owned()
        } else {
            format!("created {}", self.created.join(", "))
        }
    }
}
