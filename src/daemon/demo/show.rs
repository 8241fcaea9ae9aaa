//! What the demo prints: a table that lives while it runs (plain lines where nobody watches), and the summary.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::load::Tally;
use super::operator::Drill;
use super::ranking::{Scored, auc, gauc};
use crate::domain::{Books, Head, Version};
use crate::pipeline::Status;

/// Moves the cursor up over the last table and clears from there.
fn erase(lines: usize) -> String {
    format!("\x1b[{lines}A\x1b[J")
}

/// AUC and GAUC of one column of the table.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    auc: Option<f64>,
    gauc: Option<f64>,
}

impl Figures {
    fn of(scored: &[Scored]) -> Self {
        Figures { auc: auc(scored), gauc: gauc(scored) }
    }
}

/// One look at everything.
pub(super) struct Look<'a> {
    pub(super) elapsed: Duration,
    pub(super) status: &'a Status,
    pub(super) served: Option<Version>,
    pub(super) swaps: u64,
    pub(super) tally: Option<&'a Tally>,
}

/// Prints looks, one over the other on a terminal.
pub(super) struct Live {
    terminal: bool,
    lines: usize,
}

impl Live {
    pub(super) fn new() -> Self {
        Live { terminal: std::io::stdout().is_terminal(), lines: 0 }
    }

    pub(super) fn on_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn show(&mut self, look: &Look<'_>) {
        let text = if self.terminal { table(look) } else { line(look) };
        let erase = if self.terminal && self.lines > 0 { erase(self.lines) } else { String::new() };
        self.lines = text.lines().count();
        print(&format!("{erase}{text}"));
    }

    /// A sentence that stays, above the table.
    pub(super) fn say(&mut self, text: &str) {
        let erase = if self.terminal && self.lines > 0 { erase(self.lines) } else { String::new() };
        self.lines = 0;
        print(&format!("{erase}{text}\n"));
    }
}

/// A closed pipe must not end the demo, whose exit code is its verdict.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn columns(look: &Look<'_>) -> Vec<(&'static str, Figures)> {
    let mut columns = heads(look.status);
    if let Some(tally) = look.tally {
        columns.push(("served", Figures::of(&tally.scored())));
    }
    columns
}

fn heads(status: &Status) -> Vec<(&'static str, Figures)> {
    let figures = |head: &Head| {
        let report = status.report.heads.get(head.name())?;
        Some((head.name(), Figures { auc: report.auc, gauc: report.gauc }))
    };
    Head::ALL.iter().filter_map(figures).collect()
}

fn progress(look: &Look<'_>) -> String {
    let status = look.status;
    let served = look.served.map_or_else(|| "none".to_owned(), |version| version.to_string());
    let (requests, failed) = look.tally.map_or((0, 0), |tally| (tally.requests(), tally.failed()));
    format!(
        "{:6.1} s  {} samples, {:.0}/s  checkpoint {}  serving {served} after {} swaps  fresh {}  {} requests, {failed} failed",
        look.elapsed.as_secs_f64(),
        thousands(status.books.samples),
        status.samples_per_s,
        status.checkpoint.map_or_else(|| "none".to_owned(), |version| version.to_string()),
        look.swaps,
        status.freshness.map_or_else(|| "-".to_owned(), |fresh| format!("p50 {:.1} s p99 {:.1} s", fresh.p50_s, fresh.p99_s)),
        thousands(requests),
    )
}

fn line(look: &Look<'_>) -> String {
    let figures: Vec<String> =
        columns(look).iter().map(|(name, figures)| format!("{name} {} {}", number(figures.auc), number(figures.gauc))).collect();
    format!("{}  AUC GAUC: {}\n", progress(look), figures.join(", "))
}

fn table(look: &Look<'_>) -> String {
    format!("{}\n{}", progress(look), grid(&columns(look)))
}

fn grid(columns: &[(&'static str, Figures)]) -> String {
    let row = |title: &str, cell: &dyn Fn(&(&'static str, Figures)) -> String| {
        let cells: String = columns.iter().map(|column| format!("{:>10}", cell(column))).collect();
        format!("  {title:<6}{cells}\n")
    };
    row("", &|(name, _)| (*name).to_owned())
        + &row("AUC", &|(_, figures)| number(figures.auc))
        + &row("GAUC", &|(_, figures)| number(figures.gauc))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the demo ends with.
pub(super) struct Outcome<'a> {
    pub(super) elapsed: Duration,
    pub(super) status: &'a Status,
    /// Events sent.
    pub(super) produced: u64,
    /// Where each of them must have ended, where that is known.
    pub(super) expected: Option<&'a Books>,
    pub(super) truth: &'a [Scored],
    pub(super) tally: &'a Tally,
    pub(super) swaps: u64,
    pub(super) drill: &'a Drill,
}

impl Outcome<'_> {
    /// What is not as it has to be; empty when all is well.
    pub(super) fn problems(&self) -> Vec<String> {
        let books = &self.status.books;
        let mut problems = Vec::new();
        if books.done() != self.produced {
            problems.push(format!("{} events were sent, but {} are accounted for", self.produced, books.done()));
        }
        if let Some(expected) = self.expected
            && expected != books
        {
            problems.push(format!("events ended elsewhere than they had to: expected {expected:?}, found {books:?}"));
        }
        if self.tally.failed() > 0 {
            let first = self.tally.first_failure().unwrap_or_default();
            problems.push(format!("{} requests failed; the first: {first}", self.tally.failed()));
        }
        let versions = self.tally.versions();
        if versions.len() < 2 {
            problems.push(format!("only {} versions answered requests", versions.len()));
        }
        if !versions.contains(&self.drill.to.0) {
            problems.push(format!("no request was answered by version {}, which was rolled back to", self.drill.to));
        }
        problems
    }

    pub(super) fn print(&self) {
        print(&self.text());
    }

    fn text(&self) -> String {
        let mut columns = heads(self.status);
        columns.push(("served", Figures::of(&self.tally.scored())));
        if !self.truth.is_empty() {
            columns.push(("truth", Figures::of(self.truth)));
        }
        let drill = self.drill;
        let latency = |share| self.tally.latency_ms(share).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        let mut text = format!("\nSummary, {:.1} s\n{}", self.elapsed.as_secs_f64(), grid(&columns));
        text += &self.events();
        if let Some(freshness) = self.status.freshness {
            text += &format!("  fresh     produced to promoted: {freshness}\n");
        }
        text += &format!(
            "  serving   {} requests, {} failed, {} versions, {} swaps, p50 {} ms, p99 {} ms\n",
            thousands(self.tally.requests()),
            self.tally.failed(),
            self.tally.versions().len(),
            self.swaps,
            latency(0.5),
            latency(0.99),
        );
        text += &format!(
            "  rollback  {} → {} served after {:.2} s; {} held back by the pin; unpinned, {} served\n",
            drill.from,
            drill.to,
            drill.took.as_secs_f64(),
            drill.held_back,
            drill.resumed,
        );
        text
    }

    fn events(&self) -> String {
        let books = &self.status.books;
        let mut text = format!(
            "  events    {} sent = {} trained ({} samples) + {} dropped + {} dead-lettered\n",
            thousands(self.produced),
            thousands(books.trained),
            thousands(books.samples),
            thousands(books.dropped.values().sum()),
            thousands(books.dead_lettered),
        );
        for (reason, count) in &books.dropped {
            let known = self.expected.and_then(|expected| expected.dropped.get(reason));
            let expected = known.map_or_else(String::new, |known| format!(" (sent {})", thousands(*known)));
            text += &format!("            {:<26}{}{expected}\n", reason.name(), thousands(*count));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DropReason;

    #[test]
    fn counts_are_grouped() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(count), text);
        }
    }

    fn drill() -> Drill {
        Drill { from: Version(3), to: Version(2), took: Duration::from_millis(120), held_back: Version(4), resumed: Version(5) }
    }

    fn problems(status: &Status, produced: u64, expected: &Books, tally: &Tally) -> Vec<String> {
        let drill = drill();
        let outcome =
            Outcome { elapsed: Duration::ZERO, status, produced, expected: Some(expected), truth: &[], tally, swaps: 3, drill: &drill };
        assert!(outcome.text().contains("3 → 2"));
        outcome.problems()
    }

    #[test]
    fn a_lost_event_a_wrong_counter_a_failed_request_and_a_missed_rollback_are_problems() {
        let mut status = Status::default();
        status.books.trained = 9;
        status.books.dropped.insert(DropReason::LateClick, 1);
        let expected = status.books.clone();
        let tally = Tally::default();
        tally.saw_for_test(&[2, 3], 0);
        assert_eq!(problems(&status, 10, &expected, &tally), Vec::<String>::new());

        assert!(problems(&status, 11, &expected, &tally)[0].contains("11 events were sent, but 10"));
        let mut other = expected.clone();
        other.dropped.clear();
        other.trained = 10;
        assert!(problems(&status, 10, &other, &tally)[0].contains("ended elsewhere"));
        tally.saw_for_test(&[], 1);
        assert!(problems(&status, 10, &expected, &tally)[0].contains("1 requests failed"));
        let only_new = Tally::default();
        only_new.saw_for_test(&[3, 5], 0);
        assert!(problems(&status, 10, &expected, &only_new)[0].contains("version 2"));
    }
}
