//! Each instruction set's vectors against scalar arithmetic.

use super::exp::TO_EXPONENT;
use super::{Isa, Kernel, Vector, dispatch_f32};
use half::bf16;

/// A function of one vector, over a slice.
struct Map<'a, F>(&'a mut [f32], F);

/// What [`Map`] applies.
trait Lanes {
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V;
}

impl<F: Lanes> Kernel<f32> for Map<'_, F> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        for x in self.0.chunks_exact_mut(V::LANES) {
            self.1.of(V::load(x)).store(x);
        }
    }
}

struct Exp;
impl Lanes for Exp {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        x.exp()
    }
}

fn exp(isa: Isa, x: &[f32]) -> Vec<f32> {
    assert!(x.len().is_multiple_of(16));
    let mut y = x.to_vec();
    dispatch_f32(isa, Map(&mut y, Exp));
    y
}

#[test]
fn exp_errs_at_most_2e_7() {
    // Every 499th f32 from 88.3 down to 0, both signs.
    let mut x: Vec<f32> = (0..88.3f32.to_bits()).step_by(499).map(f32::from_bits).collect();
    x.extend(x.clone().iter().map(|x| -x).filter(|&x| x >= -87.3));
    x.resize(x.len().next_multiple_of(16), 1.0);
    for isa in Isa::all_available() {
        let (mut worst, mut at) = (0.0, 0.0);
        for (&x, y) in x.iter().zip(exp(isa, &x)) {
            let exact = f64::from(x).exp();
            let error = ((f64::from(y) - exact) / exact).abs();
            assert!(!error.is_nan());
            if error > worst {
                (worst, at) = (error, x);
            }
        }
        println!("exp {isa:?}: error {worst:.3e} at {at:e}");
        assert!(worst <= 2e-7, "{isa:?}: relative error {worst:e} at {at}");
    }
}

#[test]
fn exp_at_the_edges() {
    let mut x = [0f32; 16];
    x[..8].copy_from_slice(&[
        0.0,
        -0.0,
        -87.4,
        -1e30,
        f32::NEG_INFINITY,
        f32::NAN,
        100.0,
        f32::INFINITY,
    ]);
    for isa in Isa::all_available() {
        let y = exp(isa, &x);
        assert_eq!(y[..5], [1.0, 1.0, 0.0, 0.0, 0.0], "{isa:?}");
        assert!(y[5].is_nan(), "{isa:?}: NaN becomes {}", y[5]);
        assert!(y[6..8].iter().all(|&y| y > 2.405e38 && y < 2.407e38), "{isa:?}: {:?}", &y[6..8]);
    }
}

struct Exp2;
impl Lanes for Exp2 {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        x.exp2()
    }
}

#[test]
fn exp2_errs_at_most_2e_7() {
    // Every 499th f32 from 127 down to 0, both signs as far as the powers are normal.
    let mut x: Vec<f32> = (0..127f32.to_bits()).step_by(499).map(f32::from_bits).collect();
    x.extend(x.clone().iter().map(|x| -x).filter(|&x| x >= -126.0));
    for isa in Isa::all_available() {
        let mut worst: f64 = 0.0;
        for (&x, y) in x.iter().zip(map(isa, &x, Exp2)) {
            let exact = f64::from(x).exp2();
            let error = ((f64::from(y) - exact) / exact).abs();
            assert!(error <= 2e-7, "{isa:?}: relative error {error:e} at {x}");
            worst = worst.max(error);
        }
        println!("exp2 {isa:?}: error {worst:.3e}");
        let y = map(isa, &[0.0, -0.0, -127.6, -1e30, f32::NEG_INFINITY, f32::NAN, 200.0], Exp2);
        assert!(y[..2] == [1.0, 1.0] && y[5].is_nan() && y[6] == f32::INFINITY, "{isa:?}: {y:?}");
        // Nothing, or a subnormal.
        assert!(y[2] < 1e-38 && y[3..5] == [0.0, 0.0], "{isa:?}: {y:?}");
    }
}

struct Round;
impl Lanes for Round {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        x.round()
    }
}

struct Pow2;
impl Lanes for Pow2 {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        (x + V::splat(TO_EXPONENT)).low_bits_to_exponent()
    }
}

struct Bounded;
impl Lanes for Bounded {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        V::splat(1.0).min(V::splat(-1.0).max(x))
    }
}

struct Negative;
impl Lanes for Negative {
    #[inline(always)]
    fn of<V: Vector<Scalar = f32>>(&self, x: V) -> V {
        V::splat(1.0).zero_where_lt(x, V::splat(0.0))
    }
}

fn map(isa: Isa, x: &[f32], f: impl Lanes) -> Vec<f32> {
    let mut padded = x.to_vec();
    padded.resize(x.len().next_multiple_of(16), 0.0);
    dispatch_f32(isa, Map(&mut padded, f));
    padded.truncate(x.len());
    padded
}

#[test]
fn lanes_match_scalars() {
    for isa in Isa::all_available() {
        let halves = [0.5, 1.5, 2.5, -0.5, -1.5, 3.49, -3.51, 126.5];
        assert_eq!(map(isa, &halves, Round), halves.map(f32::round_ties_even), "{isa:?}");
        let n: Vec<f32> = (-126..=127).map(|n| n as f32).collect();
        let powers: Vec<f32> = n.iter().map(|&n| f64::from(n).exp2() as f32).collect();
        assert_eq!(map(isa, &n, Pow2), powers, "{isa:?}");
        let bounded = map(isa, &[-3.0, -0.5, 7.0, f32::NAN], Bounded);
        assert!(bounded[..3] == [-1.0, -0.5, 1.0] && bounded[3].is_nan(), "{isa:?}: {bounded:?}");
        assert_eq!(map(isa, &[-3.0, 0.0, 7.0, f32::NAN], Negative), [0.0, 1.0, 1.0, 1.0]);
    }
}

/// (sum, largest) of one vector's lanes, with the lanes themselves.
struct Reduce<'a>(&'a [f32]);

impl Kernel<f32> for Reduce<'_> {
    type Out = (usize, f32, f32);
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Self::Out {
        let x = V::load(self.0);
        (V::LANES, x.sum(), x.max_lane())
    }
}

#[test]
fn sum_and_max_reach_every_lane() {
    for isa in Isa::all_available() {
        for at in 0..16 {
            let mut x: [f32; 16] = std::array::from_fn(|i| (1 << i) as f32);
            x[at] = 1e6;
            let (lanes, sum, max) = dispatch_f32(isa, Reduce(&x));
            let x = &x[..lanes];
            assert_eq!(sum, x.iter().sum::<f32>(), "{isa:?}");
            assert_eq!(max, x.iter().copied().fold(0.0, f32::max), "{isa:?}");
        }
    }
}

/// The sum of each of as many rows as there are lanes.
struct Sums<'a>(&'a [f32], &'a mut [f32]);

impl Kernel<f32> for Sums<'_> {
    type Out = usize;
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> usize {
        V::row_sums(self.0).store(self.1);
        V::LANES
    }
}

#[test]
fn sums_are_of_their_rows() {
    for isa in Isa::all_available() {
        // Whole numbers below 2^24: every order gives the same sum.
        let x: [f32; 256] = std::array::from_fn(|i| ((i * i * 7919) % 10_007) as f32);
        let mut sums = [0.0; 16];
        let lanes = dispatch_f32(isa, Sums(&x, &mut sums));
        for (row, sum) in x.chunks(lanes).zip(&sums[..lanes]) {
            assert_eq!(*sum, row.iter().sum::<f32>(), "{isa:?}");
        }
    }
}

struct ToBf16<'a>(&'a [f32], &'a mut [bf16], &'a mut [f32]);

impl Kernel<f32> for ToBf16<'_> {
    type Out = ();
    /// Rounds to bf16 and widens again.
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        for i in (0..self.0.len()).step_by(V::LANES) {
            V::load(&self.0[i..]).store_bf16(&mut self.1[i..]);
            V::load_bf16(&self.1[i..]).store(&mut self.2[i..]);
        }
    }
}

/// Every upper half of an f32, over lower halves around zero, ties and the ends: all signs,
/// exponents, denormals, infinities and NaN.
#[test]
fn bf16_rounds_to_nearest_even() {
    let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let x: Vec<f32> = (0..1u32 << 16)
        .flat_map(|upper| {
            lower
                .map(|lower| upper << 16 | lower)
                .into_iter()
                .chain([
                    upper << 16 | upper.wrapping_mul(40_503) & 0xffff,
                    upper << 16 | upper.wrapping_mul(60_493) & 0xffff,
                ])
                .collect::<Vec<_>>()
        })
        .map(f32::from_bits)
        .collect();
    for isa in Isa::all_available() {
        let mut rounded = vec![bf16::ZERO; x.len()];
        let mut widened = vec![0f32; x.len()];
        dispatch_f32(isa, ToBf16(&x, &mut rounded, &mut widened));
        for i in 0..x.len() {
            let (from, to) = (x[i].to_bits(), rounded[i].to_bits());
            assert_eq!(to, bf16::from_f32(x[i]).to_bits(), "{isa:?}: {from:#x}");
            assert_eq!(widened[i].to_bits(), u32::from(to) << 16, "{isa:?}: {to:#x}");
        }
    }
}
