//! Forward of some queries of a segment, of the heads that share a key/value head. Keys and values
//! are packed once; then, for each block of queries and each block of keys up to the diagonal,
//!   S = Q K^T / sqrt(D)      P = e^(S - m)      l += sum of P over keys      O += P V
//! and at last O / l, and the log-sum-exp m + ln l. Powers are powers of 2: S and m are in bits.
//!
//! FlashAttention's m is the largest score so far, and sums shrink whenever it grows. Here m is the
//! score of the query's own key, known beforehand: no sum shrinks, and as the own P is 1, l cannot
//! vanish. If l gets near the end of f32's range, the block starts again from its queries' largest
//! scores. S never leaves registers.

use super::pack::*;
use super::{blocks_fit, scale};
use crate::cpu::simd::{Factors, ItemKernel, Lines, MAX_LANES, Vector};
use crate::cpu::tiles::Tile;
use crate::element::{Element, Real};
use bytemuck::cast_slice_mut;

/// Rows and columns of a block of scores: multiples of every tile's.
pub const QUERIES: usize = 24;
pub const KEYS: usize = 192;
/// An l from here on is near the end of f32's range.
const HIGH: f64 = 1e30;

/// Elements of scratch for `keys` keys: k, v and room to turn k; q, p, o, l and m of a block.
fn lens(D: usize, keys: usize, K: usize) -> [usize; 8] {
    let [k, v, room] = [row_len(keys, D, K), panel_len(keys, D, K), row_len(PANEL, D, K)];
    let [q, p, o] = [row_len(QUERIES, D, K), QUERIES * KEYS, sums_len(QUERIES, D)];
    [k, v, room, q, p, o, QUERIES * MAX_LANES, QUERIES]
}

/// All of them.
pub fn len(D: usize, keys: usize, K: usize) -> usize {
    lens(D, keys, K).iter().sum()
}

/// A task.
pub struct Forward<'a, 't, E: Element> {
    pub o: Tile<'t, E>,
    pub lse: Option<Tile<'t, E::Acc>>,
    pub q: Head<'a, E>,
    pub k: Head<'a, E>,
    pub v: Head<'a, E>,
    /// Position of the tile's first query.
    pub q0: usize,
    pub D: usize,
    pub scratch: &'a mut [E::Acc],
}

/// Keys and values in the layouts that products need, and a block of queries.
struct Block<'a, R, I> {
    k_columns: &'a [I],
    v_panels: Panels<'a, I>,
    q_rows: &'a mut [I],
    /// P, as items of K keys.
    p: &'a mut [I],
    o: &'a mut [R],
    /// Lane by lane, [`MAX_LANES`] for each query.
    l: &'a mut [R],
    m: &'a mut [R],
    lane: [R; MAX_LANES],
    D: usize,
}

impl<E: Element> ItemKernel<E::Acc> for Forward<'_, '_, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        const { blocks_fit::<V, F>() };
        let (D, keys) = (self.D, self.q0 + self.o.rows());
        let scratch = std::mem::take(&mut self.scratch);
        let [k, v, room, q, p, o, l, m] = cut(scratch, lens(D, keys, F::K));
        let (k_columns, items) = (cast_slice_mut(k), keys.next_multiple_of(PANEL) / F::K);
        pack_columns::<E, V, F>(k_columns, cast_slice_mut(room), self.k, keys, D);
        let v_panels = pack_panels::<E, V, F>(cast_slice_mut(v), self.v, keys, items, D);
        let (q_rows, p, lane) = (cast_slice_mut(q), cast_slice_mut(p), lanes());
        let mut block = Block { k_columns, v_panels, q_rows, p, o, l, m, lane, D };
        for h in 0..self.o.cols() / D {
            for i0 in (0..self.o.rows()).step_by(QUERIES) {
                self.O::<V, F>(h, i0, &mut block);
            }
        }
    }
}

impl<E: Element> Forward<'_, '_, E> {
    /// O and log-sum-exp of head `h` of the group, of the queries from `i0` of the tile on.
    #[inline(always)]
    fn O<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &mut self,
        h: usize,
        i0: usize,
        b: &mut Block<'_, E::Acc, F::Item>,
    ) {
        let (D, q, q0) = (self.D, self.q.at(i0, h * self.D), self.q0 + i0);
        let rows = QUERIES.min(self.o.rows() - i0);
        pack_rows::<E, V, F>(&mut b.q_rows[..rows * row_stride(D, F::K)], q, rows, D);
        // m = S of a query's own key.
        for i in 0..rows {
            b.m[i] = dot::<E, V, F>(q.row(i, D), self.k.row(q0 + i, D)) * scale(D);
        }
        let (mut l, mut restarted) = ([E::Acc::ZERO; QUERIES], false);
        loop {
            b.l.fill(E::Acc::ZERO);
            for k0 in (0..q0 + rows).step_by(KEYS) {
                let keys = KEYS.min(q0 + rows - k0);
                // The keys of this block that some query of a tile of rows from i on sees.
                let seen = |i: usize| keys.min((q0 + i + V::MR).saturating_sub(k0));
                for j in (0..keys).step_by(V::NR) {
                    for i in (0..rows).step_by(V::MR) {
                        if j < seen(i) {
                            b.P::<V, F>(i, j, q0 + i + 1, k0 + j, seen(i) - j <= V::LANES);
                        }
                    }
                }
                // O = P V for the first keys, then O += P V.
                let p = Lines { data: &*b.p, row: KEYS / F::K, col: 1 };
                let v = b.v_panels.skip_items::<V>(k0 / F::K);
                product::<V, F>(b.o, (rows, D), p, v, k0 > 0, |i| 0..seen(i).div_ceil(F::K));
            }
            for i in 0..rows {
                l[i] = V::load(&b.l[i * MAX_LANES..]).sum();
            }
            let high = E::Acc::from_f64(HIGH);
            if restarted || !l[..rows].iter().any(|&l| l >= high) {
                break;
            }
            // Only where a score is far above that of the query's own key: m = max S.
            for i in (0..rows).filter(|&i| l[i] >= high) {
                let (q, k) = (q.row(i, D), self.k);
                let scores = (0..=q0 + i).map(|t| dot::<E, V, F>(q, k.row(t, D)));
                let top = scores.fold(E::Acc::NEG_INFINITY, |top, s| if s > top { s } else { top });
                b.m[i] = top * scale(D);
            }
            restarted = true;
        }
        // O / l, and m + ln l, in nats.
        for i in 0..rows {
            let o = &mut self.o.row_mut(i0 + i)[h * D..][..D];
            narrow::<E, V, F>(o, &b.o[sums_len(i, D)..], E::Acc::ONE / l[i]);
            if let Some(lse) = &mut self.lse {
                let ln_2 = E::Acc::from_f64(std::f64::consts::LN_2);
                lse.row_mut(i0 + i)[h] = b.m[i] * ln_2 + l[i].ln();
            }
        }
    }
}

impl<R: Real, I: bytemuck::Pod> Block<'_, R, I> {
    /// One tile of P = 2^(S - m), and its share of l: rows from i, columns from j of the block. The
    /// first row sees `seen` keys of the sequence, the first column is key `k`.
    #[inline(always)]
    fn P<V: Vector<Scalar = R>, F: Factors<V, Item = I>>(
        &mut self,
        i: usize,
        j: usize,
        seen: usize,
        k: usize,
        half: bool,
    ) {
        let (D, stride, lane) = (self.D, row_stride(self.D, F::K), &self.lane);
        let (m, to_bits) = (&self.m[i..][..V::MR], V::splat(scale(D)));
        let l = &mut self.l[i * MAX_LANES..][..V::MR * MAX_LANES];
        let at = (i * KEYS + j) / F::K;
        let p_rows = &mut self.p[at..][..((V::MR - 1) * KEYS + V::NR) / F::K];
        let cut = seen < k + V::NR;
        V::sums::<F, 1>(
            [Lines { data: &self.q_rows[i * stride..], row: stride, col: 1 }],
            [&self.k_columns[k * stride..]],
            D.div_ceil(F::K),
            half,
            #[inline(always)]
            |_, _, _| V::splat(R::ZERO),
            #[inline(always)]
            |i, [qk]| {
                let mut p = [V::splat(R::ZERO); 2];
                let l = &mut l[i * MAX_LANES..][..V::LANES];
                let mut sum = V::load(l);
                for n in 0..qk.len() {
                    p[n] = qk[n].mul_add(to_bits, V::splat(-m[i])).exp2();
                    if cut {
                        p[n] = first(p[n], lane, (seen + i).saturating_sub(k), n);
                    }
                    sum = sum + p[n];
                }
                sum.store(l);
                F::store_row(&p[..qk.len()], &mut p_rows[i * KEYS / F::K..]);
            },
        );
    }
}
