//! Lanes in an array, for CPUs without a path of their own and for f64.

use super::Vector;
use super::tile::Tile;
use crate::element::Real;
use std::ops::{Add, Div, Mul, Sub};

/// So many lanes.
#[derive(Clone, Copy)]
pub struct Portable<R, const LANES: usize>([R; LANES]);

impl<R: Real, const LANES: usize> Portable<R, LANES> {
    #[inline(always)]
    fn map(self, f: impl Fn(R) -> R) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(R, R) -> R) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl<R: Real, const LANES: usize> Add for Portable<R, LANES> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, R::add)
    }
}

impl<R: Real, const LANES: usize> Sub for Portable<R, LANES> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, R::sub)
    }
}

impl<R: Real, const LANES: usize> Mul for Portable<R, LANES> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, R::mul)
    }
}

impl<R: Real, const LANES: usize> Div for Portable<R, LANES> {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, R::div)
    }
}

/// What only f32 or only f64 has goes by way of f64: exact, and the compiler takes the way out.
impl<R: Real, const LANES: usize> Vector for Portable<R, LANES> {
    type Scalar = R;
    type Tile = Tile<4, 2, 1>;
    const LANES: usize = LANES;

    #[inline(always)]
    fn splat(x: R) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    fn load(src: &[R]) -> Self {
        Self(std::array::from_fn(|i| src[i]))
    }
    #[inline(always)]
    fn store(self, dst: &mut [R]) {
        dst[..LANES].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // Two roundings: without the instruction, a fused product is a slow call.
        self * b + c
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn zero_where_lt(self, x: Self, limit: Self) -> Self {
        Self(std::array::from_fn(|i| if x.0[i] < limit.0[i] { R::ZERO } else { self.0[i] }))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(R::sqrt)
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.map(|x| R::from_f64(x.to_f64().round_ties_even()))
    }
    #[inline(always)]
    fn low_bits_to_exponent(self) -> Self {
        self.map(|x| R::from_f64(f32::from_bits((x.to_f64() as f32).to_bits() << 23).into()))
    }
    #[inline(always)]
    fn sum(self) -> R {
        self.0.into_iter().sum()
    }
    #[inline(always)]
    fn max_lane(self) -> R {
        self.0.into_iter().fold(R::NEG_INFINITY, |max, x| if x > max { x } else { max })
    }
}
