use super::{Gradients, IGNORE};
use crate::ViewMut;
use crate::cpu::gemm::{self, Mat, Onto, gemm};
use crate::cpu::simd::{Kernel, Vector, load, store};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};
use rayon::iter::{ParallelIterator, split};

/// Rows that are not divided further.
const ROWS: usize = 8;

/// Work space of [`run`] over `N` rows in chunks of `rows`: of the products of a chunk and of the last
/// one, with those for dx and dW where they are wanted.
pub fn space<E: Element>(
    cpu: &Cpu,
    [N, rows]: [usize; 2],
    [C, V]: [usize; 2],
    [dx, dw]: [bool; 2],
) -> Space {
    let of_chunk = |n: usize| {
        let logits = gemm::space::<E::Acc, E, E>(cpu, [n, C, V]);
        let dx = if dx { gemm::space::<E, E, E>(cpu, [n, V, C]) } else { Space::NONE };
        let dw = if dw { gemm::space::<E::Acc, E, E>(cpu, [V, n, C]) } else { Space::NONE };
        logits.max(dx).max(dw)
    };
    of_chunk(rows.min(N)).max(of_chunk((N - 1) % rows + 1))
}

/// The loss, and its gradients where they are wanted.
pub fn run<E: Element>(
    cpu: &Cpu,
    nats_N: &mut [E::Acc],
    largest_N: Option<&mut [i32]>,
    gradients: Option<Gradients<E>>,
    logits: &mut [E::Acc],
    x_NC: &[E],
    w_VC: &[E],
    targets_N: &[i32],
    C: usize,
) {
    let w_VC = Mat::new(w_VC, C);
    let V = w_VC.rows();
    let factors = gradients.as_ref().map(|g| (E::Acc::from_f64(g.scale), g.weights_N));
    let (scale, weights) = factors.map_or((None, None), |(scale, weights)| (Some(scale), weights));
    let mut gradients = gradients.map(|g| (g.dx_NC.host(), g.dw_acc_VC.map(ViewMut::host)));
    let mut left = Rows { nats: nats_N, largest: largest_N, targets: targets_N, weights };
    for (i, x) in x_NC.chunks(logits.len() / V * C).enumerate() {
        let (first, n) = (i * (logits.len() / V), x.len() / C);
        let (rows, rest) = left.split_at(n);
        left = rest;
        let (logits, x) = (&mut logits[..n * V], Mat::new(x, C));
        gemm(cpu, logits, x, w_VC.t(), Onto::Zero);
        softmax::<E>(cpu, Task { logits, rows, scale, V });
        if let Some((dx, dw)) = &mut gradients {
            let dlogits: &[E] = bytemuck::cast_slice(logits);
            let dlogits = Mat::strided(dlogits, V, V * size_of::<E::Acc>() / size_of::<E>());
            gemm(cpu, &mut dx[first * C..][..n * C], dlogits, w_VC, Onto::Zero);
            if let Some(dw) = dw {
                gemm(cpu, dw, dlogits.t(), x, Onto::Itself);
            }
        }
    }
}

/// What rows have beside their logits.
struct Rows<'a, R> {
    nats: &'a mut [R],
    largest: Option<&'a mut [i32]>,
    targets: &'a [i32],
    weights: Option<&'a [f32]>,
}

impl<R> Rows<'_, R> {
    /// The first `n`, and the others.
    fn split_at(self, n: usize) -> (Self, Self) {
        let (nats, nats_left) = self.nats.split_at_mut(n);
        let (targets, targets_left) = self.targets.split_at(n);
        let (largest, largest_left) = self.largest.map(|all| all.split_at_mut(n)).unzip();
        let (weights, weights_left) = self.weights.map(|all| all.split_at(n)).unzip();
        let left = Rows {
            nats: nats_left,
            largest: largest_left,
            targets: targets_left,
            weights: weights_left,
        };
        (Rows { nats, largest, targets, weights }, left)
    }
}

/// Rows of V logits. With a scale their scaled gradient replaces them: where E is narrower, it takes
/// the first part of its row.
struct Task<'a, E: Element> {
    logits: &'a mut [E::Acc],
    rows: Rows<'a, E::Acc>,
    scale: Option<E::Acc>,
    V: usize,
}

impl<E: Element> Task<'_, E> {
    /// Two tasks, where there are rows for two.
    fn halves(self) -> (Self, Option<Self>) {
        let (n, V, scale) = (self.rows.targets.len(), self.V, self.scale);
        if n <= ROWS {
            return (self, None);
        }
        let half = (n / 2).next_multiple_of(ROWS);
        let (logits, logits_left) = self.logits.split_at_mut(half * V);
        let (rows, rows_left) = self.rows.split_at(half);
        let left = Task { logits: logits_left, rows: rows_left, scale, V };
        (Task { logits, rows, scale, V }, Some(left))
    }
}

fn softmax<E: Element>(cpu: &Cpu, task: Task<E>) {
    let run = |task: Task<E>| E::Acc::dispatch(cpu.isa(), Softmax(task));
    cpu.install(|| split(task, Task::halves).for_each(run))
}

struct Softmax<'a, E: Element>(Task<'a, E>);

impl<E: Element> Kernel<E::Acc> for Softmax<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(self) {
        let Task { logits, mut rows, scale, V: width } = self.0;
        for (n, row) in logits.chunks_exact_mut(width).enumerate() {
            let target = rows.targets[n];
            if target == IGNORE {
                rows.nats[n] = E::Acc::ZERO;
                rows.largest.iter_mut().for_each(|ids| ids[n] = IGNORE);
                row.fill(E::Acc::ZERO);
                continue;
            }
            let target = target as usize;
            let max = max_of::<_, V>(row);
            if let Some(ids) = &mut rows.largest {
                ids[n] = row.iter().position(|&x| x == max).map_or(IGNORE, |v| v as i32);
            }
            let at_target = row[target];
            let sum = exp_of::<_, V>(row, max);
            rows.nats[n] = sum.ln() + (max - at_target);
            let Some(scale) = scale else { continue };
            let weight = rows.weights.map_or(1.0, |weights| weights[n]);
            if weight == 0.0 {
                row.fill(E::Acc::ZERO);
                continue;
            }
            let scale = scale * E::Acc::from_f64(weight.into());
            let factor = scale / sum;
            let at_target = row[target] * factor - scale;
            for i in (0..width).step_by(V::LANES) {
                // Written where row has been read already.
                let gradient = load::<E::Acc, V>(&row[i..]) * V::splat(factor);
                let to: &mut [E] = &mut bytemuck::cast_slice_mut(row)[..width];
                store::<E, V>(gradient, &mut to[i..]);
            }
            bytemuck::cast_slice_mut(row)[target] = E::from_acc(at_target);
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
