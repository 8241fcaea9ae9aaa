use std::io::{ErrorKind, Read};

use crate::domain::Version;
use crate::serving::ModelError;
use crate::wire::snapshot::Payload;

/// Memory that a frame may make its reader keep, as a power of two: 8 MiB, four times what the publisher's level asks for.
const WINDOW_LOG_MAX: u32 = 23;

/// Undoes the codec. What comes out is never longer than the manifest says, and no memory is taken for more.
///
/// # Errors
/// [`ModelError::DecompressionBomb`], [`ModelError::Truncated`], [`ModelError::Artifact`].
pub(super) fn decode(version: Version, what: &'static str, payload: &Payload, encoded: Vec<u8>) -> Result<Vec<u8>, ModelError> {
    let refuse = |why: String| ModelError::Artifact { version, why };
    match payload.codec.as_str() {
        "none" => Ok(encoded),
        "zstd" => {
            let unreadable = |error: std::io::Error| refuse(format!("{what} is not zstd: {error}"));
            let length = usize::try_from(payload.bytes).map_err(|_| refuse(format!("{what} of {} bytes", payload.bytes)))?;
            let mut decoder = zstd::Decoder::with_buffer(encoded.as_slice()).map_err(unreadable)?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
            let mut decoded = vec![0; length];
            let mut filled = 0;
            let cut = |filled: usize| {
                let (found, expected) = (filled as u64, payload.bytes);
                ModelError::Truncated { version, what: format!("decoded {what}"), found, expected }
            };
            while filled < length {
                match decoder.read(&mut decoded[filled..]) {
                    Ok(0) => return Err(cut(filled)),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(cut(filled)),
                    Err(error) => return Err(unreadable(error)),
                }
            }
            match decoder.read(&mut [0]) {
                Ok(0) => Ok(decoded),
                Ok(_) => Err(ModelError::DecompressionBomb { version, what, bytes: payload.bytes }),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(cut(filled)),
                Err(error) => Err(unreadable(error)),
            }
        }
        other => Err(refuse(format!("{what} comes with codec {other}; this reader knows none and zstd"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn decoded(codec: &str, bytes: u64, encoded: Vec<u8>) -> Result<Vec<u8>, ModelError> {
        let encoded_bytes = encoded.len() as u64;
        let payload = Payload {
            codec: codec.into(),
            bytes,
            blake3: String::new(),
            encoded_bytes,
            chunk_bytes: None,
            chunks: Vec::new(),
            object: None,
        };
        decode(Version(1), "delta", &payload, encoded)
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(decoded("zstd", bytes.len() as u64, zstd(&bytes)), Ok(bytes.clone()));
            prop_assert_eq!(decoded("none", bytes.len() as u64, bytes.clone()), Ok(bytes));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), length in 0u64..5000) {
            if let Ok(found) = decoded("zstd", length, bytes) {
                prop_assert_eq!(found.len() as u64, length);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_length_that_was_said() {
        let bomb = zstd(&vec![0; 64 << 20]);
        assert!(bomb.len() < 10_000);
        let refused = decoded("zstd", 1000, bomb).unwrap_err();
        assert_eq!(refused, ModelError::DecompressionBomb { version: Version(1), what: "delta", bytes: 1000 });
    }

    #[test]
    fn less_than_was_said_is_cut_short() {
        let whole = zstd(&[7; 1000]);
        assert_eq!(decoded("zstd", 1001, whole.clone()).unwrap_err().reason(), "truncated");
        assert_eq!(decoded("zstd", 1000, whole[..whole.len() - 1].to_vec()).unwrap_err().reason(), "truncated");
        assert_eq!(decoded("lz4", 1000, whole).unwrap_err().reason(), "artifact");
    }
}
