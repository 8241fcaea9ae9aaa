//! Tables for people, JSON for programs.

use std::io::{ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::daemon::Failure;

/// Stands for what is not defined.
pub(super) const NONE: &str = "-";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// One JSON object, for programs.
    Json,
}

/// A result: its JSON is a contract, its text is not.
pub(super) trait View: Serialize {
    /// The text for people, without a newline at its end.
    fn text(&self) -> String;
}

/// Prints a result to standard output. A reader that has closed it (`| head`) has what it wanted.
pub(super) fn print(format: Format, view: &impl View) -> Result<(), Failure> {
    let mut text = match format {
        Format::Table => view.text(),
        Format::Json => serde_json::to_string_pretty(view)?,
    };
    text.push('\n');
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Columns under headings, two spaces apart, no lines, no colours.
pub(super) fn table<H: Into<String>, R: IntoIterator<Item = String>>(
    headings: impl IntoIterator<Item = H>,
    rows: impl IntoIterator<Item = R>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.into_iter().map(|heading| heading.into().to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// `name  value` lines, values aligned.
pub(super) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = pairs.iter().map(|(name, value)| format!("{name:width$}  {value}").trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Five decimals, enough to see a difference that GAUC's standard error lets count.
pub(super) fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.5}"))
}

/// Whatever prints, or nothing.
pub(super) fn maybe(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// Milliseconds since the epoch as UTC, to the second.
pub(super) fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// `12.3 MiB`.
pub(super) fn length(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_columns() {
        let text = table(["version", "by"], [["7".to_owned(), "trainer".to_owned()], ["12".to_owned(), "ann@ops".to_owned()]]);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["VERSION  BY", "7        trainer", "12       ann@ops"]);
    }

    #[test]
    fn what_is_not_defined_is_no_number() {
        assert_eq!(figure(None), "-");
        assert_eq!(figure(Some(0.5)), "0.50000");
        assert_eq!(maybe(None::<u64>), "-");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
    }
}
