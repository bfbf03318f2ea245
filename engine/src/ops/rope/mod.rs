//! Rotary position embedding, in place: element i < D/2 of a head and its partner i + D/2 turn by
//! position * theta^(-2i/D). This half-split pairing is Hugging Face's; Meta's pairs neighbours.
//! Source: Su et al. 2021, arXiv:2104.09864.
//! Models for longer texts have other frequencies, and some scale cosines and sines.
//! Cached: nothing; backward is the transposed: the rotation backwards, with the same scale.
//!
//! ```
//! use engine::{Buf, Device, Segments, ops::rope};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let table_TD = rope::table::<f32>(dev, 2, &rope::frequencies(2, 10_000.0), 1.0);
//! // One head of width 2 for two tokens: the second turns by one radian.
//! let mut x_NS = Buf::of(dev, &[1.0f32, 0.0, 1.0, 0.0]);
//! let segments = &Segments::equal(1, 2);
//! rope::forward_inplace(dev, x_NS.view_mut(), table_TD.view(), segments, 2, 1, 2);
//! assert_eq!(x_NS.view().read().unwrap()[..2], [1.0, 0.0]);
//! assert!((x_NS.view().read().unwrap()[2] - 1f32.cos()).abs() < 1e-6);
//! ```

pub(crate) mod cpu;
mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use super::rows;
use crate::cpu::Space;
use crate::{Buf, Device, Element, Real, Segments, View, ViewMut};
use std::convert::Infallible;

/// theta^(-2i/D) for i below D/2: by how much each pair of elements turns from one position to the
/// next.
pub fn frequencies(D: usize, theta: f64) -> Vec<f64> {
    (0..D / 2).map(|i| theta.powf(-2.0 * i as f64 / D as f64)).collect()
}

/// Cosines and sines of the angles of positions 0..T, times `scale`: row t holds D/2 cosines, then D/2
/// sines, for D/2 frequencies.
pub fn table<R: Real>(dev: &Device, T: usize, frequencies: &[f64], scale: f64) -> Buf<R> {
    let D = 2 * frequencies.len();
    let mut table_TD = Buf::zeros(dev, T * D);
    let filled = table_TD.view_mut().fill_parts(|first, part| {
        for (x, at) in part.iter_mut().zip(first..) {
            let (t, i) = (at / D, at % D);
            let angle = t as f64 * frequencies[i % (D / 2)];
            *x = R::from_f64(scale * if i < D / 2 { angle.cos() } else { angle.sin() });
        }
        Ok::<(), Infallible>(())
    });
    let Ok(()) = filled;
    table_TD
}

/// Rotates the first `heads` heads of each row of x_NS (rows of S elements, of which the rest is
/// left alone), each by the angles of its position in its segment's sequence.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn forward_inplace<E: Element>(
    dev: &Device,
    x_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    segments: &Segments,
    S: usize,
    heads: usize,
    D: usize,
) {
    let N = check(x_NS.len(), table_TD.len(), segments, S, heads, D);
    let turned = N * heads * D;
    let shape = format_args!("N{N} heads {heads} D{D}");
    let table = (segments.reach() * D * size_of::<E::Acc>()) as u64;
    let bytes = 2 * (turned * size_of::<E>()) as u64 + table;
    let _op = dev.op("rope forward", shape, 3 * turned, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            let (x_NS, table_TD) = (x_NS.host(), table_TD.host());
            (E::cpu().rope_rotate)(cpu, x_NS, table_TD, segments, S, heads, D, E::Acc::ONE)
        }),
        Device::Cuda(cuda) => cuda::rotate(cuda, x_NS, table_TD, segments, S, heads, D, 1.0),
    }
}

/// Turns a gradient back: the transposed of [`forward_inplace`].
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn backward_inplace<E: Element>(
    dev: &Device,
    dx_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    segments: &Segments,
    S: usize,
    heads: usize,
    D: usize,
) {
    let N = check(dx_NS.len(), table_TD.len(), segments, S, heads, D);
    let turned = N * heads * D;
    let shape = format_args!("N{N} heads {heads} D{D}");
    let table = (segments.reach() * D * size_of::<E::Acc>()) as u64;
    let bytes = 2 * (turned * size_of::<E>()) as u64 + table;
    let _op = dev.op("rope backward", shape, 3 * turned, bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            let (dx_NS, table_TD) = (dx_NS.host(), table_TD.host());
            (E::cpu().rope_rotate)(cpu, dx_NS, table_TD, segments, S, heads, D, -E::Acc::ONE)
        }),
        Device::Cuda(cuda) => cuda::rotate(cuda, dx_NS, table_TD, segments, S, heads, D, -1.0),
    }
}

/// N.
fn check(x: usize, table: usize, segments: &Segments, S: usize, heads: usize, D: usize) -> usize {
    let (N, T) = (rows("rope", x, S), rows("rope", table, D));
    assert!(D.is_multiple_of(2) && heads * D <= S && segments.rows() == N, "rope: shape");
    assert!(segments.reach() <= T, "rope: position {} of {T}", segments.reach());
    N
}
