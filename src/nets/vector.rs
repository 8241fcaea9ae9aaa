use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::graph::{to_device, to_host};

/// A flat vector in the order of [`super::Layout`], where its engine keeps it. Cloning it copies nothing.
#[derive(Debug, Clone)]
pub(super) enum Vector {
    Device(Box<Tensor<1>>),
    Host(Arc<Vec<f32>>),
}

impl Vector {
    /// Its numbers, copied unless nobody else holds them.
    pub(super) fn into_host(self) -> Vec<f32> {
        match self {
            Vector::Device(tensor) => to_host(*tensor),
            Vector::Host(values) => Arc::unwrap_or_clone(values),
        }
    }

    pub(super) fn into_device(self, device: &Device) -> Tensor<1> {
        match self {
            Vector::Device(tensor) => *tensor,
            Vector::Host(values) => to_device(Arc::unwrap_or_clone(values), device),
        }
    }

    pub(super) fn scaled(self, by: f64) -> Self {
        match self {
            Vector::Device(tensor) => Vector::Device(tensor.mul_scalar(by).into()),
            Vector::Host(values) => {
                let mut values = Arc::unwrap_or_clone(values);
                values.iter_mut().for_each(|x| *x *= by as f32);
                Vector::Host(values.into())
            }
        }
    }
}
