//! A small world of users and items whose click probabilities are known, so that every head can be held against the truth.
//!
//! logit = base + user·item + quality(item, time) + affinity(category, device) + position bias + price + hour

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal, Zipf};
use serde_json::{Map, Value, json};

/// Users and items: small enough that a snapshot stays far below what the embedded broker keeps of a partition.
const USERS: usize = 2_000;
const ITEMS: usize = 800;
/// Popularity exponents: most impressions go to few items, less so for users.
const USER_ZIPF: f64 = 0.6;
const ITEM_ZIPF: f64 = 0.9;
/// Latent dimensions and their spread: user·item has a standard deviation of about 0.6. What few impressions per user can teach is limited.
const LATENT: usize = 2;
const LATENT_STD: f64 = 0.65;
/// Puts the click rate near one in seven.
const BASE: f64 = -2.0;
const QUALITY_STD: f64 = 0.9;
const AFFINITY_STD: f64 = 0.5;
/// Item quality swings by this much, once in [`DRIFT_PERIOD_MS`]: what was learnt grows old.
const DRIFT: f64 = 0.6;
const DRIFT_PERIOD_MS: f64 = 2.0 * 3_600_000.0;
/// Lower places are looked at less.
const POSITION_BIAS: f64 = -0.5;
const POSITIONS: u32 = 10;
const PRICE_EFFECT: f64 = -0.25;
const HOUR_EFFECT: f64 = 0.2;
const AGE_MEAN: f64 = 38.0;
const AGE_STD: f64 = 12.0;
const CATEGORIES: usize = 12;
const TAGS: usize = 40;
const DEVICES: [&str; 4] = ["phone", "tablet", "desktop", "tv"];
/// Mean time between two impressions and from an impression to its click, in event time.
const GAP_MEAN_MS: f64 = 40.0;
const CLICK_DELAY_MEAN_MS: f64 = 4_000.0;
/// The first event's time: 2026-01-05T08:00:00Z.
const EPOCH_MS: i64 = 1_767_600_000_000;
const DAY_MS: f64 = 86_400_000.0;
/// Candidates of a scoring request besides the one that was shown.
const OTHER_CANDIDATES: usize = 15;

/// Columns of one candidate, or of what a request's candidates have in common.
pub(super) type Columns = Map<String, Value>;

/// One impression, and what only the generator knows about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Impression {
    pub(super) id: String,
    pub(super) time_ms: i64,
    pub(super) user: String,
    /// Columns of user and context.
    pub(super) context: Columns,
    /// Columns of the item shown.
    pub(super) shown: Columns,
    /// Items that were not shown.
    pub(super) others: Vec<Columns>,
    /// The truth.
    pub(super) probability: f64,
    /// From impression to click, below the join's window; none: no click.
    pub(super) click_after_ms: Option<i64>,
}

impl Impression {
    /// The event as the topic carries it.
    pub(super) fn event(&self) -> Columns {
        let mut event: Columns = self.context.iter().chain(&self.shown).map(|(name, value)| (name.clone(), value.clone())).collect();
        event.insert("impression_id".to_owned(), json!(self.id));
        event.insert("ts_ms".to_owned(), json!(self.time_ms));
        event
    }
}

struct User {
    latent: [f64; LATENT],
    age: u32,
    device: usize,
}

struct Item {
    latent: [f64; LATENT],
    quality: f64,
    phase: f64,
    category: usize,
    tags: Vec<usize>,
    price: f64,
}

/// Draws impressions in the order of event time, the same for the same seed.
pub(super) struct World {
    rng: ChaCha8Rng,
    users: Vec<User>,
    items: Vec<Item>,
    affinity: Vec<[f64; DEVICES.len()]>,
    user_pick: Zipf<f64>,
    item_pick: Zipf<f64>,
    window_ms: i64,
    now_ms: f64,
    drawn: u64,
}

impl World {
    /// `window_ms`: clicks come before it has passed.
    pub(super) fn new(seed: u64, window_ms: i64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let users = (0..USERS).map(|_| user(&mut rng)).collect();
        let items = (0..ITEMS).map(|_| item(&mut rng)).collect();
        let affinity = (0..CATEGORIES).map(|_| std::array::from_fn(|_| AFFINITY_STD * normal(&mut rng))).collect();
        let zipf = |n: usize, exponent| Zipf::new(n as f64, exponent).expect("constants above");
        World {
            rng,
            users,
            items,
            affinity,
            user_pick: zipf(USERS, USER_ZIPF),
            item_pick: zipf(ITEMS, ITEM_ZIPF),
            window_ms,
            now_ms: 0.0,
            drawn: 0,
        }
    }

    /// The next impression; never ends.
    pub(super) fn draw(&mut self) -> Impression {
        self.now_ms += GAP_MEAN_MS * self.exponential();
        let user = pick(&self.user_pick, USERS, &mut self.rng);
        let item = pick(&self.item_pick, ITEMS, &mut self.rng);
        let position = self.rng.random_range(1..=POSITIONS);
        // One in five is on another device than usual.
        let device = if self.rng.random_bool(0.2) { self.rng.random_range(0..DEVICES.len()) } else { self.users[user].device };
        let probability = self.probability(user, item, device, position);
        let clicked = self.rng.random_bool(probability);
        let delay = CLICK_DELAY_MEAN_MS * self.exponential();
        let others = (0..OTHER_CANDIDATES)
            .map(|_| {
                let other = pick(&self.item_pick, ITEMS, &mut self.rng);
                self.candidate(other, position)
            })
            .collect();
        let id = self.drawn;
        self.drawn += 1;
        Impression {
            id: format!("i{id}"),
            time_ms: EPOCH_MS + whole(self.now_ms),
            user: format!("u{user}"),
            context: columns(json!({ "user_id": format!("u{user}"), "age": self.users[user].age, "device": DEVICES[device] })),
            shown: self.candidate(item, position),
            others,
            probability,
            click_after_ms: clicked.then(|| whole(delay).clamp(1, self.window_ms - 1)),
        }
    }

    /// A number in 0..1 for the caller's own choices, from the same sequence.
    pub(super) fn chance(&mut self) -> f64 {
        self.rng.random()
    }

    fn probability(&self, user: usize, item: usize, device: usize, position: u32) -> f64 {
        let (user, item) = (&self.users[user], &self.items[item]);
        let liking: f64 = user.latent.iter().zip(&item.latent).map(|(u, i)| u * i).sum();
        let drift = DRIFT * (std::f64::consts::TAU * self.now_ms / DRIFT_PERIOD_MS + item.phase).sin();
        let hour = HOUR_EFFECT * (std::f64::consts::TAU * (EPOCH_MS as f64 + self.now_ms) / DAY_MS).cos();
        let logit = BASE
            + liking
            + item.quality
            + drift
            + hour
            + self.affinity[item.category][device]
            + POSITION_BIAS * f64::from(position).ln()
            + PRICE_EFFECT * (item.price.ln_1p() - 3.0);
        1.0 / (1.0 + (-logit).exp())
    }

    fn candidate(&self, index: usize, position: u32) -> Columns {
        let item = &self.items[index];
        let tags: Vec<String> = item.tags.iter().map(|tag| format!("t{tag}")).collect();
        columns(json!({
            "item_id": format!("a{index}"),
            "category": format!("c{}", item.category),
            "tags": tags,
            "price": item.price,
            "position": position,
        }))
    }

    fn exponential(&mut self) -> f64 {
        Exp1.sample(&mut self.rng)
    }
}

fn user(rng: &mut ChaCha8Rng) -> User {
    let age = (AGE_MEAN + AGE_STD * normal(rng)).clamp(18.0, 90.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just above")]
    let age = age as u32;
    User { latent: latent(rng), age, device: rng.random_range(0..DEVICES.len()) }
}

fn item(rng: &mut ChaCha8Rng) -> Item {
    let tags = (0..rng.random_range(1..=4)).map(|_| rng.random_range(0..TAGS)).collect();
    // To the cent, around e³ ≈ 20.
    let price = ((3.0 + 0.8 * normal(rng)).exp() * 100.0).round() / 100.0;
    Item {
        latent: latent(rng),
        quality: QUALITY_STD * normal(rng),
        phase: rng.random_range(0.0..std::f64::consts::TAU),
        category: rng.random_range(0..CATEGORIES),
        tags,
        price,
    }
}

fn latent(rng: &mut ChaCha8Rng) -> [f64; LATENT] {
    std::array::from_fn(|_| LATENT_STD * normal(rng))
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Index below `n`; Zipf counts from 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number between 1 and n")]
fn pick(zipf: &Zipf<f64>, n: usize, rng: &mut ChaCha8Rng) -> usize {
    (zipf.sample(rng) as usize).clamp(1, n) - 1
}

#[expect(clippy::cast_possible_truncation, reason = "days in milliseconds")]
fn whole(ms: f64) -> i64 {
    ms as i64
}

fn columns(value: Value) -> Columns {
    match value {
        Value::Object(columns) => columns,
        _ => Columns::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranking::{Scored, auc};
    use super::*;

    const WINDOW_MS: i64 = 30_000;

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let mut draws = [7, 7, 8].map(|seed| {
            let mut world = World::new(seed, WINDOW_MS);
            (0..200).map(|_| world.draw()).collect::<Vec<_>>()
        });
        let other = draws[2].split_off(0);
        assert_eq!(draws[0], draws[1]);
        assert_ne!(draws[0], other);
    }

    #[test]
    fn the_truth_ranks_clicks_and_clicks_come_within_the_window() {
        let mut world = World::new(1, WINDOW_MS);
        let impressions: Vec<Impression> = (0..20_000).map(|_| world.draw()).collect();
        let clicks = impressions.iter().filter(|impression| impression.click_after_ms.is_some()).count();
        assert!((1_000..5_000).contains(&clicks), "{clicks} clicks");
        assert!(impressions.iter().filter_map(|impression| impression.click_after_ms).all(|after| (1..WINDOW_MS).contains(&after)));
        assert!(impressions.is_sorted_by_key(|impression| impression.time_ms));
        let scored: Vec<Scored> = impressions
            .iter()
            .map(|impression| Scored { group: 0, score: impression.probability, clicked: impression.click_after_ms.is_some() })
            .collect();
        let truth = auc(&scored).expect("both classes");
        assert!(truth > 0.7, "the truth's AUC is {truth}");
    }

    #[test]
    fn an_event_has_every_column_of_the_demo_config() {
        let event = World::new(1, WINDOW_MS).draw().event();
        let config = crate::config::parse(super::super::CONFIG, "demo.toml", std::iter::empty()).expect("the demo's config");
        for feature in &config.schema.features {
            let column = feature.column().unwrap_or(&config.schema.item);
            assert!(event.contains_key(column), "{column} is not in {event:?}");
        }
        for column in [&config.schema.time, &config.schema.user, &config.schema.item] {
            assert!(event.contains_key(column), "{column}");
        }
        assert!(!event.contains_key(&config.schema.label), "the label comes as a click");
    }
}
