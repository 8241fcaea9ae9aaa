use std::cell::OnceCell;
use std::ops::Range;

use burn::tensor::activation::{prelu, relu, sigmoid};
use burn::tensor::module::{layer_norm, linear};
use burn::tensor::{Gradients, Tensor};

use super::layer::{Kind, Layer, Part, Role};
use crate::config::{Activation, HiddenConfig};
use crate::libtorch;

/// What Dice's running moments keep of themselves at each step: they follow the last few hundred batches.
const MOMENTUM: f64 = 0.99;

/// A layer with its tensors, cut from the flat vector.
pub(super) struct Dense<'a> {
    layer: &'a Layer,
    tensors: Vec<Cut>,
    /// What Dice was last applied to, `[rows, outputs]`; only where gradients are wanted.
    seen: OnceCell<Tensor<2>>,
}

struct Cut {
    role: Role,
    range: Range<usize>,
    values: Tensor<1>,
}

impl<'a> Dense<'a> {
    /// The layer's part of `flat`; `tracked`: gradients by it are wanted.
    pub(super) fn cut(layer: &'a Layer, flat: &Tensor<1>, tracked: bool) -> Self {
        let cut = |(role, range): (Role, Range<usize>)| {
            let values = flat.clone().slice([range.clone()]);
            let values = if tracked && role.is_trained() { values.autodiff().require_grad() } else { values };
            Cut { role, range, values }
        };
        Dense { layer, tensors: layer.tensors().map(cut).collect(), seen: OnceCell::new() }
    }

    pub(super) fn part(&self) -> Part {
        self.layer.part
    }

    /// The attention unit that it belongs to.
    pub(super) fn unit(&self) -> Option<usize> {
        match self.layer.kind {
            Kind::Attention { unit, .. } => Some(unit),
            _ => None,
        }
    }

    /// What the layer makes of x `[rows, inputs]`, x₀ being what the first cross layer of its head had.
    pub(super) fn apply(&self, x: Tensor<2>, crossed: &mut Option<Tensor<2>>) -> Tensor<2> {
        let is_rectified = match self.layer.kind {
            Kind::Hidden(form) => form == HiddenConfig::default(),
            Kind::Attention { is_last, .. } => !is_last,
            Kind::Cross | Kind::Output => false,
        };
        let weight = self.get(Role::Weight).reshape([self.layer.inputs, self.layer.outputs]);
        let y = product(&x, weight, self.get(Role::Bias), is_rectified);
        match self.layer.kind {
            Kind::Hidden(form) if !is_rectified => self.activate(form, y),
            Kind::Cross => crossed.get_or_insert_with(|| x.clone()).clone() * y + x,
            Kind::Hidden(_) | Kind::Attention { .. } | Kind::Output => y,
        }
    }

    fn activate(&self, HiddenConfig { layer_norm: normalised, activation }: HiddenConfig, y: Tensor<2>) -> Tensor<2> {
        let y = if normalised { layer_norm(y, self.get(Role::Scale), Some(self.get(Role::Shift)), HiddenConfig::EPSILON) } else { y };
        match activation {
            Activation::Relu => relu(y),
            Activation::Prelu => prelu(y, self.get(Role::Slope)),
            Activation::Dice => self.dice(y),
        }
    }

    /// a·y + p·(1 − a)·y, which is p·y + (1 − p)·a·y.
    fn dice(&self, y: Tensor<2>) -> Tensor<2> {
        if y.is_autodiff() {
            let _again = self.seen.set(y.clone().inner());
        }
        let across = |role| self.get(role).unsqueeze::<2>();
        let (slope, deviation) = (across(Role::Slope), across(Role::Variance).add_scalar(HiddenConfig::EPSILON).sqrt());
        let p = sigmoid((y.clone() - across(Role::Mean)) / deviation);
        y.clone() * slope.clone() + p * y * (slope.neg().add_scalar(1.0))
    }

    /// Gradients by its tensors, in their order; zero where nothing reached one, and for what is not trained.
    pub(super) fn gradients(&self, backward: &mut Gradients) -> Vec<Tensor<1>> {
        let gradient = |cut: &Cut| cut.values.grad_remove(backward).unwrap_or_else(|| cut.values.clone().inner().zeros_like());
        self.tensors.iter().map(gradient).collect()
    }

    /// Where the running moments lie, and what they become after this pass: m ← 0.99·m + 0.01·(moment of the batch).
    pub(super) fn followed(&self) -> Vec<(Range<usize>, Tensor<1>)> {
        let Some(seen) = self.seen.get() else { return Vec::new() };
        let (variance, mean) = seen.clone().var_mean_bias(0);
        let next = |role, moment: Tensor<2>| {
            let cut = self.tensors.iter().find(|cut| cut.role == role)?;
            let moment = moment.reshape([self.layer.outputs]);
            Some((cut.range.clone(), cut.values.clone().mul_scalar(MOMENTUM) + moment.mul_scalar(1.0 - MOMENTUM)))
        };
        [next(Role::Mean, mean), next(Role::Variance, variance)].into_iter().flatten().collect()
    }

    fn get(&self, role: Role) -> Tensor<1> {
        let cut = self.tensors.iter().find(|cut| cut.role == role);
        cut.expect("a layer has the tensors that its kind names").values.clone()
    }
}

/// x · W + b, and of that max(·, 0) where it `is_rectified`.
fn product(x: &Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, is_rectified: bool) -> Tensor<2> {
    if let Some(y) = libtorch::product(x, &weight, &bias, is_rectified) {
        return y;
    }
    let y = linear(x.clone(), weight, Some(bias));
    if is_rectified { relu(y) } else { y }
}
