use crate::cpu::Cpu;
use crate::cpu::gemm::{Mat, Onto, gemm};
use crate::cpu::simd::{Factors, ItemKernel, Vector, dispatch_items, load, prefetch_stream};
use crate::cpu::tiles::{Tile, Tiles};
use crate::element::{Element, Real};

/// Up to this many rows, W is read once in place; from there on packing it pays.
const FEW: usize = 4;
/// Outputs in a task of few rows whose inputs take `bytes`: long enough a stretch of W for hardware
/// to run ahead, enough tasks to balance at the end.
fn outputs(bytes: usize) -> usize {
    ((96 << 10) / bytes).clamp(32, 128)
}

/// Y is the storage of the output: E, or the precision of sums.
pub fn forward<Y: Element<Acc = E::Acc>, E: Element>(
    cpu: &Cpu,
    y_NO: &mut [Y],
    r_NO: Option<&[Y]>,
    x_NI: &[E],
    w_OI: &[E],
    I: usize,
) {
    let N = x_NI.len() / I;
    if N > FEW {
        let onto = r_NO.map_or(Onto::Zero, Onto::Addend);
        return gemm(cpu, y_NO, Mat::new(x_NI, I), Mat::new(w_OI, I).t(), onto);
    }
    let (O, outputs) = (w_OI.len() / I, outputs(I * size_of::<E>()));
    cpu.for_each_tile_in_stretches(Tiles::new(y_NO, O, N.max(1), outputs), |y| {
        let task = FewRows { y, r_NO, x_NI, w_OI, I };
        dispatch_items(cpu.isa(), cpu.item_values::<E>(), task);
    });
}

/// Products with few rows are bound by reading W: one row after the other, as memory has them.
/// Several rows side by side share x and run faster from a cache, but hardware does not foresee
/// them: from memory they reach half the speed, and three quarters with prefetches.
struct FewRows<'a, 't, Y, E> {
    y: Tile<'t, Y>,
    r_NO: Option<&'a [Y]>,
    x_NI: &'a [E],
    w_OI: &'a [E],
    I: usize,
}

impl<Y: Element<Acc = E::Acc>, E: Element> ItemKernel<E::Acc> for FewRows<'_, '_, Y, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        let (I, O) = (self.I, self.w_OI.len() / self.I);
        for o in 0..self.y.cols() {
            let w = &self.w_OI[(self.y.col + o) * I..][..I];
            for n in 0..self.y.rows() {
                let sum = dot::<E, V, F>(w, &self.x_NI[n * I..][..I]);
                let r = self.r_NO.map_or(E::Acc::ZERO, |r| r[n * O + self.y.col + o].to_acc());
                self.y.row_mut(n)[o] = Y::from_acc(r + sum);
            }
        }
    }
}

/// Chains of sums, so that loads and not additions set the pace.
const CHAINS: usize = 4;

#[inline(always)]
fn dot<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(a: &[E], b: &[E]) -> E::Acc {
    let (step, mut sums) = (V::LANES * F::K, [V::splat(E::Acc::ZERO); CHAINS]);
    let (a_blocks, b_blocks) = (a.chunks_exact(CHAINS * step), b.chunks_exact(CHAINS * step));
    let rest = (a_blocks.remainder(), b_blocks.remainder());
    for (a, b) in a_blocks.zip(b_blocks) {
        for (c, sum) in sums.iter_mut().enumerate() {
            prefetch_stream(&a[c * step..][..step]);
            *sum = F::of_row::<E>(&a[c * step..]).mul_add(F::of_row::<E>(&b[c * step..]), *sum);
        }
    }
    for (a, b) in rest.0.chunks(V::LANES).zip(rest.1.chunks(V::LANES)) {
        prefetch_stream(a);
        sums[0] = load::<E, V>(a).mul_add(load::<E, V>(b), sums[0]);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

pub fn backward<E: Element>(
    cpu: &Cpu,
    dx_NI: &mut [E],
    dw_acc_OI: &mut [E::Acc],
    dy_NO: &[E],
    x_NI: &[E],
    w_OI: &[E],
    I: usize,
) {
    let dy_NO = Mat::new(dy_NO, w_OI.len() / I);
    gemm(cpu, dx_NI, dy_NO, Mat::new(w_OI, I), Onto::Zero);
    gemm(cpu, dw_acc_OI, dy_NO.t(), Mat::new(x_NI, I), Onto::Itself);
}
