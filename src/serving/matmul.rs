use gemm::Parallelism;

/// `out += x · w`, all row-major: `x [n, inputs]`, `w [inputs, outputs]`, `out [n, outputs]`, on the calling thread.
///
/// # Panics
/// If a slice's length is not what the dimensions say.
pub(super) fn add_product(n: usize, inputs: usize, outputs: usize, x: &[f32], w: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), n * inputs, "x is [n, inputs]");
    assert_eq!(w.len(), inputs * outputs, "w is [inputs, outputs]");
    assert_eq!(out.len(), n * outputs, "out is [n, outputs]");
    if n == 0 || inputs == 0 || outputs == 0 {
        return;
    }
    let (x_stride, w_stride) = (inputs.cast_signed(), outputs.cast_signed());
    // SAFETY: with column stride 1 and these row strides every access lies inside the slices, whose lengths are asserted above and bounded
    // by `isize::MAX` as all slices are; `out` is borrowed mutably, so it overlaps neither `x` nor `w`; f32 is a type `gemm` supports.
    #[allow(unsafe_code, reason = "the crate offers its kernel as raw pointers only; this function is the one place that calls it")]
    unsafe {
        gemm::gemm(
            n,
            outputs,
            inputs,
            out.as_mut_ptr(),
            1,
            w_stride,
            true,
            x.as_ptr(),
            1,
            x_stride,
            w.as_ptr(),
            1,
            w_stride,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
