//! Loops over numbers with the CPU's widest vectors, found out at run time.

use pulp::{Arch, Simd, WithSimd};

/// Does it with the widest vectors that the CPU has and the kernels here are made for.
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, work);
    }
    Arch::new().dispatch(work)
}
