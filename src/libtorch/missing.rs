use burn::tensor::{Device, Tensor};

use super::Moments;

pub(crate) fn cpu(_threads: usize) -> Result<Device, String> {
    Err(missing())
}

pub(crate) fn cuda(_index: usize) -> Result<Device, String> {
    Err(missing())
}

pub(crate) fn product(_x: &Tensor<2>, _weight: &Tensor<2>, _bias: &Tensor<1>, _is_rectified: bool) -> Option<Tensor<2>> {
    None
}

pub(crate) fn step(_vectors: [&Tensor<1>; 3], _gradient: &Tensor<1>, _by: &Moments) -> Option<[Tensor<1>; 3]> {
    None
}

fn missing() -> String {
    "not in this build; build with `--features tch` (ops/libtorch lays out the library), or set train.device = \"cpu\"".to_owned()
}
