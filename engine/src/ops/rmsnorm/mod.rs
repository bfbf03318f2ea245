//! RMSNorm: y = w * x * r, r = 1 / sqrt(mean(x^2) + eps), one r for each row of C.
//! Source: Zhang and Sennrich 2019, arXiv:1910.07467.
//! Cached: r, four bytes a row. The block keeps x; y is rebuilt by [`apply`] when backward
//! needs it.
//!
//! ```
//! use engine::{Buf, Device, ops::rmsnorm};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (x_NC, w_C) = (Buf::of(dev, &[2.0f32, -2.0]), Buf::of(dev, &[1.0f32, 3.0]));
//! let (mut y_NC, mut r_N) = (Buf::zeros(dev, 2), Buf::zeros(dev, 1));
//! rmsnorm::forward(dev, y_NC.view_mut(), r_N.view_mut(), x_NC.view(), w_C.view(), 0.0);
//! assert_eq!(*y_NC.view().read().unwrap(), [1.0, -3.0]);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::cpu::Space;
use crate::{Device, Element, View, ViewMut};

/// Writes y_NC and r_N. `eps` joins the mean square: unit of x squared.
///
/// # Panics
/// If lengths disagree with C = w_C.len(): a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    y_NC: ViewMut<E>,
    r_N: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_C: View<E>,
    eps: f32,
) {
    check(&[y_NC.len(), x_NC.len()], r_N.len(), w_C.len());
    let bytes = y_NC.bytes() + r_N.bytes() + x_NC.bytes() + w_C.bytes();
    let shape = format_args!("N{} C{}", r_N.len(), w_C.len());
    let _op = dev.op("rmsnorm forward", shape, 4 * x_NC.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().rmsnorm_forward)(cpu, y_NC.host(), r_N.host(), x_NC.host(), w_C.host(), eps)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, y_NC, r_N, x_NC, w_C, eps),
    }
}

/// Rebuilds y_NC from the cached r_N, to the same bits as [`forward`].
///
/// # Panics
/// If lengths disagree with C = w_C.len(): a caller bug.
pub fn apply<E: Element>(
    dev: &Device,
    y_NC: ViewMut<E>,
    x_NC: View<E>,
    w_C: View<E>,
    r_N: View<E::Acc>,
) {
    check(&[y_NC.len(), x_NC.len()], r_N.len(), w_C.len());
    let bytes = y_NC.bytes() + r_N.bytes() + x_NC.bytes() + w_C.bytes();
    let shape = format_args!("N{} C{}", r_N.len(), w_C.len());
    let _op = dev.op("rmsnorm apply", shape, 2 * x_NC.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().rmsnorm_apply)(cpu, y_NC.host(), x_NC.host(), w_C.host(), r_N.host())
        }),
        Device::Cuda(cuda) => cuda::apply(cuda, y_NC, x_NC, w_C, r_N),
    }
}

/// Adds to dx_acc_NC and to dw_acc_C, which a frozen gain has not. With s = sum w*dy*x over the row:
///   dx += r * (w*dy - x*s*r*r/C)      dw += dy * x * r
///
/// # Panics
/// If lengths disagree with C = w_C.len(): a caller bug.
pub fn backward<E: Element>(
    dev: &Device,
    dx_acc_NC: ViewMut<E>,
    dw_acc_C: Option<ViewMut<E::Acc>>,
    dy_NC: View<E>,
    x_NC: View<E>,
    w_C: View<E>,
    r_N: View<E::Acc>,
) {
    check(&[dx_acc_NC.len(), dy_NC.len(), x_NC.len()], r_N.len(), w_C.len());
    let gain = dw_acc_C.as_ref().map(ViewMut::len);
    assert!(gain.is_none_or(|C| C == w_C.len()), "rmsnorm: gradient of the gain");
    let inputs = dy_NC.bytes() + x_NC.bytes() + w_C.bytes() + r_N.bytes();
    let bytes = inputs + 2 * (dx_acc_NC.bytes() + dw_acc_C.as_ref().map_or(0, ViewMut::bytes));
    let shape = format_args!("N{} C{}", r_N.len(), w_C.len());
    let _op = dev.op("rmsnorm backward", shape, 10 * x_NC.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_space::<E>(r_N.len(), w_C.len()), |cpu| {
            let (dx_acc_NC, dw_acc_C) = (dx_acc_NC.host(), dw_acc_C.map(ViewMut::host));
            let (dy_NC, x_NC, w_C, r_N) = (dy_NC.host(), x_NC.host(), w_C.host(), r_N.host());
            (E::cpu().rmsnorm_backward)(cpu, dx_acc_NC, dw_acc_C, dy_NC, x_NC, w_C, r_N)
        }),
        Device::Cuda(cuda) => cuda::backward(cuda, dx_acc_NC, dw_acc_C, dy_NC, x_NC, w_C, r_N),
    }
}

fn check(rows_of_C: &[usize], N: usize, C: usize) {
    for &len in rows_of_C {
        assert_eq!(rows("rmsnorm", len, C), N, "rmsnorm: rows");
    }
}
