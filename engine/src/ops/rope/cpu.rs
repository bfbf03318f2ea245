use crate::Segments;
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
    segments: &Segments,
    S: usize,
    heads: usize,
    D: usize,
    sign: E::Acc,
) {
    cpu.install(|| {
        x_NS.par_chunks_mut(ROWS * S).enumerate().for_each(|(i, x)| {
            let n = i * ROWS;
            E::Acc::dispatch(cpu.isa(), Rotate { x, table_TD, segments, n, S, heads, D, sign })
        })
    });
}

struct Rotate<'a, E: Element> {
    x: &'a mut [E],
    table_TD: &'a [E::Acc],
    segments: &'a Segments,
    /// Row of the batch that is the first of x.
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
        let mut segment = self.segments.of_row(self.n);
        let (sign, zero) = (V::splat(self.sign), V::splat(E::Acc::ZERO));
        for (n, row) in (self.n..).zip(self.x.chunks_exact_mut(self.S)) {
            if n == segment.end() {
                segment = self.segments.of_row(n);
            }
            let t = segment.first + n - segment.offset;
            let (cos, sin) = self.table_TD[t * D..][..D].split_at(D / 2);
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
