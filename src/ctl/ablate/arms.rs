//! The arms: what each changes of the configuration.

use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::config::{Config, Heads, HintKind, SharedGrad};

/// Rows of the booster's own phase unless said otherwise.
pub(super) const BOOSTER_FIRST: u64 = 20_000;
/// 2α of rocket + KD (Zhou et al. 2018).
const TEACHER: f64 = 1.8;
/// The arm that every other is compared with: what a light net is worth without a booster.
pub(super) const ALONE: &str = "light_only";
/// The booster without a light net beside it.
pub(super) const BOOSTER: &str = "booster_only";
/// The configuration as it is.
pub(super) const ROCKET: &str = "rocket";

/// Hidden widths of a light net.
pub(super) type Shape = Vec<usize>;

/// `64-32` → its widths.
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let width = |text: &str| match text.parse() {
        Ok(width) if width > 0 => Ok(width),
        _ => Err(format!("`{text}` is no width; write a shape like 64-32")),
    };
    text.split('-').map(width).collect()
}

/// One arm, ready to run.
#[derive(Debug, Clone)]
pub(super) struct Arm {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) config: Config,
}

/// An arm of the learning rule.
struct Kind {
    name: &'static str,
    about: &'static str,
    change: fn(&mut Config, booster_first: u64),
}

/// The family of the paper's table, in its order.
const KINDS: &[Kind] = &[
    Kind { name: ALONE, about: "light alone, labels only", change: |config, _| one_head(config, Heads::Light) },
    Kind { name: BOOSTER, about: "booster alone, labels only", change: |config, _| one_head(config, Heads::Booster) },
    Kind { name: ROCKET, about: "as configured: the hint from a booster trained beside it", change: |_, _| {} },
    Kind { name: "no_hint", about: "trained together, hint weight 0", change: |config, _| config.train.hint.weight = 0.0 },
    Kind {
        name: "no_gradient_block",
        about: "the hint moves the booster too",
        change: |config, _| config.train.hint.gradient_block = false,
    },
    Kind {
        name: "no_sharing",
        about: "embeddings and shared layers apart",
        change: |config, _| {
            (config.model.sharing, config.model.control) = (false, false);
            config.train.shared_grad = SharedGrad::All;
        },
    },
    Kind {
        name: "hint_off_trunk",
        about: "shared_grad = no_hint: the hint does not move the trunk",
        change: |config, _| config.train.shared_grad = SharedGrad::NoHint,
    },
    Kind {
        name: "light_off_trunk",
        about: "shared_grad = booster_only: light moves nothing of the trunk",
        change: |config, _| config.train.shared_grad = SharedGrad::BoosterOnly,
    },
    Kind { name: "prob_mse", about: "hint on probabilities", change: |config, _| config.train.hint.kind = HintKind::ProbMse },
    Kind { name: "kd", about: "hint by distillation at a temperature", change: |config, _| config.train.hint.kind = HintKind::Kd },
    Kind {
        name: "rocket_kd",
        about: "rocket, and distillation from the booster as it was some rows ago, at the published weight unless configured",
        change: |config, rows| {
            if config.train.teacher.weight == 0.0 {
                config.train.teacher.weight = TEACHER;
            }
            config.publish.every_samples = rows;
        },
    },
    Kind { name: "mimic", about: "booster first, then light from the frozen booster's logits", change: booster_first },
    Kind {
        name: "two_stage_kd",
        about: "booster first, then light by distillation",
        change: |config, rows| {
            booster_first(config, rows);
            config.train.hint.kind = HintKind::Kd;
        },
    },
];

/// Without a second head there is nothing for a control head to measure, and nothing to keep off the trunk.
fn one_head(config: &mut Config, heads: Heads) {
    (config.train.heads, config.model.control, config.train.shared_grad) = (heads, false, SharedGrad::All);
    config.train.teacher.weight = 0.0;
}

/// Light never moves a trunk that is frozen.
fn booster_first(config: &mut Config, rows: u64) {
    (config.train.booster_first.samples, config.train.shared_grad) = (rows, SharedGrad::All);
}

/// What `--arms` knows.
pub(super) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(KINDS.iter().map(|kind| PossibleValue::new(kind.name).help(kind.about)))
}

/// The arms called `names` (all for none), then light alone and rocket for each shape.
pub(super) fn select(base: &Config, names: &[String], shapes: &[Shape], booster_first: u64) -> Vec<Arm> {
    let build = |kind: &Kind| {
        let mut config = base.clone();
        // An option of one kind of hint alone: an arm with another kind has none.
        let temperature = config.train.hint.temperature.take();
        (kind.change)(&mut config, booster_first);
        config.train.hint.temperature = temperature.filter(|_| config.train.hint.kind == HintKind::Kd);
        Arm { name: kind.name.to_owned(), about: kind.about.to_owned(), config }
    };
    let chosen = KINDS.iter().filter(|kind| names.is_empty() || names.iter().any(|name| name == kind.name)).map(build);
    let swept = shapes.iter().flat_map(|shape| {
        KINDS.iter().filter(|kind| [ALONE, ROCKET].contains(&kind.name)).map(|kind| {
            let mut arm = build(kind);
            arm.name = format!("{} {}", kind.name, shape.iter().map(usize::to_string).collect::<Vec<_>>().join("-"));
            arm.config.model.light.clone_from(shape);
            arm
        })
    });
    chosen.chain(swept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Config {
        let text =
            "name = \"a\"\n[schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]";
        crate::config::parse(text, "test", std::iter::empty()).expect("a good config")
    }

    #[test]
    fn every_arm_is_a_configuration_of_its_own_that_would_load() {
        let arms = select(&base(), &[], &[], 100);
        assert_eq!(arms.len(), KINDS.len());
        for (i, arm) in arms.iter().enumerate() {
            assert!(arms[..i].iter().all(|other| other.config != arm.config), "{} is the same as another", arm.name);
            let text = toml::to_string(&arm.config).expect("a configuration is TOML");
            let text = if arm.name == BOOSTER { text.replace("enabled = true", "enabled = false") } else { text };
            crate::config::parse(&text, &arm.name, std::iter::empty()).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn names_choose_and_shapes_add() {
        let names = |arms: Vec<Arm>| arms.into_iter().map(|arm| arm.name).collect::<Vec<_>>();
        let some = select(&base(), &["rocket".to_owned(), "kd".to_owned()], &[vec![8, 4]], 1);
        assert_eq!(some[3].config.model.light, [8, 4]);
        assert_eq!(names(some), ["rocket", "kd", "light_only 8-4", "rocket 8-4"]);
    }

    #[test]
    fn shapes_are_widths() {
        assert_eq!(shape("64-32"), Ok(vec![64, 32]));
        for bad in ["", "64-", "a", "0", "-1"] {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }
}
