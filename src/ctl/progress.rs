//! Progress of long work, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines off a terminal: often enough to see that it lives, seldom enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Counts rows done; how many there will be is not known, since files are read as a stream.
pub(super) struct Progress {
    shown: Shown,
    started: Instant,
}

enum Shown {
    Bar(ProgressBar),
    Lines { what: String, next: Duration },
    Nothing,
}

impl Progress {
    /// Starts. `lines`: print lines where there is no terminal.
    pub(super) fn new(what: impl Into<String>, lines: bool) -> Self {
        let what = what.into();
        let shown = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {prefix} {msg}").expect("the template is a constant");
            Shown::Bar(ProgressBar::new_spinner().with_style(style).with_prefix(what))
        } else if lines {
            Shown::Lines { what, next: LINE_EVERY }
        } else {
            Shown::Nothing
        };
        Progress { shown, started: Instant::now() }
    }

    /// `rows` are done; `note` follows on the same line.
    pub(super) fn at(&mut self, rows: u64, note: &str) {
        let elapsed = self.started.elapsed();
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_message(line(rows, elapsed, note));
                bar.tick();
            }
            Shown::Lines { what, next } if elapsed >= *next => {
                eprintln!("{what} {}", line(rows, elapsed, note));
                *next = elapsed + LINE_EVERY;
            }
            Shown::Lines { .. } | Shown::Nothing => {}
        }
    }

    /// Ends; a bar leaves the terminal.
    pub(super) fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

fn line(rows: u64, elapsed: Duration, note: &str) -> String {
    let per_s = rows as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    format!("{rows} rows, {per_s:.0}/s {note}").trim_end().to_owned()
}
