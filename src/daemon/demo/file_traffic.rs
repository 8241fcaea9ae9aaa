//! A real file as traffic: each row an event, or an impression and its click, the way `rocketctl replay` sends them.

use std::path::Path;

use super::generator::Columns;
use super::traffic::{Message, Offer, group};
use crate::config::{EventFormat, SchemaConfig, StreamMode, TopicsConfig};
use crate::daemon::Failure;
use crate::domain::{Origin, PartitionIndex, Record, Role};
use crate::stream::{FileRows, split_row};
use crate::wire::{Decoded, EventDecoder, encode};

/// The rows of a file in their order.
pub(super) struct FileTraffic {
    rows: FileRows,
    rows_left: u64,
    row_number: u64,
    schema: SchemaConfig,
    mode: StreamMode,
    format: EventFormat,
    decoder: EventDecoder,
    /// The click of the row before.
    click: Option<Message>,
}

impl FileTraffic {
    /// At most `rows` of them.
    pub(super) fn open(path: &Path, rows: u64, schema: &SchemaConfig, topics: &TopicsConfig) -> Result<Self, Failure> {
        let &TopicsConfig { mode, format, .. } = topics;
        let (rows, rows_left, decoder) = (FileRows::open(path)?, rows, EventDecoder::new(schema).reading(format));
        Ok(FileTraffic { rows, rows_left, row_number: 0, schema: schema.clone(), mode, format, decoder, click: None })
    }

    fn row(&mut self) -> Option<Result<Message, Failure>> {
        self.rows_left = self.rows_left.checked_sub(1)?;
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error.into())),
        };
        let number = self.row_number;
        self.row_number += 1;
        let split = match split_row(&self.schema, self.mode, row, number, 0) {
            Ok(split) => split,
            Err(error) => return Some(Err(Failure::failed(format!("{}: {error}", self.rows.place())))),
        };
        let role = if self.mode == StreamMode::Joined { Role::Impression } else { Role::Labelled };
        let payload = encode(self.format, &split.event);
        let message = Message { role, key: split.key.clone(), payload: Some(payload), offer: None };
        let offer = self.offer(&message, split.event, split.click.is_some());
        self.click = split.click.map(|click| {
            let payload = encode(self.format, &click);
            Message { role: Role::Click, key: split.key, payload: Some(payload), offer: None }
        });
        Some(Ok(Message { offer, ..message }))
    }

    /// `None` for a row that the decoder refuses: it goes to the dead letters, and no ad server would have asked for it.
    fn offer(&self, message: &Message, mut context: Columns, clicked: bool) -> Option<Offer> {
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        let record = Record { origin, role: message.role, key: None, payload: message.payload.clone(), timestamp_ms: None };
        let Ok(Decoded::Event(event)) = self.decoder.decode(&record) else { return None };
        // A labelled event holds what the scorer must not see.
        context.remove(&self.schema.label);
        Some(Offer {
            time_ms: event.time.0,
            group: group(&event.user.0),
            context,
            candidates: vec![Columns::new()],
            clicked: event.label.unwrap_or(clicked),
        })
    }
}

impl Iterator for FileTraffic {
    type Item = Result<Message, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.click.take() {
            Some(click) => Some(Ok(click)),
            None => self.row(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const SCHEMA: &str = "name = \"f\"\n[schema]\ntime = \"ts\"\nuser = \"u\"\nitem = \"i\"\nimpression = \"id\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]\n";

    fn messages(mode: StreamMode) -> Vec<Message> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("rows.tsv");
        std::fs::write(&path, "ts\tu\ti\tlabel\n10\ta\tx\t1\n20\tb\ty\t0\nsoon\tc\tz\t0\n30\td\tz\t1\n").expect("write");
        let config = parse(SCHEMA, "test", std::iter::empty()).expect("config");
        let topics = TopicsConfig { mode, ..config.topics };
        FileTraffic::open(&path, 3, &config.schema, &topics).expect("opens").map(|message| message.expect("a message")).collect()
    }

    #[test]
    fn joined_rows_become_impressions_and_clicks_and_the_label_is_kept_for_scoring() {
        let sent = messages(StreamMode::Joined);
        let roles: Vec<Role> = sent.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::Impression, Role::Click, Role::Impression, Role::Impression]);
        let offers: Vec<Option<bool>> = sent.iter().map(|message| message.offer.as_ref().map(|offer| offer.clicked)).collect();
        assert_eq!(offers, [Some(true), None, Some(false), None], "the third row has no readable time");
        let text = String::from_utf8_lossy(sent[0].payload.as_deref().expect("a payload")).into_owned();
        assert!(!text.contains("label"), "{text}");
    }

    #[test]
    fn labelled_rows_are_sent_whole_and_scored_without_their_label() {
        let sent = messages(StreamMode::Labelled);
        assert_eq!(sent.len(), 3, "rows are limited");
        let offer = sent[0].offer.as_ref().expect("an offer");
        assert!(offer.clicked);
        assert!(!offer.context.contains_key("label"));
    }
}
