//! A version's artifact: from disk, from the topic, from an object store; whole, or by deltas from another.

mod apply;
mod codec;
mod route;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use route::{Blocked, Cached, Route, Start};

use super::objects::{ObjectError, Objects};
use super::{Catalog, ModelError, ServedModel, SnapshotCache};
use crate::domain::Version;
use crate::stream::{LogReader, StreamError};
use crate::telemetry::names;
use crate::wire::snapshot::{Key, Manifest, Payload};

#[cfg(feature = "trainer")]
pub(crate) use route::from_whole;

/// Chunks read at a time: a few MiB, so that a stop is noticed between them and a timeout means something.
const CHUNKS_PER_READ: usize = 8;

/// What a fetch must not go beyond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    /// Largest artifact and largest delta, bytes, encoded and decoded.
    pub(crate) bytes_max: u64,
    /// How long a handful of chunks, or an object, may take to come.
    pub(crate) timeout: Duration,
}

/// Why there is no artifact.
#[derive(Debug)]
pub(crate) enum Unobtained {
    /// Not yet: something is not on the topic.
    Waiting(String),
    /// The topic or the object store; trying again may help.
    Stream(StreamError),
    /// What is there is not what its manifest says.
    Model(ModelError),
    /// Told to stop.
    Stopping,
}

/// A part of a version that can be at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Cached,
    Whole,
    Delta,
}

enum Failure {
    /// This part is at fault; a way around it may do.
    At(Version, Part, ModelError),
    /// Nothing will do now.
    All(Unobtained),
}

/// Gets artifacts. What it gives is the artifact that the manifest names, bit by bit: everything is hashed on the way.
pub(crate) struct Fetch<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) reader: &'a mut dyn LogReader,
    /// What is served now, if anything: the base of most deltas, which then need not be read and hashed again, nor held twice.
    pub(crate) served: Option<&'a ServedModel>,
    /// Where other base artifacts may lie.
    pub(crate) cache: Option<&'a SnapshotCache>,
    pub(crate) objects: &'a Objects,
    pub(crate) limits: FetchLimits,
    pub(crate) stopping: &'a dyn Fn() -> bool,
    /// Told what was got over: a damaged base on disk, a delta that another way led around.
    pub(crate) noted: &'a mut dyn FnMut(&ModelError),
}

impl<'a> Fetch<'a> {
    /// The artifact of a version, by the way that costs the fewest bytes; where a part of it is damaged, by the next one around that.
    pub(crate) fn artifact(&mut self, manifest: &Manifest) -> Result<Vec<u8>, Unobtained> {
        let mut bad: BTreeSet<(Version, Part)> = BTreeSet::new();
        let mut failures: Vec<ModelError> = Vec::new();
        let mut cached = self.cached();
        loop {
            let routes = match route::routes(self.catalog, manifest, &cached) {
                Ok(routes) => routes,
                Err(_) if !failures.is_empty() => Vec::new(),
                Err(Blocked::Waiting(why)) => return Err(Unobtained::Waiting(why)),
                Err(Blocked::Model(error)) => return Err(Unobtained::Model(error)),
            };
            let avoids = |route: &Route| {
                let start = (route.from, if route.start == Start::Whole { Part::Whole } else { Part::Cached });
                !bad.contains(&start) && route.deltas.iter().all(|version| !bad.contains(&(*version, Part::Delta)))
            };
            let Some(route) = routes.into_iter().find(avoids) else {
                // The loop comes back here only after a failure.
                let error = failures.into_iter().next();
                return Err(error.map_or_else(|| Unobtained::Waiting("no way to it".to_owned()), Unobtained::Model));
            };
            match self.follow(&route, manifest) {
                Ok(artifact) => {
                    failures.iter().for_each(|error| (self.noted)(error));
                    return Ok(artifact);
                }
                Err(Failure::All(unobtained)) => return Err(unobtained),
                Err(Failure::At(version, part, error)) => {
                    bad.insert((version, part));
                    if part == Part::Cached {
                        cached.retain(|held| held.version != version);
                        (self.noted)(&error);
                    } else {
                        failures.push(error);
                    }
                }
            }
        }
    }

    /// Versions in memory and on disk, with the hashes that their manifests there give them.
    fn cached(&self) -> Vec<Cached> {
        let of = |manifest: &Manifest| Cached { version: manifest.version, blake3: manifest.artifact.blake3.clone() };
        let on_disk = self.cache.into_iter().flat_map(|cache| {
            let versions = cache.versions().unwrap_or_default();
            versions.into_iter().filter_map(move |version| Some(of(&cache.manifest(version).ok()??)))
        });
        self.served.map(|model| of(model.manifest())).into_iter().chain(on_disk).collect()
    }

    fn follow(&mut self, route: &Route, manifest: &Manifest) -> Result<Vec<u8>, Failure> {
        let catalog = self.catalog;
        let manifest_of = |version: Version| match catalog.manifests().get(&version) {
            _ if version == manifest.version => Ok(manifest),
            Some(held) => Ok(held),
            None => Err(Failure::All(Unobtained::Waiting(format!("version {version} is not on the topic")))),
        };
        let mut artifact = match route.start {
            Start::Cached => self.base(route)?,
            Start::Whole => {
                let (version, whole) = (route.from, manifest_of(route.from)?.artifact.payload());
                let whole = whole.ok_or_else(|| Failure::All(Unobtained::Waiting(format!("version {version} is not sent whole"))))?;
                Cow::Owned(self.payload(version, Part::Whole, 0, &whole)?)
            }
        };
        for version in &route.deltas {
            let made = manifest_of(*version)?;
            let delta = made.delta.as_ref().ok_or_else(|| Failure::All(Unobtained::Waiting(format!("version {version} has no delta"))))?;
            let bytes = self.payload(*version, Part::Delta, made.delta_from(), &delta.payload)?;
            let at_fault = |error| Failure::At(*version, Part::Delta, error);
            self.bounded(*version, "artifact", made.artifact.bytes).map_err(at_fault)?;
            artifact = Cow::Owned(apply::apply(*version, &artifact, &bytes, made.artifact.bytes).map_err(at_fault)?);
            if blake3::hash(&artifact).to_hex().as_str() != made.artifact.blake3 {
                return Err(at_fault(ModelError::Hash { version: *version, what: "artifact".to_owned() }));
            }
        }
        Ok(artifact.into_owned())
    }

    /// From memory where it is there, which was hashed when it came; else from disk.
    fn base(&self, route: &Route) -> Result<Cow<'a, [u8]>, Failure> {
        let is_base = |model: &&ServedModel| (model.version(), model.manifest().artifact.blake3.as_str()) == (route.from, &*route.blake3);
        match self.served.filter(is_base) {
            Some(model) => Ok(Cow::Borrowed(model.artifact())),
            None => self.base_on_disk(route).map(Cow::Owned),
        }
    }

    fn base_on_disk(&self, route: &Route) -> Result<Vec<u8>, Failure> {
        let version = route.from;
        let why = match self.cache.map(|cache| cache.load(version)) {
            Some(Ok(Some((_, artifact)))) if blake3::hash(&artifact).to_hex().as_str() == route.blake3 => return Ok(artifact),
            Some(Err(error)) => error.to_string(),
            _ => "its artifact on disk is not what it was".to_owned(),
        };
        // Kept for a look, never built upon again.
        if let Some(Err(error)) = self.cache.map(|cache| cache.quarantine(version)) {
            tracing::warn!(%error, "a damaged snapshot could not be moved aside");
        }
        Err(Failure::At(version, Part::Cached, ModelError::WrongBase { version, why }))
    }

    /// The decoded bytes of a payload, whose chunks begin at this index.
    fn payload(&mut self, version: Version, part: Part, first: u32, payload: &Payload) -> Result<Vec<u8>, Failure> {
        let what = if part == Part::Whole { "artifact" } else { "delta" };
        let at_fault = |error| Failure::At(version, part, error);
        self.bounded(version, what, payload.bytes.max(payload.encoded_bytes)).map_err(at_fault)?;
        let encoded = match &payload.object {
            Some(hash) => self.object(version, what, payload, hash, at_fault)?,
            None => self.chunks(version, what, first, payload, at_fault)?,
        };
        metrics::counter!(names::SNAPSHOT_FETCHED_BYTES, "kind" => what).increment(encoded.len() as u64);
        let decoded = codec::decode(version, what, payload, encoded).map_err(at_fault)?;
        if blake3::hash(&decoded).to_hex().as_str() != payload.blake3 {
            return Err(at_fault(ModelError::Hash { version, what: what.to_owned() }));
        }
        Ok(decoded)
    }

    fn object(
        &self,
        version: Version,
        what: &'static str,
        payload: &Payload,
        hash: &str,
        at_fault: impl Fn(ModelError) -> Failure,
    ) -> Result<Vec<u8>, Failure> {
        let failed = |error: ObjectError| match error {
            ObjectError::TooLong { .. } => at_fault(ModelError::Artifact { version, why: error.to_string() }),
            error => Failure::All(Unobtained::Stream(StreamError::Client { doing: "fetching a snapshot", why: error.to_string() })),
        };
        let bytes = self.objects.get(version, what, payload.encoded_bytes, self.limits.timeout).map_err(failed)?;
        if (bytes.len() as u64) < payload.encoded_bytes {
            let (found, expected) = (bytes.len() as u64, payload.encoded_bytes);
            return Err(at_fault(ModelError::Truncated { version, what: what.to_owned(), found, expected }));
        }
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(at_fault(ModelError::Hash { version, what: format!("object of the {what}") }));
        }
        Ok(bytes)
    }

    fn chunks(
        &mut self,
        version: Version,
        what: &'static str,
        first: u32,
        payload: &Payload,
        at_fault: impl Fn(ModelError) -> Failure,
    ) -> Result<Vec<u8>, Failure> {
        let refuse = |why: String| at_fault(ModelError::Artifact { version, why });
        let mut encoded: Vec<u8> = Vec::new();
        let wanted: Vec<(u32, &String)> = (first..).zip(&payload.chunks).collect();
        for group in wanted.chunks(CHUNKS_PER_READ) {
            if (self.stopping)() {
                return Err(Failure::All(Unobtained::Stopping));
            }
            let missing = |index: &u32| Failure::All(Unobtained::Waiting(format!("version {version}: chunk {index} is not on the topic")));
            let offset = |(index, _): &(u32, &String)| self.catalog.chunk_offset(version, *index).ok_or_else(|| missing(index));
            let offsets = group.iter().map(offset).collect::<Result<Vec<i64>, Failure>>()?;
            let read = self.reader.read_at(&offsets, self.limits.timeout);
            let records = read.map_err(|error| Failure::All(Unobtained::Stream(error)))?;
            for ((index, hash), offset) in group.iter().zip(offsets) {
                let key = Key::Chunk(version, *index).encode();
                let chunk = records
                    .iter()
                    .find(|record| record.offset == offset && record.key == key.as_bytes())
                    .and_then(|record| record.value.as_deref())
                    .ok_or_else(|| refuse(format!("chunk {index} is not at offset {offset}")))?;
                if blake3::hash(chunk).to_hex().as_str() != *hash {
                    let expected = payload.chunk_bytes.map_or(0, |bytes| bytes.min(payload.encoded_bytes - encoded.len() as u64));
                    let (what, found) = (format!("chunk {index}"), chunk.len() as u64);
                    return Err(at_fault(if found < expected {
                        ModelError::Truncated { version, what, found, expected }
                    } else {
                        ModelError::Hash { version, what }
                    }));
                }
                if (encoded.len() + chunk.len()) as u64 > payload.encoded_bytes {
                    return Err(refuse(format!("chunks up to {index} are longer than the {what}'s {} bytes", payload.encoded_bytes)));
                }
                encoded.extend_from_slice(chunk);
            }
        }
        if (encoded.len() as u64) < payload.encoded_bytes {
            let (found, expected) = (encoded.len() as u64, payload.encoded_bytes);
            return Err(at_fault(ModelError::Truncated { version, what: what.to_owned(), found, expected }));
        }
        Ok(encoded)
    }

    fn bounded(&self, version: Version, what: &str, bytes: u64) -> Result<(), ModelError> {
        let limit = self.limits.bytes_max;
        if bytes <= limit {
            return Ok(());
        }
        Err(ModelError::Artifact { version, why: format!("{what} of {bytes} bytes; at most {limit} are fetched") })
    }
}
