//! Logs, metric names, health, HTTP with limits and its pages `/metrics`, `/livez`, `/readyz`, and the admin socket.

#[cfg(feature = "trainer")]
pub mod admin;
#[cfg(feature = "trainer")]
mod health;
#[cfg(feature = "trainer")]
pub mod http;
#[cfg(feature = "scorer")]
mod logs;
pub mod names;
#[cfg(feature = "scorer")]
pub mod server;

#[cfg(feature = "trainer")]
pub use health::{Health, Verdict};
#[cfg(feature = "scorer")]
pub use logs::{LogError, init_logs};
