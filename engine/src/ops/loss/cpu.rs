use super::{IGNORE, Logits};
use crate::cpu::Cpu;
use crate::cpu::gemm::{Mat, Onto, gemm};
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::element::{Element, Real};
use rayon::prelude::*;

/// Rows in a task.
const ROWS: usize = 8;

pub fn forward<E: Element>(
    cpu: &Cpu,
    logits: &mut Logits<E>,
    x_NC: &[E],
    w_VC: &[E],
    targets_N: &[i32],
    C: usize,
) -> f64 {
    let w_VC = Mat::new(w_VC, C);
    let (chunk, logits) = (logits.rows(), logits.host());
    let mut nats = 0.0;
    for (x, targets) in x_NC.chunks(chunk * C).zip(targets_N.chunks(chunk)) {
        let logits = &mut logits[..targets.len() * w_VC.rows()];
        gemm(cpu, logits, Mat::new(x, C), w_VC.t(), Onto::Zero);
        nats += softmax::<E>(cpu, logits, targets, None);
    }
    nats
}

pub fn forward_backward<E: Element>(
    cpu: &Cpu,
    dx_NC: &mut [E],
    mut dw_acc_VC: Option<&mut [E::Acc]>,
    logits: &mut Logits<E>,
    x_NC: &[E],
    w_VC: &[E],
    targets_N: &[i32],
    scale: f64,
    C: usize,
) -> f64 {
    let w_VC = Mat::new(w_VC, C);
    let V = w_VC.rows();
    let (chunk, logits) = (logits.rows(), logits.host());
    let mut nats = 0.0;
    let rows = dx_NC.chunks_mut(chunk * C).zip(x_NC.chunks(chunk * C));
    for ((dx, x), targets) in rows.zip(targets_N.chunks(chunk)) {
        let logits = &mut logits[..targets.len() * V];
        let x = Mat::new(x, C);
        gemm(cpu, logits, x, w_VC.t(), Onto::Zero);
        nats += softmax::<E>(cpu, logits, targets, Some(E::Acc::from_f64(scale)));
        let dlogits: &[E] = bytemuck::cast_slice(logits);
        let dlogits = Mat::strided(dlogits, V, V * size_of::<E::Acc>() / size_of::<E>());
        gemm(cpu, dx, dlogits, w_VC, Onto::Zero);
        if let Some(dw_acc_VC) = &mut dw_acc_VC {
            gemm(cpu, dw_acc_VC, dlogits.t(), x, Onto::Itself);
        }
    }
    nats
}

/// Nats of all rows; with a scale, the scaled gradient replaces the logits: where E is narrower,
/// it takes the first part of its row.
fn softmax<E: Element>(
    cpu: &Cpu,
    logits: &mut [E::Acc],
    targets: &[i32],
    scale: Option<E::Acc>,
) -> f64 {
    let V = logits.len() / targets.len();
    cpu.with_shared(targets.len(), |nats: &mut [f64]| -> f64 {
        cpu.install(|| {
            let tasks = logits.par_chunks_mut(ROWS * V).zip(targets.par_chunks(ROWS));
            tasks.zip(nats.par_chunks_mut(ROWS)).for_each(|((logits, targets), nats)| {
                E::Acc::dispatch(cpu.isa(), Softmax::<E> { logits, targets, nats, V, scale })
            })
        });
        nats.iter().sum()
    })
}

struct Softmax<'a, E: Element> {
    logits: &'a mut [E::Acc],
    targets: &'a [i32],
    nats: &'a mut [f64],
    V: usize,
    scale: Option<E::Acc>,
}

impl<E: Element> Kernel<E::Acc> for Softmax<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let rows = self.logits.chunks_exact_mut(self.V).zip(self.targets);
        for ((row, &target), nats) in rows.zip(self.nats) {
            if target == IGNORE {
                *nats = 0.0;
                row.fill(E::Acc::ZERO);
                continue;
            }
            let target = target as usize;
            let max = max_of::<_, V>(row);
            let at_target = row[target];
            let sum = exp_of::<_, V>(row, max);
            *nats = (sum.ln() + (max - at_target)).to_f64();
            if let Some(scale) = self.scale {
                let factor = scale / sum;
                let at_target = row[target] * factor - scale;
                for i in (0..row.len()).step_by(V::LANES) {
                    // Written where row has been read already.
                    let gradient = load::<E::Acc, V>(&row[i..]) * V::splat(factor);
                    let to: &mut [E] = &mut bytemuck::cast_slice_mut(row)[..self.V];
                    store::<E, V>(gradient, &mut to[i..]);
                }
                bytemuck::cast_slice_mut(row)[target] = E::from_acc(at_target);
            }
        }
    }
}

/// Largest element. May pass over NaN; the sum of exponentials does not.
#[inline(always)]
fn max_of<R: Real, V: Vector<Scalar = R>>(row: &[R]) -> R {
    let whole = row.len() / V::LANES * V::LANES;
    let mut max = V::splat(row[0]);
    for x in row[..whole].chunks_exact(V::LANES) {
        max = max.max(V::load(x));
    }
    row[whole..].iter().fold(max.max_lane(), |max, &x| if max > x { max } else { x })
}

/// Replaces the row by e^(x - max) and returns its sum.
#[inline(always)]
fn exp_of<R: Real, V: Vector<Scalar = R>>(row: &mut [R], max: R) -> R {
    let whole = row.len() / V::LANES * V::LANES;
    let mut sum = V::splat(R::ZERO);
    for x in row[..whole].chunks_exact_mut(V::LANES) {
        let e = (V::load(x) - V::splat(max)).exp();
        e.store(x);
        sum = sum + e;
    }
    let mut total = sum.sum();
    for x in &mut row[whole..] {
        *x = (*x - max).exp();
        total += *x;
    }
    total
}
