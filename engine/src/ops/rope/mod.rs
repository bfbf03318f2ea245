//! Rotary position embedding, in place: element i < D/2 of a head and its partner i + D/2 turn by
//! position * theta^(-2i/D). This half-split pairing is Hugging Face's; Meta's pairs neighbours.
//! Source: Su et al. 2021, arXiv:2104.09864.
//! Cached: nothing; backward is the inverse rotation.

pub(crate) mod cpu;
mod cuda;
pub mod reference;

use super::rows;
use crate::{Buf, Device, Element, Real, View, ViewMut};

/// Cosines and sines for positions 0..T: row t holds D/2 cosines, then D/2 sines.
pub fn table<R: Real>(dev: &Device, T: usize, D: usize, theta: f64) -> Buf<R> {
    let mut table_TD = Buf::zeros(dev, T * D);
    table_TD.view_mut().fill_with(|table_TD| {
        for (t, row) in table_TD.chunks_exact_mut(D).enumerate() {
            for i in 0..D / 2 {
                let angle = t as f64 * theta.powf(-2.0 * i as f64 / D as f64);
                row[i] = R::from_f64(angle.cos());
                row[D / 2 + i] = R::from_f64(angle.sin());
            }
        }
    });
    table_TD
}

/// Rotates the first `heads` heads of each row of x_NS (rows of S elements, of which the rest is
/// left alone). Row n stands at position n mod T of `table_TD`.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn forward_inplace<E: Element>(
    dev: &Device,
    x_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    S: usize,
    heads: usize,
    D: usize,
) {
    let N = check(x_NS.len(), table_TD.len(), S, heads, D);
    let turned = N * heads * D;
    let shape = format_args!("N{N} heads {heads} D{D}");
    let bytes = 2 * (turned * size_of::<E>()) as u64 + table_TD.bytes();
    let _op = dev.op("rope forward", shape, 3 * turned, bytes);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().rope_rotate)(cpu, x_NS.host(), table_TD.host(), S, heads, D, E::Acc::ONE)
        }
        Device::Cuda(cuda) => cuda::rotate(cuda, x_NS, table_TD, S, heads, D, 1.0),
    }
}

/// Turns a gradient back: the inverse of [`forward_inplace`].
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn backward_inplace<E: Element>(
    dev: &Device,
    dx_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    S: usize,
    heads: usize,
    D: usize,
) {
    let N = check(dx_NS.len(), table_TD.len(), S, heads, D);
    let turned = N * heads * D;
    let shape = format_args!("N{N} heads {heads} D{D}");
    let bytes = 2 * (turned * size_of::<E>()) as u64 + table_TD.bytes();
    let _op = dev.op("rope backward", shape, 3 * turned, bytes);
    match dev {
        Device::Cpu(cpu) => {
            (E::cpu().rope_rotate)(cpu, dx_NS.host(), table_TD.host(), S, heads, D, -E::Acc::ONE)
        }
        Device::Cuda(cuda) => cuda::rotate(cuda, dx_NS, table_TD, S, heads, D, -1.0),
    }
}

/// N.
fn check(x: usize, table: usize, S: usize, heads: usize, D: usize) -> usize {
    let (N, T) = (rows("rope", x, S), rows("rope", table, D));
    assert!(D.is_multiple_of(2) && heads * D <= S && T > 0 && N.is_multiple_of(T), "rope: shape");
    N
}
