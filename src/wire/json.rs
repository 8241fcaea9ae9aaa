//! One JSON object, as producers write it, in one pass over its bytes: text without escapes, numbers, booleans, null, and lists of them.
//!
//! Own code where there are libraries, since it is what decoding spends its time on: on events of 300 bytes with 25 columns, filling the same
//! rows, serde_json took 17,400 instructions per event, sonic-rs 14,100, simd-json 12,700, and this 6,900. It knows the column that is to come,
//! and looks at no column twice. What it does not know it leaves to serde_json, which has the last word on what is JSON.

use super::columns::{Columns, Raw, Row};

/// Whole numbers of so many digits are below 2⁶³.
const DIGITS_MAX: usize = 18;
/// Whole numbers of so many digits are doubles exactly, as are the powers of ten.
const EXACT_DIGITS: usize = 15;
const POWERS: [u64; EXACT_DIGITS] = powers();
/// Objects and lists within each other, in columns that the schema does not name.
const DEPTH_MAX: usize = 32;

/// The values of the schema's columns. `None`: the object has something else, or is none: whoever knows all of JSON has to say.
pub(super) fn read<'a>(columns: &Columns, json: &'a [u8]) -> Option<Row<'a>> {
    let mut reader = Reader { text: std::str::from_utf8(json).ok()?, at: 0 };
    let mut row = Row::new(columns);
    reader.after_space();
    reader.expect(b'{')?;
    let mut before = None;
    let mut more = !reader.ends(b'}')?;
    while more {
        if let Some(column) = reader.column(columns, before)? {
            row.put(column, reader.value()?);
            before = Some(column);
        } else {
            reader.skip(0)?;
        }
        more = reader.more(b'}')?;
    }
    reader.after_space().is_none().then_some(row)
}

/// What a request for scores bears, as it stands in its JSON. Objects are not looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestText<'a> {
    /// `context`.
    pub context: &'a str,
    /// `candidates`.
    pub candidates: Vec<&'a str>,
    /// `time_ms`.
    pub time_ms: Option<i64>,
}

impl<'a> RequestText<'a> {
    /// Finds them in `{"context": {…}, "candidates": [{…}, …], "time_ms": …}`. What is found is an object as far as its brackets go: whoever
    /// reads it will see. `None`: it is something else, or has objects within objects or escapes, and serde_json has to say what it is.
    #[must_use]
    pub fn find(json: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { text: std::str::from_utf8(json).ok()?, at: 0 };
        let (mut context, mut candidates, mut time_ms) = (None, None, None);
        reader.after_space();
        reader.expect(b'{')?;
        let mut more = !reader.ends(b'}')?;
        while more {
            let twice = match reader.name()? {
                "context" => context.replace(reader.object()?).is_some(),
                "candidates" => candidates.replace(reader.objects()?).is_some(),
                "time_ms" => time_ms.replace(reader.integer()?).is_some(),
                _ => true,
            };
            if twice {
                return None;
            }
            more = reader.more(b'}')?;
        }
        reader.after_space().is_none().then_some(RequestText { context: context?, candidates: candidates?, time_ms })
    }

    /// Finds candidates in `[{…}, …]`, likewise.
    #[must_use]
    pub fn find_candidates(json: &'a str) -> Option<Vec<&'a str>> {
        let mut reader = Reader { text: json, at: 0 };
        reader.after_space();
        let objects = reader.objects()?;
        reader.after_space().is_none().then_some(objects)
    }
}

/// Bytes of UTF-8, and how far they are read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn objects(&mut self) -> Option<Vec<&'a str>> {
        self.expect(b'[')?;
        let mut objects = Vec::new();
        let mut more = !self.ends(b']')?;
        while more {
            objects.push(self.object()?);
            more = self.more(b']')?;
        }
        Some(objects)
    }

    /// From an opening bracket to the first closing one that stands in no text, with no other opening one and no escape before it.
    fn object(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.expect(b'{')?;
        let (mut in_text, mut unusual) = (0, 0);
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let length = memchr::memchr(b'}', rest)?;
            // No branches, so that the compiler makes vector code of it.
            for byte in &rest[..length] {
                in_text ^= u8::from(*byte == b'"');
                unusual |= u8::from(*byte == b'\\') | u8::from(*byte == b'{');
            }
            self.at += length + 1;
            if unusual != 0 {
                return None;
            }
            if in_text == 0 {
                return self.text.get(start..self.at);
            }
        }
    }

    fn integer(&mut self) -> Option<i64> {
        match self.number()? {
            Raw::Unsigned(integer) => i64::try_from(integer).ok(),
            Raw::Signed(integer) => Some(integer),
            _ => None,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    fn after_space(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn literal<T>(&mut self, literal: &str, value: T) -> Option<T> {
        self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()).then(|| {
            self.at += literal.len();
            value
        })
    }

    /// After an opening bracket: whether nothing comes before the closing one.
    fn ends(&mut self, end: u8) -> Option<bool> {
        let ends = self.after_space()? == end;
        self.at += usize::from(ends);
        Some(ends)
    }

    /// After a value: whether another comes before the closing bracket.
    fn more(&mut self, end: u8) -> Option<bool> {
        let byte = self.after_space()?;
        self.at += 1;
        match byte {
            b',' => {
                self.after_space();
                Some(true)
            }
            _ if byte == end => Some(false),
            _ => None,
        }
    }

    /// A name with its colon, and the white space around: the schema's column, if it is one.
    fn column(&mut self, columns: &Columns, before: Option<usize>) -> Option<Option<usize>> {
        let (likely, member) = columns.likely(before);
        if member.begins(&self.text.as_bytes()[self.at..]) {
            self.at += member.len();
            self.after_space();
            return Some(Some(likely));
        }
        let name = self.name()?;
        Some(columns.find(name.as_bytes(), before))
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.string()?;
        self.after_space();
        self.expect(b':')?;
        self.after_space();
        Some(name)
    }

    /// A value of a column that the schema names.
    fn value(&mut self) -> Option<Raw<'a>> {
        if self.expect(b'[').is_none() {
            return self.scalar();
        }
        let mut values = Vec::new();
        let mut more = !self.ends(b']')?;
        while more {
            values.push(self.scalar()?);
            more = self.more(b']')?;
        }
        Some(Raw::List(values))
    }

    fn scalar(&mut self) -> Option<Raw<'a>> {
        match self.peek()? {
            b'"' => self.string().map(|text| Raw::Text(text.into())),
            b't' => self.literal("true", Raw::Bool(true)),
            b'f' => self.literal("false", Raw::Bool(false)),
            b'n' => self.literal("null", Raw::Null),
            _ => self.number(),
        }
    }

    /// A value of another column.
    fn skip(&mut self, depth: usize) -> Option<()> {
        let end = match self.peek()? {
            b'[' => b']',
            b'{' => b'}',
            _ => return self.scalar().map(drop),
        };
        if depth == DEPTH_MAX {
            return None;
        }
        self.at += 1;
        let mut more = !self.ends(end)?;
        while more {
            if end == b'}' {
                self.name()?;
            }
            self.skip(depth + 1)?;
            more = self.more(end)?;
        }
        Some(())
    }

    /// Text without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        let length = plain(&self.text.as_bytes()[start..]);
        self.at += length;
        self.expect(b'"')?;
        self.text.get(start..start + length)
    }

    /// Digits, as far as they go: how many, and their value, which is right for [`DIGITS_MAX`] and fewer.
    fn digits(&mut self) -> (usize, u64) {
        let (start, mut value) = (self.at, 0u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        (self.at - start, value)
    }

    fn number(&mut self) -> Option<Raw<'a>> {
        let start = self.at;
        let negative = self.expect(b'-').is_some();
        let leading_zero = self.peek() == Some(b'0');
        let (digits, value) = self.digits();
        if digits == 0 || digits > DIGITS_MAX || (leading_zero && digits > 1) {
            return None;
        }
        if !matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Some(match (negative, value) {
                (false, value) => Raw::Unsigned(value),
                // A double, to keep the sign.
                (true, 0) => Raw::Float(-0.0),
                (true, value) => Raw::Signed(-i64::try_from(value).ok()?),
            });
        }
        let mut decimals = (0, 0);
        if self.expect(b'.').is_some() {
            decimals = self.digits();
            if decimals.0 == 0 {
                return None;
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits().0 == 0 {
                return None;
            }
        } else if digits + decimals.0 <= EXACT_DIGITS {
            // Both are doubles exactly, so their quotient is rounded once: it is the nearest double.
            let power = POWERS[decimals.0];
            let value = (value * power + decimals.1) as f64 / power as f64;
            return Some(Raw::Float(if negative { -value } else { value }));
        }
        let value: f64 = self.text.get(start..self.at)?.parse().ok()?;
        value.is_finite().then_some(Raw::Float(value))
    }
}

const fn powers() -> [u64; EXACT_DIGITS] {
    let mut powers = [1; EXACT_DIGITS];
    let mut exponent = 1;
    while exponent < EXACT_DIGITS {
        powers[exponent] = 10 * powers[exponent - 1];
        exponent += 1;
    }
    powers
}

/// How many bytes come before the first that ends plain text: a quotation mark, a backslash or a control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set is right: what is borrowed for a byte can mark only those above it.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let ends = (word.wrapping_sub(ONES * 0x20) & !word | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5C))) & HIGH;
        if ends != 0 {
            return place * 8 + (ends.trailing_zeros() / 8) as usize;
        }
    }
    let whole = words.len() * 8;
    whole + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    fn columns() -> Columns {
        let mut columns = Columns::default();
        for name in ["ts", "user", "a\"b", "price", "tags"] {
            columns.number(name);
        }
        columns
    }

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1_000_000i64..1_000_000, 0i32..8).prop_map(|(whole, decimals)| Value::from(whole as f64 / 10f64.powi(decimals))),
            proptest::num::f64::ANY.prop_map(Value::from),
            "[ -~é\u{1}\u{7f}\u{2028}]{0,20}".prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = String> {
        let name = prop_oneof![Just("ts"), Just("user"), Just("a\"b"), Just("price"), Just("tags"), Just("other"), Just("z\\")];
        let space = || prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t\r ")];
        let member = (name, value(), space(), space()).prop_map(|(name, value, before, after)| {
            format!(
                "{before}{}{after}:{before}{}{after}",
                Value::from(name),
                if before.is_empty() { value.to_string() } else { format!("{value:#}") }
            )
        });
        (proptest::collection::vec(member, 0..6), space())
            .prop_map(|(members, space)| format!("{space}{{{space}{}}}{space}", members.join(",")))
    }

    /// What is read here is what serde_json reads.
    fn agrees(json: &[u8]) -> Result<(), TestCaseError> {
        let columns = columns();
        // Twice: the first time the order of the columns is not known.
        for _ in 0..2 {
            if let Some(row) = read(&columns, json) {
                prop_assert_eq!(Some(row), columns.read_any_json(json).ok(), "{}", String::from_utf8_lossy(json));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_as_serde_json_reads_it(json in object()) {
            agrees(json.as_bytes())?;
        }

        #[test]
        fn nothing_is_read_that_serde_json_refuses(json in object(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-+.eE \x01u".to_vec())], cut in any::<bool>()) {
            let mut json = json.into_bytes();
            let at = at.index(json.len());
            if cut {
                json.truncate(at);
            } else {
                json[at] = byte;
            }
            agrees(&json)?;
        }

        #[test]
        fn numbers_are_the_doubles_that_serde_json_makes_of_them(number in "-?(0|[1-9][0-9]{0,19})(\\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?") {
            agrees(format!("{{\"price\":{number}}}").as_bytes())?;
        }
    }

    /// What serde_json finds: texts of objects, as they stand there.
    fn found_by_serde_json(json: &[u8]) -> Option<(&str, Vec<&str>, Option<i64>)> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Request<'a> {
            #[serde(borrow)]
            context: &'a RawValue,
            #[serde(borrow)]
            candidates: Vec<&'a RawValue>,
            time_ms: Option<i64>,
        }
        let Request { context, candidates, time_ms } = serde_json::from_slice(json).ok()?;
        Some((context.get(), candidates.into_iter().map(RawValue::get).collect(), time_ms))
    }

    fn request() -> impl Strategy<Value = String> {
        let candidates = proptest::collection::vec(object(), 0..4).prop_map(|objects| format!("\"candidates\":[{}]", objects.join(",")));
        let context = object().prop_map(|object| format!("\"context\":{object}"));
        let time = prop_oneof![any::<i64>().prop_map(|time| time.to_string()), Just("1.5".to_owned()), Just("null".to_owned())];
        (candidates, context, proptest::option::of(time), any::<bool>()).prop_map(|(candidates, context, time, swapped)| {
            let (first, second) = if swapped { (context, candidates) } else { (candidates, context) };
            let time = time.map_or(String::new(), |time| format!(", \"time_ms\" : {time}"));
            format!(" {{ {first},{second}{time} }}\n")
        })
    }

    proptest! {
        #[test]
        fn requests_are_found_where_serde_json_finds_them(json in request()) {
            if let Some(RequestText { context, candidates, time_ms }) = RequestText::find(json.as_bytes()) {
                prop_assert_eq!(found_by_serde_json(json.as_bytes()), Some((context, candidates, time_ms)), "{}", json);
            }
        }

        #[test]
        fn a_damaged_request_is_seen_when_its_objects_are_read(json in request(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-+.eE \x01u".to_vec())]) {
            let mut json = json.into_bytes();
            let at = at.index(json.len());
            json[at] = byte;
            let Some(RequestText { context, candidates, time_ms }) = RequestText::find(&json) else { return Ok(()) };
            let columns = columns();
            if [context].iter().chain(&candidates).all(|object| columns.read_json(object.as_bytes()).is_ok()) {
                prop_assert_eq!(found_by_serde_json(&json), Some((context, candidates, time_ms)), "{}", String::from_utf8_lossy(&json));
            }
        }
    }

    #[test]
    fn what_clients_send_is_found_here() {
        let json = br#" {"context": {"user":"u{1"}, "candidates":[{"tags":["}"]},{}], "time_ms": -5}"#;
        assert_eq!(RequestText::find(json), None, "a bracket in a text may be one of an object");
        let json = br#" {"context": {"user":"u1"}, "candidates":[{"tags":["}"]} , {}], "time_ms": -5}"#;
        let expected = RequestText { context: r#"{"user":"u1"}"#, candidates: vec![r#"{"tags":["}"]}"#, "{}"], time_ms: Some(-5) };
        assert_eq!(RequestText::find(json), Some(expected));
        assert_eq!(RequestText::find_candidates("[]"), Some(vec![]));
        assert_eq!(RequestText::find_candidates(" [{}, {\"price\":1}]\n"), Some(vec!["{}", "{\"price\":1}"]));
        for unusual in [r#"[{"other":{}}]"#, r#"[{"user":"\n"}]"#, "[3]", "[{}", "[{]", "[{},]", "[{}]x", "{}", ""] {
            assert_eq!(RequestText::find_candidates(unusual), None, "{unusual}");
        }
        for unusual in [r#"{"context":{}}"#, r#"{"context":{},"candidates":[],"more":1}"#, r#"{"context":{},"context":{},"candidates":[]}"#]
        {
            assert_eq!(RequestText::find(unusual.as_bytes()), None, "{unusual}");
        }
        // Every bracket is looked at once.
        let brackets = format!("[{{\"user\":\"{}", "}".repeat(1 << 20));
        assert_eq!(RequestText::find_candidates(&brackets), None);
    }

    #[test]
    fn what_producers_write_is_read_here() {
        let columns = columns();
        for json in [
            r#"{"ts":1767600000000,"user":"u1","price":-0.25,"tags":["a","b c",7,null,true],"other":{"x":[1,{"y":[]}]}}"#,
            " { \"user\" : \"ünï\" , \"ts\" : 1e3 , \"note\":\"\" }\n",
            "{}",
        ] {
            assert!(read(&columns, json.as_bytes()).is_some(), "{json}");
        }
        for json in [
            "",
            "[]",
            "{\"ts\":1}x",
            "{\"ts\":01}",
            "{\"ts\":1.}",
            "{\"ts\":-}",
            "{\"ts\":1e999}",
            "{\"ts\":1,}",
            "{,}",
            "{\"user\":\"\n\"}",
        ] {
            assert!(read(&columns, json.as_bytes()).is_none(), "{json}");
        }
        assert_eq!(
            read(&columns, br#"{"ts":1,"user":2,"ts":3}"#).map(|row| (row.twice, row.values[0].clone())),
            Some((Some(0), Raw::Unsigned(1)))
        );
        let deep = format!("{{\"other\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&columns, deep.as_bytes()).is_none());
    }
}
