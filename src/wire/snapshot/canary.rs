use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::domain::Version;

/// A share of 1, in parts per million: whole numbers, so that servers in any language agree to the last host.
pub const WHOLE_PPM: u32 = 1_000_000;

/// Which version a share of the servers serves ahead of the others. Over as soon as `current` is written after it, or names its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// The publisher's epoch the writer saw.
    pub epoch: u64,
    /// Target; taken back by naming the version of `current`.
    pub version: Version,
    /// Share of the servers, parts per million.
    pub share_ppm: u32,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

impl Canary {
    /// Whether a server of this name serves it. One without a name does not.
    #[must_use]
    pub fn takes(&self, host: &str) -> bool {
        !host.is_empty() && canary_place(&self.model, host) < self.share_ppm
    }
}

/// Where a server stands among all, 0 to 999,999: XXH3-64 (seed 0) of the model's name, a zero byte and the server's, modulo a million. A
/// canary's share takes the places below it: who is in a small share is in every larger one, and another model has another order.
#[must_use]
pub fn canary_place(model: &str, host: &str) -> u32 {
    let mut hasher = Xxh3::new();
    hasher.update(model.as_bytes());
    hasher.update(&[0]);
    hasher.update(host.as_bytes());
    u32::try_from(hasher.digest() % u64::from(WHOLE_PPM)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(ppm: u32) -> Canary {
        let (actor, reason) = (String::new(), String::new());
        Canary { proto: 1, model: "ctr".to_owned(), seq: 1, epoch: 1, version: Version(1), share_ppm: ppm, actor, reason, at_ms: 0 }
    }

    /// Servers in other languages have to agree: these values may never change.
    #[test]
    fn places_are_these() {
        let places = ["ad-1", "ad-2", "ad-3.example.com"].map(|host| canary_place("ctr", host));
        assert_eq!(places, [623_217, 975_305, 28_354]);
        assert_ne!(canary_place("ctr", "ad-1"), canary_place("search", "ad-1"));
    }

    #[test]
    fn a_share_takes_that_share_and_a_larger_one_takes_those_too() {
        let hosts: Vec<String> = (0..10_000).map(|number| format!("ad-{number}")).collect();
        let taken = |ppm| hosts.iter().filter(|host| share(ppm).takes(host)).collect::<Vec<_>>();
        let (tenth, third) = (taken(100_000), taken(333_333));
        assert!((900..1100).contains(&tenth.len()) && (3200..3500).contains(&third.len()), "{} {}", tenth.len(), third.len());
        assert!(tenth.iter().all(|host| third.contains(host)));
        assert_eq!((taken(0).len(), taken(WHOLE_PPM).len()), (0, hosts.len()));
        assert!(!share(WHOLE_PPM).takes(""), "who has no name takes no part");
    }
}
