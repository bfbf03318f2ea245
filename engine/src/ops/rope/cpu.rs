use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Rows in a task.
const ROWS: usize = 16;

/// Turns by the table's angles, forwards for `sign` 1, backwards for -1.
pub fn rotate<E: Element>(
    cpu: &Cpu,
    x_NS: &mut [E],
    table_TD: &[E::Acc],
    S: usize,
    heads: usize,
    D: usize,
    sign: E::Acc,
) {
    cpu.install(|| {
        x_NS.par_chunks_mut(ROWS * S).enumerate().for_each(|(i, x)| {
            E::Acc::dispatch(cpu.isa(), Rotate { x, table_TD, n: i * ROWS, S, heads, D, sign })
        })
    });
}

struct Rotate<'a, E: Element> {
    x: &'a mut [E],
    table_TD: &'a [E::Acc],
    n: usize,
    S: usize,
    heads: usize,
    D: usize,
    sign: E::Acc,
}

impl<E: Element> Kernel<E::Acc> for Rotate<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let D = self.D;
        let T = self.table_TD.len() / D;
        let (sign, zero) = (V::splat(self.sign), V::splat(E::Acc::ZERO));
        for (n, row) in (self.n..).zip(self.x.chunks_exact_mut(self.S)) {
            let (cos, sin) = self.table_TD[n % T * D..][..D].split_at(D / 2);
            for head in row[..self.heads * D].chunks_exact_mut(D) {
                let (a, b) = head.split_at_mut(D / 2);
                for i in (0..D / 2).step_by(V::LANES) {
                    let cos = load::<E::Acc, V>(&cos[i..]);
                    let sin = load::<E::Acc, V>(&sin[i..]) * sign;
                    let (x, y) = (load::<E, V>(&a[i..]), load::<E, V>(&b[i..]));
                    store::<E, V>(x.mul_add(cos, zero - y * sin), &mut a[i..]);
                    store::<E, V>(y.mul_add(cos, x * sin), &mut b[i..]);
                }
            }
        }
    }
}
