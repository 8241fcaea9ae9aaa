//! Metrics of heads and windows as tables: `status`, `gauc` and `backtest` show the same ones.

use std::collections::BTreeMap;

use super::output::{figure, table, time};
use crate::domain::Head;
use crate::evaluate::{HeadReport, WindowReport};

/// One line per head, in the order of [`Head::ALL`].
pub(super) fn heads(heads: &BTreeMap<String, HeadReport>) -> String {
    table(
        ["head", "auc", "gauc", "± stderr", "gauc users", "logloss", "calibration", "ne"],
        in_order(heads).map(|(name, head)| {
            [
                name.to_owned(),
                figure(head.auc),
                figure(head.gauc),
                figure(head.gauc_stderr),
                head.gauc_users.to_string(),
                figure(head.logloss),
                figure(head.calibration),
                figure(head.ne),
            ]
        }),
    )
}

/// One line per window and head.
pub(super) fn windows(windows: &[WindowReport]) -> String {
    table(
        ["from", "to", "rows", "clicks", "head", "auc", "gauc", "gauc users", "logloss", "calibration"],
        windows.iter().flat_map(|window| {
            in_order(&window.heads).map(move |(name, head)| {
                [
                    time(window.from_ms),
                    if window.open { "open".to_owned() } else { time(window.to_ms) },
                    window.rows.to_string(),
                    window.clicks.to_string(),
                    name.to_owned(),
                    figure(head.auc),
                    figure(head.gauc),
                    head.gauc_users.to_string(),
                    figure(head.logloss),
                    figure(head.calibration),
                ]
            })
        }),
    )
}

fn in_order(heads: &BTreeMap<String, HeadReport>) -> impl Iterator<Item = (&'static str, &HeadReport)> {
    Head::ALL.iter().filter_map(|head| Some((head.name(), heads.get(head.name())?)))
}
