use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Rows in a task. Also the reach of a partial sum of dw, so it is part of the result's bits.
const ROWS: usize = 32;

pub fn forward<E: Element>(
    cpu: &Cpu,
    y_NC: &mut [E],
    r_N: &mut [E::Acc],
    x_NC: &[E],
    w_C: &[E],
    eps: f32,
) {
    let block = ROWS * w_C.len();
    cpu.install(|| {
        let tasks = y_NC.par_chunks_mut(block).zip(r_N.par_chunks_mut(ROWS));
        tasks.zip(x_NC.par_chunks(block)).for_each(|((y, r), x)| {
            E::Acc::dispatch(cpu.isa(), Scale { r, x, w: w_C, eps });
            E::Acc::dispatch(cpu.isa(), Apply { y, r, x, w: w_C });
        })
    });
}

pub fn apply<E: Element>(cpu: &Cpu, y_NC: &mut [E], x_NC: &[E], w_C: &[E], r_N: &[E::Acc]) {
    let block = ROWS * w_C.len();
    cpu.install(|| {
        let tasks = y_NC.par_chunks_mut(block).zip(x_NC.par_chunks(block));
        tasks.zip(r_N.par_chunks(ROWS)).for_each(|((y, x), r)| {
            E::Acc::dispatch(cpu.isa(), Apply { y, r, x, w: w_C });
        })
    });
}

/// Work space of [`backward`]: a row of sums for each task.
pub fn backward_space<E: Element>(N: usize, C: usize) -> Space {
    Space::of::<E::Acc>(N.div_ceil(ROWS) * C, 0)
}

pub fn backward<E: Element>(
    cpu: &Cpu,
    dx_acc_NC: &mut [E],
    dw_acc_C: Option<&mut [E::Acc]>,
    dy_NC: &[E],
    x_NC: &[E],
    w_C: &[E],
    r_N: &[E::Acc],
) {
    let C = w_C.len();
    let block = ROWS * C;
    cpu.with_shared(r_N.len().div_ceil(ROWS) * C, |partial: &mut [E::Acc]| {
        cpu.install(|| {
            let outputs = dx_acc_NC.par_chunks_mut(block).zip(partial.par_chunks_mut(C));
            let inputs = dy_NC.par_chunks(block).zip(x_NC.par_chunks(block));
            outputs.zip(inputs).zip(r_N.par_chunks(ROWS)).for_each(|(((dx, dw), (dy, x)), r)| {
                dw.fill(E::Acc::ZERO);
                E::Acc::dispatch(cpu.isa(), Backward { dx, dw, dy, x, w: w_C, r });
            })
        });
        let Some(dw_acc_C) = dw_acc_C else { return };
        for dw in partial.chunks_exact(C) {
            for i in 0..C {
                dw_acc_C[i] += dw[i];
            }
        }
    });
}

struct Scale<'a, E: Element> {
    r: &'a mut [E::Acc],
    x: &'a [E],
    w: &'a [E],
    eps: f32,
}

impl<E: Element> Kernel<E::Acc> for Scale<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let C = self.w.len();
        for (r, x) in self.r.iter_mut().zip(self.x.chunks_exact(C)) {
            // Two chains of sums, so that one addition does not wait for the last.
            let mut squares = [V::splat(E::Acc::ZERO); 2];
            for i in (0..C).step_by(V::LANES) {
                let x = load::<E, V>(&x[i..]);
                let s = i / V::LANES % 2;
                squares[s] = x.mul_add(x, squares[s]);
            }
            let mean = (squares[0] + squares[1]).sum() / E::Acc::from_f64(C as f64);
            *r = E::Acc::ONE / (mean + E::Acc::from_f64(self.eps.into())).sqrt();
        }
    }
}

struct Apply<'a, E: Element> {
    y: &'a mut [E],
    r: &'a [E::Acc],
    x: &'a [E],
    w: &'a [E],
}

impl<E: Element> Kernel<E::Acc> for Apply<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let C = self.w.len();
        let rows = self.y.chunks_exact_mut(C).zip(self.x.chunks_exact(C));
        for ((y, x), r) in rows.zip(self.r) {
            let r = V::splat(*r);
            for i in (0..C).step_by(V::LANES) {
                let y_i = load::<E, V>(&self.w[i..]) * (load::<E, V>(&x[i..]) * r);
                store::<E, V>(y_i, &mut y[i..]);
            }
        }
    }
}

struct Backward<'a, E: Element> {
    dx: &'a mut [E],
    dw: &'a mut [E::Acc],
    dy: &'a [E],
    x: &'a [E],
    w: &'a [E],
    r: &'a [E::Acc],
}

impl<E: Element> Kernel<E::Acc> for Backward<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let (w, C) = (self.w, self.w.len());
        let inputs = self.dy.chunks_exact(C).zip(self.x.chunks_exact(C)).zip(self.r);
        for (dx, ((dy, x), &r)) in self.dx.chunks_exact_mut(C).zip(inputs) {
            let mut s = [V::splat(E::Acc::ZERO); 2];
            for i in (0..C).step_by(V::LANES) {
                let w_dy = load::<E, V>(&w[i..]) * load::<E, V>(&dy[i..]);
                let chain = i / V::LANES % 2;
                s[chain] = w_dy.mul_add(load::<E, V>(&x[i..]), s[chain]);
            }
            let s = (s[0] + s[1]).sum();
            let along_x = V::splat(-(s * r * r / E::Acc::from_f64(C as f64)));
            let r = V::splat(r);
            for i in (0..C).step_by(V::LANES) {
                let (x, dy) = (load::<E, V>(&x[i..]), load::<E, V>(&dy[i..]));
                let inner = x.mul_add(along_x, load::<E, V>(&w[i..]) * dy);
                store::<E, V>(r.mul_add(inner, load::<E, V>(&dx[i..])), &mut dx[i..]);
                let dw = &mut self.dw[i..];
                let sum = dy.mul_add(x * r, load::<E::Acc, V>(dw));
                store::<E::Acc, V>(sum, dw);
            }
        }
    }
}
