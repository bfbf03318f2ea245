//! Weights exist in blocks that stay close: a block of queries against a block of keys. Every
//! product is made of tiles of [`Vector::sums`], its factors f32, or pairs of bf16 where the set
//! has dot products of them. There weights and their gradients are rounded to bf16, each by at
//! most 2^-9 of its value, as factors; sums of weights are of what they were before.
//!
//! Forward: one task is some queries of a segment, of the heads that share a key/value head. It
//! packs keys and values once, then takes blocks of queries, and for each the blocks of keys up to the diagonal.
//! Scores never leave registers: a weight is e^(score - base), and a query's base is the score of
//! its own key, known beforehand. Its own weight is 1, so a sum cannot vanish; if one gets near the
//! end of f32's range, the block starts again from its queries' largest scores.
//! Backward: one task is some keys of a segment and of one key/value head. Head by head it packs queries and
//! gradients from its first key on, then takes blocks of keys, and for each the blocks of queries
//! from the diagonal on, so the sums for dK and dV stay close. A tile sums scores and gradients of
//! weights of the same rows, and stores weights and gradients of scores. Sums for dQ are the task's
//! own if it has all keys of the segment; else each task sums into memory of its own, and the sums are added in
//! order.

mod one;

use super::Heads;
use crate::cpu::Cpu;
use crate::cpu::simd::{
    Factors, ItemKernel, Kernel, Lines, MAX_LANES, Vector, dispatch_items, items_of_columns,
    items_of_row, load, prefetch, store,
};
use crate::cpu::tiles::{Tile, TileSet, Tiles};
use crate::element::{Element, Real};
use crate::segments::{Segment, Segments};
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Rows and columns of a block of scores in forward: multiples of every tile's.
const QUERIES: usize = 24;
const KEYS: usize = 192;
/// The same in backward.
const BACK_QUERIES: usize = 192;
const BACK_KEYS: usize = 192;
/// Fewest tasks that a batch is cut into, where the sequence allows.
const TASKS: usize = 16;
/// Fewest queries or keys of a task that is cut from a sequence.
const CUT: usize = 128;
/// Rows that memory is asked for ahead of their use.
const AHEAD: usize = 16;
/// Widest panel of any instruction set, so that scratch lengths do not depend on it.
const PANEL: usize = 32;
/// A multiple of every tile's rows and columns.
const WHOLE: usize = 96;
/// A sum of weights from here on is near the end of f32's range.
const HIGH: f64 = 1e30;

/// Blocks are whole tiles, panels no wider than scratch is sized for, and rows of tiles whole
/// items.
const fn blocks_fit<V: Vector, F: Factors<V>>() {
    assert!(QUERIES.is_multiple_of(V::MR) && BACK_QUERIES.is_multiple_of(V::MR));
    assert!(KEYS.is_multiple_of(PANEL) && BACK_KEYS.is_multiple_of(PANEL));
    assert!(PANEL.is_multiple_of(V::NR) && PANEL.is_multiple_of(2 * V::LANES));
    assert!(BACK_KEYS.is_multiple_of(BACK_QUERIES) && V::MR.is_multiple_of(2 * F::K) && F::K <= 2);
    assert!(WHOLE.is_multiple_of(V::MR) && WHOLE.is_multiple_of(PANEL) && V::NR <= 2 * V::LANES);
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
    packed + block + QUERIES * (MAX_LANES + 1)
}

/// Elements that a task of backward needs for `keys` keys and the `rows` queries that see them,
/// without its sums for dQ.
fn backward_len(D: usize, keys: usize, rows: usize, K: usize) -> usize {
    let rows = rows.next_multiple_of(WHOLE);
    let head = 2 * row_len(rows, D, K) + 2 * panel_len(rows, D, K);
    let of_keys = 2 * row_len(BACK_KEYS, D, K) + panel_len(BACK_KEYS, D, K);
    let packed = head + of_keys + row_len(PANEL, D, K) + 2 * sums_len(keys, D);
    let block = if K == 1 { 2 } else { 3 } * BACK_QUERIES * BACK_KEYS / K;
    packed + block + 2 * rows
}

/// Into how many pieces of equal length a segment of T is cut, so that `tasks` become [`TASKS`].
fn pieces(T: usize, tasks: usize) -> usize {
    let mut pieces = 1;
    while pieces * tasks < TASKS && T.is_multiple_of(2 * pieces) && T / pieces >= 2 * CUT {
        pieces *= 2;
    }
    pieces
}

/// The rows of tasks: segments that stay whole, and the pieces of those that are cut, both in
/// ascending order. A segment is cut as if the batch were made of such segments alone, as many as
/// would be the same work: then no thread is left with a long one.
struct Tasks {
    whole: Vec<Range<usize>>,
    cut: Vec<Range<usize>>,
}

impl Tasks {
    fn new(segments: &Segments, G: usize) -> Self {
        let square = |s: &Segment| s.len * s.len;
        let all: usize = segments.list().iter().map(square).sum();
        let mut tasks = Tasks { whole: Vec::new(), cut: Vec::new() };
        for s in segments.list() {
            match pieces(s.len, all / square(s) * G) {
                1 => tasks.whole.push(s.offset..s.end()),
                pieces => tasks.cut.extend((0..pieces).map(|i| {
                    let len = s.len / pieces;
                    s.offset + i * len..s.offset + (i + 1) * len
                })),
            }
        }
        tasks
    }

    /// All of them, in ascending order.
    fn all(mut self) -> Vec<Range<usize>> {
        self.whole.append(&mut self.cut);
        self.whole.sort_unstable_by_key(|rows| rows.start);
        self.whole
    }

    /// Elements of a task's sums for the dQ of one head, where a segment is cut: room for the
    /// longest.
    fn part_len(&self, segments: &Segments, D: usize) -> usize {
        let of = |rows: &Range<usize>| sums_len(segments.of_row(rows.start).len, D);
        self.cut.iter().map(of).max().unwrap_or(0)
    }

    /// Elements that a task of backward needs at most.
    fn backward_len(&self, segments: &Segments, D: usize, K: usize) -> usize {
        let whole = self.whole.iter().map(|rows| whole_len(D, rows.len(), K));
        let cut = self.cut.iter().map(|rows| {
            let segment = segments.of_row(rows.start);
            backward_len(D, rows.len(), segment.len, K)
        });
        whole.chain(cut).max().unwrap_or(0)
    }
}

/// Elements that backward needs for all tasks: the sums for dQ of each, where a segment is cut.
pub fn shared_len(heads: Heads, segments: &Segments) -> usize {
    let tasks = Tasks::new(segments, heads.G);
    tasks.cut.len() * heads.H * tasks.part_len(segments, heads.D)
}

/// Elements that a task needs at most.
pub fn task_len<E: Element>(cpu: &Cpu, heads: Heads, segments: &Segments) -> usize {
    let (D, K) = (heads.D, cpu.item_values::<E>());
    let backward = Tasks::new(segments, heads.G).backward_len(segments, D, K);
    forward_len(D, longest(segments), K).max(backward)
}

/// Tokens of the longest segment.
fn longest(segments: &Segments) -> usize {
    segments.list().iter().map(|s| s.len).max().unwrap_or(0)
}

/// Elements that a task of backward needs for all keys of a segment, with its own sums for dQ.
fn whole_len(D: usize, T: usize, K: usize) -> usize {
    backward_len(D, T, T, K) + sums_len(T, D)
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
    segments: &Segments,
    heads: Heads,
) {
    let Heads { H, G, D } = heads;
    let (group, K) = (H / G, cpu.item_values::<E>());
    let tasks = Tasks::new(segments, G).all();
    cpu.reserve_task::<E::Acc>(forward_len(D, longest(segments), K));
    let o = Tiles::listed(o_NHD, H * D, &tasks, group * D);
    let lse = Tiles::listed(lse_NH, H, &tasks, group);
    // The last queries see most keys: they come first, so that no thread is left with them.
    cpu.for_each_tile((o, lse).reversed(), |(o, lse)| {
        let (offset, g) = (segments.of_row(o.row).offset, lse.col / group);
        let q0 = o.row - offset;
        let rows = Head { data: qkv, stride: heads.qkv() }.at(offset, 0);
        let (k, v) = (rows.at(0, (H + g) * D), rows.at(0, (H + G + g) * D));
        let q = rows.at(q0, g * group * D);
        cpu.with_task(forward_len(D, q0 + o.rows(), K), |scratch| {
            dispatch_items(cpu.isa(), K, Forward { o, lse: Some(lse), q, k, v, q0, D, scratch });
        });
    });
}

/// A token alone takes a path of its own, whatever stands beside it.
pub fn decode<E: Element>(
    cpu: &Cpu,
    o_NHD: &mut [E],
    kept: &mut [E],
    qkv: &[E],
    segments: &Segments,
    slots: &[usize],
    heads: Heads,
    capacity: usize,
) {
    let (row, new) = (heads.qkv(), segments.list().iter().zip(slots));
    for (s, slot) in new.clone() {
        let rows = qkv[s.offset * row..s.end() * row].chunks_exact(row);
        let to = kept[(slot * capacity + s.first) * heads.kv()..].chunks_exact_mut(heads.kv());
        to.zip(rows).for_each(|(to, row)| to.copy_from_slice(&row[heads.out()..]));
    }
    let kept = Head { data: &*kept, stride: heads.kv() };
    let alone = new.filter(|(s, _)| s.len == 1).map(|(s, slot)| one::Query {
        row: s.offset,
        q: &qkv[s.offset * row..][..heads.out()],
        kv: kept.at(slot * capacity, 0),
        keys: s.first + 1,
    });
    one::decode(cpu, o_NHD, &alone.collect::<Vec<_>>(), heads, capacity);
    let q = Head { data: qkv, stride: row };
    decode_several(cpu, o_NHD, q, kept, segments, slots, heads, capacity);
}

/// The segments of several tokens: packed, as forward has them.
fn decode_several<E: Element>(
    cpu: &Cpu,
    o_NHD: &mut [E],
    q: Head<E>,
    kept: Head<E>,
    segments: &Segments,
    slots: &[usize],
    heads: Heads,
    capacity: usize,
) {
    let Heads { H, G, D } = heads;
    let (group, K, list) = (H / G, cpu.item_values::<E>(), segments.list());
    let cut = |s: &Segment| {
        let end = s.end();
        (s.offset..end).step_by(CUT).map(move |row| row..end.min(row + CUT))
    };
    let tasks: Vec<_> = list.iter().filter(|s| s.len > 1).flat_map(cut).collect();
    if tasks.is_empty() {
        return;
    }
    // As much as a slot will ever need, so that nothing is allocated as it fills.
    cpu.reserve_task::<E::Acc>(forward_len(D, capacity, K));
    cpu.for_each_tile(Tiles::listed(o_NHD, H * D, &tasks, group * D), |o| {
        let i = list.partition_point(|s| s.end() <= o.row);
        let (s, kv, g) = (&list[i], kept.at(slots[i] * capacity, 0), o.col / (group * D));
        let (k, v) = (kv.at(0, g * D), kv.at(0, (G + g) * D));
        let (q, q0) = (q.at(o.row, o.col), s.first + o.row - s.offset);
        cpu.with_task(forward_len(D, q0 + o.rows(), K), |scratch| {
            dispatch_items(cpu.isa(), K, Forward { o, lse: None, q, k, v, q0, D, scratch });
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
    segments: &Segments,
    heads: Heads,
) {
    let Heads { H, G, D } = heads;
    let (group, K) = (H / G, cpu.item_values::<E>());
    let tasks = Tasks::new(segments, G);
    cpu.reserve_task::<E::Acc>(tasks.backward_len(segments, D, K));
    let of = |dk: &Tile<E>| {
        let (g, end) = (dk.col / D, segments.of_row(dk.row).end());
        let rows = Head { data: qkv, stride: heads.qkv() }.at(dk.row, 0);
        let out = |data| Head { data, stride: H * D }.at(dk.row, g * group * D);
        Backward {
            q: rows.at(0, g * group * D),
            k: rows.at(0, (H + g) * D),
            v: rows.at(0, (H + G + g) * D),
            o: out(o_NHD),
            d_o: out(do_NHD),
            lse: Head { data: lse_NH, stride: H }.at(dk.row, g * group),
            rows: end - dk.row,
            keys: dk.rows(),
            D,
            group,
        }
    };
    let part = group * tasks.part_len(segments, D);
    cpu.with_shared(tasks.cut.len() * G * part, |sums: &mut [E::Acc]| {
        if !tasks.cut.is_empty() {
            // A row for each piece, a tile for each task.
            let parts = Tiles::new(&mut *sums, G * part, 1, part);
            let (_, dk, dv) = bands(&mut *dqkv, &tasks.cut, heads);
            cpu.for_each_tile((parts, (dk, dv)), |(part, (dk, dv))| {
                run_backward(cpu, of(&dk), Dq::Part(part), dk, dv);
            });
            let (dq, ..) = bands(&mut *dqkv, &tasks.cut, heads);
            cpu.for_each_tile(dq, |dq| {
                let (offset, g) = (segments.of_row(dq.row).offset, dq.col / (group * D));
                let first = tasks.cut.partition_point(|rows| rows.start < offset);
                let parts = Head { data: &sums[(first * G + g) * part..], stride: G * part };
                let (q0, piece) = (dq.row - offset, dq.rows());
                let sum = AddParts { dq, parts, head: part / group, q0, piece, D };
                E::Acc::dispatch(cpu.isa(), sum);
            });
        }
        let (dq, dk, dv) = bands(dqkv, &tasks.whole, heads);
        cpu.for_each_tile((dq, (dk, dv)), |(dq, (dk, dv))| {
            run_backward(cpu, of(&dk), Dq::All(dq), dk, dv);
        });
    });
}

/// One task of backward.
fn run_backward<E: Element>(cpu: &Cpu, task: Backward<E>, dq: Dq<E>, dk: Tile<E>, dv: Tile<E>) {
    let (Backward { keys, rows, D, .. }, K) = (task, cpu.item_values::<E>());
    let len = match dq {
        Dq::All(_) => whole_len(D, rows, K),
        Dq::Part(_) => backward_len(D, keys, rows, K),
    };
    cpu.with_task(len, |scratch| {
        dispatch_items(cpu.isa(), K, BackwardInto { task, dq, dk, dv, scratch });
    });
}

/// dQ, dK and dV in tiles of these rows and of the columns of one key/value head.
fn bands<'a, E>(
    dqkv: &'a mut [E],
    rows: &'a [Range<usize>],
    heads: Heads,
) -> (Tiles<'a, E>, Tiles<'a, E>, Tiles<'a, E>) {
    let Heads { H, G, D } = heads;
    let all = Tiles::listed(dqkv, heads.qkv(), rows, D);
    let (dq, dkv) = all.split_columns(H * D, [H / G * D, D]);
    let (dk, dv) = dkv.split_columns(G * D, [D, D]);
    (dq, dk, dv)
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
            items_of_row::<E, V, F>(row, i * step).store_items(dst);
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
                F::transpose_items(
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
            let last = t + F::K - 1;
            let item = [src.row(t, D), if last < rows { src.row(last, D) } else { &[] }];
            for (j, dst) in dst.chunks_exact_mut(V::LANES).enumerate() {
                items_of_columns::<E, V, F>(item, p * V::NR + j * V::LANES).store_items(dst);
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

/// c (`rows` rows of `stride`) = a * b, or c += a * b, in `cols` columns, rounded up to whole
/// vectors. The tile of rows from i on sums over the items `k(i)`, by which `a` and `b` are counted.
#[inline(always)]
fn product<V: Vector, F: Factors<V>>(
    c: &mut [V::Scalar],
    (rows, stride, cols): (usize, usize, usize),
    a: Lines<'_, F::Item>,
    b: Panels<'_, F::Item>,
    add: bool,
    k: impl Fn(usize) -> Range<usize>,
) {
    for j in (0..cols).step_by(V::NR) {
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
                cols - j <= V::LANES,
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

/// The lanes of vector `j` of a panel that are among its first `count` columns, zeros elsewhere.
#[inline(always)]
fn first<V: Vector>(x: V, lane: &[V::Scalar; MAX_LANES], count: usize, j: usize) -> V {
    let last = count as f64 - (1 + j * V::LANES) as f64;
    x.zero_where_lt(V::splat(V::Scalar::from_f64(last)), V::load(lane))
}

/// 0, 1, 2, and so on.
fn lanes<R: Real>() -> [R; MAX_LANES] {
    std::array::from_fn(|l| R::from_f64(l as f64))
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
        F::store_sums(V::load(&src[d..]) * V::splat(factor), &mut dst[d..]);
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

impl<E: Element> ItemKernel<E::Acc> for Forward<'_, '_, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
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
            base: cut.take(QUERIES),
            lane: lanes(),
        };
        for h in 0..self.o.cols() / D {
            for i0 in (0..self.o.rows()).step_by(QUERIES) {
                self.queries::<V, F>(h, i0, &mut blocks);
            }
        }
    }
}

/// A task's keys and values in the layouts that products need, and a block of queries.
struct ForwardBlocks<'a, R, I> {
    k_columns: &'a [I],
    v_rows: Panels<'a, I>,
    q: &'a mut [I],
    /// Weights, or scores.
    s: &'a mut [R],
    o: &'a mut [R],
    /// Sums of weights of each query, lane by lane.
    sum: &'a mut [R],
    /// What is taken from each query's exponents of 2.
    base: &'a mut [R],
    lane: [R; MAX_LANES],
}

impl<E: Element> Forward<'_, '_, E> {
    /// Head `h` of the group, queries from `i0` of the tile on.
    #[inline(always)]
    fn queries<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &mut self,
        h: usize,
        i0: usize,
        blocks: &mut ForwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let (D, Dp) = (self.D, self.D.next_multiple_of(PANEL));
        let rows = QUERIES.min(self.o.rows() - i0);
        let stride = D.div_ceil(F::K).next_multiple_of(MAX_LANES);
        let (q, first) = (self.q.at(i0, h * D), self.q0 + i0);
        copy_rows::<E, V, F>(&mut blocks.q[..rows * stride], q, rows, D);
        for i in 0..rows {
            let own = dot::<E, V, F>(q.row(i, D), self.k.row(first + i, D));
            blocks.base[i] = own * scale(D);
        }
        self.weigh::<V, F>(first, rows, blocks);
        let sum_of = |i: usize, sums: &[E::Acc]| V::load(&sums[i * MAX_LANES..]).sum();
        // Needed only where a score is far above that of the query's own key.
        let is_high = |i, sums: &[E::Acc]| sum_of(i, sums) >= E::Acc::from_f64(HIGH);
        if (0..rows).any(|i| is_high(i, blocks.sum)) {
            for i in (0..rows).filter(|&i| is_high(i, blocks.sum)) {
                let scores = (0..=first + i).map(|t| dot::<E, V, F>(q.row(i, D), self.k.row(t, D)));
                let top = scores.fold(E::Acc::NEG_INFINITY, |top, s| if s > top { s } else { top });
                blocks.base[i] = top * scale(D);
            }
            self.weigh::<V, F>(first, rows, blocks);
        }
        for i in 0..rows {
            let sum = sum_of(i, blocks.sum);
            let o = &mut self.o.row_mut(i0 + i)[h * D..][..D];
            narrow::<E, V, F>(o, &blocks.o[i * Dp..], E::Acc::ONE / sum);
            if let Some(lse) = &mut self.lse {
                let ln_2 = E::Acc::from_f64(std::f64::consts::LN_2);
                lse.row_mut(i0 + i)[h] = blocks.base[i] * ln_2 + sum.ln();
            }
        }
    }

    /// Sums of weights, and of weights times values, of `rows` queries from position `first` on.
    #[inline(always)]
    fn weigh<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        first: usize,
        rows: usize,
        blocks: &mut ForwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let (D, Dp) = (self.D, self.D.next_multiple_of(PANEL));
        blocks.sum.fill(E::Acc::ZERO);
        for k0 in (0..first + rows).step_by(KEYS) {
            let keys = KEYS.min(first + rows - k0);
            // The keys of this block that some query of a tile of rows from i on sees.
            let seen = |i: usize| keys.min((first + i + V::MR).saturating_sub(k0));
            for j in (0..keys).step_by(V::NR) {
                for i in (0..rows).step_by(V::MR) {
                    if j < seen(i) {
                        let half = seen(i) - j <= V::LANES;
                        self.weights::<V, F>(i, j, first + i + 1, k0 + j, half, blocks);
                    }
                }
            }
            let p = bytemuck::cast_slice(&*blocks.s);
            let p = Lines { data: p, row: KEYS / F::K, col: 1 };
            let v = Panels { data: &blocks.v_rows.data[k0 / F::K * V::NR..], ..blocks.v_rows };
            let to = (rows, Dp, D);
            product::<V, F>(blocks.o, to, p, v, k0 > 0, |i| 0..seen(i).div_ceil(F::K));
        }
    }

    /// One tile of weights e^(s / sqrt(D) - base): rows from i, columns from j of the block. The
    /// first row sees `keys` keys of the sequence, the first column is key `k`.
    #[inline(always)]
    fn weights<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        i: usize,
        j: usize,
        keys: usize,
        k: usize,
        half: bool,
        blocks: &mut ForwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let Dk = self.D.div_ceil(F::K);
        let stride = Dk.next_multiple_of(MAX_LANES);
        let ForwardBlocks { k_columns, q, s, sum, base, lane, .. } = blocks;
        let cut = keys < k + V::NR;
        let sum = &mut sum[i * MAX_LANES..][..V::MR * MAX_LANES];
        let (base, scale) = (&base[i..][..V::MR], V::splat(scale(self.D)));
        let p: &mut [F::Item] = bytemuck::cast_slice_mut(s);
        let p_rows = &mut p[(i * KEYS + j) / F::K..][..((V::MR - 1) * KEYS + V::NR) / F::K];
        V::sums::<F, 1>(
            [Lines { data: &q[i * stride..], row: stride, col: 1 }],
            [&k_columns[k * stride..]],
            Dk,
            half,
            #[inline(always)]
            |_, _, _| V::splat(E::Acc::ZERO),
            #[inline(always)]
            |i, [s]| {
                let mut p = [V::splat(E::Acc::ZERO); 2];
                let total = &mut sum[i * MAX_LANES..][..V::LANES];
                let mut sum = V::load(total);
                for l in 0..s.len() {
                    p[l] = s[l].mul_add(scale, V::splat(-base[i])).exp2();
                    if cut {
                        p[l] = first(p[l], lane, (keys + i).saturating_sub(k), l);
                    }
                    sum = sum + p[l];
                }
                sum.store(total);
                F::store_row(&p[..s.len()], &mut p_rows[i * KEYS / F::K..]);
            },
        );
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
    /// The task has every key, so its sums are complete: into rows of the gradient.
    All(Tile<'t, E>),
    /// Sums of other tasks are added later: into rows of sums for each head of the group.
    Part(Tile<'t, E::Acc>),
}

struct BackwardInto<'a, 't, E: Element> {
    task: Backward<'a, E>,
    dq: Dq<'t, E>,
    dk: Tile<'t, E>,
    dv: Tile<'t, E>,
    scratch: &'a mut [E::Acc],
}

impl<E: Element> ItemKernel<E::Acc> for BackwardInto<'_, '_, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        const { blocks_fit::<V, F>() };
        let Backward { rows, keys, D, group, .. } = self.task;
        let whole = rows.next_multiple_of(WHOLE);
        let Dp = D.next_multiple_of(PANEL);
        let mut cut = Cut(std::mem::take(&mut self.scratch));
        let mut queries = Queries {
            q: cut.items(row_len(whole, D, F::K)),
            d_o: cut.items(row_len(whole, D, F::K)),
            q_panels: cut.items(panel_len(whole, D, F::K)),
            do_panels: cut.items(panel_len(whole, D, F::K)),
            lse: cut.take(whole),
            delta: cut.take(whole),
        };
        let mut blocks = BackwardBlocks {
            k_columns: cut.items(row_len(BACK_KEYS, D, F::K)),
            v_columns: cut.items(row_len(BACK_KEYS, D, F::K)),
            k_panels: cut.items(panel_len(BACK_KEYS, D, F::K)),
            p: cut.items(BACK_QUERIES * BACK_KEYS / F::K),
            ds: cut.items(BACK_QUERIES * BACK_KEYS / F::K),
            ds_rows: cut.items(if F::K == 1 { 0 } else { BACK_QUERIES * BACK_KEYS / F::K }),
            room: cut.items(row_len(PANEL, D, F::K)),
            lane: lanes(),
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

/// One head's queries and gradients, in the layouts that products need.
struct Queries<'a, R, I> {
    q: &'a mut [I],
    d_o: &'a mut [I],
    q_panels: &'a mut [I],
    do_panels: &'a mut [I],
    /// What starts an exponent of 2: the log-sum-exp in powers of 2, negative.
    lse: &'a mut [R],
    /// What starts the gradient of a weight: the sum of dO * O over D, negative.
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
    /// Room to turn rows into columns.
    room: &'a mut [I],
    lane: [R; MAX_LANES],
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
        let items = rows.next_multiple_of(WHOLE) / F::K;
        let (q, d_o, o) = (self.q.at(0, h * D), self.d_o.at(0, h * D), self.o.at(0, h * D));
        copy_rows::<E, V, F>(to.q, q, rows, D);
        copy_rows::<E, V, F>(to.d_o, d_o, rows, D);
        pack_rows::<E, V, F>(to.q_panels, q, rows, items, D);
        pack_rows::<E, V, F>(to.do_panels, d_o, rows, items, D);
        let log2_e = E::Acc::from_f64(std::f64::consts::LOG2_E);
        to.lse[rows..].fill(E::Acc::ZERO);
        to.delta[rows..].fill(E::Acc::ZERO);
        for t in 0..rows {
            to.lse[t] = -(self.lse.row(t, h + 1)[h] * log2_e);
            o.ask(t + AHEAD, rows, D);
            to.delta[t] = -dot::<E, V, V>(o.row(t, D), d_o.row(t, D));
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
            for j in (0..seen(rows - 1)).step_by(V::NR) {
                for i in (0..rows).step_by(V::MR) {
                    if j < seen(i) {
                        let half = seen(i) - j <= V::LANES;
                        let last = [rows, keys];
                        self.weights::<V, F>(i0, i, j, ahead, last, half, queries, blocks);
                        let i = i + V::MR / 2;
                        self.weights::<V, F>(i0, i, j, ahead, last, half, queries, blocks);
                    }
                }
            }
            let ds_rows = if F::K == 1 { &*blocks.ds } else { &*blocks.ds_rows };
            let a = Lines { data: ds_rows, row: BACK_KEYS / F::K, col: 1 };
            let k = Panels { data: &*blocks.k_panels, len: BACK_KEYS / F::K * V::NR };
            let to = &mut dq[i0 * Dp..];
            product::<V, F>(to, (rows, Dp, D), a, k, true, |i| 0..seen(i).div_ceil(F::K));
            // Key j is seen by the queries from j - ahead on.
            let seeing = |j: usize| j.saturating_sub(ahead) / F::K..rows.div_ceil(F::K);
            let down = |data| Lines { data, row: 1, col: BACK_KEYS };
            let len = self.rows.next_multiple_of(WHOLE) / F::K * V::NR;
            let q = Panels { data: &queries.q_panels[i0 / F::K * V::NR..], len };
            let d_o = Panels { data: &queries.do_panels[i0 / F::K * V::NR..], len };
            product::<V, F>(dk, (keys, Dp, D), down(&*blocks.ds), q, true, seeing);
            product::<V, F>(dv, (keys, Dp, D), down(&*blocks.p), d_o, true, seeing);
        }
    }

    /// One tile of weights and of gradients of scores: half a tile's rows from i of the block
    /// whose first query is `i0`, columns from `j0`. Row i sees the keys up to i + `ahead`, as far
    /// as there are such rows and keys.
    #[inline(always)]
    fn weights<V: Vector<Scalar = E::Acc>, F: Factors<V>>(
        &self,
        i0: usize,
        i: usize,
        j0: usize,
        ahead: usize,
        [rows, keys]: [usize; 2],
        half: bool,
        queries: &Queries<'_, E::Acc, F::Item>,
        blocks: &mut BackwardBlocks<'_, E::Acc, F::Item>,
    ) {
        let Dk = self.D.div_ceil(F::K);
        let stride = Dk.next_multiple_of(MAX_LANES);
        let BackwardBlocks { k_columns, v_columns, p, ds, ds_rows, lane, .. } = blocks;
        let (M, t) = (V::MR / 2, i0 + i);
        let cut = keys.min(i + ahead + 1) < j0 + V::NR || rows < i + M;
        let line = |data| Lines { data, row: stride, col: 1 };
        let (lse, delta) = (&queries.lse[t..][..M], &queries.delta[t..][..M]);
        let at = i / F::K * BACK_KEYS + j0;
        let [p_to, ds_to] = [p, ds].map(|to| &mut to[at..][..(M / F::K - 1) * BACK_KEYS + V::NR]);
        let scale = V::splat(scale(self.D));
        let mut above = [[V::splat(E::Acc::ZERO); 2]; 2];
        V::sums::<F, 2>(
            [line(&queries.q[t * stride..]), line(&queries.d_o[t * stride..])],
            [&k_columns[j0 * stride..], &v_columns[j0 * stride..]],
            Dk,
            half,
            #[inline(always)]
            |product, r, _| V::splat(if product == 0 { E::Acc::ZERO } else { delta[r] }),
            #[inline(always)]
            |r, [s, dp]| {
                let mut p = [V::splat(E::Acc::ZERO); 2];
                let mut ds = p;
                for l in 0..s.len() {
                    p[l] = s[l].mul_add(scale, V::splat(lse[r])).exp2();
                    ds[l] = p[l] * dp[l];
                    if cut {
                        let count = if i + r < rows { keys.min(i + r + ahead + 1) } else { 0 };
                        p[l] = first(p[l], lane, count.saturating_sub(j0), l);
                        ds[l] = first(ds[l], lane, count.saturating_sub(j0), l);
                    }
                }
                if F::K == 1 {
                    F::store_row(&p[..s.len()], &mut p_to[r * BACK_KEYS..]);
                    F::store_row(&ds[..s.len()], &mut ds_to[r * BACK_KEYS..]);
                    return;
                }
                F::store_row(&ds[..s.len()], &mut ds_rows[((i + r) * BACK_KEYS + j0) / F::K..]);
                if r % 2 == 0 {
                    above = [p, ds];
                    return;
                }
                for l in 0..s.len() {
                    let at = r / F::K * BACK_KEYS + l * V::LANES;
                    F::store_columns([above[0][l], p[l]], &mut p_to[at..], BACK_KEYS);
                    F::store_columns([above[1][l], ds[l]], &mut ds_to[at..], BACK_KEYS);
                }
            },
        );
    }
}

/// Sum of a * b over one row of a head.
#[inline(always)]
fn dot<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(a: &[E], b: &[E]) -> E::Acc {
    products_of::<E, V, F>(a, b, a.len()).sum()
}

/// Products of the first D of a and b, summed down to one vector.
#[inline(always)]
fn products_of<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
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

/// Rows of dQ: the sums of each piece of the keys that they see, in ascending order.
struct AddParts<'a, 't, E: Element> {
    dq: Tile<'t, E>,
    /// A row for each piece of the segment, with rows of sums for each head, from the piece's first
    /// key on.
    parts: Head<'a, E::Acc>,
    /// Elements from one head to the next.
    head: usize,
    /// Position of the tile's first query.
    q0: usize,
    /// Keys of a piece.
    piece: usize,
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
                        let row = (query - piece * self.piece) * Dp;
                        let at = self.parts.at(piece, h * self.head + row + d);
                        sum = sum + V::load(&at.data[..V::LANES]);
                    }
                    store::<E, V>(sum * factor, &mut dq[d..]);
                }
            }
        }
    }
}
