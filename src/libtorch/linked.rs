#![allow(
    deprecated,
    reason = "burn-tch is deprecated upstream; it is the GPU backend of this version, and this module is all that names it"
)]

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::libtorch::TchTensor;
use burn::backend::{Autodiff, LibTorch};
use burn::tensor::{Device, DeviceType, Tensor};
use tch::{Kind, Tensor as Raw};

use super::Moments;

/// The CPU, with this many threads (0: LibTorch's own choice).
pub(crate) fn cpu(threads: usize) -> Result<Device, String> {
    if threads > 0 {
        let count = i32::try_from(threads).map_err(|_| format!("train.threads = {threads} is more than LibTorch can count"))?;
        tch::set_num_threads(count);
    }
    Ok(Device::libtorch())
}

/// A GPU. Asks for its presence first: Burn would panic at the first tensor.
pub(crate) fn cuda(index: usize) -> Result<Device, String> {
    match Device::enumerate(DeviceType::LibTorch).into_vec().len() {
        0 => Err("LibTorch finds no GPU: no CUDA driver, or a LibTorch without CUDA at build or run time; see ops/libtorch".to_owned()),
        found if index >= found => Err(format!("LibTorch finds {found} GPU(s), so cuda:0 to cuda:{}", found - 1)),
        _ => Ok(Device::libtorch_cuda(index)),
    }
}

/// x · W + b, and of that max(·, 0) where it `is_rectified`; `None` where the tensors are another backend's. The bias is part of
/// the product's launch, and backward is one operation for each gradient.
///
/// # Shapes
/// `x [rows, inputs]`, `weight [inputs, outputs]`, `bias [outputs]` → `[rows, outputs]`.
pub(crate) fn product(x: &Tensor<2>, weight: &Tensor<2>, bias: &Tensor<1>, is_rectified: bool) -> Option<Tensor<2>> {
    if !x.is_autodiff() {
        let y = multiplied([&raw(x)?, &raw(weight)?, &raw(bias)?], is_rectified);
        return Some(Tensor::from_primitive::<LibTorch>(TchTensor::new(y)));
    }
    let x = x.clone().try_into_primitive::<Autodiff<LibTorch>>().ok()?;
    let weight = weight.clone().try_into_primitive::<Autodiff<LibTorch>>().ok()?;
    let bias = bias.clone().try_into_primitive::<Autodiff<LibTorch>>().ok()?;
    let y = TchTensor::new(multiplied([&x, &weight, &bias].map(|part| &part.primitive().tensor), is_rectified));
    let prepared = Product.prepare::<NoCheckpointing>([x.node(), weight.node(), bias.node()]).compute_bound().stateful();
    let y = match prepared {
        OpsKind::Tracked(prepared) => {
            let output = is_rectified.then(|| y.clone());
            prepared.finish(Multiplied { x: x.into_primitive(), weight: weight.into_primitive(), output }, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    };
    Some(Tensor::from_primitive::<Autodiff<LibTorch>>(y))
}

/// One step of parameters, m and v along `gradient`, all `[parameters]`; `None` where they are another backend's.
pub(crate) fn step(vectors: [&Tensor<1>; 3], gradient: &Tensor<1>, by: &Moments) -> Option<[Tensor<1>; 3]> {
    let [params, m, v] = vectors;
    let (params, m, v, gradient) = (raw(params)?, raw(m)?, raw(v)?, raw(gradient)?);
    let [of_m, of_v] = by.weights;
    let m = m.lerp(&gradient, of_m);
    let v = v.lerp(&gradient.square(), of_v);
    let denominator = v.sqrt().g_add_scalar_(by.epsilon);
    let params = params.addcdiv(&m.g_mul_scalar(-by.rate), &denominator);
    Some([params, m, v].map(|vector| Tensor::from_primitive::<LibTorch>(TchTensor::new(vector))))
}

/// [`product`] as Burn's autodiff knows it.
#[derive(Debug)]
struct Product;

/// What its gradients are made of.
#[derive(Debug, Clone)]
struct Multiplied {
    x: TchTensor,
    weight: TchTensor,
    /// Where it is rectified.
    output: Option<TchTensor>,
}

impl Backward<LibTorch, 3> for Product {
    type State = Multiplied;

    fn backward(self, ops: Ops<Multiplied, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let Multiplied { x, weight, output } = ops.state;
        let [by_x, by_weight, by_bias] = ops.parents;
        let above = gradients.consume::<LibTorch>(&ops.node).tensor;
        let above = match output {
            // ATen calls the output self, so it is the receiver, not the gradient.
            Some(output) => output.tensor.threshold_backward(&above, 0.0),
            None => above,
        };
        if let Some(node) = by_x {
            gradients.register::<LibTorch>(node.id, TchTensor::new(above.mm(&weight.tensor.tr())));
        }
        if let Some(node) = by_weight {
            gradients.register::<LibTorch>(node.id, TchTensor::new(x.tensor.tr().mm(&above)));
        }
        if let Some(node) = by_bias {
            gradients.register::<LibTorch>(node.id, TchTensor::new(above.sum_dim_intlist(Some([0].as_slice()), false, Kind::Float)));
        }
    }
}

fn multiplied([x, weight, bias]: [&Raw; 3], is_rectified: bool) -> Raw {
    // Not `internal_addmm_activation`, one operation for all: tch passes its last argument as β, the bias's factor.
    let mut y = bias.addmm(x, weight);
    if is_rectified { y.relu_() } else { y }
}

/// The tensor within, sharing its memory; `None` where it is another backend's.
fn raw<const D: usize>(tensor: &Tensor<D>) -> Option<Raw> {
    tensor.clone().try_into_primitive::<LibTorch>().ok().map(|tensor| tensor.tensor)
}
