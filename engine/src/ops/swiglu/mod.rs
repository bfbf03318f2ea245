//! SwiGLU: a = silu(g) * u, silu(g) = g / (1 + e^-g). Rows of gu_N2F hold F gates, then F ups.
//! Source: Shazeer 2020, arXiv:2002.05202.
//! Cached: gate and up, the outputs of linear layers; a is rebuilt by [`forward`].
//!
//! ```
//! use engine::{Buf, Device, ops::swiglu};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (mut a_NF, gu_N2F) = (Buf::zeros(dev, 1), Buf::of(dev, &[2.0f32, 3.0]));
//! swiglu::forward(dev, a_NF.view_mut(), gu_N2F.view(), 1);
//! assert!((a_NF.view().read().unwrap()[0] - 6.0 / (1.0 + (-2f32).exp())).abs() < 1e-5);
//! ```

pub(crate) mod cpu;
mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::cpu::Space;
use crate::{Device, Element, View, ViewMut};

/// Writes a_NF.
///
/// # Panics
/// If lengths disagree with F: a caller bug.
pub fn forward<E: Element>(dev: &Device, a_NF: ViewMut<E>, gu_N2F: View<E>, F: usize) {
    let N = check(a_NF.len(), gu_N2F.len(), F);
    let bytes = a_NF.bytes() + gu_N2F.bytes();
    let _op = dev.op("swiglu forward", format_args!("N{N} F{F}"), 5 * a_NF.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().swiglu_forward)(cpu, a_NF.host(), gu_N2F.host(), F)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, a_NF, gu_N2F, N, F),
    }
}

/// Replaces gate and up by their gradients. With q = 1 / (1 + e^-g):
///   dg = da * u * q * (1 + g * (1 - q))      du = da * g * q
///
/// # Panics
/// If lengths disagree with F: a caller bug.
pub fn backward_inplace<E: Element>(dev: &Device, gu_N2F: ViewMut<E>, da_NF: View<E>, F: usize) {
    let N = check(da_NF.len(), gu_N2F.len(), F);
    let bytes = 2 * gu_N2F.bytes() + da_NF.bytes();
    let _op = dev.op("swiglu backward", format_args!("N{N} F{F}"), 12 * da_NF.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().swiglu_backward)(cpu, gu_N2F.host(), da_NF.host(), F)
        }),
        Device::Cuda(cuda) => cuda::backward_inplace(cuda, gu_N2F, da_NF, N, F),
    }
}

/// N.
fn check(a: usize, gu: usize, F: usize) -> usize {
    let N = rows("swiglu", a, F);
    assert_eq!(rows("swiglu", gu, 2 * F), N, "swiglu: rows");
    N
}
