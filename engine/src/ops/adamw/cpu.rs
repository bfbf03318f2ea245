use super::Step;
use crate::arena::Slot;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Elements in a task.
const TASK: usize = 1 << 14;

pub fn step<E: Element>(
    cpu: &Cpu,
    w: &mut [E::Acc],
    copy: Option<&mut [E]>,
    m: &mut [E::Acc],
    v: &mut [E::Acc],
    g: &[E::Acc],
    sum: f64,
    decays: &[(Slot, f64)],
    step: Step,
) {
    let norm = sum.sqrt();
    if !norm.is_finite() {
        return;
    }
    let update = &|start, part: Chunk<E>| chunk(cpu, start, part, decays, step.clip(norm), step);
    let copy = copy.unwrap_or_default();
    cpu.install(|| {
        let moments = m.par_chunks_mut(TASK).zip(v.par_chunks_mut(TASK));
        let arenas = w.par_chunks_mut(TASK).zip(moments).zip(g.par_chunks(TASK)).enumerate();
        if copy.is_empty() {
            arenas.for_each(|(i, ((w, (m, v)), g))| {
                update(i * TASK, Chunk { w, copy: &mut [], m, v, g })
            });
        } else {
            arenas.zip(copy.par_chunks_mut(TASK)).for_each(|((i, ((w, (m, v)), g)), copy)| {
                update(i * TASK, Chunk { w, copy, m, v, g })
            });
        }
    });
}

/// The same range of every arena. `copy` may be empty.
struct Chunk<'a, E: Element> {
    w: &'a mut [E::Acc],
    copy: &'a mut [E],
    m: &'a mut [E::Acc],
    v: &'a mut [E::Acc],
    g: &'a [E::Acc],
}

/// Updates the parts of parameters that lie in the chunk at `start`.
fn chunk<E: Element>(
    cpu: &Cpu,
    start: usize,
    c: Chunk<E>,
    decays: &[(Slot, f64)],
    clip: f64,
    step: Step,
) {
    let end = start + c.w.len();
    let first = decays.partition_point(|(slot, _)| slot.range().end <= start);
    for (slot, decay) in decays[first..].iter().take_while(|(slot, _)| slot.range().start < end) {
        let part = slot.range().start.max(start) - start..slot.range().end.min(end) - start;
        let copy = if c.copy.is_empty() { &mut [] } else { &mut c.copy[part.clone()] };
        let (w, m) = (&mut c.w[part.clone()], &mut c.m[part.clone()]);
        let part = Chunk { w, copy, m, v: &mut c.v[part.clone()], g: &c.g[part] };
        E::Acc::dispatch(cpu.isa(), Update { part, decay: *decay, clip, step });
    }
}

/// One parameter's share of a chunk.
struct Update<'a, E: Element> {
    part: Chunk<'a, E>,
    decay: f64,
    clip: f64,
    step: Step,
}

impl<E: Element> Kernel<E::Acc> for Update<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let Step { lr, beta1, beta2, eps, .. } = self.step;
        let (rate, root) = self.step.corrections();
        let Chunk { w, copy, m, v, g } = self.part;
        let (b1, b2) = (splat::<V>(1.0 - beta1), splat::<V>(1.0 - beta2));
        let (keep1, keep2) = (splat::<V>(beta1), splat::<V>(beta2));
        let (rate, root) = (splat::<V>(-rate), splat::<V>(root));
        let (shrink, clip, eps) =
            (splat::<V>(1.0 - lr * self.decay), splat::<V>(self.clip), splat::<V>(eps));
        for i in (0..w.len()).step_by(V::LANES) {
            let g_i = load::<E::Acc, V>(&g[i..]) * clip;
            let m_i = keep1.mul_add(load::<E::Acc, V>(&m[i..]), b1 * g_i);
            let v_i = keep2.mul_add(load::<E::Acc, V>(&v[i..]), b2 * g_i * g_i);
            let w_i = load::<E::Acc, V>(&w[i..]) * shrink;
            let w_i = w_i + rate * m_i / v_i.sqrt().mul_add(root, eps);
            store::<E::Acc, V>(m_i, &mut m[i..]);
            store::<E::Acc, V>(v_i, &mut v[i..]);
            store::<E::Acc, V>(w_i, &mut w[i..]);
            if !copy.is_empty() {
                store::<E, V>(w_i, &mut copy[i..]);
            }
        }
    }
}

#[inline(always)]
fn splat<V: Vector>(x: f64) -> V {
    V::splat(V::Scalar::from_f64(x))
}
