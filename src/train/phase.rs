use crate::config::{BoosterFirstConfig, SharedGrad};
use crate::nets::{Part, Rule};

/// Who learns now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// All together.
    Joint,
    /// Booster and trunk; the others only score.
    Booster,
    /// Light, and control with it, from a booster and trunk that are frozen.
    Light,
}

impl Phase {
    /// The phase of a batch that begins after `samples` trained ones.
    pub(super) fn after(samples: u64, config: &BoosterFirstConfig) -> Self {
        match config.samples {
            0 => Phase::Joint,
            first if samples < first => Phase::Booster,
            _ => Phase::Light,
        }
    }

    /// The terms of `rule` that count in it, and what they may move.
    pub(super) fn rule(self, rule: Rule) -> Rule {
        match self {
            Phase::Joint => rule,
            Phase::Booster => Rule { light: 0.0, control: 0.0, hint: 0.0, teacher: 0.0, ..rule },
            Phase::Light => Rule { booster: 0.0, gradient_block: true, shared_grad: SharedGrad::BoosterOnly, ..rule },
        }
    }

    /// Dense parts that keep every bit.
    pub(super) fn frozen(self) -> &'static [Part] {
        match self {
            Phase::Joint => &[],
            Phase::Booster => &[Part::Light, Part::Control],
            Phase::Light => &[Part::Shared, Part::Booster],
        }
    }

    /// Whether the embedding rows that the booster reads learn.
    pub(super) fn moves_shared_rows(self) -> bool {
        self != Phase::Light
    }

    /// Whether embedding rows that light has to itself learn.
    pub(super) fn moves_light_rows(self) -> bool {
        self != Phase::Booster
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_belongs_to_the_phase_in_which_it_begins() {
        let at = |samples, first| Phase::after(samples, &BoosterFirstConfig { samples: first });
        assert_eq!([at(0, 0), at(9, 0)], [Phase::Joint; 2]);
        assert_eq!([at(0, 10), at(9, 10)], [Phase::Booster; 2]);
        assert_eq!([at(10, 10), at(11, 10)], [Phase::Light; 2]);
    }
}
