//! Low-rank adapter beside a linear layer: y += t B^T, t = s x A^T. N rows, I inputs, O outputs, rank r;
//! A is r rows of I, B is O rows of r, s a constant. y may be O columns of wider rows, for layers whose
//! outputs lie side by side have an adapter each.
//! Source: Hu et al. 2021, arXiv:2106.09685.
//! Cached: nothing; backward makes t again, r / O of the layer's own product.
//!
//! A gradient a call: [`backward_input`] leaves u = s dy B, of which dA is u^T x, a linear layer's.
//!
//! ```
//! use engine::ops::lora::{Place, forward};
//! use engine::{Buf, Device};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (x_NI, mut y) = (Buf::of(dev, &[1.0f32, 2.0]), Buf::of(dev, &[10.0f32, 10.0]));
//! let (a_rI, b_Or, mut t) = (Buf::of(dev, &[1.0f32, 1.0]), Buf::of(dev, &[1.0f32, -1.0]), Buf::zeros(dev, 1));
//! let at = Place { first: 0, stride: 2, scale: 0.5 };
//! let (to, t) = (y.view_mut(), t.view_mut());
//! forward(dev, to, t, x_NI.view(), a_rI.view(), b_Or.view(), at, 2, "");
//! assert_eq!(*y.view().read().unwrap(), [11.5, 8.5]);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::{Device, Element, View, ViewMut};

/// Where an adapter's outputs lie, and its constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The first of its columns.
    pub first: usize,
    /// Columns of a row of y.
    pub stride: usize,
    /// s.
    pub scale: f64,
}

/// Adds t B^T to columns of `y_acc`; t_Nr is left behind.
///
/// # Panics
/// If lengths disagree with I, r or the place: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    y_acc: ViewMut<E>,
    t_Nr: ViewMut<E>,
    x_NI: View<E>,
    a_rI: View<E>,
    b_Or: View<E>,
    at: Place,
    I: usize,
    part: &'static str,
) {
    let sizes = check(y_acc.len(), t_Nr.len(), x_NI.len(), a_rI.len(), b_Or.len(), at, I);
    let [N, _, r, O] = sizes;
    let bytes = x_NI.bytes() + a_rI.bytes() + b_Or.bytes() + 2 * y_bytes::<E>(N, O);
    let flop = 2 * N * r * (I + O);
    let _op = dev.op_of(part, "lora forward", format_args!("N{N} I{I} r{r} O{O}"), flop, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::forward_space::<E>(cpu, sizes), |cpu| {
            let (y, t, x) = (y_acc.host(), t_Nr.host(), x_NI.host());
            (E::cpu().lora_forward)(cpu, y, t, x, a_rI.host(), b_Or.host(), at, I)
        }),
        Device::Cuda(cuda) => cuda::forward(cuda, y_acc, t_Nr, x_NI, a_rI, b_Or, at, sizes),
    }
}

/// Adds u A to dx_acc_NI, where u = s dy B; u_Nr is left behind.
///
/// # Panics
/// If lengths disagree with I, r or the place: a caller bug.
pub fn backward_input<E: Element>(
    dev: &Device,
    dx_acc_NI: ViewMut<E>,
    u_Nr: ViewMut<E>,
    dy: View<E>,
    a_rI: View<E>,
    b_Or: View<E>,
    at: Place,
    I: usize,
    part: &'static str,
) {
    let sizes = check(dy.len(), u_Nr.len(), dx_acc_NI.len(), a_rI.len(), b_Or.len(), at, I);
    let [N, _, r, O] = sizes;
    let bytes = 2 * dx_acc_NI.bytes() + a_rI.bytes() + b_Or.bytes() + y_bytes::<E>(N, O);
    let flop = 2 * N * r * (I + O);
    let shape = format_args!("N{N} I{I} r{r} O{O}");
    let _op = dev.op_of(part, "lora backward dx", shape, flop, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_input_space::<E>(cpu, sizes), |cpu| {
            let (dx, u, dy) = (dx_acc_NI.host(), u_Nr.host(), dy.host());
            (E::cpu().lora_backward_input)(cpu, dx, u, dy, a_rI.host(), b_Or.host(), at, I)
        }),
        Device::Cuda(cuda) => {
            cuda::backward_input(cuda, dx_acc_NI, u_Nr, dy, a_rI, b_Or, at, sizes)
        }
    }
}

/// Adds dy^T t to db_acc_Or; t_Nr is left behind.
///
/// # Panics
/// If lengths disagree with I, r or the place: a caller bug.
pub fn backward_b<E: Element>(
    dev: &Device,
    db_acc_Or: ViewMut<E::Acc>,
    t_Nr: ViewMut<E>,
    dy: View<E>,
    x_NI: View<E>,
    a_rI: View<E>,
    at: Place,
    I: usize,
    part: &'static str,
) {
    let sizes = check(dy.len(), t_Nr.len(), x_NI.len(), a_rI.len(), db_acc_Or.len(), at, I);
    let [N, _, r, O] = sizes;
    let bytes = x_NI.bytes() + a_rI.bytes() + 2 * db_acc_Or.bytes() + y_bytes::<E>(N, O);
    let flop = 2 * N * r * (I + O);
    let shape = format_args!("N{N} I{I} r{r} O{O}");
    let _op = dev.op_of(part, "lora backward dB", shape, flop, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(cpu::backward_b_space::<E>(cpu, sizes), |cpu| {
            let (db, t, dy) = (db_acc_Or.host(), t_Nr.host(), dy.host());
            (E::cpu().lora_backward_b)(cpu, db, t, dy, x_NI.host(), a_rI.host(), at, I)
        }),
        Device::Cuda(cuda) => cuda::backward_b(cuda, db_acc_Or, t_Nr, dy, x_NI, a_rI, at, sizes),
    }
}

fn y_bytes<E>(N: usize, O: usize) -> u64 {
    (N * O * size_of::<E>()) as u64
}

/// N, I, r and O.
fn check(y: usize, t: usize, x: usize, a: usize, b: usize, at: Place, I: usize) -> [usize; 4] {
    let (N, r) = (rows("lora", x, I), rows("lora", a, I));
    let O = rows("lora", b, r);
    assert_eq!((y, t), (N * at.stride, N * r), "lora: {N} rows of {} outputs, rank {r}", at.stride);
    assert!(at.first + O <= at.stride, "lora: {O} columns from {} on", at.first);
    [N, I, r, O]
}
