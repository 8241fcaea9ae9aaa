//! How a published version comes to be served: at once, or by a share of the servers first.
//!
//! A version that is tried is left alone until its delay has passed, whatever is published meanwhile: else a trainer that publishes faster than
//! that would never get one current. The newest of those that come meanwhile is tried next. All of it is read from the topic, so that a
//! restart goes on where it was.

use serde::{Deserialize, Serialize};

use super::publisher::PublishError;
use super::{Publisher, ReportTopic};
use crate::domain::Version;
use crate::serving::Reports;
use crate::wire::snapshot::{Act, AuditEntry, Canary, Key, PROTOCOL, Pointer, ServerState, WHOLE_PPM};

/// Whom the audit log names for what the trainer does.
const ACTOR: &str = "trainer";
/// Refusals that are told in words.
const REFUSALS_TOLD: usize = 3;

/// What became of a version that could be served.
pub(super) enum Promotion {
    /// `current` names it.
    Done,
    /// It stays where it is, for this reason.
    Held(String),
    /// A share of the servers tries it first, or one before it.
    Tried(String),
}

/// The version that a share of the servers tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Version.
    pub version: Version,
    /// Share of the servers.
    pub share: f64,
    /// Since when, milliseconds.
    pub since_ms: i64,
    /// Servers of the share that report that they serve it.
    pub serving: usize,
    /// Servers of the share that have refused it.
    pub refused: usize,
    /// The version that is tried next.
    pub next: Option<Version>,
    /// Every server is pinned, so that nobody tries it.
    pub pinned: bool,
}

/// Where rollout stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// What is tried.
    pub trial: Option<Trial>,
    /// Why the last version that was tried was taken back, until one becomes current.
    pub fell_back: Option<String>,
}

/// How the servers of a share have fared with a version.
#[derive(Default)]
struct Tally {
    serving: usize,
    refused: Vec<String>,
}

impl Tally {
    /// Only servers of the share count: nobody else can have tried it.
    fn of(canary: &Canary, reports: &Reports) -> Self {
        let mut tally = Tally::default();
        for report in reports.servers().filter(|report| canary.takes(&report.host)) {
            match &report.state {
                ServerState::Refused { reason } if report.target == Some(canary.version) => {
                    tally.refused.push(format!("{}: {reason}", report.host));
                }
                _ if report.version == Some(canary.version) => tally.serving += 1,
                _ => {}
            }
        }
        tally
    }

    fn words(&self) -> String {
        let told = self.refused.iter().take(REFUSALS_TOLD).cloned().collect::<Vec<_>>().join("; ");
        format!(
            "{} servers serve it, {} have refused it{}{told}",
            self.serving,
            self.refused.len(),
            if told.is_empty() { "" } else { ": " }
        )
    }
}

impl Publisher {
    /// With what servers report of the versions that they try; without it only the delay counts.
    #[must_use]
    pub fn hearing(mut self, reports: ReportTopic) -> Self {
        self.reports = Some(reports);
        self
    }

    /// Whether versions are tried by a share of the servers first.
    #[must_use]
    pub fn tries(&self) -> bool {
        self.config.canary.share > 0.0
    }

    /// Moves `current`, or lets a share of the servers try it first; says who holds it back, if somebody does.
    pub(super) fn promote(&mut self, version: Version, now_ms: i64) -> Result<Promotion, PublishError> {
        let catalog = self.topic.catalog();
        if let Some((pin, pinned)) = catalog.pinned(now_ms)
            && pinned != version
        {
            return Ok(Promotion::Held(format!("version {pinned} is pinned by {}: {}", pin.actor, pin.reason)));
        }
        let current = catalog.current().map(|pointer| pointer.version);
        match catalog.highest_current() {
            _ if current == Some(version) => return Ok(Promotion::Done),
            Some(highest) if highest >= version => {
                return Ok(Promotion::Held(format!("`current` has been at version {highest} already; only an operator goes back")));
            }
            _ => {}
        }
        if let Some(entry) = catalog.audit().find(|entry| entry.act == Act::FallBack && entry.from == Some(version)) {
            return Ok(Promotion::Held(format!("version {version} was tried and taken back: {}", entry.reason)));
        }
        // Where nothing is current yet, the others would have nothing to serve.
        if !self.tries() || current.is_none() {
            self.point(version, format!("checkpoint {version} published"), now_ms)?;
            return Ok(Promotion::Done);
        }
        self.advance(now_ms)?;
        match self.topic.catalog().canary() {
            Some(canary) if canary.version >= version => Ok(Promotion::Tried(format!("{:.1} % of the servers try it", percent(canary)))),
            Some(canary) if now_ms < self.due_ms(canary) => {
                let why = format!("{:.1} % of the servers try version {} now, and this one next", percent(canary), canary.version);
                self.next = Some(version);
                Ok(Promotion::Tried(why))
            }
            _ => {
                self.try_out(version, now_ms)?;
                Ok(Promotion::Tried(format!("{:.1} % of the servers try it", self.config.canary.share * 100.0)))
            }
        }
    }

    /// Looks at the topic, and decides about the version that is tried, by clock and reports. Gives the version that became current.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn advance(&mut self, now_ms: i64) -> Result<Option<Version>, PublishError> {
        self.check_lease()?;
        if !self.tries() || self.topic.catalog().pinned(now_ms).is_some() {
            return Ok(None);
        }
        let Some(canary) = self.topic.catalog().canary().cloned() else {
            // An operator has decided about it.
            return self.try_next(now_ms).map(|()| None);
        };
        let tally = self.tally(&canary)?;
        let version = canary.version;
        if tally.refused.len() >= self.config.canary.rejects {
            self.take_back(&canary, &tally, now_ms)?;
            return self.try_next(now_ms).map(|()| None);
        }
        if now_ms < self.due_ms(&canary) {
            return Ok(None);
        }
        if tally.serving >= self.config.canary.reports {
            self.point(version, format!("checkpoint {version} published and tried: {}", tally.words()), now_ms)?;
            tracing::info!(version = version.0, serving = tally.serving, "the version that was tried is current now");
            self.try_next(now_ms)?;
            return Ok(Some(version));
        }
        // It had its time, and too few servers have said anything: a newer one does no worse.
        self.try_next(now_ms).map(|()| None)
    }

    /// Where rollout stands, as of the last look at the topics.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn rollout(&mut self, now_ms: i64) -> Result<Rollout, PublishError> {
        let catalog = self.topic.catalog();
        let fell_back = catalog.audit().rev().find_map(|entry| match (entry.act, entry.from) {
            (Act::FallBack, Some(version)) => Some(Some(format!("version {version} was taken back: {}", entry.reason))),
            (Act::Promote, _) => Some(None),
            _ => None,
        });
        let (pinned, canary) = (catalog.pinned(now_ms).is_some(), catalog.canary().cloned());
        let trial = match canary {
            None => None,
            Some(canary) => {
                let tally = self.tally(&canary)?;
                Some(Trial {
                    version: canary.version,
                    share: percent(&canary) / 100.0,
                    since_ms: canary.at_ms,
                    serving: tally.serving,
                    refused: tally.refused.len(),
                    next: self.next,
                    pinned,
                })
            }
        };
        Ok(Rollout { trial, fell_back: fell_back.flatten() })
    }

    fn tally(&mut self, canary: &Canary) -> Result<Tally, PublishError> {
        let Some(topic) = &mut self.reports else { return Ok(Tally::default()) };
        Ok(Tally::of(canary, topic.refresh()?))
    }

    fn due_ms(&self, canary: &Canary) -> i64 {
        canary.at_ms.saturating_add(self.config.canary.delay.as_millis())
    }

    /// Tries the version that waits, if it still can be.
    fn try_next(&mut self, now_ms: i64) -> Result<(), PublishError> {
        let highest = self.topic.catalog().highest_current();
        match self.next.take().filter(|next| highest.is_none_or(|highest| *next > highest)) {
            Some(next) => self.try_out(next, now_ms),
            None => Ok(()),
        }
    }

    fn try_out(&mut self, version: Version, now_ms: i64) -> Result<(), PublishError> {
        let share = self.config.canary.share;
        let reason = format!("checkpoint {version} published, to be tried by {:.1} % of the servers", share * 100.0);
        self.give_to_share(version, Act::Canary, version, reason, now_ms)
    }

    fn take_back(&mut self, canary: &Canary, tally: &Tally, now_ms: i64) -> Result<(), PublishError> {
        let Some(current) = self.topic.catalog().current().map(|pointer| pointer.version) else { return Ok(()) };
        let words = tally.words();
        tracing::error!(version = canary.version.0, words, "the version that was tried is taken back");
        metrics::counter!(crate::telemetry::names::CANARY_FALLBACKS).increment(1);
        self.give_to_share(current, Act::FallBack, canary.version, words, now_ms)
    }

    /// Writes `a/canary` and the audit entry, `tried` being the version that the act is about.
    fn give_to_share(&mut self, version: Version, act: Act, tried: Version, reason: String, now_ms: i64) -> Result<(), PublishError> {
        // Of the canary and the audit entry.
        let seq = self.topic.next_seq(2)?;
        let canary = Canary {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.epoch,
            version,
            share_ppm: share_ppm(self.config.canary.share),
            actor: ACTOR.to_owned(),
            reason: reason.clone(),
            at_ms: now_ms,
        };
        let mut audit = self.audit(seq + 1, act, Some(version), reason, now_ms);
        if act == Act::FallBack {
            audit.from = Some(tried);
        }
        self.topic.append(&[self.topic.sealed(&Key::Canary, &canary), self.topic.sealed(&Key::Audit(audit.seq), &audit)])?;
        self.check_lease()
    }

    fn point(&mut self, version: Version, reason: String, now_ms: i64) -> Result<(), PublishError> {
        // Of the pointer and the audit entry.
        let seq = self.topic.next_seq(2)?;
        let pointer = Pointer {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.epoch,
            version,
            highest: Some(version),
            actor: ACTOR.to_owned(),
            reason: reason.clone(),
            at_ms: now_ms,
        };
        let audit = self.audit(seq + 1, Act::Promote, Some(version), reason, now_ms);
        self.topic.append(&[self.topic.sealed(&Key::Current, &pointer), self.topic.sealed(&Key::Audit(audit.seq), &audit)])?;
        // Written too late, it does not count.
        self.check_lease()
    }

    pub(super) fn audit(&self, seq: u64, act: Act, to: Option<Version>, reason: String, now_ms: i64) -> AuditEntry {
        AuditEntry {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            act,
            from: self.topic.catalog().target(now_ms),
            to,
            group: None,
            expires_ms: None,
            actor: ACTOR.to_owned(),
            reason,
            at_ms: now_ms,
        }
    }
}

/// Of a share that the configuration's check has let through.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
fn share_ppm(share: f64) -> u32 {
    (share * f64::from(WHOLE_PPM)).round().clamp(0.0, f64::from(WHOLE_PPM)) as u32
}

fn percent(canary: &Canary) -> f64 {
    f64::from(canary.share_ppm) / f64::from(WHOLE_PPM) * 100.0
}
