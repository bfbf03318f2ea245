//! One task is one key/value head of one sequence (in forward also a range of its queries). It
//! packs the keys and values once, then walks blocks of QUERIES x KEYS. All products are tiles
//! of [`Vector::tile`]: scores and weights live in a block that stays in L1.

use super::Heads;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Rows, Vector, load};
use crate::cpu::tiles::{Tile, Tiles};
use crate::element::{Element, Real};

/// Rows of a block of scores: a multiple of every tile height.
const QUERIES: usize = 48;
/// Columns of a block of scores: a multiple of every panel width.
const KEYS: usize = 96;
/// Fewest tasks that forward cuts a batch into, where the sequence allows.
const TASKS: usize = 16;
/// Widest panel of any instruction set, so that scratch lengths do not depend on it.
const PANEL: usize = 32;

/// Blocks are whole tiles, and panels no wider than scratch is sized for.
const fn blocks_fit<V: Vector>() {
    assert!(QUERIES.is_multiple_of(V::MR) && KEYS.is_multiple_of(V::NR));
    assert!(PANEL.is_multiple_of(V::NR));
}

/// Keys, or head widths, rounded up to whole blocks or panels.
fn keys_up(T: usize) -> usize {
    T.next_multiple_of(KEYS)
}

/// Elements that a task of forward needs.
fn forward_len(D: usize, T: usize) -> usize {
    let Dp = D.next_multiple_of(PANEL);
    2 * keys_up(T) * Dp + QUERIES * (KEYS + 2 * Dp + 2)
}

/// Elements that a task of backward needs.
pub fn backward_len(D: usize, T: usize) -> usize {
    let Dp = D.next_multiple_of(PANEL);
    5 * keys_up(T) * Dp + QUERIES * (2 * KEYS + 5 * Dp)
}

/// A head's rows inside wider rows: row t starts at `data[t * stride]`.
#[derive(Clone, Copy)]
struct Head<'a, E> {
    data: &'a [E],
    stride: usize,
}

impl<'a, E> Head<'a, E> {
    #[inline(always)]
    fn row(&self, t: usize, D: usize) -> &'a [E] {
        &self.data[t * self.stride..][..D]
    }

    /// The part that starts at row `t`, column `d`.
    #[inline(always)]
    fn at(&self, t: usize, d: usize) -> Head<'a, E> {
        Head { data: &self.data[t * self.stride + d..], stride: self.stride }
    }
}

pub fn forward<E: Element>(
    cpu: &Cpu,
    o_NHD: &mut [E],
    lse_NH: &mut [E::Acc],
    qkv: &[E],
    heads: Heads,
    T: usize,
) {
    let Heads { H, G, D } = heads;
    let group = H / G;
    // Blocks of rows never cross from one sequence into the next.
    let mut queries = T;
    while lse_NH.len() / H / queries * G < TASKS && queries.is_multiple_of(2 * QUERIES) {
        queries /= 2;
    }
    cpu.reserve_task::<E::Acc>(forward_len(D, T));
    let o = Tiles::new(o_NHD, H * D, queries, group * D);
    let lse = Tiles::new(lse_NH, H, queries, group);
    cpu.for_each_tile((o, lse), |(o, lse)| {
        let (b, g, q0) = (o.row / T, lse.col / group, o.row % T);
        let rows = Head { data: qkv, stride: heads.qkv() }.at(b * T, 0);
        let (k, v) = (rows.at(0, (H + g) * D), rows.at(0, (H + G + g) * D));
        let q = rows.at(q0, g * group * D);
        cpu.with_task(forward_len(D, q0 + o.rows()), |scratch| {
            E::Acc::dispatch(cpu.isa(), Forward { o, lse: Some(lse), q, k, v, q0, D, scratch })
        });
    });
}

pub fn decode<E: Element>(
    cpu: &Cpu,
    o_NHD: &mut [E],
    q_NS: &[E],
    kv: &[E],
    heads: Heads,
    S: usize,
    past: usize,
) {
    let Heads { H, G, D } = heads;
    let group = H / G;
    let queries = (o_NHD.len() / (H * D)).min(QUERIES * 2);
    cpu.reserve_task::<E::Acc>(forward_len(D, kv.len() / (2 * G * D)));
    let o = Tiles::new(o_NHD, H * D, queries, group * D);
    let kv = Head { data: kv, stride: 2 * G * D };
    cpu.for_each_tile(o, |o| {
        let g = o.col / (group * D);
        let (k, v) = (kv.at(0, g * D), kv.at(0, (G + g) * D));
        let q = Head { data: q_NS, stride: S }.at(o.row, o.col);
        let q0 = past + o.row;
        cpu.with_task(forward_len(D, q0 + o.rows()), |scratch| {
            E::Acc::dispatch(cpu.isa(), Forward { o, lse: None, q, k, v, q0, D, scratch })
        });
    });
}

pub fn backward<E: Element>(
    cpu: &Cpu,
    dqkv: &mut [E],
    do_NHD: &[E],
    qkv: &[E],
    o_NHD: &[E],
    lse_NH: &[E::Acc],
    heads: Heads,
    T: usize,
) {
    let Heads { H, G, D } = heads;
    let group = H / G;
    cpu.reserve_task::<E::Acc>(backward_len(D, T));
    let all = Tiles::new(dqkv, heads.qkv(), T, D);
    let (dq, dkv) = all.split_columns(H * D, [group * D, D]);
    let (dk, dv) = dkv.split_columns(G * D, [D, D]);
    cpu.for_each_tile((dq, (dk, dv)), |(dq, (dk, dv))| {
        let (b, g) = (dq.row / T, dk.col / D);
        let rows = Head { data: qkv, stride: heads.qkv() }.at(b * T, 0);
        let out = |data| Head { data, stride: H * D }.at(b * T, g * group * D);
        let task = Backward {
            q: rows.at(0, g * group * D),
            k: rows.at(0, (H + g) * D),
            v: rows.at(0, (H + G + g) * D),
            o: out(o_NHD),
            d_o: out(do_NHD),
            lse: Head { data: lse_NH, stride: H }.at(b * T, g * group),
            T,
            D,
            group,
        };
        cpu.with_task(backward_len(D, T), |scratch| {
            E::Acc::dispatch(cpu.isa(), BackwardInto { task, dq, dk, dv, scratch })
        });
    });
}

/// dst[p][d][j] = row p*NR + j of `src` at d: the keys as columns, in panels of NR keys.
#[inline(always)]
fn pack_columns<E: Element, V: Vector<Scalar = E::Acc>>(
    dst: &mut [E::Acc],
    src: Head<E>,
    rows: usize,
    D: usize,
) {
    for (p, panel) in dst[..keys_up(rows) * D].chunks_exact_mut(V::NR * D).enumerate() {
        for j in 0..V::NR {
            let t = p * V::NR + j;
            if t < rows {
                let row = src.row(t, D);
                for d in 0..D {
                    panel[d * V::NR + j] = row[d].to_acc();
                }
            } else {
                for d in 0..D {
                    panel[d * V::NR + j] = E::Acc::ZERO;
                }
            }
        }
    }
}

/// dst[p][t][j] = row t of `src` at p*NR + j, times `scale`: the rows in panels of NR columns,
/// zero beyond `rows` up to `padded`.
#[inline(always)]
fn pack_rows<E: Element, V: Vector<Scalar = E::Acc>>(
    dst: &mut [E::Acc],
    src: Head<E>,
    rows: usize,
    padded: usize,
    D: usize,
    scale: E::Acc,
) {
    for (p, panel) in
        dst[..D.next_multiple_of(V::NR) * padded].chunks_exact_mut(V::NR * padded).enumerate()
    {
        let width = V::NR.min(D - p * V::NR);
        for (t, dst) in panel.chunks_exact_mut(V::NR).enumerate() {
            if t < rows {
                let row = &src.row(t, D)[p * V::NR..];
                for j in 0..width {
                    dst[j] = row[j].to_acc() * scale;
                }
                dst[width..].fill(E::Acc::ZERO);
            } else {
                dst.fill(E::Acc::ZERO);
            }
        }
    }
}

/// dst (rows of D) = rows of `src` times `scale`.
#[inline(always)]
fn copy_rows<E: Element>(dst: &mut [E::Acc], src: Head<E>, rows: usize, D: usize, scale: E::Acc) {
    for (t, dst) in dst.chunks_exact_mut(D).take(rows).enumerate() {
        let row = src.row(t, D);
        for d in 0..D {
            dst[d] = row[d].to_acc() * scale;
        }
    }
}

/// c[i][j] (rows of `stride`) for `rows` x `cols` from `a` and panels of `k` rows at `b`; each
/// panel is `panel` elements after the last. Adds where `add`. Tiles wholly above the diagonal
/// j = i + `diagonal` are left alone.
#[inline(always)]
fn product<V: Vector>(
    c: &mut [V::Scalar],
    stride: usize,
    a: Rows<'_, V::Scalar>,
    b: &[V::Scalar],
    panel: usize,
    k: usize,
    cols: usize,
    add: bool,
    diagonal: isize,
) {
    let rows = a.rows;
    for j in (0..cols).step_by(V::NR) {
        let b = &b[j / V::NR * panel..];
        for i in (0..rows).step_by(V::MR) {
            if j as isize > (i + V::MR - 1) as isize + diagonal {
                continue;
            }
            let a = Rows { data: &a.data[i * a.row..], rows: rows - i, ..a };
            V::tile::<V>(
                a,
                b,
                k,
                #[inline(always)]
                |di, dj, v| {
                    if i + di < rows {
                        let dst = &mut c[(i + di) * stride + j + dj..][..V::LANES];
                        let v = if add { V::load(dst) + v } else { v };
                        v.store(dst);
                    }
                },
            );
        }
    }
}

/// No diagonal: every tile counts.
const ALL: isize = isize::MAX / 2;

struct Forward<'a, 't, E: Element> {
    o: Tile<'t, E>,
    lse: Option<Tile<'t, E::Acc>>,
    q: Head<'a, E>,
    k: Head<'a, E>,
    v: Head<'a, E>,
    /// Position of the tile's first query.
    q0: usize,
    D: usize,
    scratch: &'a mut [E::Acc],
}

impl<E: Element> Kernel<E::Acc> for Forward<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        const { blocks_fit::<V>() };
        let D = self.D;
        let (Dp, keys) = (D.next_multiple_of(V::NR), self.q0 + self.o.rows());
        let padded = keys_up(keys);
        let (k_panels, rest) = std::mem::take(&mut self.scratch).split_at_mut(padded * Dp);
        let (v_panels, block) = rest.split_at_mut(padded * Dp);
        pack_columns::<E, V>(k_panels, self.k, keys, D);
        pack_rows::<E, V>(v_panels, self.v, keys, padded, D, E::Acc::ONE);
        for h in 0..self.o.cols() / D {
            for i0 in (0..self.o.rows()).step_by(QUERIES) {
                self.queries::<V>(h, i0, k_panels, v_panels, padded, block);
            }
        }
    }
}

impl<E: Element> Forward<'_, '_, E> {
    /// Head `h` of the group, queries from `i0` of the tile on.
    #[inline(always)]
    fn queries<V: Vector<Scalar = E::Acc>>(
        &mut self,
        h: usize,
        i0: usize,
        k_panels: &[E::Acc],
        v_panels: &[E::Acc],
        padded: usize,
        block: &mut [E::Acc],
    ) {
        let D = self.D;
        let (Dp, rows) = (D.next_multiple_of(V::NR), QUERIES.min(self.o.rows() - i0));
        let (s, rest) = block.split_at_mut(QUERIES * KEYS);
        let (q, rest) = rest.split_at_mut(QUERIES * Dp);
        let (o, rest) = rest.split_at_mut(QUERIES * Dp);
        let (max, sum) = rest[..2 * QUERIES].split_at_mut(QUERIES);
        copy_rows(q, self.q.at(i0, h * D), rows, D, E::Acc::from_f64((D as f64).powf(-0.5)));
        o.fill(E::Acc::ZERO);
        max.fill(E::Acc::NEG_INFINITY);
        sum.fill(E::Acc::ZERO);
        let first = self.q0 + i0;
        for k0 in (0..first + rows).step_by(KEYS) {
            let cols = KEYS.min(first + rows - k0).next_multiple_of(V::NR);
            let diagonal = first as isize - k0 as isize;
            let a = Rows { data: q, rows, row: D, col: 1 };
            product::<V>(s, KEYS, a, &k_panels[k0 * D..], V::NR * D, D, cols, false, diagonal);
            for i in 0..rows {
                let visible = (i as isize + diagonal + 1).clamp(0, cols as isize) as usize;
                let s = &mut s[i * KEYS..][..cols];
                let shrink = soften::<V>(s, visible, &mut max[i], &mut sum[i]);
                if shrink != E::Acc::ONE {
                    scale_row::<V>(&mut o[i * Dp..][..Dp], shrink);
                }
            }
            let p = Rows { data: s, rows, row: KEYS, col: 1 };
            let v = &v_panels[k0 * V::NR..];
            product::<V>(o, Dp, p, v, V::NR * padded, cols, Dp, true, ALL);
        }
        for i in 0..rows {
            narrow(&mut self.o.row_mut(i0 + i)[h * D..][..D], &o[i * Dp..], E::Acc::ONE / sum[i]);
            if let Some(lse) = &mut self.lse {
                lse.row_mut(i0 + i)[h] = max[i] + sum[i].ln();
            }
        }
    }
}

#[inline(always)]
fn scale_row<V: Vector>(row: &mut [V::Scalar], factor: V::Scalar) {
    for x in row.chunks_exact_mut(V::LANES) {
        (V::load(x) * V::splat(factor)).store(x);
    }
}

/// One row of the online softmax: replaces the `visible` scores by e^(s - max), the rest by 0,
/// brings `max` and `sum` up to date, and returns the factor for what was summed before.
#[inline(always)]
fn soften<V: Vector>(
    s: &mut [V::Scalar],
    visible: usize,
    max: &mut V::Scalar,
    sum: &mut V::Scalar,
) -> V::Scalar {
    s[visible..].fill(V::Scalar::NEG_INFINITY);
    if visible == 0 {
        s.fill(V::Scalar::ZERO);
        return V::Scalar::ONE;
    }
    let mut top = V::splat(*max);
    for x in s.chunks_exact(V::LANES) {
        top = top.max(V::load(x));
    }
    let new = top.max_lane();
    let mut total = V::splat(V::Scalar::ZERO);
    for x in s.chunks_exact_mut(V::LANES) {
        let e = (V::load(x) - V::splat(new)).exp();
        e.store(x);
        total = total + e;
    }
    let shrink = if *max == new { V::Scalar::ONE } else { (*max - new).exp() };
    *sum = *sum * shrink + total.sum();
    *max = new;
    shrink
}

/// What backward reads, for one key/value head of one sequence.
#[derive(Clone, Copy)]
struct Backward<'a, E: Element> {
    q: Head<'a, E>,
    k: Head<'a, E>,
    v: Head<'a, E>,
    o: Head<'a, E>,
    d_o: Head<'a, E>,
    lse: Head<'a, E::Acc>,
    T: usize,
    D: usize,
    group: usize,
}

struct BackwardInto<'a, 't, E: Element> {
    task: Backward<'a, E>,
    dq: Tile<'t, E>,
    dk: Tile<'t, E>,
    dv: Tile<'t, E>,
    scratch: &'a mut [E::Acc],
}

/// The sequence's keys and values in the layouts that products need, and their gradients.
struct Packed<'a, R> {
    k_columns: &'a mut [R],
    v_columns: &'a mut [R],
    k_rows: &'a mut [R],
    dk: &'a mut [R],
    dv: &'a mut [R],
    /// Rows of each, whole blocks.
    padded: usize,
}

impl<E: Element> Kernel<E::Acc> for BackwardInto<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        const { blocks_fit::<V>() };
        let Backward { T, D, group, .. } = self.task;
        let (Dp, padded) = (D.next_multiple_of(V::NR), keys_up(T));
        let (k_columns, rest) = self.scratch.split_at_mut(padded * Dp);
        let (v_columns, rest) = rest.split_at_mut(padded * Dp);
        let (k_rows, rest) = rest.split_at_mut(padded * Dp);
        let (dk, rest) = rest.split_at_mut(padded * Dp);
        let (dv, block) = rest.split_at_mut(padded * Dp);
        let mut packed = Packed { k_columns, v_columns, k_rows, dk, dv, padded };
        pack_columns::<E, V>(packed.k_columns, self.task.k, T, D);
        pack_columns::<E, V>(packed.v_columns, self.task.v, T, D);
        pack_rows::<E, V>(packed.k_rows, self.task.k, T, padded, D, E::Acc::ONE);
        packed.dk.fill(E::Acc::ZERO);
        packed.dv.fill(E::Acc::ZERO);
        for h in 0..group {
            for i0 in (0..T).step_by(QUERIES) {
                self.task.queries::<V>(h, i0, &mut packed, block, &mut self.dq);
            }
        }
        for t in 0..T {
            narrow(self.dk.row_mut(t), &packed.dk[t * Dp..], E::Acc::ONE);
            narrow(self.dv.row_mut(t), &packed.dv[t * Dp..], E::Acc::ONE);
        }
    }
}

/// dst = src * factor, rounded.
#[inline(always)]
fn narrow<E: Element>(dst: &mut [E], src: &[E::Acc], factor: E::Acc) {
    for d in 0..dst.len() {
        dst[d] = E::from_acc(src[d] * factor);
    }
}

impl<E: Element> Backward<'_, E> {
    /// Head `h` of the group, queries from `i0` on: writes their dq, adds to dk and dv.
    #[inline(always)]
    fn queries<V: Vector<Scalar = E::Acc>>(
        &self,
        h: usize,
        i0: usize,
        packed: &mut Packed<'_, E::Acc>,
        block: &mut [E::Acc],
        dq_tile: &mut Tile<'_, E>,
    ) {
        let (D, Dp) = (self.D, self.D.next_multiple_of(V::NR));
        let rows = QUERIES.min(self.T - i0);
        let (p, rest) = block.split_at_mut(QUERIES * KEYS);
        let (ds, rest) = rest.split_at_mut(QUERIES * KEYS);
        let (q, rest) = rest.split_at_mut(QUERIES * Dp);
        let (d_o, rest) = rest.split_at_mut(QUERIES * Dp);
        let (q_panels, rest) = rest.split_at_mut(QUERIES * Dp);
        let (do_panels, rest) = rest.split_at_mut(QUERIES * Dp);
        let dq = &mut rest[..QUERIES * Dp];
        let scale = E::Acc::from_f64((D as f64).powf(-0.5));
        let (q_head, do_head) = (self.q.at(i0, h * D), self.d_o.at(i0, h * D));
        copy_rows(q, q_head, rows, D, scale);
        copy_rows(d_o, do_head, rows, D, E::Acc::ONE);
        pack_rows::<E, V>(q_panels, q_head, rows, QUERIES, D, scale);
        pack_rows::<E, V>(do_panels, do_head, rows, QUERIES, D, E::Acc::ONE);
        dq.fill(E::Acc::ZERO);
        let mut delta = [E::Acc::ZERO; QUERIES];
        for i in 0..rows {
            let o = self.o.at(i0 + i, h * D).row(0, D);
            delta[i] = dot::<E, V>(o, &d_o[i * D..][..D]);
        }
        for k0 in (0..i0 + rows).step_by(KEYS) {
            let cols = KEYS.min(i0 + rows - k0).next_multiple_of(V::NR);
            let diagonal = i0 as isize - k0 as isize;
            let (k, v) = (&packed.k_columns[k0 * D..], &packed.v_columns[k0 * D..]);
            let rows_of = |data| Rows { data, rows, row: D, col: 1 };
            product::<V>(p, KEYS, rows_of(&*q), k, V::NR * D, D, cols, false, diagonal);
            product::<V>(ds, KEYS, rows_of(&*d_o), v, V::NR * D, D, cols, false, diagonal);
            for i in 0..rows {
                let visible = (i as isize + diagonal + 1).clamp(0, cols as isize) as usize;
                let lse = self.lse.row(i0 + i, h + 1)[h];
                let (p, ds) = (&mut p[i * KEYS..][..cols], &mut ds[i * KEYS..][..cols]);
                weights::<V>(p, ds, visible, lse, delta[i]);
            }
            let across = Rows { data: &*ds, rows, row: KEYS, col: 1 };
            let k_rows = &packed.k_rows[k0 * V::NR..];
            product::<V>(dq, Dp, across, k_rows, V::NR * packed.padded, cols, Dp, true, ALL);
            let down = |data| Rows { data, rows: cols, row: 1, col: KEYS };
            let (dk, dv) = (&mut packed.dk[k0 * Dp..], &mut packed.dv[k0 * Dp..]);
            product::<V>(dk, Dp, down(&*ds), q_panels, V::NR * QUERIES, rows, Dp, true, ALL);
            product::<V>(dv, Dp, down(&*p), do_panels, V::NR * QUERIES, rows, Dp, true, ALL);
        }
        for i in 0..rows {
            narrow(&mut dq_tile.row_mut(i0 + i)[h * D..][..D], &dq[i * Dp..], scale);
        }
    }
}

/// Sum of o * d_o over one row of a head.
#[inline(always)]
fn dot<E: Element, V: Vector<Scalar = E::Acc>>(o: &[E], d_o: &[E::Acc]) -> E::Acc {
    let mut sum = V::splat(E::Acc::ZERO);
    for i in (0..o.len()).step_by(V::LANES) {
        sum = load::<E, V>(&o[i..]).mul_add(load::<E::Acc, V>(&d_o[i..]), sum);
    }
    sum.sum()
}

/// One row: replaces scores by weights P = e^(s - lse) and dP by dS = P * (dP - delta); both 0
/// beyond `visible`.
#[inline(always)]
fn weights<V: Vector>(
    p: &mut [V::Scalar],
    ds: &mut [V::Scalar],
    visible: usize,
    lse: V::Scalar,
    delta: V::Scalar,
) {
    p[visible..].fill(V::Scalar::NEG_INFINITY);
    ds[visible..].fill(V::Scalar::ZERO);
    let (lse, delta) = (V::splat(lse), V::splat(delta));
    for (p, ds) in p.chunks_exact_mut(V::LANES).zip(ds.chunks_exact_mut(V::LANES)) {
        let weight = (V::load(p) - lse).exp();
        weight.store(p);
        (weight * (V::load(ds) - delta)).store(ds);
    }
}
