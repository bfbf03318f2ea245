use super::Place;
use crate::cpu::gemm::{self, Mat, Onto, gemm, gemm_columns};
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Elements in a task.
const TASK: usize = 1 << 14;

/// Work space of [`forward`].
pub fn forward_space<E: Element>(cpu: &Cpu, [N, I, r, O]: [usize; 4]) -> Space {
    low_space::<E>(cpu, [N, I, r]).max(gemm::space::<E, E, E>(cpu, [N, r, O]))
}

pub fn forward<E: Element>(
    cpu: &Cpu,
    y_acc: &mut [E],
    t_Nr: &mut [E],
    x_NI: &[E],
    a_rI: &[E],
    b_Or: &[E],
    at: Place,
    I: usize,
) {
    let r = a_rI.len() / I;
    low(cpu, t_Nr, x_NI, a_rI, at, I);
    let (t_Nr, b_rO) = (Mat::new(t_Nr, r), Mat::new(b_Or, r).t());
    gemm_columns(cpu, y_acc, [at.first, at.stride], t_Nr, b_rO);
}

/// Work space of [`backward_input`].
pub fn backward_input_space<E: Element>(cpu: &Cpu, [N, I, r, O]: [usize; 4]) -> Space {
    gemm::space::<E, E, E>(cpu, [N, O, r]).max(gemm::space::<E, E, E>(cpu, [N, r, I]))
}

pub fn backward_input<E: Element>(
    cpu: &Cpu,
    dx_acc_NI: &mut [E],
    u_Nr: &mut [E],
    dy: &[E],
    a_rI: &[E],
    b_Or: &[E],
    at: Place,
    I: usize,
) {
    let r = a_rI.len() / I;
    let dy_NO = Mat::columns(dy, at.first, b_Or.len() / r, at.stride);
    gemm(cpu, u_Nr, dy_NO, Mat::new(b_Or, r), Onto::Zero);
    scale(cpu, u_Nr, at.scale);
    gemm(cpu, dx_acc_NI, Mat::new(u_Nr, r), Mat::new(a_rI, I), Onto::Itself);
}

/// Work space of [`backward_b`].
pub fn backward_b_space<E: Element>(cpu: &Cpu, [N, I, r, O]: [usize; 4]) -> Space {
    low_space::<E>(cpu, [N, I, r]).max(gemm::space::<E::Acc, E, E>(cpu, [O, N, r]))
}

pub fn backward_b<E: Element>(
    cpu: &Cpu,
    db_acc_Or: &mut [E::Acc],
    t_Nr: &mut [E],
    dy: &[E],
    x_NI: &[E],
    a_rI: &[E],
    at: Place,
    I: usize,
) {
    let r = a_rI.len() / I;
    low(cpu, t_Nr, x_NI, a_rI, at, I);
    let dy_NO = Mat::columns(dy, at.first, db_acc_Or.len() / r, at.stride);
    gemm(cpu, db_acc_Or, dy_NO.t(), Mat::new(t_Nr, r), Onto::Itself);
}

fn low_space<E: Element>(cpu: &Cpu, [N, I, r]: [usize; 3]) -> Space {
    gemm::space::<E, E, E>(cpu, [N, I, r])
}

/// t = s x A^T.
fn low<E: Element>(cpu: &Cpu, t_Nr: &mut [E], x_NI: &[E], a_rI: &[E], at: Place, I: usize) {
    gemm(cpu, t_Nr, Mat::new(x_NI, I), Mat::new(a_rI, I).t(), Onto::Zero);
    scale(cpu, t_Nr, at.scale);
}

fn scale<E: Element>(cpu: &Cpu, x: &mut [E], factor: f64) {
    cpu.install(|| {
        x.par_chunks_mut(TASK).for_each(|x| E::Acc::dispatch(cpu.isa(), Scale { x, factor }))
    });
}

struct Scale<'a, E> {
    x: &'a mut [E],
    factor: f64,
}

impl<E: Element> Kernel<E::Acc> for Scale<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let factor = V::splat(E::Acc::from_f64(self.factor));
        for x in self.x.chunks_mut(V::LANES) {
            store::<E, V>(load::<E, V>(x) * factor, x);
        }
    }
}
