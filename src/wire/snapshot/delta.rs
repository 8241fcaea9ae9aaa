//! The tensors of a delta.
//!
//! An artifact's tensors are of two kinds. A **table** is a U64 tensor `<table>.keys` `[rows]`, rising, and every tensor
//! `<table>.<column>` beside it, `[rows, …]`: the embedding tables and the counts behind click rates. All others are dense.
//!
//! A delta is safetensors of
//!
//! | tensor | holds |
//! |---|---|
//! | [`HEADER`], U8 | the first bytes of the artifact that it makes, up to the first tensor's: length and JSON, as they are |
//! | `<table>.keys` and `<table>.<column>` | the rows that the base has not or has with other bits, by rising key |
//! | `<table>.gone`, U64 | keys of the base that the artifact no longer has, rising |
//! | every dense tensor | as it is |
//!
//! The header says where each tensor stands, so that whoever applies a delta gets the artifact's very bytes, with whatever library.

/// The artifact's header.
pub const HEADER: &str = "artifact.header";

/// The table that a tensor of this name is in, if there are such keys.
#[must_use]
pub fn table_of(tensor: &str) -> Option<&str> {
    tensor.rsplit_once('.').map(|(table, _)| table)
}

/// The tensor of a table's keys.
#[must_use]
pub fn keys_of(table: &str) -> String {
    format!("{table}.keys")
}

/// The tensor of the keys that a table has lost.
#[must_use]
pub fn gone_of(table: &str) -> String {
    format!("{table}.gone")
}
