use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Rows in a task of [`forward`], and of a partial sum of [`backward`].
const ROWS: usize = 64;

pub fn forward<E: Element>(cpu: &Cpu, y_acc_NO: &mut [E], b_O: &[E]) {
    cpu.install(|| {
        y_acc_NO
            .par_chunks_mut(ROWS * b_O.len())
            .for_each(|y| E::Acc::dispatch(cpu.isa(), Forward { y, b: b_O }))
    });
}

/// Work space of [`backward`]: a sum for each task.
pub fn backward_space<E: Element>(N: usize, O: usize) -> Space {
    Space::of::<E::Acc>(N.div_ceil(ROWS) * O, 0)
}

pub fn backward<E: Element>(cpu: &Cpu, db_acc_O: &mut [E::Acc], dy_NO: &[E]) {
    let O = db_acc_O.len();
    cpu.with_shared((dy_NO.len() / O).div_ceil(ROWS) * O, |partial: &mut [E::Acc]| {
        cpu.install(|| {
            let tasks = partial.par_chunks_mut(O).zip(dy_NO.par_chunks(ROWS * O));
            tasks.for_each(|(db, dy)| {
                db.fill(E::Acc::ZERO);
                E::Acc::dispatch(cpu.isa(), Backward { db, dy });
            })
        });
        for db in partial.chunks_exact(O) {
            db_acc_O.iter_mut().zip(db).for_each(|(sum, &db)| *sum += db);
        }
    });
}

struct Forward<'a, E> {
    y: &'a mut [E],
    b: &'a [E],
}

impl<E: Element> Kernel<E::Acc> for Forward<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let O = self.b.len();
        for y in self.y.chunks_exact_mut(O) {
            for i in (0..O).step_by(V::LANES) {
                let sum = load::<E, V>(&y[i..]) + load::<E, V>(&self.b[i..]);
                store::<E, V>(sum, &mut y[i..]);
            }
        }
    }
}

struct Backward<'a, E: Element> {
    db: &'a mut [E::Acc],
    dy: &'a [E],
}

impl<E: Element> Kernel<E::Acc> for Backward<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let O = self.db.len();
        for dy in self.dy.chunks_exact(O) {
            for i in (0..O).step_by(V::LANES) {
                let sum = load::<E::Acc, V>(&self.db[i..]) + load::<E, V>(&dy[i..]);
                store::<E::Acc, V>(sum, &mut self.db[i..]);
            }
        }
    }
}
