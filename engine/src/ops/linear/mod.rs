//! Linear layer without bias: y = x W^T. N rows, I inputs, O outputs; W is O rows of I.
//! Backward is two calls that share no work, so that something may happen between them.
//! Cached: nothing; the caller keeps or rebuilds x.
//! A model has many such layers: `part` is what profiles call this one, empty where nobody asks.
//!
//! ```
//! use engine::{Buf, Device, ops::linear};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (x_NI, w_OI) = (Buf::of(dev, &[1.0f32, 2.0]), Buf::of(dev, &[1.0f32, 1.0, 1.0, -1.0]));
//! let mut y_NO = Buf::zeros(dev, 2);
//! linear::forward(dev, y_NO.view_mut(), x_NI.view(), w_OI.view(), 2, "");
//! assert_eq!(*y_NO.view().read().unwrap(), [3.0, -1.0]);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::{Device, Element, View, ViewMut};

/// Up to this many rows, what a row of a forward product becomes depends on no other row and not on
/// their number, to the bit.
pub const FEW: usize = 16;

/// y_NO = x_NI W^T.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    y_NO: ViewMut<E>,
    x_NI: View<E>,
    w_OI: View<E>,
    I: usize,
    part: &'static str,
) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op =
        dev.op_of(part, "linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::forward_space::<E, E>(cpu, [N, I, O]), |cpu| {
            (E::cpu().linear_forward)(cpu, y_NO.host(), None, x_NI.host(), w_OI.host(), I)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, y_NO, None, x_NI, w_OI, [N, I, O]),
    }
}

/// y_NO = r_NO + x_NI W^T: the residual stream takes a layer's output in the same pass.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn forward_residual<E: Element>(
    dev: &Device,
    y_NO: ViewMut<E>,
    r_NO: View<E>,
    x_NI: View<E>,
    w_OI: View<E>,
    I: usize,
    part: &'static str,
) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + r_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op =
        dev.op_of(part, "linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::forward_space::<E, E>(cpu, [N, I, O]), |cpu| {
            let (y_NO, r_NO) = (y_NO.host(), Some(r_NO.host()));
            (E::cpu().linear_forward)(cpu, y_NO, r_NO, x_NI.host(), w_OI.host(), I)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, y_NO, Some(r_NO), x_NI, w_OI, [N, I, O]),
    }
}

/// y_NO = x_NI W^T in the precision of sums: the logits of a decoder.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn forward_wide<E: Element>(
    dev: &Device,
    y_NO: ViewMut<E::Acc>,
    x_NI: View<E>,
    w_OI: View<E>,
    I: usize,
    part: &'static str,
) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op =
        dev.op_of(part, "linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::forward_space::<E::Acc, E>(cpu, [N, I, O]), |cpu| {
            (E::cpu().linear_forward_wide)(cpu, y_NO.host(), None, x_NI.host(), w_OI.host(), I)
        }),
        Device::Cuda(cuda) => cuda::forward_wide(cuda, y_NO, x_NI, w_OI, [N, I, O]),
    }
}

/// dx_NI = dy_NO W.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn backward_input<E: Element>(
    dev: &Device,
    dx_NI: ViewMut<E>,
    dy_NO: View<E>,
    w_OI: View<E>,
    I: usize,
    part: &'static str,
) {
    let (N, O) = check(dy_NO.len(), dx_NI.len(), w_OI.len(), I);
    let bytes = dx_NI.bytes() + dy_NO.bytes() + w_OI.bytes();
    let _op =
        dev.op_of(part, "linear backward dx", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_input_space::<E>(cpu, [N, I, O]), |cpu| {
            (E::cpu().linear_backward_input)(cpu, dx_NI.host(), dy_NO.host(), w_OI.host(), I)
        }),
        Device::Cuda(cuda) => cuda::backward_input(cuda, dx_NI, dy_NO, w_OI, [N, I, O]),
    }
}

/// Adds dy_NO^T x_NI to dw_acc_OI.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn backward_weight<E: Element>(
    dev: &Device,
    dw_acc_OI: ViewMut<E::Acc>,
    dy_NO: View<E>,
    x_NI: View<E>,
    I: usize,
    part: &'static str,
) {
    let (N, O) = check(dy_NO.len(), x_NI.len(), dw_acc_OI.len(), I);
    let bytes = 2 * dw_acc_OI.bytes() + dy_NO.bytes() + x_NI.bytes();
    let _op =
        dev.op_of(part, "linear backward dW", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_weight_space::<E>(cpu, [N, I, O]), |cpu| {
            (E::cpu().linear_backward_weight)(cpu, dw_acc_OI.host(), dy_NO.host(), x_NI.host(), I)
        }),
        Device::Cuda(cuda) => cuda::backward_weight(cuda, dw_acc_OI, dy_NO, x_NI, [N, I, O]),
    }
}

/// N and O.
fn check(y: usize, x: usize, w: usize, I: usize) -> (usize, usize) {
    let (N, O) = (rows("linear", x, I), rows("linear", w, I));
    assert_eq!(y, N * O, "linear: {N} rows of {O} outputs");
    (N, O)
}
