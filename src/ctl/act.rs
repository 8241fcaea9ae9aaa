//! `rocketctl rollback`, `promote`, `pin` and `unpin`: acts that change what servers serve.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use super::consent::{ConsentArgs, Decision};
use super::context::{Context, now_ms};
use super::history::act_name;
use super::output::{self, NONE, View, figure, maybe, pairs, table, time};
use super::rewind::{Rewind, RewindArgs};
use crate::daemon::Failure;
use crate::domain::Version;
use crate::publish::{Operator, OperatorError};
use crate::serving::Catalog;
use crate::wire::snapshot::{Act, Group, HeadQuality};

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The version to serve.
    #[arg(long, value_name = "VERSION")]
    to: Version,
    #[command(flatten)]
    trainer: RewindArgs,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PromoteArgs {
    /// The version to make current, later than the one that is.
    version: Version,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// The version to hold servers at.
    version: Version,
    /// Only the servers of this group [default: every server].
    #[arg(long, value_name = "NAME")]
    group: Option<Group>,
    /// Only so long, e.g. 2h [default: until it is lifted].
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    lasting: Option<Duration>,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnpinArgs {
    /// The pin of this group [default: that of every server].
    #[arg(long, value_name = "NAME")]
    group: Option<Group>,
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

/// JSON of `rollback`, `promote`, `pin` and `unpin`.
#[derive(Debug, Serialize)]
struct Change {
    /// `rollback`, `promote`, `pin`, `unpin`.
    act: Act,
    /// Only for the servers of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    /// The pin counts until then, milliseconds; absent: until it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    /// Served before.
    from: Option<Version>,
    /// Served after.
    to: Option<Version>,
    /// Pinned after.
    pinned: Option<Version>,
    /// What of the trainer's state is to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewind: Option<Rewind>,
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
    let rewind = arguments.trainer.prepare(context, arguments.to)?;
    let to = Some(arguments.to);
    let change = Change::new(context, &operator, Act::Rollback, None, to, arguments.why).pinning(to);
    let change = Change { rewind, ..change };
    perform(context, arguments.consent, operator, change, |operator, reason| operator.rollback(arguments.to, reason, now_ms()))
}

pub(super) fn promote(context: &Context, arguments: PromoteArgs) -> Result<(), Failure> {
    let mut operator = context.operator(arguments.key.key)?;
    operator.may_promote(arguments.version, now_ms())?;
    operator.verify(arguments.version)?;
    let change = Change::new(context, &operator, Act::Promote, None, Some(arguments.version), arguments.why);
    let change = Change { pinned: operator.catalog().pinned(now_ms()).map(|(_, version)| version), ..change };
    perform(context, arguments.consent, operator, change, |operator, reason| operator.promote(arguments.version, reason, now_ms()))
}

pub(super) fn pin(context: &Context, arguments: PinArgs) -> Result<(), Failure> {
    let PinArgs { version, group, lasting, why, key, consent } = arguments;
    let mut operator = context.operator(key.key)?;
    operator.verify(version)?;
    let lasting = lasting.map(|lasting| i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX));
    let change = Change::new(context, &operator, Act::Pin, group.clone(), Some(version), why).pinning(Some(version));
    let change = Change { expires_ms: lasting.map(|lasting| now_ms().saturating_add(lasting)), ..change };
    perform(context, consent, operator, change, |operator, reason| {
        // From when it is written: the question may have waited for its answer.
        let now_ms = now_ms();
        operator.pin_for(version, group, lasting.map(|lasting| now_ms.saturating_add(lasting)), reason, now_ms)
    })
}

pub(super) fn unpin(context: &Context, arguments: UnpinArgs) -> Result<(), Failure> {
    let UnpinArgs { group, why, key, consent } = arguments;
    let operator = context.operator(key.key)?;
    let catalog = operator.catalog();
    if catalog.pin_of(group.as_ref()).and_then(|pin| pin.holds(now_ms())).is_none() {
        return Err(OperatorError::NotPinned { group }.into());
    }
    let to = catalog.target_without(group.as_ref(), now_ms());
    let change = Change::new(context, &operator, Act::Unpin, group.clone(), to, why);
    perform(context, consent, operator, change, |operator, reason| operator.unpin_from(group, reason, now_ms()))
}

fn perform(
    context: &Context,
    consent: ConsentArgs,
    mut operator: Operator,
    mut change: Change,
    write: impl FnOnce(&mut Operator, &str) -> Result<(), OperatorError>,
) -> Result<(), Failure> {
    match consent.decide(change.from != change.to || change.rewind.is_some(), &change.text())? {
        Decision::DryRun => change.dry_run = true,
        Decision::Act => {
            write(&mut operator, &change.reason)?;
            change.written = true;
            if let Some(rewind) = &mut change.rewind {
                // Servers first: they are what hurts.
                rewind.perform(context).map_err(|failure| {
                    Failure::failed(format!("servers go back and stay back, but the trainer does not: {failure}; run it again"))
                })?;
            }
        }
    }
    output::print(context.format, &change)
}

impl Change {
    /// Of an act on the servers of a group, or on every server.
    fn new(context: &Context, operator: &Operator, act: Act, group: Option<Group>, to: Option<Version>, why: ReasonArgs) -> Self {
        let catalog = operator.catalog();
        let from = catalog.target_of("", group.as_ref(), now_ms());
        Change {
            act,
            group,
            expires_ms: None,
            from,
            to,
            pinned: None,
            rewind: None,
            actor: context.actor.clone(),
            reason: why.reason,
            dry_run: false,
            written: false,
            quality: differences(catalog, from, to),
        }
    }

    fn pinning(self, pinned: Option<Version>) -> Self {
        Change { pinned, ..self }
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
        let mut lines = vec![
            ("act", act_name(self.act).to_owned()),
            ("servers", self.group.as_ref().map_or_else(|| "all".to_owned(), |group| format!("those of group {group}"))),
            ("served now", maybe(self.from)),
            ("served after", maybe(self.to)),
            ("pinned after", maybe(self.pinned)),
            (
                "pinned until",
                if self.pinned.is_some() { self.expires_ms.map_or_else(|| "unpinned".to_owned(), time) } else { NONE.to_owned() },
            ),
        ];
        lines.extend(self.rewind.iter().flat_map(Rewind::lines));
        lines.extend([("actor", self.actor.clone()), ("reason", self.reason.clone()), ("state", state.to_owned())]);
        let mut text = pairs(lines);
        if !self.quality.is_empty() {
            let rows = self.quality.iter().map(|line| {
                let difference = line.difference.map_or_else(|| NONE.to_owned(), |difference| format!("{difference:+.5}"));
                [format!("{} {}", line.head, line.metric), figure(line.from), figure(line.to), difference]
            });
            let _ = write!(text, "\n\n{}", table(["metric", "served now", "served after", "difference"], rows));
        }
        text
    }
}
