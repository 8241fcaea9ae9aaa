//! sled: keyspaces, record codec, migrations.
//!
//! architecture invariant: the only room that knows sled.

mod error;
mod users;

pub use error::StoreError;
pub use users::SledUsers;
