//! Embedding: row n of x is row `token[n]` of the table. Cached: nothing but the token ids.
//!
//! ```
//! use engine::{Buf, Device, ops::embedding};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (w_VC, mut x_NC) = (Buf::of(dev, &[1.0f32, 2.0, 3.0, 4.0]), Buf::zeros(dev, 4));
//! embedding::forward(dev, x_NC.view_mut(), &[1, 0], w_VC.view(), 2);
//! assert_eq!(*x_NC.view().read().unwrap(), [3.0, 4.0, 1.0, 2.0]);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::cpu::Space;
use crate::{Device, Element, View, ViewMut};

/// Writes x_NC.
///
/// # Panics
/// If lengths disagree with C, or an id is not a row of w_VC: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    x_NC: ViewMut<E>,
    tokens_N: &[u32],
    w_VC: View<E>,
    C: usize,
) {
    check(x_NC.len(), tokens_N, w_VC.len(), C);
    let shape = format_args!("N{} C{C}", tokens_N.len());
    let bytes = 2 * x_NC.bytes() + size_of_val(tokens_N) as u64;
    let _op = dev.op("embedding forward", shape, 0, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().embedding_forward)(cpu, x_NC.host(), tokens_N, w_VC.host(), C)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, x_NC, tokens_N, w_VC, C),
    }
}

/// Adds row n of dx_NC to row `token[n]` of dw_acc_VC, in ascending n.
///
/// # Panics
/// If lengths disagree with C, or an id is not a row of dw_acc_VC: a caller bug.
pub fn backward<E: Element>(
    dev: &Device,
    dw_acc_VC: ViewMut<E::Acc>,
    dx_NC: View<E>,
    tokens_N: &[u32],
    C: usize,
) {
    let V = check(dx_NC.len(), tokens_N, dw_acc_VC.len(), C);
    let shape = format_args!("N{} C{C}", tokens_N.len());
    let rows = (2 * V.min(tokens_N.len()) * C * size_of::<E::Acc>()) as u64;
    let bytes = rows + dx_NC.bytes() + size_of_val(tokens_N) as u64;
    let _op = dev.op("embedding backward", shape, dx_NC.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            (E::cpu().embedding_backward)(cpu, dw_acc_VC.host(), dx_NC.host(), tokens_N, C)
        }),
        Device::Cuda(cuda) => cuda::backward(cuda, dw_acc_VC, dx_NC, tokens_N, C),
    }
}

/// V.
fn check(x: usize, tokens: &[u32], w: usize, C: usize) -> usize {
    let (N, V) = (rows("embedding", x, C), rows("embedding", w, C));
    assert_eq!(N, tokens.len(), "embedding: tokens");
    assert!(tokens.iter().all(|&id| (id as usize) < V), "embedding: a token id is beyond {V}");
    V
}
