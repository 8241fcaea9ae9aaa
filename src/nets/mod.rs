//! Trunk, heads and loss of the co-training step.
//!
//! ```text
//! inputs X ─ shared dense layers ─ trunk ─┬─ booster ─ z    (attention over sequences beside its trunk)
//!                                         ├─ light ─── l      H(y,l) + H(y,z) + λ·mean(D(l, sg(z)))
//!                                         └─ control ─ c      H(y,c), trunk stopped
//! ```
//!
//! A head may be absent, and without sharing light has inputs and lower layers of its own. Where labels come early by `es_dfm`, two heads
//! more stand on the stopped trunk, which say how rows are weighted and are not served. All dense parameters are one flat vector, Adam's
//! moments two more, so that an optimizer step is a dozen operations however many layers there are. A pass is: forward on the device, loss
//! and its gradient by each logit on the host in f64 ([`loss`]), backward from those on the device.
//!
//! Two engines compute that. `graph` is Burn: its autodiff knows every layer, on every device. `towers` is written by hand for the CPU and for
//! models whose layers are all products with ReLU and cross layers; tests hold each of its numbers to Burn's.
//!
//! architecture invariant: the only room besides `train` and `libtorch` that knows Burn.

mod adam;
mod attention;
mod cost;
mod dense;
mod early;
mod graph;
mod inputs;
mod interaction;
mod layer;
mod layout;
mod loss;
mod model;
mod rate;
mod refit;
mod state;
mod targets;
mod towers;
mod vector;

pub use adam::Adam;
pub use early::Delays;
pub use inputs::{InputShape, Inputs, Sequence, SequenceShape};
pub use layer::Part;
pub use layout::{Layout, TensorLayout};
pub use loss::{Hint, LogitGradients, Loss, Rule, Scores, logloss, loss};
pub use model::{Gradients, Nets, Pass};
pub use rate::LearningRate;
pub use refit::{InputPlaces, Refitted, refit};
pub use state::{DenseCopy, DenseError, DenseState};
pub use targets::Targets;
