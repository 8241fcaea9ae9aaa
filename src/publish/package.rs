//! Artifact → what is sent of it: whole, as a delta from the version before, or both.

use std::borrow::Cow;

use super::bases::Bases;
use super::delta;
use super::manifest::hex;
use crate::config::{Codec, PublishConfig};
use crate::domain::Version;
use crate::serving::{Catalog, from_whole};
use crate::wire::snapshot::{Delta, Manifest, PROTOCOL_MAX, Payload};

/// zstd's own default: weights are noise, and higher levels find nothing more in them.
const ZSTD_LEVEL: i32 = 3;
/// A delta that is longer than its artifact divided by this is not worth a link in a chain.
const DELTA_SHARE: usize = 2;

/// Encoded bytes, ready to be sent.
pub(super) struct Package<'a> {
    whole: Option<Cow<'a, [u8]>>,
    delta: Option<Vec<u8>>,
    limits: Limits,
}

/// How much goes where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes per chunk record.
    pub(super) chunk_bytes: usize,
    /// Bytes above which the object store gets them; `None`: there is none.
    pub(super) object_above: Option<u64>,
}

/// What the manifest says of where encoded bytes are: hashes of chunks, or that of an object.
struct Place {
    chunk_bytes: Option<u64>,
    chunks: Vec<String>,
    object: Option<String>,
}

impl Limits {
    fn is_object(&self, bytes: &[u8]) -> bool {
        self.object_above.is_some_and(|above| bytes.len() as u64 > above)
    }

    fn place(&self, bytes: &[u8]) -> Place {
        if self.is_object(bytes) {
            return Place { chunk_bytes: None, chunks: Vec::new(), object: Some(hex(bytes)) };
        }
        Place { chunk_bytes: Some(self.chunk_bytes as u64), chunks: bytes.chunks(self.chunk_bytes).map(hex).collect(), object: None }
    }
}

/// A delta, and what it is made from.
struct Change {
    base: Version,
    base_blake3: String,
    bytes: Vec<u8>,
    /// Versions since one was sent whole, the base included.
    since_whole: u64,
}

impl<'a> Package<'a> {
    /// Decides how a version is sent, and says so in its manifest. The same topic, files and artifact give the same package.
    ///
    /// Whole: the first version, every `publish.full_every`-th, and any that has no base or differs from it by half. A version that is sent
    /// whole for its turn alone bears a delta as well: who follows need not fetch the whole.
    pub(super) fn new(
        catalog: &Catalog,
        config: &PublishConfig,
        bases: Option<&Bases>,
        limits: Limits,
        manifest: &mut Manifest,
        artifact: &'a [u8],
    ) -> std::io::Result<Self> {
        let change = bases.filter(|_| config.full_every > 1).and_then(|bases| change(catalog, bases, manifest.version, artifact));
        let whole = change.as_ref().is_none_or(|change| change.since_whole >= config.full_every);
        let mut package = Package { whole: None, delta: None, limits };
        if whole {
            let encoded = encode(config.codec, artifact)?;
            let said = &mut manifest.artifact;
            config.codec.name().clone_into(&mut said.codec);
            said.encoded_bytes = (config.codec != Codec::None).then_some(encoded.len() as u64);
            let Place { chunk_bytes, chunks, object } = limits.place(&encoded);
            (said.chunk_bytes, said.chunks, said.object) = (chunk_bytes, chunks, object);
            package.whole = Some(encoded);
        }
        if manifest.artifact.chunks.is_empty() {
            manifest.proto = PROTOCOL_MAX;
        }
        if let Some(Change { base, base_blake3, bytes, .. }) = change {
            let encoded = encode(config.codec, &bytes)?.into_owned();
            let Place { chunk_bytes, chunks, object } = limits.place(&encoded);
            let payload = Payload {
                codec: config.codec.name().to_owned(),
                bytes: bytes.len() as u64,
                blake3: hex(&bytes),
                encoded_bytes: encoded.len() as u64,
                chunk_bytes,
                chunks,
                object,
            };
            manifest.delta = Some(Delta { base, base_blake3, payload });
            package.delta = Some(encoded);
        }
        Ok(package)
    }

    /// Every chunk in the order of its key.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.parts().filter(|(_, bytes)| !self.limits.is_object(bytes)).flat_map(|(_, bytes)| bytes.chunks(self.limits.chunk_bytes))
    }

    /// What the object store gets, by what it is.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.parts().filter(|(_, bytes)| self.limits.is_object(bytes))
    }

    /// Encoded bytes, by what they are.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let parts = [("artifact", self.whole.as_deref()), ("delta", self.delta.as_deref())];
        parts.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?)))
    }
}

/// What has changed since the newest version before; `None` where that is not to be had, or too much.
fn change(catalog: &Catalog, bases: &Bases, version: Version, artifact: &[u8]) -> Option<Change> {
    let (_, base) = catalog.manifests().range(..version).next_back()?;
    let since_whole = from_whole(catalog, base.version)?.len() as u64;
    let held = bases.load(base)?;
    let bytes = delta::make(&held, artifact).inspect_err(|error| tracing::warn!(%error, "no delta is made")).ok()??;
    let worth_it = bytes.len() <= artifact.len() / DELTA_SHARE;
    worth_it.then(|| Change { base: base.version, base_blake3: base.artifact.blake3.clone(), bytes, since_whole })
}

fn encode(codec: Codec, bytes: &[u8]) -> std::io::Result<Cow<'_, [u8]>> {
    match codec {
        Codec::None => Ok(Cow::Borrowed(bytes)),
        Codec::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL).map(Cow::Owned),
    }
}
