use serde_json::{Map, Value};

use crate::config::{SchemaConfig, StreamMode, TimeUnit};

/// What a row of a file becomes on the topics.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRow {
    /// The user: what records are keyed by, so that one user's events keep their order in one partition. Empty when the row has none.
    pub key: String,
    /// The labelled event, or the impression.
    pub event: Map<String, Value>,
    /// The click, where the label says that there was one. Always `None` in labelled mode.
    pub click: Option<Map<String, Value>>,
}

/// Why a row cannot be split into impression and click.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The label column is missing or no label.
    #[error("label column `{column}` is {found}; expected 0, 1, true or false")]
    Label {
        /// The column.
        column: String,
        /// What was found.
        found: String,
    },
    /// The schema does not say where an impression id is.
    #[error("topics.mode = \"joined\" needs schema.impression, the column that clicks name their impression by")]
    NoImpressionColumn,
}

/// Splits a row the way it is sent to the topics.
///
/// | mode | event | click |
/// |---|---|---|
/// | labelled | the row | – |
/// | joined | the row without its label; with `row_number` as impression id if it has none | impression id, and time + `click_delay_ms` |
///
/// A time that cannot be read is passed on as it is: the decoder has the last word on it.
///
/// # Errors
/// [`RowError`], only in joined mode.
pub fn split_row(
    schema: &SchemaConfig,
    mode: StreamMode,
    mut row: Map<String, Value>,
    row_number: u64,
    click_delay_ms: i64,
) -> Result<SplitRow, RowError> {
    let key = match row.get(&schema.user) {
        Some(Value::String(user)) => user.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    if mode == StreamMode::Labelled {
        return Ok(SplitRow { key, event: row, click: None });
    }
    let impression = schema.impression.as_ref().ok_or(RowError::NoImpressionColumn)?;
    let clicked = label(&schema.label, row.remove(&schema.label).as_ref())?;
    let id = match row.get(impression) {
        Some(Value::Null) | None => {
            let id = Value::String(row_number.to_string());
            row.insert(impression.clone(), id.clone());
            id
        }
        Some(id) => id.clone(),
    };
    let click = clicked.then(|| {
        let mut click = Map::new();
        click.insert(impression.clone(), id);
        if let Some(time) = row.get(&schema.time) {
            click.insert(schema.time.clone(), later(time, schema.time_unit, click_delay_ms));
        }
        click
    });
    Ok(SplitRow { key, event: row, click })
}

fn label(column: &str, value: Option<&Value>) -> Result<bool, RowError> {
    let read = match value {
        Some(Value::Bool(label)) => Some(*label),
        Some(Value::Number(number)) => number.as_f64().and_then(binary),
        Some(Value::String(text)) => match text.trim() {
            "false" => Some(false),
            "true" => Some(true),
            number => number.parse().ok().and_then(binary),
        },
        _ => None,
    };
    read.ok_or_else(|| RowError::Label { column: column.to_owned(), found: value.map_or_else(|| "missing".to_owned(), Value::to_string) })
}

/// As the event decoder reads it.
fn binary(number: f64) -> Option<bool> {
    if number == 0.0 {
        Some(false)
    } else if number == 1.0 {
        Some(true)
    } else {
        None
    }
}

/// `time` plus `delay_ms`, in the same unit and the same JSON type.
fn later(time: &Value, unit: TimeUnit, delay_ms: i64) -> Value {
    if delay_ms == 0 {
        return time.clone();
    }
    let moved = match (time, unit) {
        (Value::String(text), TimeUnit::Rfc3339) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|at| at.checked_add(jiff::SignedDuration::from_millis(delay_ms)).ok())
            .map(|at| Value::String(at.to_string())),
        (Value::String(text), _) => {
            text.parse::<i64>().ok().and_then(|at| at.checked_add(in_unit(unit, delay_ms))).map(|at| Value::String(at.to_string()))
        }
        (Value::Number(number), _) => number.as_i64().and_then(|at| at.checked_add(in_unit(unit, delay_ms))).map(Value::from),
        _ => None,
    };
    moved.unwrap_or_else(|| time.clone())
}

/// Rounded up: a click must not come before its delay has passed.
fn in_unit(unit: TimeUnit, delay_ms: i64) -> i64 {
    match unit {
        TimeUnit::S => delay_ms.div_euclid(1000) + i64::from(delay_ms.rem_euclid(1000) != 0),
        TimeUnit::Ms | TimeUnit::Rfc3339 => delay_ms,
        TimeUnit::Us => delay_ms.saturating_mul(1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(unit: TimeUnit) -> SchemaConfig {
        SchemaConfig {
            time: "t".into(),
            time_unit: unit,
            user: "u".into(),
            item: "i".into(),
            label: "y".into(),
            impression: Some("id".into()),
            features: Vec::new(),
        }
    }

    fn split(mode: StreamMode, row: Value, delay: i64) -> Result<SplitRow, RowError> {
        let Value::Object(row) = row else { panic!("a row is an object") };
        split_row(&schema(TimeUnit::Ms), mode, row, 7, delay)
    }

    #[test]
    fn a_labelled_row_stays_whole() {
        let row = json!({"t": "5", "u": 3, "y": "what"});
        let split = split(StreamMode::Labelled, row.clone(), 0).unwrap();
        assert_eq!((Value::Object(split.event), split.click, split.key.as_str()), (row, None, "3"));
    }

    #[test]
    fn a_clicked_row_becomes_an_impression_without_label_and_a_click() {
        let split = split(StreamMode::Joined, json!({"t": "5", "u": "a", "y": "1", "id": "x"}), 30).unwrap();
        assert_eq!(Value::Object(split.event), json!({"t": "5", "u": "a", "id": "x"}));
        assert_eq!(split.click.map(Value::Object), Some(json!({"id": "x", "t": "35"})));
    }

    #[test]
    fn a_row_without_an_id_is_named_by_its_number() {
        let split = split(StreamMode::Joined, json!({"t": 5, "u": "a", "y": true}), 0).unwrap();
        assert_eq!(Value::Object(split.event), json!({"t": 5, "u": "a", "id": "7"}));
        assert_eq!(split.click.map(Value::Object), Some(json!({"id": "7", "t": 5})));
    }

    #[test]
    fn labels_are_read_or_refused() {
        for (label, clicked) in [(json!(0), false), (json!("false"), false), (json!(1.0), true), (json!("true"), true)] {
            let split = split(StreamMode::Joined, json!({"t": 5, "y": label}), 0).unwrap();
            assert_eq!(split.click.is_some(), clicked);
        }
        for row in [json!({"t": 5}), json!({"y": "2"}), json!({"y": 0.5})] {
            assert!(matches!(split(StreamMode::Joined, row, 0), Err(RowError::Label { column, .. }) if column == "y"));
        }
    }

    #[test]
    fn a_delay_is_added_in_the_unit_of_the_time() {
        assert_eq!(later(&json!("10"), TimeUnit::S, 1500), json!("12"));
        assert_eq!(later(&json!(10), TimeUnit::Us, 2), json!(2010));
        assert_eq!(later(&json!("2020-01-01T00:00:00Z"), TimeUnit::Rfc3339, 1500), json!("2020-01-01T00:00:01.5Z"));
        assert_eq!(later(&json!("soon"), TimeUnit::Ms, 5), json!("soon"));
    }
}
