//! Trunk, heads and loss of the co-training step, in Burn.
//!
//! architecture invariant: Burn code and nothing else; the only room besides `train` that knows Burn.
