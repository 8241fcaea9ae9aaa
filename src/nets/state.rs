use super::vector::Vector;
use super::{Layout, TensorLayout};

/// Dense parameters and Adam's state, flat, in the order of `layout`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseState {
    /// Names and shapes.
    pub layout: Vec<TensorLayout>,
    /// Parameters.
    pub params: Vec<f32>,
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

/// Dense parameters and Adam's state as they were when it was made, still where they are computed: making it copies nothing, since a step
/// leaves those numbers alone that somebody else holds.
#[derive(Debug, Clone)]
pub struct DenseCopy {
    pub(super) layout: Vec<TensorLayout>,
    /// Parameters, first and second moments.
    pub(super) vectors: [Vector; 3],
    pub(super) steps: u64,
}

impl DenseCopy {
    /// Copies it to the host.
    #[must_use]
    pub fn state(self) -> DenseState {
        let [params, m, v] = self.vectors.map(Vector::into_host);
        DenseState { layout: self.layout, params, m, v, steps: self.steps }
    }
}

/// Saved dense parameters that do not fit the configured nets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DenseError {
    /// A tensor of another shape.
    #[error("tensor {name} is {found:?}, the configured model has {expected:?}")]
    Shape {
        /// Name.
        name: String,
        /// As saved.
        found: Vec<usize>,
        /// As configured.
        expected: Vec<usize>,
    },
    /// A tensor that the configured model has and the state has not.
    #[error("tensor {name} is missing")]
    Missing {
        /// Name.
        name: String,
    },
    /// A tensor the configured model does not have.
    #[error("tensor {name} is not in the configured model")]
    Unknown {
        /// Name.
        name: String,
    },
    /// The same tensors in another order.
    #[error("tensor {name} is not where the configured model has it")]
    Order {
        /// Name.
        name: String,
    },
    /// A flat vector that is longer or shorter than its layout.
    #[error("{vector} holds {found} floats, its layout {expected}")]
    Length {
        /// `params`, `m` or `v`.
        vector: &'static str,
        /// As saved.
        found: usize,
        /// By the layout.
        expected: usize,
    },
}

impl DenseState {
    /// Whether this is a state of nets of `layout`.
    ///
    /// # Errors
    /// [`DenseError`], naming the first tensor or vector that does not fit.
    pub fn check(&self, layout: &Layout) -> Result<(), DenseError> {
        let expected = layout.tensors();
        for tensor in &expected {
            let name = tensor.name.clone();
            match self.layout.iter().find(|found| found.name == name) {
                None => return Err(DenseError::Missing { name }),
                Some(found) if found.shape != tensor.shape => {
                    return Err(DenseError::Shape { name, found: found.shape.clone(), expected: tensor.shape.clone() });
                }
                Some(_) => {}
            }
        }
        if let Some(unknown) = self.layout.iter().find(|found| expected.iter().all(|tensor| tensor.name != found.name)) {
            return Err(DenseError::Unknown { name: unknown.name.clone() });
        }
        if let Some((found, _)) = self.layout.iter().zip(&expected).find(|(found, expected)| found != expected) {
            return Err(DenseError::Order { name: found.name.clone() });
        }
        for (vector, floats) in [("params", &self.params), ("m", &self.m), ("v", &self.v)] {
            if floats.len() != layout.len() {
                return Err(DenseError::Length { vector, found: floats.len(), expected: layout.len() });
            }
        }
        Ok(())
    }
}
