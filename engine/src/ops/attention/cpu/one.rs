//! One query of every head of a sequence, against a cache that comes from memory: nothing is packed,
//! and each row of keys and values is read once, whole, in the order in which it lies: hardware runs
//! ahead of one stream, and of no other as far. A task is some keys of all heads, with sums of its
//! own, scaled to the largest score so far; at the end they are added, scaled to the largest of all.
//! Sequences decoded together share no task.

use super::pack::{Head, narrow, products_of};
use super::scale;
use crate::cpu::simd::{
    Factors, ItemKernel, Kernel, MAX_LANES, Vector, dispatch_items, load, store,
};
use crate::cpu::tiles::{Tile, Tiles};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use crate::ops::attention::Heads;

/// Keys of a task: a stretch of memory, and still enough tasks to balance.
const KEYS: usize = 64;

/// Elements of a head's sums: values times weights, then the largest score and the sum of weights.
fn head_len(D: usize) -> usize {
    (D + 2).next_multiple_of(MAX_LANES)
}

/// Elements that a task needs: for each head a vector of products, and four numbers.
fn task_len(H: usize) -> usize {
    H.next_multiple_of(MAX_LANES) * (MAX_LANES + 4)
}

/// A sequence's newest token.
pub struct Query<'a, E> {
    /// Its row in the batch.
    pub row: usize,
    /// Its query heads.
    pub q: &'a [E],
    /// Keys and values from position 0 of its sequence on.
    pub kv: Head<'a, E>,
    /// How many of them it sees.
    pub keys: usize,
}

impl<E> Query<'_, E> {
    fn tasks(&self) -> usize {
        self.keys.div_ceil(KEYS)
    }
}

/// Elements that all tasks of `queries` need, once each sees `capacity` keys.
fn room(queries: usize, heads: Heads, capacity: usize) -> usize {
    queries * capacity.div_ceil(KEYS) * heads.H * head_len(heads.D)
}

/// Work space of [`decode`].
pub fn space<E: Element>(queries: usize, heads: Heads, capacity: usize) -> Space {
    let task = if queries == 0 { 0 } else { task_len(heads.H) };
    Space::of::<E::Acc>(room(queries, heads, capacity), task)
}

/// Writes the outputs of `queries`; `capacity` is how many keys each may see one day.
pub fn decode<E: Element>(
    cpu: &Cpu,
    o_NHD: &mut [E],
    queries: &[Query<E>],
    heads: Heads,
    capacity: usize,
) {
    if queries.is_empty() {
        return;
    }
    let Heads { H, D, .. } = heads;
    let part = H * head_len(D);
    cpu.with_shared(room(queries.len(), heads, capacity), |parts: &mut [E::Acc]| {
        let tasks: usize = queries.iter().map(Query::tasks).sum();
        let parts = &mut parts[..tasks * part];
        cpu.for_each_tile_in_stretches(Tiles::new(&mut *parts, part, 1, part), |sums| {
            let (mut task, mut of) = (sums.row, queries.iter());
            let query = of.find(|query| match task.checked_sub(query.tasks()) {
                Some(rest) => {
                    task = rest;
                    false
                }
                None => true,
            });
            let query = query.expect("each task belongs to a query");
            let t = task * KEYS;
            let (q, kv, keys) = (query.q, query.kv.at(t, 0), KEYS.min(query.keys - t));
            cpu.with_task(task_len(H), |scratch| {
                dispatch_items(
                    cpu.isa(),
                    cpu.item_values::<E>(),
                    Part { sums, q, kv, heads, keys, scratch },
                )
            });
        });
        let mut rest = parts;
        for query in queries {
            let (parts, others) = rest.split_at_mut(query.tasks() * part);
            let o_HD = &mut o_NHD[query.row * H * D..][..H * D];
            E::Acc::dispatch(cpu.isa(), AddParts { o_HD, parts, D });
            rest = others;
        }
    });
}

/// Some keys of all heads.
struct Part<'a, 't, E: Element> {
    sums: Tile<'t, E::Acc>,
    q: &'a [E],
    kv: Head<'a, E>,
    heads: Heads,
    keys: usize,
    scratch: &'a mut [E::Acc],
}

impl<E: Element> ItemKernel<E::Acc> for Part<'_, '_, E> {
    /// The usual widths are known to the compiler: loops over a head are none.
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(self) {
        match self.heads.D {
            48 => self.walk::<V, F>(48),
            64 => self.walk::<V, F>(64),
            128 => self.walk::<V, F>(128),
            D => self.walk::<V, F>(D),
        }
    }
}

impl<E: Element> Part<'_, '_, E> {
    /// Key by key. The scores of one key stand side by side: of sixteen heads, one vector.
    #[inline(always)]
    fn walk<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self, D: usize) {
        let Heads { H, G, .. } = self.heads;
        let (group, padded) = (H / G, H.next_multiple_of(MAX_LANES));
        let (products, numbers) = self.scratch.split_at_mut(padded * V::LANES);
        let (p, numbers) = numbers.split_at_mut(padded);
        let (shrink, numbers) = numbers.split_at_mut(padded);
        let (max, total) = numbers.split_at_mut(padded);
        let total = &mut total[..padded];
        products.fill(E::Acc::ZERO);
        max.fill(E::Acc::NEG_INFINITY);
        total.fill(E::Acc::ZERO);
        let sums = self.sums.row_mut(0);
        sums.fill(E::Acc::ZERO);
        let scale = V::splat(scale(D));
        for t in 0..self.keys {
            let (k, v) = self.kv.row(t, 2 * G * D).split_at(G * D);
            let q_groups = self.q[..H * D].chunks_exact(group * D);
            let groups = products[..H * V::LANES].chunks_exact_mut(group * V::LANES).zip(q_groups);
            for ((products, q), k) in groups.zip(k.chunks_exact(D)) {
                for (product, q) in products.chunks_exact_mut(V::LANES).zip(q.chunks_exact(D)) {
                    products_of::<E, V, F>(k, q, D).store(product);
                }
            }
            for h in (0..H).step_by(V::LANES) {
                let s = V::row_sums(&products[h * V::LANES..]) * scale;
                let (before, sum) = (V::load(&max[h..]), V::load(&total[h..]));
                let top = before.max(s);
                let (by, weight) = ((before - top).exp2(), (s - top).exp2());
                top.store(&mut max[h..]);
                sum.mul_add(by, weight).store(&mut total[h..]);
                by.store(&mut shrink[h..]);
                weight.store(&mut p[h..]);
            }
            let numbers = shrink[..H].chunks_exact(group).zip(p[..H].chunks_exact(group));
            let groups = sums.chunks_exact_mut(group * head_len(D)).zip(numbers);
            for ((sums, (by, p)), v) in groups.zip(v.chunks_exact(D)) {
                let heads = sums.chunks_exact_mut(head_len(D)).zip(by.iter().zip(p));
                for (sums, (&by, &p)) in heads {
                    fade::<E, V>(sums, V::splat(by), v, V::splat(p), D);
                }
            }
        }
        for (h, sums) in sums.chunks_exact_mut(head_len(D)).enumerate() {
            [sums[D], sums[D + 1]] = [max[h], total[h]];
        }
    }
}

/// sums = sums * by + v * p.
#[inline(always)]
fn fade<E: Element, V: Vector<Scalar = E::Acc>>(
    sums: &mut [E::Acc],
    by: V,
    v: &[E],
    p: V,
    D: usize,
) {
    let (sums, v) = (&mut sums[..D], &v[..D]);
    for d in (0..D).step_by(V::LANES) {
        let sum = load::<E::Acc, V>(&sums[d..]) * by;
        store::<E::Acc, V>(load::<E, V>(&v[d..]).mul_add(p, sum), &mut sums[d..]);
    }
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
