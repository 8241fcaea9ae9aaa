//! Kafka behind the traits of [`crate::stream`], through librdkafka.

mod bare;
mod context;
mod dead_letters;
mod holdings;
mod letter_views;
mod log;
mod metadata;
mod outbox;
mod producer;
mod settings;
mod source;
mod topic_admin;
mod topics;

pub use bare::read_bare;
pub use dead_letters::KafkaDeadLetters;
pub use holdings::{Holding, holdings, offsets_at};
pub use letter_views::{DeadLetterView, read_dead_letters};
pub use log::{KafkaLogReader, KafkaLogWriter};
pub use producer::KafkaProducer;
pub use source::KafkaSource;
pub use topic_admin::{create_topics, delete_topics};
pub use topics::{TopicCheck, check_topics};

/// `source` cut to at most `max` bytes, on a character boundary.
fn cut(source: &str, max: usize) -> &str {
    let mut end = source.len().min(max);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    &source[..end]
}
