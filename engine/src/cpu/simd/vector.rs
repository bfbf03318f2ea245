//! What kernels ask of a vector, and of the factors of a product.

use super::{Lines, TileShape};
use crate::element::{Element, Real};
use bytemuck::Pod;
use half::bf16;
use std::ops::{Add, Div, Mul, Sub};

/// Lanes of the widest vector.
pub const MAX_LANES: usize = 16;

/// A register full of lanes. Slices passed to loads and stores must hold `LANES` elements. A set
/// writes what has no body here, and what it can do better than the body does.
pub trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// What a lane holds.
    type Scalar: Real;
    /// Tiles of matrix products.
    type Tile: TileShape;
    /// Lanes; divides [`MAX_LANES`].
    const LANES: usize;
    /// Rows of a matrix-product tile; divides 12.
    const MR: usize = Self::Tile::ROWS;
    /// Columns of a matrix-product tile; divides 32.
    const NR: usize = Self::Tile::VECTORS * Self::LANES;

    /// `x` in every lane.
    fn splat(x: Self::Scalar) -> Self;
    /// The first `LANES` elements of `src`.
    fn load(src: &[Self::Scalar]) -> Self;
    /// Into the first `LANES` elements of `dst`.
    fn store(self, dst: &mut [Self::Scalar]);

    /// As [`Vector::load`], widened.
    #[inline(always)]
    fn load_bf16(src: &[bf16]) -> Self {
        let mut lanes = [Self::Scalar::ZERO; MAX_LANES];
        for i in 0..Self::LANES {
            lanes[i] = Self::Scalar::from_f64(src[i].to_f32().into());
        }
        Self::load(&lanes)
    }
    /// As [`Vector::store`], rounded to nearest even; NaN stays NaN.
    #[inline(always)]
    fn store_bf16(self, dst: &mut [bf16]) {
        let mut lanes = [Self::Scalar::ZERO; MAX_LANES];
        self.store(&mut lanes);
        for i in 0..Self::LANES {
            dst[i] = bf16::from_f32(lanes[i].to_f64() as f32);
        }
    }
    /// Loads what there is of `LANES` elements, zeros behind it.
    #[inline(always)]
    fn load_part(src: &[Self::Scalar]) -> Self {
        let mut lanes = [Self::Scalar::ZERO; MAX_LANES];
        lanes[..src.len()].copy_from_slice(src);
        Self::load(&lanes)
    }
    /// As [`Vector::load_part`], widened.
    #[inline(always)]
    fn load_part_bf16(src: &[bf16]) -> Self {
        let mut lanes = [bf16::ZERO; MAX_LANES];
        lanes[..src.len()].copy_from_slice(src);
        Self::load_bf16(&lanes)
    }
    /// Stores as many of `LANES` elements as fit.
    #[inline(always)]
    fn store_part(self, dst: &mut [Self::Scalar]) {
        let mut lanes = [Self::Scalar::ZERO; MAX_LANES];
        self.store(&mut lanes);
        dst.copy_from_slice(&lanes[..dst.len()]);
    }
    /// As [`Vector::store_part`], rounded.
    #[inline(always)]
    fn store_part_bf16(self, dst: &mut [bf16]) {
        let mut lanes = [bf16::ZERO; MAX_LANES];
        self.store_bf16(&mut lanes);
        dst.copy_from_slice(&lanes[..dst.len()]);
    }

    /// self * b + c; rounded once where the set has fused multiply-add.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger of two; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    /// Zero in the lanes where `x < limit`.
    fn zero_where_lt(self, x: Self, limit: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The nearest whole number, ties to even.
    fn round(self) -> Self;
    /// The bits of f32 lanes, shifted from the significand's low end to the exponent.
    fn low_bits_to_exponent(self) -> Self;
    /// e^self; relative error at most 2e-7 in f32.
    #[inline(always)]
    fn exp(self) -> Self {
        Self::Scalar::exp_of(self)
    }
    /// 2^self; 0, or subnormal where the set has it, below -126.5.
    #[inline(always)]
    fn exp2(self) -> Self {
        Self::Scalar::exp2_of(self)
    }

    /// Sum of the lanes, in an order that the set fixes.
    fn sum(self) -> Self::Scalar;
    /// The largest lane.
    fn max_lane(self) -> Self::Scalar;
    /// In lane i the sum of row i, of `LANES` rows of `LANES`.
    #[inline(always)]
    fn row_sums(rows: &[Self::Scalar]) -> Self {
        let mut sums = [Self::Scalar::ZERO; MAX_LANES];
        for i in 0..Self::LANES {
            sums[i] = Self::load(&rows[i * Self::LANES..]).sum();
        }
        Self::load(&sums)
    }
    /// dst[j * to + i] = src[i * from + j] for `LANES` rows and columns.
    #[inline(always)]
    fn transpose(dst: &mut [Self::Scalar], to: usize, src: &[Self::Scalar], from: usize) {
        for j in 0..Self::LANES {
            for i in 0..Self::LANES {
                dst[j * to + i] = src[i * from + j];
            }
        }
    }

    /// Tiles of P products at once, of MR rows in all: sums over `k` items of `a[p]` times the
    /// panel `b[p]`, onto `start(p, row, vector)`. Each row's sums go to `put(row, sums)`, NR
    /// columns, or with `half` the first `LANES` of them.
    #[inline(always)]
    fn sums<F: Factors<Self>, const P: usize>(
        a: [Lines<'_, F::Item>; P],
        b: [&[F::Item]; P],
        k: usize,
        half: bool,
        start: impl Fn(usize, usize, usize) -> Self,
        put: impl FnMut(usize, [&[Self]; P]),
    ) {
        Self::Tile::sums::<Self, F, P>(a, b, k, half, start, put)
    }
}

/// A register of factors of a product whose sums are in the lanes of `V`: `V` itself, one k in a
/// lane, or pairs of bf16, two. The two products of a pair are added to the sum one after the other;
/// subnormal factors of pairs count as zero.
pub trait Factors<V: Vector>: Copy {
    /// What a lane holds.
    type Item: Pod;
    /// Values of k in an item.
    const K: usize;
    /// `x` in every lane.
    fn splat_item(x: Self::Item) -> Self;
    /// The first `LANES` items of `src`.
    fn load_items(src: &[Self::Item]) -> Self;
    /// Into the first `LANES` items of `dst`.
    fn store_items(self, dst: &mut [Self::Item]);
    /// dst[j * to + i] = src[i * from + j] for `LANES` rows and columns.
    fn transpose_items(dst: &mut [Self::Item], to: usize, src: &[Self::Item], from: usize);
    /// Rows of whole items, without a copy, where they can be read as such.
    fn in_place<E: Element<Acc = V::Scalar>>(rows: &[E]) -> Option<&[Self::Item]>;
    /// The items of the first `LANES * K` values of a row.
    fn of_row<E: Element<Acc = V::Scalar>>(row: &[E]) -> Self;
    /// The items of `LANES` columns of K rows; an item of one value leaves `second` alone.
    fn of_columns<E: Element<Acc = V::Scalar>>(first: &[E], second: &[E]) -> Self;
    /// Stores the items of one or two vectors of neighbouring values of a row, rounded to nearest
    /// even; zeros behind them where they do not fill a vector of items.
    fn store_row(values: &[V], dst: &mut [Self::Item]);
    /// Stores the items of `LANES` columns of two rows, rounded to nearest even: one row of items
    /// where an item holds both, else two, `stride` apart.
    fn store_columns(rows: [V; 2], dst: &mut [Self::Item], stride: usize);
    /// self * b + c, over every k in a lane.
    fn mul_add(self, b: Self, c: V) -> V;
    /// Stores sums, rounded to nearest even.
    fn store_sums<E: Element<Acc = V::Scalar>>(sums: V, dst: &mut [E]);
}

impl<V: Vector> Factors<V> for V {
    type Item = V::Scalar;
    const K: usize = 1;
    #[inline(always)]
    fn splat_item(x: V::Scalar) -> Self {
        V::splat(x)
    }
    #[inline(always)]
    fn load_items(src: &[V::Scalar]) -> Self {
        V::load(src)
    }
    #[inline(always)]
    fn store_items(self, dst: &mut [V::Scalar]) {
        self.store(dst)
    }
    #[inline(always)]
    fn transpose_items(dst: &mut [V::Scalar], to: usize, src: &[V::Scalar], from: usize) {
        V::transpose(dst, to, src, from)
    }
    #[inline(always)]
    fn in_place<E: Element<Acc = V::Scalar>>(rows: &[E]) -> Option<&[V::Scalar]> {
        E::as_acc(rows)
    }
    #[inline(always)]
    fn of_row<E: Element<Acc = V::Scalar>>(row: &[E]) -> Self {
        E::load(row)
    }
    #[inline(always)]
    fn of_columns<E: Element<Acc = V::Scalar>>(first: &[E], _: &[E]) -> Self {
        E::load(first)
    }
    #[inline(always)]
    fn store_row(values: &[V], dst: &mut [V::Scalar]) {
        for (values, dst) in values.iter().zip(dst.chunks_exact_mut(V::LANES)) {
            values.store(dst);
        }
    }
    #[inline(always)]
    fn store_columns([first, second]: [V; 2], dst: &mut [V::Scalar], stride: usize) {
        first.store(dst);
        second.store(&mut dst[stride..]);
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: V) -> V {
        Vector::mul_add(self, b, c)
    }
    #[inline(always)]
    fn store_sums<E: Element<Acc = V::Scalar>>(sums: V, dst: &mut [E]) {
        E::store(sums, dst)
    }
}

/// The four operators of a set's register, by its instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operators {
    ($t:ty, $($trait:ident $method:ident $call:path),*) => {$(
        impl std::ops::$trait for $t {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: values of this type are only made inside of kernels that run after the
                // CPU was seen to have the instructions.
                #[allow(unused_unsafe, reason = "NEON is part of aarch64")]
                Self(unsafe { $call(self.0, other.0) })
            }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use operators;
