//! A head's rows in the layouts that products read, and the products themselves, in tiles of
//! [`Vector::sums`]. With D columns and items of K values:
//!
//! - rows: one row of items after the other, the left factor of Q K^T;
//! - columns: panels of NR rows turned, item by item, its right factor;
//! - panels: NR of the D columns, an item of K rows after the other, the right factor of P V.
//!
//! Whatever lies beyond the last row and column is zero.

use crate::cpu::simd::{
    Factors, Lines, MAX_LANES, Vector, items_of_columns, items_of_row, load, prefetch, store,
};
use crate::element::{Element, Real};
use bytemuck::Zeroable;
use std::ops::Range;

/// Rows that memory is asked for ahead of their use.
const AHEAD: usize = 16;
/// Widest panel of any instruction set, so that scratch lengths do not depend on it.
pub const PANEL: usize = 32;

/// A row of items: whole vectors.
pub fn row_stride(D: usize, K: usize) -> usize {
    D.div_ceil(K).next_multiple_of(MAX_LANES)
}

/// Elements of scratch that hold `rows` rows as rows or as columns.
pub fn row_len(rows: usize, D: usize, K: usize) -> usize {
    rows.next_multiple_of(PANEL) * row_stride(D, K)
}

/// The same as panels.
pub fn panel_len(rows: usize, D: usize, K: usize) -> usize {
    rows.next_multiple_of(PANEL) / K * D.next_multiple_of(PANEL)
}

/// Sums for `rows` rows of D.
pub fn sums_len(rows: usize, D: usize) -> usize {
    rows * D.next_multiple_of(PANEL)
}

/// Pieces of scratch, of these lengths.
#[inline(always)]
pub fn cut<R, const N: usize>(mut scratch: &mut [R], lens: [usize; N]) -> [&mut [R]; N] {
    lens.map(
        #[inline(always)]
        |len| {
            let (piece, rest) = std::mem::take(&mut scratch).split_at_mut(len);
            scratch = rest;
            piece
        },
    )
}

/// A head's rows inside wider rows: row t starts at `data[t * stride]`.
#[derive(Clone, Copy)]
pub struct Head<'a, E> {
    pub data: &'a [E],
    pub stride: usize,
}

impl<'a, E> Head<'a, E> {
    #[inline(always)]
    pub fn row(&self, t: usize, D: usize) -> &'a [E] {
        &self.data[t * self.stride..][..D]
    }

    /// Asks memory for the row that is used [`AHEAD`] rows after `t`, if there is one: rows of a
    /// head lie too far apart for hardware to foresee them.
    #[inline(always)]
    pub fn ask_ahead(&self, t: usize, rows: usize, D: usize) {
        if t + AHEAD < rows {
            prefetch(self.row(t + AHEAD, D));
        }
    }

    /// The part that starts at row `t`, column `d`.
    #[inline(always)]
    pub fn at(&self, t: usize, d: usize) -> Head<'a, E> {
        Head { data: &self.data[t * self.stride + d..], stride: self.stride }
    }
}

/// The first `rows` rows of `src` as rows.
#[inline(always)]
pub fn pack_rows<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [F::Item],
    src: Head<E>,
    rows: usize,
    D: usize,
) {
    for (t, dst) in dst.chunks_exact_mut(row_stride(D, F::K)).enumerate() {
        if t >= rows {
            dst.fill(F::Item::zeroed());
            continue;
        }
        let row = src.row(t, D);
        src.ask_ahead(t, rows, D);
        for (i, dst) in dst.chunks_exact_mut(V::LANES).enumerate() {
            items_of_row::<E, V, F>(row, i * V::LANES * F::K).store_items(dst);
        }
    }
}

/// The same as columns. `room` holds [`PANEL`] rows of items.
#[inline(always)]
pub fn pack_columns<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [F::Item],
    room: &mut [F::Item],
    src: Head<E>,
    rows: usize,
    D: usize,
) {
    let stride = row_stride(D, F::K);
    let panels = dst.chunks_exact_mut(V::NR * stride).take(rows.div_ceil(V::NR));
    for (p, panel) in panels.enumerate() {
        let (t, rows_of) = (p * V::NR, &mut room[..V::NR * stride]);
        pack_rows::<E, V, F>(rows_of, src.at(t, 0), rows - t, D);
        for j in (0..V::NR).step_by(V::LANES) {
            for i in (0..stride).step_by(V::LANES) {
                let (to, from) = (&mut panel[i * V::NR + j..], &rows_of[j * stride + i..]);
                F::transpose_items(to, V::NR, from, stride);
            }
        }
    }
}

/// Panels of columns, `len` items each.
#[derive(Clone, Copy)]
pub struct Panels<'a, I> {
    pub data: &'a [I],
    pub len: usize,
}

impl<I> Panels<'_, I> {
    /// What is left of each behind `k` items.
    #[inline(always)]
    pub fn skip_items<V: Vector>(self, k: usize) -> Self {
        Panels { data: &self.data[k * V::NR..], ..self }
    }
}

/// The same as panels of `items` items.
#[inline(always)]
pub fn pack_panels<'a, E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &'a mut [F::Item],
    src: Head<E>,
    rows: usize,
    items: usize,
    D: usize,
) -> Panels<'a, F::Item> {
    let len = V::NR * items;
    let panels = dst.chunks_exact_mut(len).take(D.div_ceil(V::NR));
    for (p, panel) in panels.enumerate() {
        for (k, dst) in panel.chunks_exact_mut(V::NR).enumerate() {
            let t = k * F::K;
            if t >= rows {
                dst.fill(F::Item::zeroed());
                continue;
            }
            let last = t + F::K - 1;
            let item = [src.row(t, D), if last < rows { src.row(last, D) } else { &[] }];
            for (j, dst) in dst.chunks_exact_mut(V::LANES).enumerate() {
                items_of_columns::<E, V, F>(item, p * V::NR + j * V::LANES).store_items(dst);
            }
        }
    }
    Panels { data: dst, len }
}

/// c = a * b, or c += a * b, for `rows` rows and D columns. The tile of rows from i on sums over
/// the items `k(i)`, by which `a` and `b` are counted.
#[inline(always)]
pub fn product<V: Vector, F: Factors<V>>(
    c: &mut [V::Scalar],
    (rows, D): (usize, usize),
    a: Lines<'_, F::Item>,
    b: Panels<'_, F::Item>,
    add: bool,
    k: impl Fn(usize) -> Range<usize>,
) {
    let stride = sums_len(1, D);
    for j in (0..D).step_by(V::NR) {
        let panel = &b.data[j / V::NR * b.len..];
        for i in (0..rows).step_by(V::MR) {
            let (k, rows) = (k(i), rows - i);
            if k.is_empty() {
                continue;
            }
            let a = Lines { data: &a.data[i * a.row + k.start * a.col..], ..a };
            let c = &mut c[i * stride + j..];
            if add {
                for c in c.chunks(stride).take(rows.min(V::MR)) {
                    prefetch(&c[..V::NR]);
                }
            }
            V::sums::<F, 1>(
                [a],
                [&panel[k.start * V::NR..]],
                k.len(),
                D - j <= V::LANES,
                #[inline(always)]
                |_, _, _| V::splat(V::Scalar::ZERO),
                #[inline(always)]
                |i, [sums]| {
                    if i < rows {
                        let c = &mut c[i * stride..][..sums.len() * V::LANES];
                        for (c, &sums) in c.chunks_exact_mut(V::LANES).zip(sums) {
                            let sums = if add { V::load(c) + sums } else { sums };
                            sums.store(c);
                        }
                    }
                },
            );
        }
    }
}

/// Sum of a * b.
#[inline(always)]
pub fn dot<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(a: &[E], b: &[E]) -> E::Acc {
    products_of::<E, V, F>(a, b, a.len()).sum()
}

/// Products of the first D of a and b, summed down to one vector.
#[inline(always)]
pub fn products_of<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    a: &[E],
    b: &[E],
    D: usize,
) -> V {
    let (step, mut sum, mut d) = (V::LANES * F::K, V::splat(E::Acc::ZERO), 0);
    let (a, b) = (&a[..D], &b[..D]);
    while d + step <= D {
        sum = F::of_row::<E>(&a[d..]).mul_add(F::of_row::<E>(&b[d..]), sum);
        d += step;
    }
    while d < D {
        sum = load::<E, V>(&a[d..]).mul_add(load::<E, V>(&b[d..]), sum);
        d += V::LANES;
    }
    sum
}

/// The lanes of vector `j` of a tile's row that are among its first `count` columns, zeros
/// elsewhere. `lane` holds 0, 1, 2, and so on.
#[inline(always)]
pub fn first<V: Vector>(x: V, lane: &[V::Scalar; MAX_LANES], count: usize, j: usize) -> V {
    let last = count as f64 - (1 + j * V::LANES) as f64;
    x.zero_where_lt(V::splat(V::Scalar::from_f64(last)), V::load(lane))
}

/// 0, 1, 2, and so on.
pub fn lanes<R: Real>() -> [R; MAX_LANES] {
    std::array::from_fn(|l| R::from_f64(l as f64))
}

/// dst = src * factor, rounded.
#[inline(always)]
pub fn narrow<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [E],
    src: &[E::Acc],
    factor: E::Acc,
) {
    let whole = dst.len() - dst.len() % V::LANES;
    for d in (0..whole).step_by(V::LANES) {
        F::store_sums(V::load(&src[d..]) * V::splat(factor), &mut dst[d..]);
    }
    if whole < dst.len() {
        store::<E, V>(V::load(&src[whole..]) * V::splat(factor), &mut dst[whole..]);
    }
}
