//! One query of every head, against a cache that comes from memory: nothing is packed, and each row
//! of keys and values is read once, whole, in the order in which it lies. A task is some keys of all
//! heads, with sums of its own; at the end they are added, scaled to the largest score.

use super::{Head, dot, narrow, run, scale};
use crate::cpu::Cpu;
use crate::cpu::simd::{
    DotKernel, Dots, Factors, Kernel, MAX_LANES, Vector, load, prefetch, store,
};
use crate::cpu::tiles::{Tile, Tiles};
use crate::element::{Element, Real};
use crate::ops::attention::Heads;

/// Keys of a task: a stretch of memory, and still enough tasks to balance.
const KEYS: usize = 32;
/// Rows of the cache that memory is asked for ahead of their use.
const AHEAD: usize = 2;

/// Elements of a head's sums: values times weights, then the largest score and the sum of weights.
fn head_len(D: usize) -> usize {
    (D + 2).next_multiple_of(MAX_LANES)
}

pub fn decode<E: Element>(cpu: &Cpu, o_HD: &mut [E], q: &[E], kv: &[E], heads: Heads, keys: usize) {
    let Heads { H, G, D } = heads;
    let (part, capacity) = (H * head_len(D), kv.len() / (2 * G * D));
    cpu.reserve_task::<E::Acc>(H * KEYS);
    // As much as the cache will ever need, so that nothing is allocated as it fills.
    cpu.with_shared(capacity.div_ceil(KEYS) * part, |parts: &mut [E::Acc]| {
        let parts = &mut parts[..keys.div_ceil(KEYS) * part];
        cpu.for_each_tile(Tiles::new(&mut *parts, part, 1, part), |sums| {
            let t = sums.row * KEYS;
            let kv = Head { data: kv, stride: 2 * G * D }.at(t, 0);
            let keys = KEYS.min(keys - t);
            cpu.with_task(H * KEYS, |p| run::<E, _>(cpu, Part { sums, q, kv, heads, keys, p }));
        });
        E::Acc::dispatch(cpu.isa(), AddParts { o_HD, parts, D });
    });
}

/// Some keys of all heads.
struct Part<'a, 't, E: Element> {
    sums: Tile<'t, E::Acc>,
    q: &'a [E],
    kv: Head<'a, E>,
    heads: Heads,
    keys: usize,
    /// Room for the weights.
    p: &'a mut [E::Acc],
}

impl<E: Element> Kernel<E::Acc> for Part<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        self.walk::<V, V>()
    }
}

impl<E: Element> DotKernel<E::Acc> for Part<'_, '_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Dots<Scalar = E::Acc>>(self) {
        self.walk::<V, V::Pairs>()
    }
}

impl<E: Element> Part<'_, '_, E> {
    #[inline(always)]
    fn walk<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        let Heads { H, G, D } = self.heads;
        let (kv, keys, group, row) = (self.kv, self.keys, H / G, 2 * G * D);
        for t in 0..keys {
            if t + AHEAD < keys {
                prefetch(kv.row(t + AHEAD, row));
            }
            for (g, k) in kv.row(t, G * D).chunks_exact(D).enumerate() {
                for h in g * group..(g + 1) * group {
                    self.p[h * KEYS + t] = dot::<E, V, F>(k, &self.q[h * D..][..D]);
                }
            }
        }
        let (p, sums) = (self.p, self.sums.row_mut(0));
        for (p, sums) in p.chunks_exact_mut(KEYS).zip(sums.chunks_exact_mut(head_len(D))) {
            p[keys..].fill(E::Acc::NEG_INFINITY);
            sums.fill(E::Acc::ZERO);
            [sums[D], sums[D + 1]] = weights::<V>(p, scale(D));
        }
        for t in 0..keys {
            let groups = sums.chunks_exact_mut(group * head_len(D)).enumerate();
            for ((g, sums), v) in groups.zip(kv.row(t, row)[G * D..].chunks_exact(D)) {
                for (h, sums) in (g * group..).zip(sums.chunks_exact_mut(head_len(D))) {
                    add::<E, V>(&mut sums[..D], v, V::splat(p[h * KEYS + t]));
                }
            }
        }
    }
}

/// Replaces the scores of whole vectors by weights 2^(scale * s - max); returns `max` and the sum.
#[inline(always)]
fn weights<V: Vector>(s: &mut [V::Scalar], scale: V::Scalar) -> [V::Scalar; 2] {
    let mut max = V::splat(V::Scalar::NEG_INFINITY);
    for s in s.chunks_exact(V::LANES) {
        max = max.max(V::load(s));
    }
    let max = max.max_lane() * scale;
    let mut sum = V::splat(V::Scalar::ZERO);
    for s in s.chunks_exact_mut(V::LANES) {
        let p = V::load(s).mul_add(V::splat(scale), V::splat(-max)).exp2();
        sum = sum + p;
        p.store(s);
    }
    [max, sum.sum()]
}

/// sums += v * p.
#[inline(always)]
fn add<E: Element, V: Vector<Scalar = E::Acc>>(sums: &mut [E::Acc], v: &[E], p: V) {
    for d in (0..v.len()).step_by(V::LANES) {
        let sum = load::<E, V>(&v[d..]).mul_add(p, load::<E::Acc, V>(&sums[d..]));
        store::<E::Acc, V>(sum, &mut sums[d..]);
    }
}

/// The sums of all tasks, in ascending order of keys.
struct AddParts<'a, E: Element> {
    o_HD: &'a mut [E],
    /// A row for each task.
    parts: &'a mut [E::Acc],
    D: usize,
}

impl<E: Element> Kernel<E::Acc> for AddParts<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let (D, len) = (self.D, head_len(self.D));
        let (first, others) = self.parts.split_at_mut(self.o_HD.len() / D * len);
        let part = first.len();
        for (h, o) in self.o_HD.chunks_exact_mut(D).enumerate() {
            let sums = &mut first[h * len..][..len];
            let others = others.chunks_exact(part).map(
                #[inline(always)]
                |other| &other[h * len..][..len],
            );
            let top = others.clone().fold(sums[D], |top, o| if o[D] > top { o[D] } else { top });
            let shrink = V::splat(sums[D] - top).exp2();
            let mut total = sums[D + 1] * shrink.max_lane();
            for d in (0..D).step_by(V::LANES) {
                let scaled = load::<E::Acc, V>(&sums[d..D]) * shrink;
                store::<E::Acc, V>(scaled, &mut sums[d..D]);
            }
            for other in others {
                let shrink = V::splat(other[D] - top).exp2();
                total += other[D + 1] * shrink.max_lane();
                add::<E::Acc, V>(&mut sums[..D], &other[..D], shrink);
            }
            narrow::<E, V, V>(o, &sums[..len], E::Acc::ONE / total);
        }
    }
}
