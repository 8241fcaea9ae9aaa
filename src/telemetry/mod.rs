//! Logs, metric names, health, HTTP with limits and its pages `/metrics`, `/livez`, `/readyz`, and the admin socket.

#[cfg(feature = "trainer")]
pub mod admin;
mod health;
pub mod http;
mod logs;
pub mod names;
pub mod server;

pub use health::{Health, Verdict};
pub use logs::{LogError, init_logs};
