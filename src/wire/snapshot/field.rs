use serde_json::Value;

use crate::domain::{Field, Text};

/// A field as JSON, for probes: null, text, number, array of texts.
#[must_use]
pub fn field_to_json(field: &Field) -> Value {
    match field {
        Field::Missing => Value::Null,
        Field::Text(text) => Value::from(text.as_str()),
        Field::Number(number) => Value::from(*number),
        Field::List(items) => items.iter().map(|item| Value::from(item.as_str())).collect(),
    }
}

/// The inverse of [`field_to_json`]; `None` for what no field can be.
#[must_use]
pub fn field_from_json(value: &Value) -> Option<Field> {
    match value {
        Value::Null => Some(Field::Missing),
        Value::String(text) => Some(Field::Text(text.as_str().into())),
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()).map(Field::Number),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(Text::from)).collect::<Option<_>>().map(Field::List),
        Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_field() -> impl Strategy<Value = Field> {
        prop_oneof![
            Just(Field::Missing),
            ".{0,12}".prop_map(|text| Field::Text(text.into())),
            any::<f64>().prop_filter("fields hold finite numbers", |number| number.is_finite()).prop_map(Field::Number),
            proptest::collection::vec(".{0,6}".prop_map(Text::from), 0..5).prop_map(|items| Field::List(items.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_field_survives_the_text_of_a_manifest(field in any_field()) {
            let text = field_to_json(&field).to_string();
            prop_assert_eq!(field_from_json(&serde_json::from_str(&text).unwrap()), Some(field));
        }
    }

    #[test]
    fn what_no_field_can_be_is_refused() {
        for value in [json!(true), json!({}), json!([1]), json!(["a", null])] {
            assert_eq!(field_from_json(&value), None, "{value}");
        }
    }
}
