use crate::cpu::Cpu;
use crate::cpu::gemm::{Mat, Onto, gemm};
use crate::cpu::simd::{Kernel, Vector, load};
use crate::cpu::tiles::{Tile, Tiles};
use crate::element::{Element, Real};

/// Up to this many rows, W is read once in place; from there on packing it pays.
const FEW: usize = 4;
/// Outputs in a task of few rows.
const OUTPUTS: usize = 32;

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
    let O = w_OI.len() / I;
    cpu.for_each_tile(Tiles::new(y_NO, O, N.max(1), OUTPUTS), |y| {
        E::Acc::dispatch(cpu.isa(), FewRows { y, r_NO, x_NI, w_OI, I })
    });
}

/// Products with few rows are bound by reading W: each row of it is one task's dot product.
struct FewRows<'a, 't, Y, E> {
    y: Tile<'t, Y>,
    r_NO: Option<&'a [Y]>,
    x_NI: &'a [E],
    w_OI: &'a [E],
    I: usize,
}

impl<Y: Element<Acc = E::Acc>, E: Element> Kernel<E::Acc> for FewRows<'_, '_, Y, E> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = E::Acc>>(mut self) {
        let (I, O) = (self.I, self.w_OI.len() / self.I);
        for o in 0..self.y.cols() {
            let w = &self.w_OI[(self.y.col + o) * I..][..I];
            for n in 0..self.y.rows() {
                let sum = dot::<E, V>(w, &self.x_NI[n * I..][..I]);
                let r = self.r_NO.map_or(E::Acc::ZERO, |r| r[n * O + self.y.col + o].to_acc());
                self.y.row_mut(n)[o] = Y::from_acc(r + sum);
            }
        }
    }
}

/// Four chains of sums, so that loads and not additions set the pace.
#[inline(always)]
fn dot<E: Element, V: Vector<Scalar = E::Acc>>(a: &[E], b: &[E]) -> E::Acc {
    let mut sums = [V::splat(E::Acc::ZERO); 4];
    let whole = a.len() / (4 * V::LANES) * (4 * V::LANES);
    for i in (0..whole).step_by(4 * V::LANES) {
        for (c, sum) in sums.iter_mut().enumerate() {
            let i = i + c * V::LANES;
            *sum = E::load::<V>(&a[i..]).mul_add(E::load::<V>(&b[i..]), *sum);
        }
    }
    for i in (whole..a.len()).step_by(V::LANES) {
        sums[0] = load::<E, V>(&a[i..]).mul_add(load::<E, V>(&b[i..]), sums[0]);
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
