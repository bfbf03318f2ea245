//! Bias of a linear layer, in place: y_NO += b_O on each row, and db_O is the sum of the rows of dy_NO.
//! LLaMA has none; Qwen 2 has them on queries, keys and values.
//! Cached: nothing, and dx does not know of it.
//!
//! ```
//! use engine::{Buf, Device, ops::bias};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (mut y_NO, b_O) = (Buf::of(dev, &[1.0f32, 2.0, 3.0, 4.0]), Buf::of(dev, &[10.0f32, 20.0]));
//! bias::forward(dev, y_NO.view_mut(), b_O.view());
//! assert_eq!(y_NO.view().read().unwrap()[..], [11.0, 22.0, 13.0, 24.0]);
//! ```

pub(crate) mod cpu;
mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::cpu::Space;
use crate::{Device, Element, View, ViewMut};

/// Adds b_O to each row of y_acc_NO.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn forward<E: Element>(dev: &Device, y_acc_NO: ViewMut<E>, b_O: View<E>) {
    let (N, O) = (rows("bias", y_acc_NO.len(), b_O.len()), b_O.len());
    let bytes = 2 * y_acc_NO.bytes() + b_O.bytes();
    let _op = dev.op("bias forward", format_args!("N{N} O{O}"), N * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu
            .compute(Space::NONE, |cpu| (E::cpu().bias_forward)(cpu, y_acc_NO.host(), b_O.host())),
        Device::Cuda(cuda) => cuda::forward(cuda, y_acc_NO, b_O, N, O),
    }
}

/// Adds the sum of the rows of dy_NO to db_acc_O, in an order that depends on shapes alone.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn backward<E: Element>(dev: &Device, db_acc_O: ViewMut<E::Acc>, dy_NO: View<E>) {
    let (N, O) = (rows("bias", dy_NO.len(), db_acc_O.len()), db_acc_O.len());
    let bytes = dy_NO.bytes() + 2 * db_acc_O.bytes();
    let _op = dev.op("bias backward", format_args!("N{N} O{O}"), N * O, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_space::<E>(N, O), |cpu| {
            (E::cpu().bias_backward)(cpu, db_acc_O.host(), dy_NO.host())
        }),
        Device::Cuda(cuda) => cuda::backward(cuda, db_acc_O, dy_NO, N, O),
    }
}
