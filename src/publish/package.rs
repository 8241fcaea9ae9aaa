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

/// Encoded bytes, ready to be cut into chunks.
pub(super) struct Package<'a> {
    whole: Option<Cow<'a, [u8]>>,
    delta: Option<Vec<u8>>,
    chunk_bytes: usize,
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
        chunk_bytes: usize,
        manifest: &mut Manifest,
        artifact: &'a [u8],
    ) -> std::io::Result<Self> {
        let change = bases.filter(|_| config.full_every > 1).and_then(|bases| change(catalog, bases, manifest.version, artifact));
        let whole = change.as_ref().is_none_or(|change| change.since_whole >= config.full_every);
        let mut package = Package { whole: None, delta: None, chunk_bytes };
        if whole {
            let encoded = encode(config.codec, artifact)?;
            let said = &mut manifest.artifact;
            config.codec.name().clone_into(&mut said.codec);
            said.encoded_bytes = (config.codec != Codec::None).then_some(encoded.len() as u64);
            said.chunk_bytes = Some(chunk_bytes as u64);
            said.chunks = encoded.chunks(chunk_bytes).map(hex).collect();
            package.whole = Some(encoded);
        } else {
            manifest.proto = PROTOCOL_MAX;
        }
        if let Some(Change { base, base_blake3, bytes, .. }) = change {
            let encoded = encode(config.codec, &bytes)?.into_owned();
            let payload = Payload {
                codec: config.codec.name().to_owned(),
                bytes: bytes.len() as u64,
                blake3: hex(&bytes),
                encoded_bytes: encoded.len() as u64,
                chunk_bytes: Some(chunk_bytes as u64),
                chunks: encoded.chunks(chunk_bytes).map(hex).collect(),
                object: None,
            };
            manifest.delta = Some(Delta { base, base_blake3, payload });
            package.delta = Some(encoded);
        }
        Ok(package)
    }

    /// Every chunk in the order of its key.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let parts = [self.whole.as_deref(), self.delta.as_deref()];
        parts.into_iter().flatten().flat_map(|bytes| bytes.chunks(self.chunk_bytes))
    }

    /// Encoded bytes, by what they are.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let parts = [("artifact", self.whole.as_deref()), ("delta", self.delta.as_deref())];
        parts.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?.len() as u64)))
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
