use rdkafka::message::{Header, OwnedHeaders};

use super::cut;
use super::outbox::{Outbox, Outgoing, not_acknowledged, too_large};
use crate::config::Config;
use crate::stream::{DeadLetter, DeadLetterSink, StreamError};

/// The headers of Kafka Connect's dead letters (org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter), so that tools made for
/// those read ours. All values are text.
pub(super) mod header {
    pub(in super::super) const TOPIC: &str = "__connect.errors.topic";
    pub(in super::super) const PARTITION: &str = "__connect.errors.partition";
    pub(in super::super) const OFFSET: &str = "__connect.errors.offset";
    pub(in super::super) const CONNECTOR: &str = "__connect.errors.connector.name";
    pub(in super::super) const TASK: &str = "__connect.errors.task.id";
    pub(in super::super) const STAGE: &str = "__connect.errors.stage";
    pub(in super::super) const CLASS: &str = "__connect.errors.class.name";
    pub(in super::super) const EXCEPTION_CLASS: &str = "__connect.errors.exception.class.name";
    pub(in super::super) const EXCEPTION_MESSAGE: &str = "__connect.errors.exception.message";
    pub(in super::super) const EXCEPTION_STACKTRACE: &str = "__connect.errors.exception.stacktrace";
    /// Ours: only on a letter whose payload did not fit. The payload's length as read, in bytes; the whole is where the other headers point.
    pub(in super::super) const PAYLOAD_CUT: &str = "rocket.errors.payload.cut.from";
}

/// We have no tasks; tools expect a number.
const TASK_ID: &str = "0";
/// An error text can quote its input: cut, so that headers never are what makes a letter too large.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// What is kept of a payload (and of a key) that the topic does not take whole. Below every sensible `max.message.bytes`.
const CUT_BYTES: usize = 16 << 10;

/// Dead letters to Kafka, with Kafka Connect's `__connect.errors.*` headers, key and payload as read, where the letter has them.
///
/// A letter that the topic refuses for its size is sent with its payload cut, and a header that says so.
pub struct KafkaDeadLetters {
    outbox: Outbox,
    topic: String,
    connector: String,
}

impl KafkaDeadLetters {
    /// Connects to `<topics.dead_letters>`.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`].
    pub fn open(config: &Config) -> Result<Self, StreamError> {
        let topic = config.dead_letters_topic();
        Ok(KafkaDeadLetters { outbox: Outbox::open(&config.kafka, &[&topic])?, topic, connector: config.name.clone() })
    }

    fn whole<'a>(&'a self, letter: &'a DeadLetter) -> Outgoing<'a> {
        Outgoing {
            topic: &self.topic,
            key: letter.key.as_deref(),
            payload: letter.payload.as_deref(),
            headers: Some(self.headers(letter)),
            ..Outgoing::default()
        }
    }

    fn cut<'a>(&'a self, letter: &'a DeadLetter) -> Outgoing<'a> {
        let whole = self.whole(letter);
        let length = whole.payload.map_or(0, <[u8]>::len).to_string();
        let headers = whole.headers.map(|headers| headers.insert(Header { key: header::PAYLOAD_CUT, value: Some(length.as_str()) }));
        let head = |bytes: &'a [u8]| &bytes[..bytes.len().min(CUT_BYTES)];
        Outgoing { key: whole.key.map(head), payload: whole.payload.map(head), headers, ..whole }
    }

    fn headers(&self, letter: &DeadLetter) -> OwnedHeaders {
        let partition = letter.partition.partition.to_string();
        let offset = letter.offset.to_string();
        let message = cut(&letter.message, MESSAGE_BYTES_MAX);
        // There is no stack in a value that was judged: class and text are what an operator needs.
        let trace = format!("{}: {message}", letter.class);
        [
            (header::TOPIC, &*letter.partition.topic),
            (header::PARTITION, &partition),
            (header::OFFSET, &offset),
            (header::CONNECTOR, &self.connector),
            (header::TASK, TASK_ID),
            (header::STAGE, letter.stage),
            (header::CLASS, env!("CARGO_CRATE_NAME")),
            (header::EXCEPTION_CLASS, &letter.class),
            (header::EXCEPTION_MESSAGE, message),
            (header::EXCEPTION_STACKTRACE, &trace),
        ]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
    }
}

impl DeadLetterSink for KafkaDeadLetters {
    fn send(&mut self, letters: &[DeadLetter]) -> Result<(), StreamError> {
        let failures = self.outbox.send_all(letters.iter().map(|letter| self.whole(letter)))?;
        if let Some((_, error)) = failures.iter().find(|(_, error)| !too_large(error)) {
            return Err(not_acknowledged(&self.topic, error));
        }
        for letter in failures.iter().filter_map(|(index, _)| letters.get(*index)) {
            // The broker refuses a whole batch for its size: alone the letter may fit.
            let alone = self.outbox.send_all([self.whole(letter)])?;
            let Some((_, error)) = alone.first() else { continue };
            if !too_large(error) {
                return Err(not_acknowledged(&self.topic, error));
            }
            if let Some((_, error)) = self.outbox.send_all([self.cut(letter)])?.first() {
                return Err(not_acknowledged(&self.topic, error));
            }
        }
        Ok(())
    }
}
