//! Linear layer without bias: y = x W^T. N rows, I inputs, O outputs; W is O rows of I.
//! Cached: nothing; the caller keeps or rebuilds x.

pub(crate) mod cpu;
pub(crate) mod cuda;
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
pub fn forward<E: Element>(dev: &Device, y_NO: ViewMut<E>, x_NI: View<E>, w_OI: View<E>, I: usize) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op = dev.op("linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().linear_forward)(cpu, y_NO.host(), None, x_NI.host(), w_OI.host(), I)
        }
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
) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + r_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op = dev.op("linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => (E::cpu().linear_forward)(
            cpu,
            y_NO.host(),
            Some(r_NO.host()),
            x_NI.host(),
            w_OI.host(),
            I,
        ),
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
) {
    let (N, O) = check(y_NO.len(), x_NI.len(), w_OI.len(), I);
    let bytes = y_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let _op = dev.op("linear forward", format_args!("N{N} I{I} O{O}"), 2 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().linear_forward_wide)(cpu, y_NO.host(), None, x_NI.host(), w_OI.host(), I)
        }
        Device::Cuda(cuda) => cuda::forward_wide(cuda, y_NO, x_NI, w_OI, [N, I, O]),
    }
}

/// dx_NI = dy_NO W; adds dy^T x to dw_acc_OI.
///
/// # Panics
/// If lengths disagree with I: a caller bug.
pub fn backward<E: Element>(
    dev: &Device,
    dx_NI: ViewMut<E>,
    dw_acc_OI: ViewMut<E::Acc>,
    dy_NO: View<E>,
    x_NI: View<E>,
    w_OI: View<E>,
    I: usize,
) {
    let (N, O) = check(dy_NO.len(), x_NI.len(), w_OI.len(), I);
    assert_eq!((dx_NI.len(), dw_acc_OI.len()), (x_NI.len(), w_OI.len()), "linear: gradients");
    let inputs = dy_NO.bytes() + x_NI.bytes() + w_OI.bytes();
    let bytes = inputs + dx_NI.bytes() + 2 * dw_acc_OI.bytes();
    let _op = dev.op("linear backward", format_args!("N{N} I{I} O{O}"), 4 * N * I * O, bytes);
    match dev {
        Device::Cpu(cpu) => (E::cpu().linear_backward)(
            cpu,
            dx_NI.host(),
            dw_acc_OI.host(),
            dy_NO.host(),
            x_NI.host(),
            w_OI.host(),
            I,
        ),
        Device::Cuda(cuda) => cuda::backward(cuda, dx_NI, dw_acc_OI, dy_NO, x_NI, w_OI, [N, I, O]),
    }
}

/// N and O.
fn check(y: usize, x: usize, w: usize, I: usize) -> (usize, usize) {
    let (N, O) = (rows("linear", x, I), rows("linear", w, I));
    assert_eq!(y, N * O, "linear: {N} rows of {O} outputs");
    (N, O)
}
