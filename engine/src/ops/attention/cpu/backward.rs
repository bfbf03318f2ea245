//! Backward of some keys of a segment and of one key/value head. Head by head, queries and
//! gradients are packed from the first key on; then, for each block of keys and each block of
//! queries from the diagonal on, so that the sums for dK and dV stay close, with delta = sum over D
//! of dO O:
//!   S = Q K^T / sqrt(D)      P = e^(S - lse)      dP = dO V^T      dS = P (dP - delta)
//!   dQ += dS K      dK += dS^T Q      dV += P^T dO
//! and at last dQ / sqrt(D) and dK / sqrt(D). Powers are powers of 2: S and lse are in bits. A tile
//! sums S and dP of the same rows, and stores P and dS.

use super::pack::*;
use super::{blocks_fit, scale};
use crate::cpu::simd::{Factors, ItemKernel, Kernel, Lines, MAX_LANES, Vector, store};
use crate::cpu::tiles::Tile;
use crate::element::{Element, Real};
use bytemuck::cast_slice_mut as items;

/// Rows and columns of a block of scores: multiples of every tile's.
pub const QUERIES: usize = 192;
pub const KEYS: usize = 192;
/// A multiple of every tile's rows and columns.
pub const WHOLE: usize = 96;

/// Elements of scratch for `keys` keys and the `rows` queries that see them: a head's q and do as
/// rows, then as panels, its lse and delta; k and v as columns, k as panels; p, ds, and ds as rows
/// of a block; room to turn rows; sums for dk and dv, and for dq if they are the task's `own`.
fn lens(D: usize, keys: usize, rows: usize, own: bool, K: usize) -> [usize; 16] {
    let (whole, block) = (rows.next_multiple_of(WHOLE), QUERIES * KEYS / K);
    let [head, panels] = [row_len(whole, D, K), panel_len(whole, D, K)];
    let [k, k_p, room] = [row_len(KEYS, D, K), panel_len(KEYS, D, K), row_len(PANEL, D, K)];
    let ds_rows = if K == 1 { 0 } else { block };
    let [sums, dq] = [sums_len(keys, D), if own { sums_len(rows, D) } else { 0 }];
    let [p, ds, lse, delta] = [block, block, whole, whole];
    [head, head, panels, panels, lse, delta, k, k, k_p, p, ds, ds_rows, room, sums, sums, dq]
}

/// All of them.
pub fn len(D: usize, keys: usize, rows: usize, own: bool, K: usize) -> usize {
    lens(D, keys, rows, own, K).iter().sum()
}

/// Where a task's sums for dQ go.
pub enum Dq<'t, E: Element> {
    /// The task has every key, so its sums are complete: into rows of the gradient.
    All(Tile<'t, E>),
    /// Sums of other tasks are added later: into rows of sums for each head of the group.
    Part(Tile<'t, E::Acc>),
}

/// What a task reads, for some keys of one head, from the first of them on.
#[derive(Clone, Copy)]
pub struct Inputs<'a, E: Element> {
    pub q: Head<'a, E>,
    pub k: Head<'a, E>,
    pub v: Head<'a, E>,
    pub o: Head<'a, E>,
    pub d_o: Head<'a, E>,
    pub lse: Head<'a, E::Acc>,
    /// Queries, from the first key on.
    pub rows: usize,
    pub keys: usize,
    pub D: usize,
    pub group: usize,
}

/// A task.
pub struct Backward<'a, 't, E: Element> {
    pub inputs: Inputs<'a, E>,
    pub dq: Dq<'t, E>,
    pub dk: Tile<'t, E>,
    pub dv: Tile<'t, E>,
    pub scratch: &'a mut [E::Acc],
}

/// One head's queries and gradients, in the layouts that products need.
struct Queries<'a, R, I> {
    q_rows: &'a mut [I],
    do_rows: &'a mut [I],
    q_panels: &'a mut [I],
    do_panels: &'a mut [I],
    /// What starts an exponent of 2: the log-sum-exp in bits, negative.
    lse: &'a mut [R],
    /// What starts dP: delta, negative.
    delta: &'a mut [R],
    /// Items of a column of panels.
    items: usize,
}

/// One block of keys, and the blocks of scores it takes part in.
struct Block<'a, R, I> {
    k_columns: &'a mut [I],
    v_columns: &'a mut [I],
    k_panels: &'a mut [I],
    /// P and dS, as items of K queries, and the latter of K keys as well.
    p: &'a mut [I],
    ds: &'a mut [I],
    ds_rows: &'a mut [I],
    lane: [R; MAX_LANES],
    D: usize,
}

impl<E: Element> ItemKernel<E::Acc> for Backward<'_, '_, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(self) {
        const { blocks_fit::<V, F>() };
        let Backward { inputs, mut dq, dk: mut dk_to, dv: mut dv_to, scratch } = self;
        let Inputs { rows, keys, D, group, .. } = inputs;
        let own = matches!(dq, Dq::All(_));
        let [q, d_o, q_p, do_p, lse, delta, k, v, k_p, p, ds, ds_rows, room, dk, dv, dq_own] =
            cut(scratch, lens(D, keys, rows, own, F::K));
        let [q_rows, do_rows, q_panels, do_panels] = [q, d_o, q_p, do_p].map(items);
        let count = rows.next_multiple_of(WHOLE) / F::K;
        let mut head = Queries { q_rows, do_rows, q_panels, do_panels, lse, delta, items: count };
        let [k_columns, v_columns, k_panels, p, ds, ds_rows] =
            [k, v, k_p, p, ds, ds_rows].map(items);
        let mut block = Block { k_columns, v_columns, k_panels, p, ds, ds_rows, lane: lanes(), D };
        let room = items(room);
        dk.fill(E::Acc::ZERO);
        dv.fill(E::Acc::ZERO);
        let factor = E::Acc::from_f64((D as f64).powf(-0.5));
        for h in 0..group {
            let dq_sums = match &mut dq {
                Dq::All(_) => &mut *dq_own,
                Dq::Part(part) => {
                    let len = part.cols() / group;
                    &mut part.row_mut(0)[h * len..][..sums_len(rows, D)]
                }
            };
            dq_sums.fill(E::Acc::ZERO);
            head.pack::<E, V, F>(h, &inputs);
            for j0 in (0..keys).step_by(KEYS) {
                let (k, v, keys) = (inputs.k.at(j0, 0), inputs.v.at(j0, 0), KEYS.min(keys - j0));
                pack_columns::<E, V, F>(block.k_columns, room, k, keys, D);
                pack_columns::<E, V, F>(block.v_columns, room, v, keys, D);
                pack_panels::<E, V, F>(block.k_panels, k, keys, KEYS / F::K, D);
                for i0 in (j0..rows).step_by(QUERIES) {
                    let dq = &mut dq_sums[sums_len(i0, D)..];
                    let [dk, dv] = [&mut *dk, &mut *dv].map(|sums| &mut sums[sums_len(j0, D)..]);
                    block.dQ_dK_dV::<V, F>(i0, i0 - j0, [rows - i0, keys], &head, dq, dk, dv);
                }
            }
            if let Dq::All(tile) = &mut dq {
                for t in 0..rows {
                    let dq = &mut tile.row_mut(t)[h * D..][..D];
                    narrow::<E, V, F>(dq, &dq_own[sums_len(t, D)..], factor);
                }
            }
        }
        for t in 0..keys {
            narrow::<E, V, F>(dk_to.row_mut(t), &dk[sums_len(t, D)..], factor);
            narrow::<E, V, F>(dv_to.row_mut(t), &dv[sums_len(t, D)..], E::Acc::ONE);
        }
    }
}

impl<R: Real, I: bytemuck::Pod> Queries<'_, R, I> {
    /// Packs head `h` of the group.
    #[inline(always)]
    fn pack<E: Element<Acc = R>, V: Vector<Scalar = R>, F: Factors<V, Item = I>>(
        &mut self,
        h: usize,
        from: &Inputs<E>,
    ) {
        let (D, rows) = (from.D, from.rows);
        let [q, d_o, o] = [from.q, from.d_o, from.o].map(|of| of.at(0, h * D));
        pack_rows::<E, V, F>(self.q_rows, q, rows, D);
        pack_rows::<E, V, F>(self.do_rows, d_o, rows, D);
        pack_panels::<E, V, F>(self.q_panels, q, rows, self.items, D);
        pack_panels::<E, V, F>(self.do_panels, d_o, rows, self.items, D);
        let log2_e = R::from_f64(std::f64::consts::LOG2_E);
        self.lse[rows..].fill(R::ZERO);
        self.delta[rows..].fill(R::ZERO);
        for t in 0..rows {
            self.lse[t] = -(from.lse.row(t, h + 1)[h] * log2_e);
            o.ask_ahead(t, rows, D);
            self.delta[t] = -dot::<E, V, V>(o.row(t, D), d_o.row(t, D));
        }
    }
}

impl<R: Real, I: bytemuck::Pod> Block<'_, R, I> {
    /// The block of queries from `i0` on against this block of keys, as far as there are `rows` and
    /// `keys`: adds to rows of dq, dk and dv. Query i of the block sees the keys up to i + `ahead`.
    #[inline(always)]
    fn dQ_dK_dV<V: Vector<Scalar = R>, F: Factors<V, Item = I>>(
        &mut self,
        i0: usize,
        ahead: usize,
        [rows, keys]: [usize; 2],
        head: &Queries<'_, R, I>,
        dq: &mut [R],
        dk: &mut [R],
        dv: &mut [R],
    ) {
        let (D, rows) = (self.D, rows.min(QUERIES));
        // The keys that some query of a tile of rows from i on sees.
        let seen = |i: usize| keys.min(i + V::MR + ahead);
        for j in (0..seen(rows - 1)).step_by(V::NR) {
            for i in (0..rows).step_by(V::MR) {
                if j < seen(i) {
                    let half = seen(i) - j <= V::LANES;
                    let last = [rows, keys];
                    self.P_dS::<V, F>(i0, i, j, ahead, last, half, head);
                    self.P_dS::<V, F>(i0, i + V::MR / 2, j, ahead, last, half, head);
                }
            }
        }
        // dQ += dS K
        let ds_rows = if F::K == 1 { &*self.ds } else { &*self.ds_rows };
        let ds = Lines { data: ds_rows, row: KEYS / F::K, col: 1 };
        let k = Panels { data: &*self.k_panels, len: KEYS / F::K * V::NR };
        product::<V, F>(dq, (rows, D), ds, k, true, |i| 0..seen(i).div_ceil(F::K));
        // dK += dS^T Q and dV += P^T dO: key j is seen by the queries from j - ahead on.
        let seeing = |j: usize| j.saturating_sub(ahead) / F::K..rows.div_ceil(F::K);
        let turned = |data| Lines { data, row: 1, col: KEYS };
        let panels = |data| Panels { data, len: head.items * V::NR }.skip_items::<V>(i0 / F::K);
        product::<V, F>(dk, (keys, D), turned(&*self.ds), panels(&*head.q_panels), true, seeing);
        product::<V, F>(dv, (keys, D), turned(&*self.p), panels(&*head.do_panels), true, seeing);
    }

    /// One tile of P = 2^(S - lse) and of dS = P (dP - delta): half a tile's rows from i of the
    /// block whose first query is `i0`, columns from j of the block. Rows see keys as above.
    #[inline(always)]
    fn P_dS<V: Vector<Scalar = R>, F: Factors<V, Item = I>>(
        &mut self,
        i0: usize,
        i: usize,
        j: usize,
        ahead: usize,
        [rows, keys]: [usize; 2],
        half: bool,
        head: &Queries<'_, R, I>,
    ) {
        let Block { k_columns, v_columns, p, ds, ds_rows, lane, D, .. } = self;
        let (stride, M, t) = (row_stride(*D, F::K), V::MR / 2, i0 + i);
        let cut = keys.min(i + ahead + 1) < j + V::NR || rows < i + M;
        let line = |data| Lines { data, row: stride, col: 1 };
        let (lse, delta) = (&head.lse[t..][..M], &head.delta[t..][..M]);
        let at = i / F::K * KEYS + j;
        let [p_to, ds_to] = [p, ds].map(|to| &mut to[at..][..(M / F::K - 1) * KEYS + V::NR]);
        let to_bits = V::splat(scale(*D));
        let mut above = [[V::splat(R::ZERO); 2]; 2];
        V::sums::<F, 2>(
            [line(&head.q_rows[t * stride..]), line(&head.do_rows[t * stride..])],
            [&k_columns[j * stride..], &v_columns[j * stride..]],
            D.div_ceil(F::K),
            half,
            #[inline(always)]
            |product, r, _| V::splat(if product == 0 { R::ZERO } else { delta[r] }),
            #[inline(always)]
            |r, [qk, dp]| {
                let mut p = [V::splat(R::ZERO); 2];
                let mut ds = p;
                for l in 0..qk.len() {
                    p[l] = qk[l].mul_add(to_bits, V::splat(lse[r])).exp2();
                    ds[l] = p[l] * dp[l];
                    if cut {
                        let count = if i + r < rows { keys.min(i + r + ahead + 1) } else { 0 };
                        p[l] = first(p[l], lane, count.saturating_sub(j), l);
                        ds[l] = first(ds[l], lane, count.saturating_sub(j), l);
                    }
                }
                if F::K == 1 {
                    F::store_row(&p[..qk.len()], &mut p_to[r * KEYS..]);
                    F::store_row(&ds[..qk.len()], &mut ds_to[r * KEYS..]);
                    return;
                }
                F::store_row(&ds[..qk.len()], &mut ds_rows[((i + r) * KEYS + j) / F::K..]);
                // Two rows make a row of items.
                if r % 2 == 0 {
                    above = [p, ds];
                    return;
                }
                for l in 0..qk.len() {
                    let at = r / F::K * KEYS + l * V::LANES;
                    F::store_columns([above[0][l], p[l]], &mut p_to[at..], KEYS);
                    F::store_columns([above[1][l], ds[l]], &mut ds_to[at..], KEYS);
                }
            },
        );
    }
}

/// Rows of dQ: the sums of each piece of the keys that they see, in ascending order.
pub struct AddParts<'a, 't, E: Element> {
    pub dq: Tile<'t, E>,
    /// A row for each piece of the segment, with rows of sums for each head, from the piece's first
    /// key on.
    pub parts: Head<'a, E::Acc>,
    /// Elements from one head to the next.
    pub head: usize,
    /// Position of the tile's first query.
    pub q0: usize,
    /// Keys of a piece.
    pub piece: usize,
    pub D: usize,
}

impl<E: Element> Kernel<E::Acc> for AddParts<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        let D = self.D;
        let factor = V::splat(E::Acc::from_f64((D as f64).powf(-0.5)));
        for t in 0..self.dq.rows() {
            let query = self.q0 + t;
            for (h, dq) in self.dq.row_mut(t).chunks_exact_mut(D).enumerate() {
                for d in (0..D).step_by(V::LANES) {
                    let mut sum = V::splat(E::Acc::ZERO);
                    for piece in 0..=query / self.piece {
                        let row = sums_len(query - piece * self.piece, D);
                        let at = self.parts.at(piece, h * self.head + row + d);
                        sum = sum + V::load(&at.data[..V::LANES]);
                    }
                    store::<E, V>(sum * factor, &mut dq[d..]);
                }
            }
        }
    }
}
