use super::FEW;
use crate::cpu::gemm::{self, Mat, Onto, gemm};
use crate::cpu::simd::{Factors, ItemKernel, Vector, dispatch_items, load, prefetch_stream};
use crate::cpu::tiles::{Tile, Tiles};
use crate::cpu::{Cpu, Space};
use crate::element::{Element, Real};

/// Outputs in a task of few rows whose inputs take `bytes`: long enough a stretch of W for hardware
/// to run ahead, enough tasks to balance at the end.
fn outputs(bytes: usize) -> usize {
    ((96 << 10) / bytes).clamp(32, 128)
}

/// Work space of [`forward`]: few rows need none.
pub fn forward_space<Y: Element<Acc = E::Acc>, E: Element>(
    cpu: &Cpu,
    [N, I, O]: [usize; 3],
) -> Space {
    if N > FEW { gemm::space::<Y, E, E>(cpu, [N, I, O]) } else { Space::NONE }
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
    // Few rows read W once, in place; for more packing it pays.
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

/// Products with few rows are bound by reading W: one row of W after the other, as memory has them.
/// Several rows of W side by side share x and run faster from a cache, but hardware does not foresee
/// them: from memory they reach half the speed, and three quarters with prefetches. Several rows of x
/// share a row of W, which is in the first cache once the first of them have asked for it; each sums
/// in the order that it has alone.
struct FewRows<'a, 't, Y, E> {
    y: Tile<'t, Y>,
    r_NO: Option<&'a [Y]>,
    x_NI: &'a [E],
    w_OI: &'a [E],
    I: usize,
}

/// Rows of x whose products with a row of W are summed side by side.
const ABREAST: usize = 4;

impl<Y: Element<Acc = E::Acc>, E: Element> ItemKernel<E::Acc> for FewRows<'_, '_, Y, E> {
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>, F: Factors<V>>(mut self) {
        let (I, N) = (self.I, self.y.rows());
        for o in 0..self.y.cols() {
            let w = &self.w_OI[(self.y.col + o) * I..][..I];
            let x = |n: usize| &self.x_NI[n * I..][..I];
            let mut n = 0;
            while n + ABREAST <= N {
                let x: [&[E]; ABREAST] = std::array::from_fn(
                    #[inline(always)]
                    |r| x(n + r),
                );
                self.put(o, n, dots::<E, V, F, ABREAST>(w, x, n == 0));
                n += ABREAST;
            }
            while n < N {
                self.put(o, n, dots::<E, V, F, 1>(w, [x(n)], n == 0));
                n += 1;
            }
        }
    }
}

impl<Y: Element<Acc = E::Acc>, E: Element> FewRows<'_, '_, Y, E> {
    /// Output `o` of the task, rows from `n` on.
    #[inline(always)]
    fn put<const R: usize>(&mut self, o: usize, n: usize, sums: [E::Acc; R]) {
        let O = self.w_OI.len() / self.I;
        for (n, sum) in (n..).zip(sums) {
            let r = self.r_NO.map_or(E::Acc::ZERO, |r| r[n * O + self.y.col + o].to_acc());
            self.y.row_mut(n)[o] = Y::from_acc(r + sum);
        }
    }
}

/// Chains of sums, so that loads and not additions set the pace.
const CHAINS: usize = 4;

/// Products of a row of W with R rows of x. `ask` asks memory for the W that follows.
#[inline(always)]
fn dots<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>, const R: usize>(
    w: &[E],
    x: [&[E]; R],
    ask: bool,
) -> [E::Acc; R] {
    let (step, mut sums) = (V::LANES * F::K, [[V::splat(E::Acc::ZERO); CHAINS]; R]);
    let block = CHAINS * step;
    let whole = w.len() - w.len() % block;
    for (i, w) in w.chunks_exact(block).enumerate() {
        let x = x.map(
            #[inline(always)]
            |x| &x[i * block..][..block],
        );
        for c in 0..CHAINS {
            if ask {
                prefetch_stream(&w[c * step..][..step]);
            }
            let w = F::of_row::<E>(&w[c * step..]);
            for r in 0..R {
                sums[r][c] = w.mul_add(F::of_row::<E>(&x[r][c * step..]), sums[r][c]);
            }
        }
    }
    for (i, w) in w[whole..].chunks(V::LANES).enumerate() {
        if ask {
            prefetch_stream(w);
        }
        let (at, w) = (whole + i * V::LANES, load::<E, V>(w));
        for r in 0..R {
            sums[r][0] = w.mul_add(load::<E, V>(&x[r][at..]), sums[r][0]);
        }
    }
    sums.map(
        #[inline(always)]
        |s| ((s[0] + s[1]) + (s[2] + s[3])).sum(),
    )
}

/// Work space of [`backward_input`].
pub fn backward_input_space<E: Element>(cpu: &Cpu, [N, I, O]: [usize; 3]) -> Space {
    gemm::space::<E, E, E>(cpu, [N, O, I])
}

pub fn backward_input<E: Element>(cpu: &Cpu, dx_NI: &mut [E], dy_NO: &[E], w_OI: &[E], I: usize) {
    let dy_NO = Mat::new(dy_NO, w_OI.len() / I);
    gemm(cpu, dx_NI, dy_NO, Mat::new(w_OI, I), Onto::Zero);
}

/// Work space of [`backward_weight`].
pub fn backward_weight_space<E: Element>(cpu: &Cpu, [N, I, O]: [usize; 3]) -> Space {
    gemm::space::<E::Acc, E, E>(cpu, [O, N, I])
}

pub fn backward_weight<E: Element>(
    cpu: &Cpu,
    dw_acc_OI: &mut [E::Acc],
    dy_NO: &[E],
    x_NI: &[E],
    I: usize,
) {
    let dy_NO = Mat::new(dy_NO, dw_acc_OI.len() / I);
    gemm(cpu, dw_acc_OI, dy_NO.t(), Mat::new(x_NI, I), Onto::Itself);
}
