//! LibTorch, Burn's backend of GPUs: the devices it has, and what it does in one operation where Burn's general way takes several. Each
//! operation is a launch on a GPU, and costs microseconds there however small its tensors are (`ops/compare/launches` counts them).
//!
//! architecture invariant: the only room that names LibTorch. Without `--features tch` it is empty: no device, and nothing faster.

#[cfg(feature = "tch")]
mod linked;
#[cfg(not(feature = "tch"))]
mod missing;

#[cfg(feature = "tch")]
pub(crate) use linked::{cpu, cuda, product, step};
#[cfg(not(feature = "tch"))]
pub(crate) use missing::{cpu, cuda, product, step};

/// Numbers of a step p ← p − rate · m / (√v + ε) with m ← m + w₁ · (g − m) and v ← v + w₂ · (g² − v).
#[cfg_attr(not(feature = "tch"), allow(dead_code, reason = "nothing here takes the step then"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) weights: [f64; 2],
    pub(crate) epsilon: f64,
    pub(crate) rate: f64,
}
