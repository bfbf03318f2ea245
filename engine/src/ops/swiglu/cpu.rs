use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Rows in a task.
const ROWS: usize = 16;

pub fn forward<E: Element>(cpu: &Cpu, a_NF: &mut [E], gu_N2F: &[E], F: usize) {
    cpu.install(|| {
        let tasks = a_NF.par_chunks_mut(ROWS * F).zip(gu_N2F.par_chunks(ROWS * 2 * F));
        tasks.for_each(|(a, gu)| E::Acc::dispatch(cpu.isa(), Forward { a, gu, F }))
    });
}

pub fn backward_inplace<E: Element>(cpu: &Cpu, gu_N2F: &mut [E], da_NF: &[E], F: usize) {
    cpu.install(|| {
        let tasks = gu_N2F.par_chunks_mut(ROWS * 2 * F).zip(da_NF.par_chunks(ROWS * F));
        tasks.for_each(|(gu, da)| E::Acc::dispatch(cpu.isa(), Backward { gu, da, F }))
    });
}

/// 1 / (1 + e^-g).
#[inline(always)]
fn sigmoid<V: Vector>(g: V) -> V {
    let one = V::splat(V::Scalar::ONE);
    one / (one + (g * V::splat(V::Scalar::from_f64(-std::f64::consts::LOG2_E))).exp2())
}

struct Forward<'a, E> {
    a: &'a mut [E],
    gu: &'a [E],
    F: usize,
}

impl<E: Element> Kernel<E::Acc> for Forward<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let F = self.F;
        for (a, gu) in self.a.chunks_exact_mut(F).zip(self.gu.chunks_exact(2 * F)) {
            let (g, u) = gu.split_at(F);
            for i in (0..F).step_by(V::LANES) {
                let g = load::<E, V>(&g[i..]);
                store::<E, V>(g * sigmoid(g) * load::<E, V>(&u[i..]), &mut a[i..]);
            }
        }
    }
}

struct Backward<'a, E> {
    gu: &'a mut [E],
    da: &'a [E],
    F: usize,
}

impl<E: Element> Kernel<E::Acc> for Backward<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let (F, one) = (self.F, V::splat(E::Acc::ONE));
        for (gu, da) in self.gu.chunks_exact_mut(2 * F).zip(self.da.chunks_exact(F)) {
            let (gate, up) = gu.split_at_mut(F);
            for i in (0..F).step_by(V::LANES) {
                let (g, u) = (load::<E, V>(&gate[i..]), load::<E, V>(&up[i..]));
                let (da, q) = (load::<E, V>(&da[i..]), sigmoid(g));
                let slope = q * g.mul_add(one - q, one);
                store::<E, V>(da * u * slope, &mut gate[i..]);
                store::<E, V>(da * (g * q), &mut up[i..]);
            }
        }
    }
}
