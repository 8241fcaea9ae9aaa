use crate::domain::Version;
use crate::serving::{Catalog, ModelError};
use crate::wire::snapshot::Manifest;

/// Most deltas from an artifact to the one wanted: more than any configuration puts between two versions that are sent whole.
const CHAIN_MAX: usize = 256;

/// Where a route begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With the artifact of a version on disk.
    Cached,
    /// With the artifact of a version that was sent whole.
    Whole,
}

/// A way to an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) start: Start,
    /// Whose artifact it begins with, and that artifact's hash.
    pub(super) from: Version,
    pub(super) blake3: String,
    /// Versions whose deltas follow, in this order.
    pub(super) deltas: Vec<Version>,
    /// Bytes to fetch.
    pub(super) cost: u64,
}

/// A version on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) version: Version,
    pub(super) blake3: String,
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Blocked {
    /// Something is not on the topic.
    Waiting(String),
    /// Something is there that cannot be.
    Model(ModelError),
}

/// Every way to a version's artifact, that of the fewest bytes first: from the version back, delta by delta, to each one that was sent whole
/// and to the first that is on disk. There is no circle, since a base is below what is built on it.
pub(super) fn routes(catalog: &Catalog, manifest: &Manifest, cached: &[Cached]) -> Result<Vec<Route>, Blocked> {
    let version = manifest.version;
    let mut routes = Vec::new();
    let mut deltas: Vec<Version> = Vec::new();
    let (mut at, mut blake3, mut cost) = (version, manifest.artifact.blake3.clone(), 0_u64);
    let route = |start, from, blake3: &String, deltas: &[Version], cost| {
        let deltas = deltas.iter().rev().copied().collect();
        Route { start, from, blake3: blake3.clone(), deltas, cost }
    };
    let blocked = loop {
        if cached.iter().any(|held| held.version == at && held.blake3 == blake3) {
            routes.push(route(Start::Cached, at, &blake3, &deltas, cost));
            break Blocked::Waiting(String::new());
        }
        let held = if at == version { Some(manifest) } else { catalog.manifests().get(&at) };
        let Some(held) = held else {
            break Blocked::Waiting(format!("version {version}: version {at}, which it builds on, is not on the topic"));
        };
        if held.artifact.blake3 != blake3 {
            let why = format!("it builds on another version {at} than the topic holds");
            break Blocked::Model(ModelError::WrongBase { version, why });
        }
        let whole = held.artifact.payload();
        if let Some(whole) = whole.as_ref().filter(|whole| has_chunks(catalog, at, 0, whole.chunks.len())) {
            routes.push(route(Start::Whole, at, &blake3, &deltas, cost.saturating_add(whole.encoded_bytes)));
        }
        let missing = || Blocked::Waiting(format!("version {at}: its manifest or a chunk is not on the topic"));
        let Some(delta) = &held.delta else {
            break if whole.is_some() { missing() } else { Blocked::Model(nothing_sent(version, at)) };
        };
        if delta.base >= at {
            let why = format!("version {at} builds on version {}, which is not below it", delta.base);
            break Blocked::Model(ModelError::WrongBase { version, why });
        }
        if deltas.len() == CHAIN_MAX {
            let why = format!("more than {CHAIN_MAX} deltas lead to it");
            break Blocked::Model(ModelError::WrongBase { version, why });
        }
        if !has_chunks(catalog, at, held.delta_from(), delta.payload.chunks.len()) {
            break missing();
        }
        deltas.push(at);
        cost = cost.saturating_add(delta.payload.encoded_bytes);
        (at, blake3) = (delta.base, delta.base_blake3.clone());
    };
    if routes.is_empty() {
        return Err(blocked);
    }
    routes.sort_by_key(|route| route.cost);
    Ok(routes)
}

/// The versions that lead from one sent whole to this one, newest first, with this one: all of them are there. `None` where they do not.
#[cfg(feature = "trainer")]
pub(crate) fn from_whole(catalog: &Catalog, version: Version) -> Option<Vec<Version>> {
    let routes = routes(catalog, catalog.manifests().get(&version)?, &[]).ok()?;
    let shortest = routes.into_iter().min_by_key(|route| route.deltas.len())?;
    let mut versions: Vec<Version> = shortest.deltas.into_iter().rev().collect();
    versions.push(shortest.from);
    versions.dedup();
    Some(versions)
}

fn nothing_sent(version: Version, at: Version) -> ModelError {
    ModelError::Artifact { version, why: format!("version {at} is sent neither whole nor as a delta") }
}

fn has_chunks(catalog: &Catalog, version: Version, first: u32, count: usize) -> bool {
    (first..).take(count).all(|index| catalog.chunk_offset(version, index).is_some())
}
