//! Weights exist in blocks that stay close: a block of queries against a block of keys. Every
//! product is made of tiles of [`Vector::sums`], its factors f32, or pairs of bf16 where the set
//! has dot products of them. There weights and their gradients are rounded to bf16, each by at
//! most 2^-9 of its value, as factors; sums of weights are of what they were before.
//!
//! Here is how work is divided. A task of `forward` is some queries of a segment, of the heads
//! that share a key/value head; of `backward`, some keys of a segment and of one key/value head.
//! Sums for dQ are such a task's own if it has all keys of the segment; else each task sums into
//! memory of its own, and the sums are added in order. A token that is decoded alone has the path
//! in `one`.

mod backward;
mod forward;
mod one;
mod pack;
mod tasks;

use super::Heads;
use crate::cpu::simd::{Factors, Vector, dispatch_items};
use crate::cpu::tiles::{Tile, TileSet, Tiles};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use crate::segments::{Segment, Segments};
use backward::{AddParts, Backward, Dq, Inputs};
use forward::Forward;
use pack::{Head, PANEL, sums_len};
use std::ops::Range;
use tasks::{CUT, Tasks};

/// Blocks are whole tiles, panels no wider than scratch is sized for, and rows of tiles whole
/// items.
const fn blocks_fit<V: Vector, F: Factors<V>>() {
    use backward::WHOLE;
    assert!(forward::QUERIES.is_multiple_of(V::MR) && backward::QUERIES.is_multiple_of(V::MR));
    assert!(forward::KEYS.is_multiple_of(PANEL) && backward::KEYS.is_multiple_of(PANEL));
    assert!(PANEL.is_multiple_of(V::NR) && PANEL.is_multiple_of(2 * V::LANES));
    assert!(backward::KEYS.is_multiple_of(backward::QUERIES));
    assert!(V::MR.is_multiple_of(2 * F::K) && F::K <= 2);
    assert!(WHOLE.is_multiple_of(V::MR) && WHOLE.is_multiple_of(PANEL) && V::NR <= 2 * V::LANES);
}

/// The factor that turns a product of a query and a key into an exponent of 2.
fn scale<R: Real>(D: usize) -> R {
    R::from_f64(std::f64::consts::LOG2_E * (D as f64).powf(-0.5))
}

impl Tasks {
    /// Elements of a task's sums for the dQ of one head, where a segment is cut: room for the
    /// longest.
    fn part_len(&self, segments: &Segments, D: usize) -> usize {
        let of = |rows: &Range<usize>| sums_len(segments.of_row(rows.start).len, D);
        self.cut.iter().map(of).max().unwrap_or(0)
    }

    /// Elements that a task of backward needs at most.
    fn backward_len(&self, segments: &Segments, D: usize, K: usize) -> usize {
        let whole = self.whole.iter().map(|r| backward::len(D, r.len(), r.len(), true, K));
        let rows = |r: &Range<usize>| segments.of_row(r.start).len;
        let cut = self.cut.iter().map(|r| backward::len(D, r.len(), rows(r), false, K));
        whole.chain(cut).max().unwrap_or(0)
    }
}

/// Tokens of the longest segment.
fn longest(segments: &Segments) -> usize {
    segments.list().iter().map(|s| s.len).max().unwrap_or(0)
}

/// Work space of [`forward`].
pub fn forward_space<E: Element>(cpu: &Cpu, heads: Heads, segments: &Segments) -> Space {
    let K = cpu.item_values::<E>();
    Space::of::<E::Acc>(0, forward::len(heads.D, longest(segments), K))
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
    let o = Tiles::listed(o_NHD, H * D, &tasks, group * D);
    let lse = Tiles::listed(lse_NH, H, &tasks, group);
    // The last queries see most keys: they come first, so that no thread is left with them.
    cpu.for_each_tile((o, lse).reversed(), |(o, lse)| {
        let (offset, g) = (segments.of_row(o.row).offset, lse.col / group);
        let q0 = o.row - offset;
        let rows = Head { data: qkv, stride: heads.qkv() }.at(offset, 0);
        let (k, v) = (rows.at(0, (H + g) * D), rows.at(0, (H + G + g) * D));
        let q = rows.at(q0, g * group * D);
        cpu.with_task(forward::len(D, q0 + o.rows(), K), |scratch| {
            dispatch_items(cpu.isa(), K, Forward { o, lse: Some(lse), q, k, v, q0, D, scratch });
        });
    });
}

/// Work space of [`decode`]: as much as a slot will ever need, so that nothing is allocated as it fills.
pub fn decode_space<E: Element>(
    cpu: &Cpu,
    heads: Heads,
    segments: &Segments,
    capacity: usize,
) -> Space {
    let (D, K) = (heads.D, cpu.item_values::<E>());
    let alone = segments.list().iter().filter(|s| s.len == 1).count();
    let alone = one::space::<E>(alone, heads, capacity);
    match longest(segments) {
        0 | 1 => alone,
        _ => alone.max(Space::of::<E::Acc>(0, forward::len(D, capacity, K))),
    }
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
    cpu.for_each_tile(Tiles::listed(o_NHD, H * D, &tasks, group * D), |o| {
        let i = list.partition_point(|s| s.end() <= o.row);
        let (s, kv, g) = (&list[i], kept.at(slots[i] * capacity, 0), o.col / (group * D));
        let (k, v) = (kv.at(0, g * D), kv.at(0, (G + g) * D));
        let (q, q0) = (q.at(o.row, o.col), s.first + o.row - s.offset);
        cpu.with_task(forward::len(D, q0 + o.rows(), K), |scratch| {
            dispatch_items(cpu.isa(), K, Forward { o, lse: None, q, k, v, q0, D, scratch });
        });
    });
}

/// Work space of [`backward`]: for all tasks their sums for dQ, where a segment is cut.
pub fn backward_space<E: Element>(cpu: &Cpu, heads: Heads, segments: &Segments) -> Space {
    let (tasks, K) = (Tasks::new(segments, heads.G), cpu.item_values::<E>());
    let shared = tasks.cut.len() * heads.H * tasks.part_len(segments, heads.D);
    Space::of::<E::Acc>(shared, tasks.backward_len(segments, heads.D, K))
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
    let run = |dq: Dq<E>, dk: Tile<E>, dv: Tile<E>| {
        let (g, end) = (dk.col / D, segments.of_row(dk.row).end());
        let (rows, keys, own) = (end - dk.row, dk.rows(), matches!(dq, Dq::All(_)));
        let of = Head { data: qkv, stride: heads.qkv() }.at(dk.row, 0);
        let out = |data| Head { data, stride: H * D }.at(dk.row, g * group * D);
        let q = of.at(0, g * group * D);
        let (k, v) = (of.at(0, (H + g) * D), of.at(0, (H + G + g) * D));
        let (o, d_o) = (out(o_NHD), out(do_NHD));
        let lse = Head { data: lse_NH, stride: H }.at(dk.row, g * group);
        let inputs = Inputs { q, k, v, o, d_o, lse, rows, keys, D, group };
        cpu.with_task(backward::len(D, keys, rows, own, K), |scratch| {
            dispatch_items(cpu.isa(), K, Backward { inputs, dq, dk, dv, scratch });
        });
    };
    let part = group * tasks.part_len(segments, D);
    cpu.with_shared(tasks.cut.len() * G * part, |sums: &mut [E::Acc]| {
        if !tasks.cut.is_empty() {
            // A row for each piece, a tile for each task.
            let parts = Tiles::new(&mut *sums, G * part, 1, part);
            let (_, dk, dv) = bands(&mut *dqkv, &tasks.cut, heads);
            cpu.for_each_tile((parts, (dk, dv)), |(part, (dk, dv))| {
                run(Dq::Part(part), dk, dv);
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
            run(Dq::All(dq), dk, dv);
        });
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
