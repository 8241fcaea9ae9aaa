//! Which versions stay on the topic.

use std::collections::BTreeSet;

use super::topic::{Entry, entry};
use crate::domain::Version;
use crate::serving::{Catalog, from_whole};
use crate::wire::snapshot::{Act, Key, Manifest};

/// Versions last made current that stay whatever their age: where an operator looks first for one to go back to.
const PROMOTED_KEPT: usize = 3;

/// What goes.
pub(super) struct Collected {
    /// Tombstones of manifests.
    pub(super) manifests: Vec<Entry>,
    /// Tombstones of chunks.
    pub(super) chunks: Vec<Entry>,
    /// Objects of the object store, each by what it is.
    pub(super) objects: Vec<(Version, &'static str)>,
}

/// Tombstones for the manifests, then for the chunks, of every version that nothing holds. Chunks below `newest` without a manifest go
/// too: what a killed publisher or a killed collection left. And the objects of those versions.
///
/// The manifests' tombstones have to be acknowledged before those of the chunks are sent, so that no reader ever sees a manifest whose
/// chunks are gone.
pub(super) fn collected(catalog: &Catalog, keep: usize, newest: Version, now_ms: i64) -> Collected {
    let kept = kept(catalog, keep, now_ms);
    let gone: Vec<&Manifest> = catalog.manifests().values().filter(|manifest| !kept.contains(&manifest.version)).collect();
    let chunks = catalog
        .chunks()
        .filter(|(version, _)| !kept.contains(version) && *version < newest)
        .map(|(version, index)| entry(&Key::Chunk(version, index), None))
        .collect();
    let objects = gone.iter().flat_map(|manifest| {
        let delta = manifest.delta.as_ref().and_then(|delta| delta.payload.object.as_ref());
        let parts = [(manifest.artifact.object.as_ref(), "artifact"), (delta, "delta")];
        parts.into_iter().filter_map(|(object, kind)| object.map(|_| (manifest.version, kind)))
    });
    Collected {
        manifests: gone.iter().map(|manifest| entry(&Key::Manifest(manifest.version), None)).collect(),
        chunks,
        objects: objects.collect(),
    }
}

/// The newest `keep` versions, all that may be gone back to, and whatever the deltas of these build on.
fn kept(catalog: &Catalog, keep: usize, now_ms: i64) -> BTreeSet<Version> {
    let newest = catalog.manifests().keys().rev().take(keep).copied();
    let wanted: BTreeSet<Version> = newest.chain(pointed(catalog, now_ms)).collect();
    let below = wanted.iter().filter_map(|version| from_whole(catalog, *version)).flatten().collect::<Vec<_>>();
    wanted.into_iter().chain(below).collect()
}

/// Everything pointed at or pinned, and the last few promoted.
pub(super) fn pointed(catalog: &Catalog, now_ms: i64) -> BTreeSet<Version> {
    let current = catalog.current().map(|pointer| pointer.version);
    let canary = catalog.canary().map(|canary| canary.version);
    let pins = catalog.pin().into_iter().chain(catalog.group_pins().map(|(_, pin)| pin));
    let mut promoted = BTreeSet::new();
    for version in catalog.audit().rev().filter(|entry| entry.act == Act::Promote).filter_map(|entry| entry.to) {
        if promoted.len() == PROMOTED_KEPT {
            break;
        }
        promoted.insert(version);
    }
    current.into_iter().chain(canary).chain(pins.filter_map(|pin| pin.holds(now_ms))).chain(promoted).collect()
}
