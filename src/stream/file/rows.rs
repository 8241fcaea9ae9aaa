use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::stream::StreamError;

/// Bytes read from the disk at once.
const READ_BYTES: usize = 256 << 10;
/// A longer line of JSON is no event: the file is something else than its name says.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Rows of a TSV, CSV or JSONL file (`.gz` too) as JSON objects.
///
/// | name ends in | first line | cell |
/// |---|---|---|
/// | `.tsv`, `.txt` | column names | text up to the next tab; quotes mean nothing |
/// | `.csv` | column names | text, quoted as RFC 4180 says |
/// | `.jsonl`, `.ndjson`, `.json` | the first row | JSON value |
///
/// Cells of TSV and CSV are text, and empty ones are left out; empty lines are skipped. After an error the rows end.
pub struct FileRows {
    path: String,
    format: Format,
    ended: bool,
}

enum Format {
    Cells { columns: Vec<String>, reader: Box<csv::Reader<Box<dyn Read + Send>>>, record: csv::StringRecord },
    Json { reader: BufReader<Box<dyn Read + Send>>, line: u64, bytes: Vec<u8> },
}

impl FileRows {
    /// Opens; the format is told by the name.
    ///
    /// # Errors
    /// [`StreamError::File`].
    pub fn open(path: &Path) -> Result<Self, StreamError> {
        let name = path.display().to_string();
        let fail = |why: String| StreamError::File { path: name.clone(), why };
        let lower = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (stem, packed) = match lower.strip_suffix(".gz") {
            Some(stem) => (stem, true),
            None => (lower.as_str(), false),
        };
        let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
        let open = || -> Result<Box<dyn Read + Send>, StreamError> {
            let file = File::open(path).map_err(|error| fail(error.to_string()))?;
            Ok(if packed { Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file))) } else { Box::new(file) })
        };
        let format = match extension {
            "tsv" | "txt" => cells(csv::ReaderBuilder::new().delimiter(b'\t').quoting(false), open()?).map_err(fail)?,
            "csv" => cells(&mut csv::ReaderBuilder::new(), open()?).map_err(fail)?,
            "jsonl" | "ndjson" | "json" => {
                Format::Json { reader: BufReader::with_capacity(READ_BYTES, open()?), line: 0, bytes: Vec::new() }
            }
            _ => {
                return Err(fail(
                    "its name does not tell the format; name it .tsv, .csv or .jsonl, with .gz behind if it is packed".to_owned(),
                ));
            }
        };
        Ok(FileRows { path: name, format, ended: false })
    }

    /// The file, and the line that the last row (or error) ended on: `events.tsv:17`.
    #[must_use]
    pub fn place(&self) -> String {
        let line = match &self.format {
            Format::Cells { record, reader, .. } => record.position().unwrap_or_else(|| reader.position()).line(),
            Format::Json { line, .. } => *line,
        };
        format!("{}:{line}", self.path)
    }

    fn read(&mut self) -> Result<Option<Map<String, Value>>, String> {
        match &mut self.format {
            Format::Cells { columns, reader, record } => {
                if !reader.read_record(record).map_err(|error| error.to_string())? {
                    return Ok(None);
                }
                let filled = columns.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
                Ok(Some(filled.map(|(column, cell)| (column.clone(), Value::String(cell.to_owned()))).collect()))
            }
            Format::Json { reader, line, bytes } => loop {
                bytes.clear();
                *line += 1;
                let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', bytes).map_err(|error| error.to_string())?;
                if read == 0 {
                    return Ok(None);
                }
                if read as u64 == LINE_BYTES_MAX {
                    return Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
                }
                if bytes.trim_ascii().is_empty() {
                    continue;
                }
                return match serde_json::from_slice(bytes) {
                    Ok(Value::Object(row)) => Ok(Some(row)),
                    Ok(_) => Err("the line is JSON but no object".to_owned()),
                    Err(error) => Err(format!("the line is no JSON: {error}")),
                };
            },
        }
    }
}

fn cells(builder: &mut csv::ReaderBuilder, input: Box<dyn Read + Send>) -> Result<Format, String> {
    let mut reader = builder.buffer_capacity(READ_BYTES).from_reader(input);
    let columns: Vec<String> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    if columns.iter().all(String::is_empty) {
        return Err("its first line names no columns".to_owned());
    }
    for (index, column) in columns.iter().enumerate() {
        if columns.iter().take(index).any(|earlier| earlier == column) {
            return Err(format!("column `{column}` is named twice in its first line"));
        }
    }
    Ok(Format::Cells { columns, reader: Box::new(reader), record: csv::StringRecord::new() })
}

impl Iterator for FileRows {
    type Item = Result<Map<String, Value>, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.read() {
            Ok(Some(row)) => Some(Ok(row)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(why) => {
                self.ended = true;
                Some(Err(StreamError::File { path: self.place(), why }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn rows(name: &str, content: &[u8]) -> Vec<Result<Value, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        match FileRows::open(&path) {
            Ok(rows) => rows.map(|row| row.map(Value::Object).map_err(|error| error.to_string())).collect(),
            Err(error) => vec![Err(error.to_string())],
        }
    }

    fn packed(content: &str) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(content.as_bytes()).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn every_format_gives_the_same_rows() {
        let expected = vec![Ok(json!({"u": "a", "n": "1"})), Ok(json!({"u": "b"}))];
        let tsv = "u\tn\na\t1\nb\t\n";
        let csv = "u,n\r\na,1\r\n\"b\",\r\n";
        let jsonl = "{\"u\":\"a\",\"n\":\"1\"}\n\n{\"u\":\"b\"}";
        assert_eq!(rows("x.tsv", tsv.as_bytes()), expected);
        assert_eq!(rows("x.csv", csv.as_bytes()), expected);
        assert_eq!(rows("x.jsonl", jsonl.as_bytes()), expected);
        assert_eq!(rows("x.TSV.gz", &packed(tsv)), expected);
        assert_eq!(rows("x.csv.gz", &packed(csv)), expected);
        assert_eq!(rows("x.jsonl.gz", &packed(jsonl)), expected);
    }

    #[test]
    fn packed_files_may_be_several_put_together() {
        let both = [packed("{\"u\":\"a\"}\n"), packed("{\"u\":\"b\"}\n")].concat();
        assert_eq!(rows("x.jsonl.gz", &both), [Ok(json!({"u": "a"})), Ok(json!({"u": "b"}))]);
    }

    #[test]
    fn a_quote_in_a_tsv_is_only_a_character() {
        assert_eq!(rows("x.tsv", b"u\tn\n\"a\t1\n"), [Ok(json!({"u": "\"a", "n": "1"}))]);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        for (name, content, line, why) in [
            ("x.tsv", "u\tn\na\t1\nb\n", "x.tsv:3", "fields"),
            ("x.jsonl", "{\"u\":1}\n\n[1]\n", "x.jsonl:3", "no object"),
            ("x.jsonl", "{\"u\":\n", "x.jsonl:1", "no JSON"),
            ("x.csv", "u,u\n1,2\n", "x.csv", "twice"),
            ("x.parquet", "", "x.parquet", "format"),
        ] {
            let rows = rows(name, content.as_bytes());
            let error = rows.last().unwrap().as_ref().unwrap_err();
            assert!(error.contains(line) && error.contains(why), "{error}");
        }
    }
}
