//! Consent to acts that change what servers serve or where the trainer goes on.

use std::io::{self, IsTerminal, Write};

use crate::daemon::Failure;

/// How consent is given.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct ConsentArgs {
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking.
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Do it.
    Act,
    /// Only look.
    DryRun,
}

impl ConsentArgs {
    /// Asks on a terminal, after showing `change`; elsewhere an act that changes something (`needed`) wants `--yes`.
    pub(super) fn decide(self, needed: bool, change: &str) -> Result<Decision, Failure> {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        self.decide_on(needed, terminal, change, || {
            eprint!("Do it? [y/N] ");
            io::stderr().flush()?;
            let mut answer = String::new();
            io::stdin().read_line(&mut answer)?;
            Ok(answer)
        })
    }

    fn decide_on(
        self,
        needed: bool,
        terminal: bool,
        change: &str,
        answer: impl FnOnce() -> io::Result<String>,
    ) -> Result<Decision, Failure> {
        if self.dry_run {
            return Ok(Decision::DryRun);
        }
        if self.yes || !needed {
            return Ok(Decision::Act);
        }
        eprintln!("{change}");
        if !terminal {
            return Err(Failure::usage("there is no terminal to ask on; add --yes to do it, or --dry-run to look"));
        }
        match answer()?.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(Decision::Act),
            _ => Err(Failure::failed("not confirmed; nothing was changed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(dry_run: bool, yes: bool, needed: bool, terminal: bool, answer: &str) -> Result<Decision, u8> {
        let consent = ConsentArgs { dry_run, yes };
        consent.decide_on(needed, terminal, "change", || Ok(answer.to_owned())).map_err(|failure| failure.code())
    }

    #[test]
    fn asks_on_a_terminal_and_needs_yes_elsewhere() {
        assert_eq!(decide(false, false, true, true, "y\n"), Ok(Decision::Act));
        assert_eq!(decide(false, false, true, true, "\n"), Err(1));
        assert_eq!(decide(false, false, true, true, "no\n"), Err(1));
        assert_eq!(decide(false, false, true, false, "y\n"), Err(64));
        assert_eq!(decide(false, true, true, false, ""), Ok(Decision::Act));
    }

    #[test]
    fn a_dry_run_only_looks_and_what_changes_nothing_needs_no_consent() {
        assert_eq!(decide(true, false, true, false, ""), Ok(Decision::DryRun));
        assert_eq!(decide(false, false, false, false, ""), Ok(Decision::Act));
    }
}
