//! `rocketctl rollback`, `pin` and `unpin`: acts that change what servers serve.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use super::consent::{ConsentArgs, Decision};
use super::context::{Context, now_ms};
use super::history::act_name;
use super::output::{self, View, figure, maybe, pairs, table};
use crate::daemon::Failure;
use crate::domain::Version;
use crate::publish::{Operator, OperatorError};
use crate::serving::Catalog;
use crate::wire::snapshot::{Act, HeadQuality};

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The version to serve.
    #[arg(long, value_name = "VERSION")]
    to: Version,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// The version to hold every server at.
    version: Version,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnpinArgs {
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
struct ReasonArgs {
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The operator's private key, to sign with [default: keys.operator of the configuration].
    #[arg(long, value_name = "FILE", env = "ROCKET_KEY")]
    key: Option<PathBuf>,
}

/// JSON of `rollback`, `pin` and `unpin`.
#[derive(Debug, Serialize)]
struct Change {
    /// `rollback`, `pin`, `unpin`.
    act: Act,
    /// Served before.
    from: Option<Version>,
    /// Served after.
    to: Option<Version>,
    /// Pinned after.
    pinned: Option<Version>,
    /// Who.
    actor: String,
    /// Why.
    reason: String,
    /// Nothing was to be written.
    dry_run: bool,
    /// It was written.
    written: bool,
    /// Prequential figures of the two versions, each as of its own checkpoint.
    quality: Vec<Difference>,
}

/// One metric of one head, before and after.
#[derive(Debug, Serialize)]
struct Difference {
    /// Head.
    head: String,
    /// `auc`, `gauc`, `logloss`, `calibration`.
    metric: &'static str,
    /// Of the version served before.
    from: Option<f64>,
    /// Of the version served after.
    to: Option<f64>,
    /// `to − from`.
    difference: Option<f64>,
}

pub(super) fn rollback(context: &Context, arguments: RollbackArgs) -> Result<(), Failure> {
    let mut operator = context.operator(arguments.key.key)?;
    operator.verify(arguments.to)?;
    let change = Change::new(context, operator.catalog(), Act::Rollback, Some(arguments.to), Some(arguments.to), &arguments.why);
    perform(context, arguments.consent, operator, change, |operator, reason| operator.rollback(arguments.to, reason, now_ms()))
}

pub(super) fn pin(context: &Context, arguments: PinArgs) -> Result<(), Failure> {
    let mut operator = context.operator(arguments.key.key)?;
    operator.verify(arguments.version)?;
    let change = Change::new(context, operator.catalog(), Act::Pin, Some(arguments.version), Some(arguments.version), &arguments.why);
    perform(context, arguments.consent, operator, change, |operator, reason| operator.pin(arguments.version, reason, now_ms()))
}

pub(super) fn unpin(context: &Context, arguments: UnpinArgs) -> Result<(), Failure> {
    let operator = context.operator(arguments.key.key)?;
    if operator.catalog().pin().is_none_or(|pin| pin.version.is_none()) {
        return Err(OperatorError::NotPinned.into());
    }
    let to = operator.catalog().current().map(|pointer| pointer.version);
    let change = Change::new(context, operator.catalog(), Act::Unpin, to, None, &arguments.why);
    perform(context, arguments.consent, operator, change, |operator, reason| operator.unpin(reason, now_ms()))
}

fn perform(
    context: &Context,
    consent: ConsentArgs,
    mut operator: Operator,
    mut change: Change,
    write: impl FnOnce(&mut Operator, &str) -> Result<(), OperatorError>,
) -> Result<(), Failure> {
    match consent.decide(change.from != change.to, &change.text())? {
        Decision::DryRun => change.dry_run = true,
        Decision::Act => {
            write(&mut operator, &change.reason)?;
            change.written = true;
        }
    }
    output::print(context.format, &change)
}

impl Change {
    fn new(context: &Context, catalog: &Catalog, act: Act, to: Option<Version>, pinned: Option<Version>, why: &ReasonArgs) -> Self {
        let from = catalog.target();
        Change {
            act,
            from,
            to,
            pinned,
            actor: context.actor.clone(),
            reason: why.reason.clone(),
            dry_run: false,
            written: false,
            quality: differences(catalog, from, to),
        }
    }
}

/// A metric and where it stands.
type Metric = (&'static str, fn(&HeadQuality) -> Option<f64>);

const METRICS: [Metric; 4] =
    [("auc", |head| head.auc), ("gauc", |head| head.gauc), ("logloss", |head| head.logloss), ("calibration", |head| head.calibration)];

fn differences(catalog: &Catalog, from: Option<Version>, to: Option<Version>) -> Vec<Difference> {
    let none = BTreeMap::new();
    let quality = |version: Option<Version>| {
        version.and_then(|version| catalog.manifests().get(&version)).map_or(&none, |manifest| &manifest.quality.heads)
    };
    let (before, after) = (quality(from), quality(to));
    let mut heads: Vec<&String> = before.keys().chain(after.keys()).collect();
    heads.sort_unstable();
    heads.dedup();
    heads
        .into_iter()
        .flat_map(|head| METRICS.map(|(metric, get)| (head, metric, before.get(head).and_then(get), after.get(head).and_then(get))))
        .map(|(head, metric, from, to)| Difference {
            head: head.clone(),
            metric,
            from,
            to,
            difference: from.zip(to).map(|(from, to)| to - from),
        })
        .collect()
}

impl View for Change {
    fn text(&self) -> String {
        let state = match (self.written, self.dry_run) {
            (true, _) => "done",
            (false, true) => "dry run: nothing was changed",
            (false, false) => "not done yet",
        };
        let mut text = pairs([
            ("act", act_name(self.act).to_owned()),
            ("served now", maybe(self.from)),
            ("served after", maybe(self.to)),
            ("pinned after", maybe(self.pinned)),
            ("actor", self.actor.clone()),
            ("reason", self.reason.clone()),
            ("state", state.to_owned()),
        ]);
        if !self.quality.is_empty() {
            let rows = self.quality.iter().map(|line| {
                let difference = line.difference.map_or_else(|| output::NONE.to_owned(), |difference| format!("{difference:+.5}"));
                [format!("{} {}", line.head, line.metric), figure(line.from), figure(line.to), difference]
            });
            let _ = write!(text, "\n\n{}", table(["metric", "served now", "served after", "difference"], rows));
        }
        text
    }
}
