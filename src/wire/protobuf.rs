//! One `rocket.v1.Columns` message (`columns.proto`), read where it lies and written from JSON. What is read as a value that Protobuf lets
//! come in parts is what the last parts say; a column that comes twice is reported, as in JSON.

use serde_json::{Map, Value};

use super::columns::{Columns, Raw, Row};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Of the last of them one bit is left to 64.
const VARINT_BYTES_MAX: usize = 10;

/// Columns.columns; a map's name and value; List.values.
const COLUMNS: u64 = 1;
const NAME: u64 = 1;
const VALUE: u64 = 2;
const VALUES: u64 = 1;
/// Value.kind.
const TEXT: u64 = 1;
const NUMBER: u64 = 2;
const INTEGER: u64 = 3;
const FLAG: u64 = 4;
const LIST: u64 = 5;

/// Why bytes are no such message.
pub(super) type Malformed = &'static str;

const CUT: Malformed = "it ends within a field";
const NO_UTF8: Malformed = "a text is no UTF-8";

/// The values of the schema's columns.
pub(super) fn read<'a>(columns: &Columns, message: &'a [u8]) -> Result<Row<'a>, Malformed> {
    let mut row = Row::new(columns);
    let mut before = None;
    let mut fields = Fields(message);
    loop {
        let entry = match fields.short(COLUMNS) {
            Some(entry) => entry,
            None => match fields.next()? {
                None => break,
                Some((COLUMNS, Content::Bytes(entry))) => entry,
                Some((COLUMNS, _)) => return Err("its columns are none"),
                Some(_) => continue,
            },
        };
        let (name, value) = name_and_value(entry)?;
        if let Some(column) = columns.find(name, before) {
            before = Some(column);
            row.put(column, merged(value, true)?);
        }
    }
    Ok(row)
}

/// An entry of a map: its name, its value. Either is empty where it is left out.
fn name_and_value(entry: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut parts = Fields(entry);
    let (mut name, mut value) = (parts.short(NAME).unwrap_or_default(), parts.short(VALUE).unwrap_or_default());
    while let Some(part) = parts.next()? {
        match part {
            (NAME, Content::Bytes(bytes)) => name = bytes,
            (VALUE, Content::Bytes(bytes)) => value = bytes,
            (NAME | VALUE, _) => return Err("a column is no name and value"),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Reads a Value. Lists in lists are left empty: no column holds any, and they could be as deep as they are long.
fn merged(message: &[u8], outermost: bool) -> Result<Raw<'_>, Malformed> {
    let mut fields = Fields(message);
    let mut value = match fields.short(TEXT) {
        Some(text) => Raw::Text(utf8(text)?.into()),
        None => Raw::Null,
    };
    while let Some(field) = fields.next()? {
        value = match field {
            (TEXT, Content::Bytes(text)) => Raw::Text(utf8(text)?.into()),
            (NUMBER, Content::Fixed64(bits)) => Raw::Float(f64::from_bits(bits)),
            (INTEGER, Content::Varint(zigzag)) => Raw::Signed((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)),
            (FLAG, Content::Varint(flag)) => Raw::Bool(flag != 0),
            (LIST, Content::Bytes(list)) => {
                let mut values = if let Raw::List(values) = value { values } else { Vec::new() };
                if outermost {
                    append(&mut values, list)?;
                }
                Raw::List(values)
            }
            (TEXT..=LIST, _) => return Err("a value is not of its kind"),
            _ => continue,
        };
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| NO_UTF8)
}

/// Reads a List.
fn append<'a>(values: &mut Vec<Raw<'a>>, list: &'a [u8]) -> Result<(), Malformed> {
    let mut elements = Fields(list);
    while let Some(element) = elements.next()? {
        if let (VALUES, Content::Bytes(element)) = element {
            values.push(merged(element, false)?);
        }
    }
    Ok(())
}

/// What a field holds. Of other wire types nothing is read.
enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field, where it is of this number, of bytes and short. So is nearly all that is read.
    #[inline]
    fn short(&mut self, number: u64) -> Option<&'a [u8]> {
        let (&[key, length], rest) = self.0.split_first_chunk()?;
        if u64::from(key) != number << 3 | BYTES || length >= 0x80 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next field's number and content; `None` at the end.
    #[inline]
    fn next(&mut self) -> Result<Option<(u64, Content<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        if !(8..=u64::from(u32::MAX)).contains(&key) {
            return Err("a field has no number");
        }
        let content = match key & 7 {
            VARINT => Content::Varint(self.varint()?),
            FIXED64 => Content::Fixed64(u64::from_le_bytes(self.fixed()?)),
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
                self.0 = rest;
                Content::Bytes(bytes)
            }
            FIXED32 => {
                self.fixed::<4>()?;
                Content::Other
            }
            _ => return Err("a field has a wire type that is not used here"),
        };
        Ok(Some((key >> 3, content)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.0.split_first() {
            Some((byte @ ..0x80, rest)) => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (place, byte) in self.0.iter().enumerate().take(VARINT_BYTES_MAX) {
            if place + 1 == VARINT_BYTES_MAX && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * place);
            if *byte < 0x80 {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < VARINT_BYTES_MAX { CUT } else { "a number takes more than 64 bits" })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

/// What JSON says as such a message. Null is a value without a kind, as is what columns cannot hold: objects.
pub(super) fn write(columns: &Map<String, Value>) -> Vec<u8> {
    let mut message = Vec::new();
    for (name, value) in columns {
        let mut entry = Vec::new();
        put(&mut entry, NAME, name.as_bytes());
        put(&mut entry, VALUE, &encoded(value));
        put(&mut message, COLUMNS, &entry);
    }
    message
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match value {
        Value::Null | Value::Object(_) => {}
        Value::Bool(flag) => {
            put_varint(&mut bytes, FLAG << 3 | VARINT);
            put_varint(&mut bytes, u64::from(*flag));
        }
        Value::Number(number) => match number.as_i64() {
            Some(integer) => {
                put_varint(&mut bytes, INTEGER << 3 | VARINT);
                put_varint(&mut bytes, (integer << 1 ^ integer >> 63) as u64);
            }
            // Its text is the same id.
            None if number.is_u64() => put(&mut bytes, TEXT, number.to_string().as_bytes()),
            None => {
                put_varint(&mut bytes, NUMBER << 3 | FIXED64);
                bytes.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
            }
        },
        Value::String(text) => put(&mut bytes, TEXT, text.as_bytes()),
        Value::Array(values) => {
            let mut list = Vec::new();
            values.iter().for_each(|value| put(&mut list, VALUES, &encoded(value)));
            put(&mut bytes, LIST, &list);
        }
    }
    bytes
}

fn put(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(message, number << 3 | BYTES);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn columns() -> Columns {
        let mut columns = Columns::default();
        for name in ["ts", "user", "tags"] {
            columns.number(name);
        }
        columns
    }

    fn values(message: &[u8]) -> Result<Vec<Raw<'_>>, Malformed> {
        read(&columns(), message).map(|row| row.values)
    }

    #[test]
    fn what_is_written_is_read() {
        let event = json!({"ts": -3, "user": "ü", "tags": ["a", 0.5, true, null, u64::MAX, ["x"]], "other": "x", "": {}});
        let list = vec![
            Raw::Text("a".into()),
            Raw::Float(0.5),
            Raw::Bool(true),
            Raw::Null,
            Raw::Text("18446744073709551615".into()),
            Raw::List(Vec::new()),
        ];
        let message = write(event.as_object().unwrap());
        assert_eq!(values(&message), Ok(vec![Raw::Signed(-3), Raw::Text("ü".into()), Raw::List(list)]));
        assert_eq!(values(&[]), Ok(vec![Raw::Absent, Raw::Absent, Raw::Absent]));
    }

    #[test]
    fn a_column_that_comes_twice_is_reported_and_a_value_in_parts_is_put_together() {
        let one = write(json!({"ts": 1}).as_object().unwrap());
        let twice = [one.clone(), one].concat();
        let row = read(&columns(), &twice).unwrap();
        assert_eq!((row.twice, &row.values[0]), (Some(0), &Raw::Signed(1)));

        let mut entry = Vec::new();
        put(&mut entry, NAME, b"tags");
        put(&mut entry, VALUE, &[encoded(&json!("gone")), encoded(&json!(["a"])), encoded(&json!(["b"]))].concat());
        let mut message = Vec::new();
        put(&mut message, 7, b"a field of a later version");
        put(&mut message, COLUMNS, &entry);
        assert_eq!(values(&message).unwrap()[2], Raw::List(vec![Raw::Text("a".into()), Raw::Text("b".into())]));
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        let good = write(json!({"user": "u"}).as_object().unwrap());
        for cut in 1..good.len() {
            assert_eq!(values(&good[..cut]).map(drop), Err(CUT), "{cut}");
        }
        let no_utf8 = [&good[..good.len() - 1], &[0xFF]].concat();
        assert_eq!(values(&no_utf8).map(drop), Err(NO_UTF8));
        for bytes in [&[0x0B][..], &[0x02, 0x00], &[0x88; 12], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]] {
            assert!(values(bytes).is_err(), "{bytes:?}");
        }
        let (mut deep, mut outer) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            let mut list = Vec::new();
            put(&mut list, VALUES, &deep);
            deep = encoded(&json!("text"));
            put(&mut deep, LIST, &list);
        }
        put(&mut outer, NAME, b"tags");
        put(&mut outer, VALUE, &deep);
        deep.clear();
        put(&mut deep, COLUMNS, &outer);
        assert_eq!(values(&deep).unwrap()[2], Raw::List(vec![Raw::List(Vec::new())]));
        let mut wrong_kind = Vec::new();
        put(&mut wrong_kind, COLUMNS, &[NAME as u8 * 8 + 2, 2, b't', b's', VALUE as u8 * 8 + 2, 2, TEXT as u8 * 8, 1]);
        assert!(values(&wrong_kind).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _either = values(&bytes);
        }

        #[test]
        fn numbers_survive(number in any::<i64>(), double in proptest::num::f64::NORMAL) {
            let message = write(json!({"ts": number, "user": double}).as_object().unwrap());
            prop_assert_eq!(values(&message), Ok(vec![Raw::Signed(number), Raw::Float(double), Raw::Absent]));
        }
    }
}
