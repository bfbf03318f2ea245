//! Scores exist in blocks that stay in L1: a block of queries against a block of keys. Every
//! product is made of tiles of [`Vector::tile`], its factors f32, or pairs of bf16 where the set
//! has dot products of them. There weights and their gradients are rounded to bf16, each by at
//! most 2^-9 of its value, as factors; sums of weights are of what they were before.
//!
//! Forward: one task is some queries of the heads that share a key/value head. It packs keys and
//! values once, then takes blocks of queries, and for each the blocks of keys up to the diagonal.
//! Backward: one task is some keys of one key/value head. Head by head it packs queries and
//! gradients from its first key on, then takes blocks of keys, and for each the blocks of queries
//! from the diagonal on, so the sums for dK and dV stay close. Those for dQ are the task's own if
//! it has all keys; else each task sums into memory of its own, and the sums are added in order.

mod one;

use super::Heads;
use crate::cpu::Cpu;
use crate::cpu::simd::{
    DotKernel, Dots, Factors, Kernel, MAX_LANES, Rows, Vector, load, prefetch, store,
};
use crate::cpu::tiles::{Tile, TileSet, Tiles};
use crate::element::{Element, Real};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Rows and columns of a block of scores in forward: multiples of every tile's.
const QUERIES: usize = 24;
const KEYS: usize = 192;
/// The same in backward.
const BACK_QUERIES: usize = 96;
const BACK_KEYS: usize = 192;
/// Fewest tasks that a batch is cut into, where the sequence allows.
const TASKS: usize = 16;
/// Fewest queries or keys of a task that is cut from a sequence.
const CUT: usize = 128;
/// Rows that memory is asked for ahead of their use.
const AHEAD: usize = 16;
/// Widest panel of any instruction set, so that scratch lengths do not depend on it.
const PANEL: usize = 32;

/// Blocks are whole tiles, panels no wider than scratch is sized for, and rows of tiles whole
/// items.
const fn blocks_fit<V: Vector, F: Factors<V>>() {
    assert!(QUERIES.is_multiple_of(V::MR) && BACK_QUERIES.is_multiple_of(V::MR));
    assert!(KEYS.is_multiple_of(PANEL) && BACK_KEYS.is_multiple_of(PANEL));
    assert!(PANEL.is_multiple_of(V::NR) && PANEL.is_multiple_of(2 * V::LANES));
    assert!(BACK_KEYS.is_multiple_of(BACK_QUERIES) && V::MR.is_multiple_of(2) && F::K <= 2);
}

/// Values of k in an item of factors: 2 where products are sums over pairs of bf16.
fn values_of_item<E: Element>(cpu: &Cpu) -> usize {
    if E::as_bf16(&[]).is_some() && cpu.isa().dots() { 2 } else { 1 }
}

/// Elements of scratch that hold the items of `rows` rows of D, as rows and as panels of columns.
fn row_len(rows: usize, D: usize, K: usize) -> usize {
    rows.next_multiple_of(PANEL) * D.div_ceil(K).next_multiple_of(MAX_LANES)
}

/// The same as panels of D columns, an item of each K rows.
fn panel_len(rows: usize, D: usize, K: usize) -> usize {
    rows.next_multiple_of(PANEL) / K * D.next_multiple_of(PANEL)
}

/// Sums for `rows` rows of D.
fn sums_len(rows: usize, D: usize) -> usize {
    rows * D.next_multiple_of(PANEL)
}

/// Elements that a task of forward needs for `keys` keys.
fn forward_len(D: usize, keys: usize, K: usize) -> usize {
    let packed = row_len(keys, D, K) + panel_len(keys, D, K) + row_len(PANEL, D, K);
    let block = QUERIES * KEYS + row_len(QUERIES, D, K) + sums_len(QUERIES, D);
    packed + block + QUERIES * (MAX_LANES + 2)
}

/// Elements that a task of backward needs for `keys` keys and the `rows` queries that see them,
/// without its sums for dQ.
fn backward_len(D: usize, keys: usize, rows: usize, K: usize) -> usize {
    let head = 2 * row_len(rows, D, K) + 2 * panel_len(rows, D, K);
    let of_keys = 2 * row_len(BACK_KEYS, D, K) + panel_len(BACK_KEYS, D, K);
    let packed = head + of_keys + row_len(PANEL, D, K) + 2 * sums_len(keys, D);
    let block = BACK_QUERIES * (3 * BACK_KEYS / K + 2 * PANEL);
    packed + block + 2 * rows.next_multiple_of(MAX_LANES)
}

/// Into how many pieces of equal length a sequence of T is cut, so that `tasks` become [`TASKS`].
fn pieces(T: usize, tasks: usize) -> usize {
    let mut pieces = 1;
    while pieces * tasks < TASKS && T.is_multiple_of(2 * pieces) && T / pieces >= 2 * CUT {
        pieces *= 2;
    }
    pieces
}

/// Elements that backward needs for all tasks: the sums for dQ of each, where a head has several.
pub fn shared_len(heads: Heads, N: usize, T: usize) -> usize {
    match pieces(T, N / T * heads.G) {
        1 => 0,
        pieces => pieces * sums_len(N * heads.H, heads.D),
    }
}

/// Elements that a task needs at most.
pub fn task_len<E: Element>(cpu: &Cpu, heads: Heads, N: usize, T: usize) -> usize {
    let (D, K, pieces) = (heads.D, values_of_item::<E>(cpu), pieces(T, N / T * heads.G));
    forward_len(D, T, K).max(backward_len(D, T / pieces, T, K) + own_len(D, T, pieces))
}

/// Elements of a task's own sums for dQ.
fn own_len(D: usize, T: usize, pieces: usize) -> usize {
    if pieces == 1 { sums_len(T, D) } else { 0 }
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

    /// Asks memory for row `t`, if there is one: rows of a head lie too far apart for hardware to
    /// foresee them.
    #[inline(always)]
    fn ask(&self, t: usize, rows: usize, D: usize) {
        if t < rows {
            prefetch(self.row(t, D));
        }
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
    let (group, K) = (H / G, values_of_item::<E>(cpu));
    let queries = T / pieces(T, lse_NH.len() / H / T * G);
    cpu.reserve_task::<E::Acc>(forward_len(D, T, K));
    let o = Tiles::new(o_NHD, H * D, queries, group * D);
    let lse = Tiles::new(lse_NH, H, queries, group);
    // The last queries see most keys: they come first, so that no thread is left with them.
    cpu.for_each_tile((o, lse).reversed(), |(o, lse)| {
        let (b, g, q0) = (o.row / T, lse.col / group, o.row % T);
        let rows = Head { data: qkv, stride: heads.qkv() }.at(b * T, 0);
        let (k, v) = (rows.at(0, (H + g) * D), rows.at(0, (H + G + g) * D));
        let q = rows.at(q0, g * group * D);
        cpu.with_task(forward_len(D, q0 + o.rows(), K), |scratch| {
            run::<E, _>(cpu, Forward { o, lse: Some(lse), q, k, v, q0, D, scratch });
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
    let (group, K) = (H / G, values_of_item::<E>(cpu));
    let queries = (o_NHD.len() / (H * D)).min(CUT);
    if queries == 1 {
        return one::decode(cpu, o_NHD, q_NS, kv, heads, past + 1);
    }
    cpu.reserve_task::<E::Acc>(forward_len(D, kv.len() / (2 * G * D), K));
    let o = Tiles::new(o_NHD, H * D, queries, group * D);
    let kv = Head { data: kv, stride: 2 * G * D };
    cpu.for_each_tile(o, |o| {
        let g = o.col / (group * D);
        let (k, v) = (kv.at(0, g * D), kv.at(0, (G + g) * D));
        let q = Head { data: q_NS, stride: S }.at(o.row, o.col);
        let q0 = past + o.row;
        cpu.with_task(forward_len(D, q0 + o.rows(), K), |scratch| {
            run::<E, _>(cpu, Forward { o, lse: None, q, k, v, q0, D, scratch });
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
    let (group, N, K) = (H / G, lse_NH.len() / H, values_of_item::<E>(cpu));
    let pieces = pieces(T, N / T * G);
    let own = own_len(D, T, pieces);
    cpu.reserve_task::<E::Acc>(backward_len(D, T / pieces, T, K) + own);
    let (dq, dkv) =
        Tiles::new(dqkv, heads.qkv(), T / pieces, D).split_columns(H * D, [group * D, D]);
    let (dk, dv) = dkv.split_columns(G * D, [D, D]);
    let of = |dk: &Tile<E>| {
        let (b, g, k0) = (dk.row / T, dk.col / D, dk.row % T);
        let rows = Head { data: qkv, stride: heads.qkv() }.at(b * T + k0, 0);
        let out = |data| Head { data, stride: H * D }.at(b * T + k0, g * group * D);
        Backward {
            q: rows.at(0, g * group * D),
            k: rows.at(0, (H + g) * D),
            v: rows.at(0, (H + G + g) * D),
            o: out(o_NHD),
            d_o: out(do_NHD),
            lse: Head { data: lse_NH, stride: H }.at(b * T + k0, g * group),
            rows: T - k0,
            keys: dk.rows(),
            D,
            group,
        }
    };
    let len = |task: &Backward<E>| backward_len(D, task.keys, task.rows, K) + own;
    if pieces == 1 {
        return cpu.for_each_tile((dq, (dk, dv)), |(dq, (dk, dv))| {
            let (task, dq) = (of(&dk), Dq::All(dq));
            cpu.with_task(len(&task), |scratch| {
                run::<E, _>(cpu, BackwardInto { task, dq, dk, dv, scratch });
            });
        });
    }
    let part = group * sums_len(T, D);
    cpu.with_shared(shared_len(heads, N, T), |sums: &mut [E::Acc]| {
        // A row for each piece of each sequence, a tile for each task.
        let parts = Tiles::new(&mut *sums, G * part, 1, part);
        cpu.for_each_tile((parts, (dk, dv)), |(part, (dk, dv))| {
            let (task, dq) = (of(&dk), Dq::Part(part));
            cpu.with_task(len(&task), |scratch| {
                run::<E, _>(cpu, BackwardInto { task, dq, dk, dv, scratch });
            });
        });
        cpu.for_each_tile(dq, |dq| {
            let (b, g, q0) = (dq.row / T, dq.col / (group * D), dq.row % T);
            let first = (b * pieces * G + g) * part;
            let parts = Head { data: &sums[first..], stride: G * part };
            E::Acc::dispatch(cpu.isa(), AddParts { dq, parts, q0, piece: T / pieces, T, D });
        });
    });
}

/// Runs a task, on pairs of bf16 where the type and the set have them.
fn run<E: Element, K: Kernel<E::Acc, Out = ()> + DotKernel<E::Acc, Out = ()>>(cpu: &Cpu, task: K) {
    if values_of_item::<E>(cpu) == 2 {
        E::Acc::dispatch_dots(cpu.isa(), task)
    } else {
        E::Acc::dispatch(cpu.isa(), task)
    }
}

/// `width` elements from column `d` of row `t`, or fewer at the row's end, zeros behind them.
#[inline(always)]
fn padded<E: Element>(row: &[E], d: usize) -> [E; 2 * MAX_LANES] {
    let mut values = [E::default(); 2 * MAX_LANES];
    let row = &row[d.min(row.len())..];
    let len = row.len().min(2 * MAX_LANES);
    values[..len].copy_from_slice(&row[..len]);
    values
}

/// dst (rows of whole vectors of items) = rows of `src`, zero beyond `rows` and D.
#[inline(always)]
fn copy_rows<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [F::Item],
    src: Head<E>,
    rows: usize,
    D: usize,
) {
    let (stride, step) = (D.div_ceil(F::K).next_multiple_of(MAX_LANES), V::LANES * F::K);
    for (t, dst) in dst.chunks_exact_mut(stride).enumerate() {
        if t >= rows {
            dst.fill(F::Item::zeroed());
            continue;
        }
        let row = src.row(t, D);
        src.ask(t + AHEAD, rows, D);
        for (i, dst) in dst.chunks_exact_mut(V::LANES).enumerate() {
            let d = i * step;
            let items = if d + step <= D {
                F::of_row::<E>(&row[d..])
            } else {
                F::of_row::<E>(&padded(row, d))
            };
            items.store_items(dst);
        }
    }
}

/// The rows as columns: panel p holds NR of them, item by item, zero beyond `rows`. `rows_of` is
/// room for [`PANEL`] rows of items.
#[inline(always)]
fn pack_columns<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [F::Item],
    rows_of: &mut [F::Item],
    src: Head<E>,
    rows: usize,
    D: usize,
) {
    let stride = D.div_ceil(F::K).next_multiple_of(MAX_LANES);
    let panels = dst.chunks_exact_mut(V::NR * stride).take(rows.div_ceil(V::NR));
    for (p, panel) in panels.enumerate() {
        let (t, rows_of) = (p * V::NR, &mut rows_of[..V::NR * stride]);
        copy_rows::<E, V, F>(rows_of, src.at(t, 0), rows - t, D);
        for j in (0..V::NR).step_by(V::LANES) {
            for i in (0..stride).step_by(V::LANES) {
                F::transpose(
                    &mut panel[i * V::NR + j..],
                    V::NR,
                    &rows_of[j * stride + i..],
                    stride,
                );
            }
        }
    }
}

/// The rows in panels of NR columns: each panel holds `items` items of K rows one after the
/// other, zero beyond `rows` and D.
#[inline(always)]
fn pack_rows<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [F::Item],
    src: Head<E>,
    rows: usize,
    items: usize,
    D: usize,
) {
    let panels = dst.chunks_exact_mut(V::NR * items).take(D.div_ceil(V::NR));
    for (p, panel) in panels.enumerate() {
        for (k, dst) in panel.chunks_exact_mut(V::NR).enumerate() {
            let t = k * F::K;
            if t >= rows {
                dst.fill(F::Item::zeroed());
                continue;
            }
            let first = src.row(t, D);
            let second = if t + F::K - 1 < rows { src.row(t + F::K - 1, D) } else { &[] };
            for (j, dst) in dst.chunks_exact_mut(V::LANES).enumerate() {
                let d = p * V::NR + j * V::LANES;
                let items = if d + V::LANES <= D && !second.is_empty() {
                    F::of_columns(&first[d..], &second[d..])
                } else {
                    F::of_columns(&padded(first, d), &padded(second, d))
                };
                items.store_items(dst);
            }
        }
    }
}

/// Panels of columns, `len` items each.
#[derive(Clone, Copy)]
struct Panels<'a, I> {
    data: &'a [I],
    len: usize,
}

/// c (rows of `stride`) = a * b, or c += a * b. The tile of rows from i on has columns up to
/// `cols(i)`, ascending in i, which is rounded up to whole vectors, and sums over the items
/// `k(i)`, by which `a` and `b` are counted.
#[inline(always)]
fn product<V: Vector, F: Factors<V>>(
    c: &mut [V::Scalar],
    stride: usize,
    a: Rows<'_, F::Item>,
    b: Panels<'_, F::Item>,
    add: bool,
    cols: impl Fn(usize) -> usize + Copy,
    k: impl Fn(usize) -> Range<usize>,
) {
    let rows = a.rows;
    for j in (0..cols(rows - 1)).step_by(V::NR) {
        let panel = &b.data[j / V::NR * b.len..];
        for i in (0..rows).step_by(V::MR) {
            let (k, cols) = (k(i), cols(i));
            if j >= cols || k.is_empty() {
                continue;
            }
            let data = &a.data[i * a.row + k.start * a.col..];
            let a = Rows { data, rows: rows - i, ..a };
            let c = &mut c[i * stride + j..];
            let b = &panel[k.start * V::NR..];
            if cols - j > V::LANES {
                V::tile::<F>(
                    a,
                    b,
                    k.len(),
                    #[inline(always)]
                    |di, dj, sums| put(c, stride, rows - i, add, di, dj, sums),
                );
            } else {
                V::tile_of_one::<F>(
                    a,
                    b,
                    k.len(),
                    #[inline(always)]
                    |di, dj, sums| put(c, stride, rows - i, add, di, dj, sums),
                );
            }
        }
    }
}

/// Stores sums of row i, columns from j on, where c has that row.
#[inline(always)]
fn put<V: Vector>(
    c: &mut [V::Scalar],
    stride: usize,
    rows: usize,
    add: bool,
    i: usize,
    j: usize,
    sums: V,
) {
    if i < rows {
        let dst = &mut c[i * stride + j..][..V::LANES];
        let sums = if add { V::load(dst) + sums } else { sums };
        sums.store(dst);
    }
}

/// dst = src * factor, rounded.
#[inline(always)]
fn narrow<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    dst: &mut [E],
    src: &[E::Acc],
    factor: E::Acc,
) {
    let whole = dst.len() - dst.len() % V::LANES;
    for d in (0..whole).step_by(V::LANES) {
        F::store(V::load(&src[d..]) * V::splat(factor), &mut dst[d..]);
    }
    if whole < dst.len() {
        store::<E, V>(V::load(&src[whole..]) * V::splat(factor), &mut dst[whole..]);
    }
}

/// Cuts pieces off a slice.
struct Cut<'a, R>(&'a mut [R]);

impl<'a, R: Real> Cut<'a, R> {
    #[inline(always)]
    fn take(&mut self, len: usize) -> &'a mut [R] {
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        piece
    }

    #[inline(always)]
    fn items<I: Pod>(&mut self, len: usize) -> &'a mut [I] {
        bytemuck::cast_slice_mut(self.take(len))
    }
}

/// The factor that turns a product of a query and a key into an exponent of 2.
fn scale<R: Real>(D: usize) -> R {
    R::from_f64(std::f64::consts::LOG2_E * (D as f64).powf(-0.5))
}

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
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        self.walk::<V, V>()
    }
}

impl<E: Element> DotKernel<E::Acc> for Forward<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Dots<Scalar = E::Acc>>(self) {
        self.walk::<V, V::Pairs>()
    }
}

/// A task's keys and values in the layouts that products need, and a block of queries.
struct ForwardBlocks<'a, R, I> {
    k_columns: &'a [I],
    v_rows: Panels<'a, I>,
    q: &'a mut [I],
    /// Scores, then in place the items of the weights.
    s: &'a mut [R],
    o: &'a mut [R],
    /// Largest score of each query so far.
    max: &'a mut [R],
    /// What the sums of each query so far are to be multiplied by.
    shrink: &'a mut [R],
    /// Sums of weights of each query, lane by lane.
    sum: &'a mut [R],
}

impl<E: Element> Forward<'_, '_, E> {
    #[inline(always)]
    fn walk<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        const { blocks_fit::<V, F>() };
        let (D, keys) = (self.D, self.q0 + self.o.rows());
        let mut cut = Cut(std::mem::take(&mut self.scratch));
        let k_columns = cut.items(row_len(keys, D, F::K));
        let v_rows = cut.items(panel_len(keys, D, F::K));
        let items = keys.next_multiple_of(PANEL) / F::K;
        let room = cut.items(row_len(PANEL, D, F::K));
        pack_columns::<E, V, F>(k_columns, room, self.k, keys, D);
        pack_rows::<E, V, F>(v_rows, self.v, keys, items, D);
        let mut blocks = ForwardBlocks {
            k_columns,
            v_rows: Panels { data: v_rows, len: items * V::NR },
            q: cut.items(row_len(QUERIES, D, F::K)),
            s: cut.take(QUERIES * KEYS),
            o: cut.take(sums_len(QUERIES, D)),
            sum: cut.take(QUERIES * MAX_LANES),
            max: cut.take(QUERIES),
            shrink: cut.take(QUERIES),
        };
        for h in 0..self.o.cols() / D {
            for i0 in (0..self.o.rows()).step_by(QUERIES) {
                self.queries::<V, F>(h, i0, &mut blocks);
            }
        }
    }

    /// Head `h` of the group, queries from `i0` of the tile on.
    #[inline(always)]
    fn queries<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &mut self,
        h: usize,
        i0: usize,
        blocks: &mut ForwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let (D, Dp, Dk) = (self.D, self.D.next_multiple_of(PANEL), self.D.div_ceil(F::K));
        let rows = QUERIES.min(self.o.rows() - i0);
        let stride = Dk.next_multiple_of(MAX_LANES);
        let q = &mut blocks.q[..rows * stride];
        copy_rows::<E, V, F>(q, self.q.at(i0, h * D), rows, D);
        blocks.max.fill(E::Acc::NEG_INFINITY);
        blocks.sum.fill(E::Acc::ZERO);
        let first = self.q0 + i0;
        for k0 in (0..first + rows).step_by(KEYS) {
            let keys = KEYS.min(first + rows - k0);
            // The keys of this block that some query of a tile of rows from i on sees.
            let seen = |i: usize| keys.min((first + i + V::MR).saturating_sub(k0));
            let a = Rows { data: &*blocks.q, rows, row: stride, col: 1 };
            let k = Panels { data: &blocks.k_columns[k0 * stride..], len: V::NR * stride };
            product::<V, F>(blocks.s, KEYS, a, k, false, seen, |_| 0..Dk);
            soften::<V, F>(blocks, rows, scale(D), |i| {
                ((first + i + 1).saturating_sub(k0).min(keys), seen(i / V::MR * V::MR))
            });
            if k0 > 0 {
                for i in 0..rows {
                    if blocks.shrink[i] != E::Acc::ONE {
                        scale_row::<V>(&mut blocks.o[i * Dp..][..Dp], blocks.shrink[i]);
                    }
                }
            }
            let p = Rows { data: bytemuck::cast_slice(&*blocks.s), rows, row: KEYS, col: 1 };
            let v = Panels { data: &blocks.v_rows.data[k0 / F::K * V::NR..], ..blocks.v_rows };
            product::<V, F>(blocks.o, Dp, p, v, k0 > 0, |_| D, |i| 0..seen(i).div_ceil(F::K));
        }
        for i in 0..rows {
            let sum = V::load(&blocks.sum[i * MAX_LANES..]).sum();
            let o = &mut self.o.row_mut(i0 + i)[h * D..][..D];
            narrow::<E, V, F>(o, &blocks.o[i * Dp..], E::Acc::ONE / sum);
            if let Some(lse) = &mut self.lse {
                let ln_2 = E::Acc::from_f64(std::f64::consts::LN_2);
                lse.row_mut(i0 + i)[h] = blocks.max[i] * scale(D) * ln_2 + sum.ln();
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

/// One step of the online softmax: replaces the scores of each row by the items of the weights
/// e^((s - max) / sqrt(D)), and brings `max`, `sum` and `shrink` up to date. `seen` gives the
/// scores of row i that count, and those that a product may ask for: weights between are 0.
#[inline(always)]
fn soften<V: Vector, F: Factors<V>>(
    blocks: &mut ForwardBlocks<'_, V::Scalar, F::Item>,
    rows: usize,
    scale: V::Scalar,
    seen: impl Fn(usize) -> (usize, usize),
) {
    let step = 2 * V::LANES;
    for i in 0..rows {
        let (visible, wanted) = seen(i);
        let s = &mut blocks.s[i * KEYS..][..wanted.next_multiple_of(step)];
        s[visible..].fill(V::Scalar::NEG_INFINITY);
        let mut top = [V::splat(blocks.max[i]); 2];
        for s in s.chunks_exact(step) {
            for j in 0..2 {
                top[j] = top[j].max(V::load(&s[j * V::LANES..]));
            }
        }
        let max = top[0].max(top[1]).max_lane();
        let change = V::splat((blocks.max[i] - max) * scale).exp2().max_lane();
        blocks.shrink[i] = if blocks.max[i] == max { V::Scalar::ONE } else { change };
        blocks.max[i] = max;
    }
    for i in 0..rows {
        let s = &mut blocks.s[i * KEYS..][..seen(i).1.next_multiple_of(step)];
        let (scale, max) = (V::splat(scale), V::splat(-(blocks.max[i] * scale)));
        let mut sum = [V::splat(V::Scalar::ZERO); 2];
        for j in (0..s.len()).step_by(step) {
            let mut p = [V::load(&s[j..]), V::load(&s[j + V::LANES..])];
            for l in 0..2 {
                p[l] = p[l].mul_add(scale, max).exp2();
                sum[l] = sum[l] + p[l];
            }
            // An item takes no more room than a score: what is still to be read stays.
            F::store_row(p, bytemuck::cast_slice_mut(&mut s[j / F::K..j / F::K + step / F::K]));
        }
        let total = &mut blocks.sum[i * MAX_LANES..][..V::LANES];
        let shrink = V::splat(blocks.shrink[i]);
        V::load(total).mul_add(shrink, sum[0] + sum[1]).store(total);
    }
}

/// What backward reads, for some keys of one head, from the first of them on.
#[derive(Clone, Copy)]
struct Backward<'a, E: Element> {
    q: Head<'a, E>,
    k: Head<'a, E>,
    v: Head<'a, E>,
    o: Head<'a, E>,
    d_o: Head<'a, E>,
    lse: Head<'a, E::Acc>,
    /// Queries, from the first key on.
    rows: usize,
    keys: usize,
    D: usize,
    group: usize,
}

/// Where a task's sums for dQ go.
enum Dq<'t, E: Element> {
    /// They are all: rows of the gradient.
    All(Tile<'t, E>),
    /// Others follow: rows of sums for each head of the group.
    Part(Tile<'t, E::Acc>),
}

struct BackwardInto<'a, 't, E: Element> {
    task: Backward<'a, E>,
    dq: Dq<'t, E>,
    dk: Tile<'t, E>,
    dv: Tile<'t, E>,
    scratch: &'a mut [E::Acc],
}

impl<E: Element> Kernel<E::Acc> for BackwardInto<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        self.walk::<V, V>()
    }
}

impl<E: Element> DotKernel<E::Acc> for BackwardInto<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Dots<Scalar = E::Acc>>(self) {
        self.walk::<V, V::Pairs>()
    }
}

/// One head's queries and gradients, in the layouts that products need.
struct Queries<'a, R, I> {
    q: &'a mut [I],
    d_o: &'a mut [I],
    q_panels: &'a mut [I],
    do_panels: &'a mut [I],
    /// Log-sum-exp, in powers of 2.
    lse: &'a mut [R],
    /// Sum of dO * O over D.
    delta: &'a mut [R],
}

/// One block of keys, and the blocks of scores it takes part in.
struct BackwardBlocks<'a, R, I> {
    k_columns: &'a mut [I],
    v_columns: &'a mut [I],
    k_panels: &'a mut [I],
    /// Weights and gradients of scores, as items of K queries, and the latter of K keys as well.
    p: &'a mut [I],
    ds: &'a mut [I],
    ds_rows: &'a mut [I],
    /// Scores and their gradients, of one panel of keys.
    s: &'a mut [R],
    dp: &'a mut [R],
    /// Room to turn rows into columns.
    room: &'a mut [I],
    /// What makes an exponent of 2 of a score.
    scale: R,
    /// 0, 1, 2, and so on.
    lane: [R; MAX_LANES],
}

impl<E: Element> BackwardInto<'_, '_, E> {
    #[inline(always)]
    fn walk<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        const { blocks_fit::<V, F>() };
        let Backward { rows, keys, D, group, .. } = self.task;
        let Dp = D.next_multiple_of(PANEL);
        let mut cut = Cut(std::mem::take(&mut self.scratch));
        let mut queries = Queries {
            q: cut.items(row_len(rows, D, F::K)),
            d_o: cut.items(row_len(rows, D, F::K)),
            q_panels: cut.items(panel_len(rows, D, F::K)),
            do_panels: cut.items(panel_len(rows, D, F::K)),
            lse: cut.take(rows.next_multiple_of(MAX_LANES)),
            delta: cut.take(rows.next_multiple_of(MAX_LANES)),
        };
        let mut blocks = BackwardBlocks {
            k_columns: cut.items(row_len(BACK_KEYS, D, F::K)),
            v_columns: cut.items(row_len(BACK_KEYS, D, F::K)),
            k_panels: cut.items(panel_len(BACK_KEYS, D, F::K)),
            p: cut.items(BACK_QUERIES * BACK_KEYS / F::K),
            ds: cut.items(BACK_QUERIES * BACK_KEYS / F::K),
            ds_rows: cut.items(BACK_QUERIES * BACK_KEYS / F::K),
            s: cut.take(BACK_QUERIES * PANEL),
            dp: cut.take(BACK_QUERIES * PANEL),
            room: cut.items(row_len(PANEL, D, F::K)),
            scale: scale(D),
            lane: std::array::from_fn(|l| E::Acc::from_f64(l as f64)),
        };
        let (dk, dv) = (cut.take(sums_len(keys, D)), cut.take(sums_len(keys, D)));
        let own = cut.0;
        dk.fill(E::Acc::ZERO);
        dv.fill(E::Acc::ZERO);
        let factor = E::Acc::from_f64((D as f64).powf(-0.5));
        let (mut all, mut part) = match self.dq {
            Dq::All(tile) => (Some(tile), None),
            Dq::Part(part) => (None, Some(part)),
        };
        for h in 0..group {
            let dq = match &mut part {
                None => &mut *own,
                Some(part) => {
                    let part = part.row_mut(0);
                    let head = part.len() / group;
                    &mut part[h * head..][..rows * Dp]
                }
            };
            dq.fill(E::Acc::ZERO);
            self.task.pack::<V, F>(h, &mut queries);
            for j0 in (0..keys).step_by(BACK_KEYS) {
                self.task.keys::<V, F>(j0, &queries, &mut blocks, dq, dk, dv);
            }
            if let Some(tile) = &mut all {
                for t in 0..rows {
                    narrow::<E, V, F>(&mut tile.row_mut(t)[h * D..][..D], &dq[t * Dp..], factor);
                }
            }
        }
        for t in 0..keys {
            narrow::<E, V, F>(self.dk.row_mut(t), &dk[t * Dp..], factor);
            narrow::<E, V, F>(self.dv.row_mut(t), &dv[t * Dp..], E::Acc::ONE);
        }
    }
}

impl<E: Element> Backward<'_, E> {
    /// Packs head `h` of the group.
    #[inline(always)]
    fn pack<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        h: usize,
        to: &mut Queries<'_, E::Acc, F::Item>,
    ) {
        let (D, rows) = (self.D, self.rows);
        let items = rows.next_multiple_of(PANEL) / F::K;
        let (q, d_o, o) = (self.q.at(0, h * D), self.d_o.at(0, h * D), self.o.at(0, h * D));
        copy_rows::<E, V, F>(to.q, q, rows, D);
        copy_rows::<E, V, F>(to.d_o, d_o, rows, D);
        pack_rows::<E, V, F>(to.q_panels, q, rows, items, D);
        pack_rows::<E, V, F>(to.do_panels, d_o, rows, items, D);
        let log2_e = E::Acc::from_f64(std::f64::consts::LOG2_E);
        for t in 0..rows {
            to.lse[t] = self.lse.row(t, h + 1)[h] * log2_e;
            o.ask(t + AHEAD, rows, D);
            to.delta[t] = dot::<E, V, V>(o.row(t, D), d_o.row(t, D));
        }
    }

    /// The block of keys from `j0` on, against the queries that see it: adds to dq, dk and dv.
    #[inline(always)]
    fn keys<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        j0: usize,
        queries: &Queries<'_, E::Acc, F::Item>,
        blocks: &mut BackwardBlocks<'_, E::Acc, F::Item>,
        dq: &mut [E::Acc],
        dk: &mut [E::Acc],
        dv: &mut [E::Acc],
    ) {
        let (D, Dp) = (self.D, self.D.next_multiple_of(PANEL));
        let keys = BACK_KEYS.min(self.keys - j0);
        let (k, v) = (self.k.at(j0, 0), self.v.at(j0, 0));
        pack_columns::<E, V, F>(blocks.k_columns, blocks.room, k, keys, D);
        pack_columns::<E, V, F>(blocks.v_columns, blocks.room, v, keys, D);
        pack_rows::<E, V, F>(blocks.k_panels, k, keys, BACK_KEYS / F::K, D);
        let (dk, dv) = (&mut dk[j0 * Dp..], &mut dv[j0 * Dp..]);
        for i0 in (j0..self.rows).step_by(BACK_QUERIES) {
            let rows = BACK_QUERIES.min(self.rows - i0);
            // Query i of this block sees the keys up to i + ahead.
            let ahead = i0 - j0;
            let seen = |i: usize| keys.min(i + V::MR + ahead);
            self.scores::<V, F>(i0, rows, ahead, seen(rows - 1), queries, blocks);
            let ds_rows = if F::K == 1 { &*blocks.ds } else { &*blocks.ds_rows };
            let a = Rows { data: ds_rows, rows, row: BACK_KEYS / F::K, col: 1 };
            let k = Panels { data: &*blocks.k_panels, len: BACK_KEYS / F::K * V::NR };
            let to = &mut dq[i0 * Dp..];
            product::<V, F>(to, Dp, a, k, true, |_| D, |i| 0..seen(i).div_ceil(F::K));
            // Key j is seen by the queries from j - ahead on.
            let seeing = |j: usize| j.saturating_sub(ahead) / F::K..rows.div_ceil(F::K);
            let down = |data| Rows { data, rows: keys, row: 1, col: BACK_KEYS };
            let len = self.rows.next_multiple_of(PANEL) / F::K * V::NR;
            let q = Panels { data: &queries.q_panels[i0 / F::K * V::NR..], len };
            let d_o = Panels { data: &queries.do_panels[i0 / F::K * V::NR..], len };
            product::<V, F>(dk, Dp, down(&*blocks.ds), q, true, |_| D, seeing);
            product::<V, F>(dv, Dp, down(&*blocks.p), d_o, true, |_| D, seeing);
        }
    }

    /// Weights and gradients of scores of one block: of the first `keys` keys, for `rows` queries
    /// from `i0` on, of which i sees the keys up to i + `ahead`.
    #[inline(always)]
    fn scores<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        i0: usize,
        rows: usize,
        ahead: usize,
        keys: usize,
        queries: &Queries<'_, E::Acc, F::Item>,
        blocks: &mut BackwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let Dk = self.D.div_ceil(F::K);
        let (stride, width) = (Dk.next_multiple_of(MAX_LANES), 2 * V::LANES);
        let row = |data| Rows { data, rows, row: stride, col: 1 };
        let (q, d_o) = (row(&queries.q[i0 * stride..]), row(&queries.d_o[i0 * stride..]));
        for j0 in (0..keys).step_by(width) {
            let seen = |i: usize| width.min((i + V::MR + ahead).saturating_sub(j0)).min(keys - j0);
            let panels = |data| Panels { data, len: V::NR * stride };
            let k = panels(&blocks.k_columns[j0 * stride..]);
            let v = panels(&blocks.v_columns[j0 * stride..]);
            product::<V, F>(blocks.s, width, q, k, false, seen, |_| 0..Dk);
            product::<V, F>(blocks.dp, width, d_o, v, false, seen, |_| 0..Dk);
            for i in (0..rows).step_by(2) {
                if seen(i / V::MR * V::MR) > 0 {
                    let last = |i: usize| (i + ahead).min(keys - 1) as isize - j0 as isize;
                    let last = [last(i), if i + 1 < rows { last(i + 1) } else { -1 }];
                    self.weights::<V, F>(i0, i, j0, last, queries, blocks);
                }
            }
        }
    }

    /// Weights and gradients of scores of two rows of a panel: i and the next of the block whose
    /// first query is `i0`, keys from `j0` on. `last` is the last that counts of each, from `j0`.
    #[inline(always)]
    fn weights<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        i0: usize,
        i: usize,
        j0: usize,
        last: [isize; 2],
        queries: &Queries<'_, E::Acc, F::Item>,
        blocks: &mut BackwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let (lanes, width) = (V::LANES, 2 * V::LANES);
        let mut p = [[V::splat(E::Acc::ZERO); 2]; 2];
        let mut ds = p;
        for r in 0..2 {
            let at = (i + r) * width;
            let t = (i0 + i + r).min(queries.lse.len() - 1);
            let (lse, delta) = (V::splat(-queries.lse[t]), V::splat(queries.delta[t]));
            for l in 0..2 {
                let s = V::load(&blocks.s[at + l * lanes..]);
                p[r][l] = s.mul_add(V::splat(blocks.scale), lse).exp2();
                ds[r][l] = p[r][l] * (V::load(&blocks.dp[at + l * lanes..]) - delta);
                if last[r] < width as isize - 1 {
                    let last = V::splat(E::Acc::from_f64((last[r] - (l * lanes) as isize) as f64));
                    let lane = V::load(&blocks.lane);
                    p[r][l] = p[r][l].zero_where_lt(last, lane);
                    ds[r][l] = ds[r][l].zero_where_lt(last, lane);
                }
            }
            if F::K > 1 {
                let row = &mut blocks.ds_rows[((i + r) * BACK_KEYS + j0) / F::K..];
                F::store_row(ds[r], row);
            }
        }
        for l in 0..2 {
            let at = i / F::K * BACK_KEYS + j0 + l * lanes;
            F::store_columns([p[0][l], p[1][l]], &mut blocks.p[at..], BACK_KEYS);
            F::store_columns([ds[0][l], ds[1][l]], &mut blocks.ds[at..], BACK_KEYS);
        }
    }
}

/// Sum of a * b over one row of a head.
#[inline(always)]
fn dot<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(a: &[E], b: &[E]) -> E::Acc {
    let mut sum = V::splat(E::Acc::ZERO);
    let (step, mut i) = (V::LANES * F::K, 0);
    while i + step <= a.len() {
        sum = F::of_row::<E>(&a[i..]).mul_add(F::of_row::<E>(&b[i..]), sum);
        i += step;
    }
    while i < a.len() {
        sum = load::<E, V>(&a[i..]).mul_add(load::<E, V>(&b[i..]), sum);
        i += V::LANES;
    }
    sum.sum()
}

/// Rows of dQ: the sums of each piece of the keys that they see, in ascending order.
struct AddParts<'a, 't, E: Element> {
    dq: Tile<'t, E>,
    /// A row for each piece, with T rows of sums for each head, from the piece's first key on.
    parts: Head<'a, E::Acc>,
    /// Position of the tile's first query.
    q0: usize,
    /// Keys of a piece.
    piece: usize,
    T: usize,
    D: usize,
}

impl<E: Element> Kernel<E::Acc> for AddParts<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        let (D, Dp) = (self.D, self.D.next_multiple_of(PANEL));
        let factor = V::splat(E::Acc::from_f64((D as f64).powf(-0.5)));
        for t in 0..self.dq.rows() {
            let query = self.q0 + t;
            for (h, dq) in self.dq.row_mut(t).chunks_exact_mut(D).enumerate() {
                for d in (0..D).step_by(V::LANES) {
                    let mut sum = V::splat(E::Acc::ZERO);
                    for piece in 0..=query / self.piece {
                        let row = h * self.T + query - piece * self.piece;
                        sum = sum + V::load(&self.parts.at(piece, row * Dp + d).data[..V::LANES]);
                    }
                    store::<E, V>(sum * factor, &mut dq[d..]);
                }
            }
        }
    }
}
