use crate::cpu::simd::{Kernel, Vector, load};
use crate::cpu::{Cpu, Space};
use crate::element::Real;
use rayon::prelude::*;

/// Elements that a sum in storage precision spans; above it, sums are f64.
const SPAN: usize = 1 << 10;
/// Elements in a task.
const TASK: usize = 1 << 16;

/// Work space of [`sum_of_squares`] of `len` elements: a sum for each task.
pub fn space(len: usize) -> Space {
    Space::of::<f64>(len.div_ceil(TASK), 0)
}

pub fn sum_of_squares<R: Real>(cpu: &Cpu, x: &[R]) -> f64 {
    cpu.with_shared(x.len().div_ceil(TASK), |sums: &mut [f64]| {
        cpu.install(|| {
            x.par_chunks(TASK).zip(sums.par_iter_mut()).for_each(|(x, sum)| {
                *sum = x.chunks(SPAN).map(|x| R::dispatch(cpu.isa(), Squares { x })).sum()
            })
        });
        sums.iter().sum()
    })
}

struct Squares<'a, R> {
    x: &'a [R],
}

impl<R: Real> Kernel<R> for Squares<'_, R> {
    type Out = f64;
    #[inline(always)]
    fn run<V: Vector<Scalar = R>>(self) -> f64 {
        let mut sum = V::splat(R::ZERO);
        for i in (0..self.x.len()).step_by(V::LANES) {
            let x = load::<R, V>(&self.x[i..]);
            sum = x.mul_add(x, sum);
        }
        sum.sum().to_f64()
    }
}
