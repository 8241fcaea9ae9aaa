//! Logs, metric names, health, the HTTP of `/metrics`, `/livez`, `/readyz`, and the admin socket.

#[cfg(feature = "trainer")]
pub mod admin;
mod health;
pub mod http;
mod logs;
pub mod names;

pub use health::{Health, Verdict};
pub use logs::{LogError, init_logs};
