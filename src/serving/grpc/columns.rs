use serde_json::{Map, Number, Value};

use super::proto::{self, value::Kind};
use crate::serving::service::{Reason, Refusal, ScoreRequest};
use crate::wire::Object;

/// A message's columns.
#[derive(Debug)]
pub(super) struct Columns {
    context: Map<String, Value>,
    candidates: Vec<Map<String, Value>>,
    time_ms: Option<i64>,
}

impl Columns {
    /// `field` is what the message's fields begin with.
    pub(super) fn new(message: proto::ScoreRequest, field: &str) -> Result<Self, Refusal> {
        let context = columns(message.context.unwrap_or_default(), &format!("{field}context"))?;
        let candidates = message.candidates.into_iter().enumerate();
        let candidates = candidates.map(|(index, candidate)| columns(candidate, &format!("{field}candidates[{index}]")));
        Ok(Columns { context, candidates: candidates.collect::<Result<_, _>>()?, time_ms: message.time_ms })
    }

    /// What is asked.
    pub(super) fn request(&self) -> ScoreRequest<'_> {
        let candidates = self.candidates.iter().map(Object::Map).collect();
        ScoreRequest { context: Object::Map(&self.context), candidates, time_ms: self.time_ms }
    }
}

fn columns(columns: proto::Columns, field: &str) -> Result<Map<String, Value>, Refusal> {
    let values = columns.columns.into_iter().map(|(name, value)| {
        let value = json(value).ok_or_else(|| {
            let message = format!("column `{name}` holds a number that is not finite");
            Refusal::new(Reason::Invalid, message).at(format!("{field}.{name}"))
        })?;
        Ok((name, value))
    });
    values.collect()
}

/// `None` for numbers that are not finite, which JSON has not.
fn json(value: proto::Value) -> Option<Value> {
    Some(match value.kind {
        None => Value::Null,
        Some(Kind::Text(text)) => Value::String(text),
        Some(Kind::Number(number)) => Value::Number(Number::from_f64(number)?),
        Some(Kind::Integer(integer)) => Value::from(integer),
        Some(Kind::Flag(flag)) => Value::Bool(flag),
        Some(Kind::List(list)) => Value::Array(list.values.into_iter().map(json).collect::<Option<_>>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind) -> proto::Value {
        proto::Value { kind: Some(kind) }
    }

    #[test]
    fn values_are_what_json_has() {
        let list = proto::List { values: vec![of(Kind::Text("a".to_owned())), of(Kind::Integer(-3)), proto::Value { kind: None }] };
        assert_eq!(json(of(Kind::List(list))), Some(serde_json::json!(["a", -3, null])));
        assert_eq!(json(of(Kind::Number(5.0))), Some(serde_json::json!(5.0)));
        assert_eq!(json(of(Kind::Flag(true))), Some(serde_json::json!(true)));
    }

    #[test]
    fn numbers_that_json_has_not_are_refused_by_name() {
        let price = proto::Columns { columns: [("price".to_owned(), of(Kind::Number(f64::NAN)))].into() };
        let message = proto::ScoreRequest { candidates: vec![proto::Columns::default(), price], ..proto::ScoreRequest::default() };
        let refusal = Columns::new(message, "requests[4].").map(drop).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("requests[4].candidates[1].price"));
    }
}
