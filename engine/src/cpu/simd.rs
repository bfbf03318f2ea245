//! Vectors of one width per instruction set, and the choice between sets at run time.
//!
//! Kernels are written once, generic in [`Vector`], and compiled once per instruction set by
//! [`dispatch_f32`]. Everything between there and the instruction must inline, hence
//! `#[inline(always)]` throughout. Results are the same for any number of threads on one set;
//! two sets may differ in the last bits, because their sums have different lane counts.
#![allow(missing_docs)] // the methods of Vector are the operations they are named after

use crate::element::{Element, Real};
use crate::error::Error;
use bytemuck::{Pod, Zeroable};
use half::bf16;

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with the dot product of bf16 pairs (VDPBF16PS).
    Avx512Bf16,
    /// AVX-512 with its BW and VL parts: every CPU since Skylake-X.
    Avx512,
    Avx2,
    Neon,
    Portable,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Whether this CPU can run it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Isa::Avx512.available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            Isa::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Every set that this CPU can run, best first.
    pub fn all_available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    /// The best set of this CPU, or the one that `HANDGRAD_ISA` names.
    ///
    /// # Errors
    /// If the variable names an unknown set, or one that this CPU lacks.
    pub fn choose() -> Result<Isa, Error> {
        let choices = || Isa::all_available().map(Isa::name).collect::<Vec<_>>().join(", ");
        match std::env::var("HANDGRAD_ISA") {
            Err(_) => Ok(Isa::all_available().next().unwrap_or(Isa::Portable)),
            Ok(wanted) => Isa::all_available().find(|isa| isa.name() == wanted).ok_or_else(|| {
                let choices = choices();
                Error::Config(format!("HANDGRAD_ISA={wanted}: this CPU offers {choices}"))
            }),
        }
    }

    /// Whether it has dot products of bf16 pairs: [`dispatch_dots`] may be called.
    pub fn dots(self) -> bool {
        self == Isa::Avx512Bf16
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }
}

/// Work that is compiled once per instruction set. Mark `run` `#[inline(always)]`.
pub trait Kernel<R: Real> {
    type Out;
    fn run<V: Vector<Scalar = R>>(self) -> Self::Out;
}

/// Work on pairs of bf16, compiled for the sets that have dot products of them.
pub trait DotKernel<R: Real> {
    type Out;
    fn run<V: Dots<Scalar = R>>(self) -> Self::Out;
}

/// Work on items of factors, compiled for items of one value of k, and for pairs where a set has dot
/// products of them. Mark `run` `#[inline(always)]`.
pub trait ItemKernel<R: Real> {
    fn run<V: Vector<Scalar = R>, F: Factors<V>>(self);
}

/// An [`ItemKernel`] on either kind of items.
struct OnItems<K>(K);

impl<R: Real, K: ItemKernel<R>> Kernel<R> for OnItems<K> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = R>>(self) {
        self.0.run::<V, V>()
    }
}

impl<R: Real, K: ItemKernel<R>> DotKernel<R> for OnItems<K> {
    type Out = ();
    #[inline(always)]
    fn run<V: Dots<Scalar = R>>(self) {
        self.0.run::<V, V::Pairs>()
    }
}

/// Two neighbouring bf16 in one lane of 32 bits, the first in the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Pair(u32);

impl Pair {
    #[inline(always)]
    pub fn new(first: bf16, second: bf16) -> Self {
        Pair(u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16)
    }
}

/// A register of factors of a product whose sums are in the lanes of `V`: `V` itself, one k in a
/// lane, or pairs of bf16, two.
pub trait Factors<V: Vector>: Copy {
    type Item: Pod;
    /// Values of k in an item.
    const K: usize;
    fn splat(x: Self::Item) -> Self;
    fn load(src: &[Self::Item]) -> Self;
    fn store_items(self, dst: &mut [Self::Item]);
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
    /// dst[j * to + i] = src[i * from + j] for `LANES` rows and columns.
    fn transpose(dst: &mut [Self::Item], to: usize, src: &[Self::Item], from: usize);
    /// self * b + c, over every k in a lane.
    fn mul_add(self, b: Self, c: V) -> V;
    /// Stores sums, rounded to nearest even.
    fn store<E: Element<Acc = V::Scalar>>(sums: V, dst: &mut [E]);
}

impl<V: Vector> Factors<V> for V {
    type Item = V::Scalar;
    const K: usize = 1;
    #[inline(always)]
    fn splat(x: V::Scalar) -> Self {
        V::splat(x)
    }
    #[inline(always)]
    fn load(src: &[V::Scalar]) -> Self {
        V::load(src)
    }
    #[inline(always)]
    fn store_items(self, dst: &mut [V::Scalar]) {
        V::store(self, dst)
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
            V::store(*values, dst);
        }
    }
    #[inline(always)]
    fn store_columns([first, second]: [V; 2], dst: &mut [V::Scalar], stride: usize) {
        V::store(first, dst);
        V::store(second, &mut dst[stride..]);
    }
    #[inline(always)]
    fn transpose(dst: &mut [V::Scalar], to: usize, src: &[V::Scalar], from: usize) {
        V::transpose(dst, to, src, from)
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: V) -> V {
        V::mul_add(self, b, c)
    }
    #[inline(always)]
    fn store<E: Element<Acc = V::Scalar>>(sums: V, dst: &mut [E]) {
        E::store(sums, dst)
    }
}

/// A vector whose set has dot products of bf16 pairs. The two products of a pair are added to the
/// sum one after the other; subnormal factors count as zero.
pub trait Dots: Vector {
    type Pairs: Factors<Self, Item = Pair>;
}

/// A register full of lanes. Slices passed to loads and stores must hold `LANES` elements.
pub trait Vector:
    Copy
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    type Scalar: Real;
    const LANES: usize;
    /// Rows of a matrix-product tile; divides 12.
    const MR: usize;
    /// Columns of a matrix-product tile; divides 32.
    const NR: usize;

    fn splat(x: Self::Scalar) -> Self;
    fn load(src: &[Self::Scalar]) -> Self;
    fn store(self, dst: &mut [Self::Scalar]);
    fn load_bf16(src: &[bf16]) -> Self;
    fn store_bf16(self, dst: &mut [bf16]);
    /// Loads what there is of `LANES` elements, zeros behind it.
    #[inline(always)]
    fn load_part(src: &[Self::Scalar]) -> Self {
        let mut lanes = [Self::Scalar::ZERO; MAX_LANES];
        lanes[..src.len()].copy_from_slice(src);
        Self::load(&lanes)
    }
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
    fn sqrt(self) -> Self;
    fn round(self) -> Self;
    /// 2^self for whole numbers from -126 to 127.
    fn pow2(self) -> Self;
    /// The bits of f32 lanes, shifted from the significand's low end to the exponent.
    fn low_bits_to_exponent(self) -> Self;
    fn exp(self) -> Self;
    /// 2^self; 0, or subnormal where the set has it, below -126.5.
    fn exp2(self) -> Self;
    /// Sum of the lanes, in an order that the set fixes.
    fn sum(self) -> Self::Scalar;
    /// In lane i the sum of row i, of `LANES` rows of `LANES`.
    #[inline(always)]
    fn row_sums(rows: &[Self::Scalar]) -> Self {
        let mut sums = [Self::Scalar::ZERO; MAX_LANES];
        for i in 0..Self::LANES {
            sums[i] = Self::load(&rows[i * Self::LANES..]).sum();
        }
        Self::load(&sums)
    }
    fn max_lane(self) -> Self::Scalar;
    /// Tiles of P products at once, of MR rows in all: sums over `k` items of `a[p]` times the
    /// panel `b[p]`, onto `start(p, row, vector)`. Each row's sums go to `put(row, sums)`, NR
    /// columns, or with `half` the first `LANES` of them.
    fn sums<F: Factors<Self>, const P: usize>(
        a: [Lines<'_, F::Item>; P],
        b: [&[F::Item]; P],
        k: usize,
        half: bool,
        start: impl Fn(usize, usize, usize) -> Self,
        put: impl FnMut(usize, [&[Self]; P]),
    );
    /// dst[j * to + i] = src[i * from + j] for `LANES` rows and columns.
    #[inline(always)]
    fn transpose(dst: &mut [Self::Scalar], to: usize, src: &[Self::Scalar], from: usize) {
        for j in 0..Self::LANES {
            for i in 0..Self::LANES {
                dst[j * to + i] = src[i * from + j];
            }
        }
    }
}

/// Whole rows of a left factor: element (i, k) is `data[i * row + k * col]`.
#[derive(Clone, Copy)]
pub struct Lines<'a, I> {
    pub data: &'a [I],
    pub row: usize,
    pub col: usize,
}

/// See [`Vector::sums`]: M rows and N vectors of columns of each product, from panels W vectors
/// wide.
#[inline(always)]
fn sums<
    V: Vector,
    F: Factors<V>,
    const P: usize,
    const M: usize,
    const N: usize,
    const W: usize,
>(
    a: [Lines<'_, F::Item>; P],
    b: [&[F::Item]; P],
    K: usize,
    start: impl Fn(usize, usize, usize) -> V,
    mut put: impl FnMut(usize, [&[V]; P]),
) {
    const { assert!(N <= W) };
    let mut acc = [[[V::splat(V::Scalar::ZERO); N]; M]; P];
    for p in 0..P {
        let Lines { data, row, col } = a[p];
        assert!(K > 0 && (M - 1) * row + (K - 1) * col < data.len());
        assert!(K * W * V::LANES <= b[p].len());
        for i in 0..M {
            for j in 0..N {
                acc[p][i][j] = start(p, i, j);
            }
        }
    }
    for k in 0..K {
        for p in 0..P {
            // SAFETY: (k + 1) * W * LANES <= K * W * LANES <= b[p].len(), asserted above.
            let b_k = unsafe { b[p].get_unchecked(k * W * V::LANES..(k + 1) * W * V::LANES) };
            let mut factors = [F::load(b_k); N];
            for j in 1..N {
                factors[j] = F::load(&b_k[j * V::LANES..]);
            }
            let Lines { data, row, col } = a[p];
            for i in 0..M {
                // SAFETY: i * row + k * col <= (M - 1) * row + (K - 1) * col < data.len(), asserted
                // above.
                let a_ik = F::splat(unsafe { *data.get_unchecked(i * row + k * col) });
                for j in 0..N {
                    acc[p][i][j] = a_ik.mul_add(factors[j], acc[p][i][j]);
                }
            }
        }
    }
    // Not a loop: one with as long a body stays a loop, and then sums do not stay in registers.
    const { assert!(M <= 12) };
    macro_rules! put_rows {
        ($($i:literal)*) => {$(
            if $i < M {
                put($i, row(&acc, $i));
            }
        )*};
    }
    put_rows!(0 1 2 3 4 5 6 7 8 9 10 11);
}

#[inline(always)]
fn row<V, const P: usize, const M: usize, const N: usize>(
    sums: &[[[V; N]; M]; P],
    i: usize,
) -> [&[V]; P] {
    let mut row = [&sums[0][i][..]; P];
    for p in 1..P {
        row[p] = &sums[p][i];
    }
    row
}

/// e^x in f32: x = n*ln2 + r, a degree-6 polynomial in r, scaled by 2^n. Relative error at most
/// 2e-7 (tested). 0 below -87.33, 2.406e38 above 88.37; NaN stays NaN.
#[inline(always)]
fn exp_f32<V: Vector<Scalar = f32>>(x: V) -> V {
    const LOWEST: f32 = -87.336_54;
    let c = V::splat;
    let bounded = c(88.376_26).min(c(LOWEST).max(x));
    let n = (bounded * c(std::f32::consts::LOG2_E)).round();
    // ln2 in two parts, the first with few bits, so that n * HI is exact.
    let r = n.mul_add(c(-0.693_359_4), bounded);
    let r = n.mul_add(c(2.121_944_4e-4), r);
    // The polynomial with the least relative error for |r| <= ln2/2, 3.7e-9, among those that
    // start with 1 + r. Taylor's errs by 1.7e-7 there, twice as much as all roundings.
    let mut p = c(0.001_381_458_4);
    for k in [0.008_368_724, 0.041_668_39, 0.166_665_21, 0.499_999_94, 1.0, 1.0] {
        p = p.mul_add(r, c(k));
    }
    (p * n.pow2()).zero_where_lt(x, c(LOWEST))
}

/// 2^x in f32: x = n + f with n whole, a degree-5 polynomial in f, scaled by 2^n. Relative error
/// at most 2e-7 (tested). 0 below -126.5, infinity above 127.5; NaN stays NaN.
#[inline(always)]
fn exp2_f32<V: Vector<Scalar = f32>>(x: V) -> V {
    let c = V::splat;
    // Added to x, it leaves no bits below one: the sum's low bits are n + 127, the exponent of
    // 2^n (0 and 255 for n = -127 and 128: zero and infinity).
    let whole = c(12_582_912.0 + 127.0); // 1.5 * 2^23 + 127
    let bounded = c(128.0).min(c(-127.0).max(x));
    let shifted = bounded + whole;
    exp2_near_zero(bounded - (shifted - whole)) * shifted.low_bits_to_exponent()
}

/// 2^x for |x| <= 1/2: the polynomial with the least relative error, 9.2e-8, among those of its
/// degree that start with 1.
#[inline(always)]
fn exp2_near_zero<V: Vector<Scalar = f32>>(x: V) -> V {
    let c = V::splat;
    let mut p = c(0.001_326_472_7);
    #[expect(clippy::approx_constant, reason = "near ln 2, but the fit's own coefficient")]
    for k in [0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0] {
        p = p.mul_add(x, c(k));
    }
    p
}

/// [`Vector::sums`] of tiles of `$m` rows, or two of `$half`, and `$n` vectors of columns.
macro_rules! tiles {
    ($m:literal, $half:literal, $n:literal) => {
        #[inline(always)]
        fn sums<F: Factors<Self>, const P: usize>(
            a: [Lines<'_, F::Item>; P],
            b: [&[F::Item]; P],
            k: usize,
            half: bool,
            start: impl Fn(usize, usize, usize) -> Self,
            put: impl FnMut(usize, [&[Self]; P]),
        ) {
            const { assert!(P == 1 || P == 2) }
            match (P, half) {
                (1, false) => sums::<Self, F, P, $m, $n, $n>(a, b, k, start, put),
                (1, true) => sums::<Self, F, P, $m, 1, $n>(a, b, k, start, put),
                (_, false) => sums::<Self, F, P, $half, $n, $n>(a, b, k, start, put),
                (_, true) => sums::<Self, F, P, $half, 1, $n>(a, b, k, start, put),
            }
        }
    };
}

macro_rules! operators {
    ($t:ty, $($trait:ident $method:ident $call:path),*) => {$(
        impl std::ops::$trait for $t {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: values of this type are only made inside dispatch, which has checked
                // that the CPU has the instructions.
                #[allow(unused_unsafe)]
                Self(unsafe { $call(self.0, other.0) })
            }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use half::bf16;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);
    operators!(Avx2, Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps,
        Div div _mm256_div_ps);

    /// Values of these types are only made inside `dispatch_f32`, after the CPU's features were
    /// checked: that makes the intrinsics callable. Loads and stores assert their lengths.
    impl Vector for Avx2 {
        type Scalar = f32;
        const LANES: usize = 8;
        const MR: usize = 6;
        const NR: usize = 16;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_set1_ps(x) })
        }
        #[inline(always)]
        fn load(src: &[f32]) -> Self {
            assert!(src.len() >= 8);
            // SAFETY: AVX2 was detected; eight elements are readable.
            Self(unsafe { _mm256_loadu_ps(src.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, dst: &mut [f32]) {
            assert!(dst.len() >= 8);
            // SAFETY: AVX2 was detected; eight elements are writable.
            unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn load_bf16(src: &[bf16]) -> Self {
            assert!(src.len() >= 8);
            // SAFETY: AVX2 was detected; eight 2-byte elements are readable.
            Self(unsafe {
                let half = _mm_loadu_si128(src.as_ptr().cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
            })
        }
        #[inline(always)]
        fn store_bf16(self, dst: &mut [bf16]) {
            assert!(dst.len() >= 8);
            // SAFETY: AVX2 was detected; eight 2-byte elements are writable. Rounds to nearest
            // even by adding 0x7fff plus the lowest kept bit; NaN is made quiet instead.
            unsafe {
                let bits = _mm256_castps_si256(self.0);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
                let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
                let all =
                    _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan);
                let high = _mm256_srli_epi32::<16>(_mm256_castps_si256(all));
                let packed = _mm256_packus_epi32(high, high);
                let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
                _mm_storeu_si128(dst.as_mut_ptr().cast(), _mm256_castsi256_si128(packed));
            }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: FMA was detected.
            Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn zero_where_lt(self, x: Self, limit: Self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0, limit.0), self.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: AVX2 was detected.
            Self(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
        }
        #[inline(always)]
        fn pow2(self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe {
                let n = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
            })
        }
        #[inline(always)]
        fn low_bits_to_exponent(self) -> Self {
            // SAFETY: AVX2 was detected.
            Self(unsafe {
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0)))
            })
        }
        #[inline(always)]
        fn exp(self) -> Self {
            exp_f32(self)
        }
        #[inline(always)]
        fn exp2(self) -> Self {
            exp2_f32(self)
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: AVX2 was detected.
            unsafe {
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        fn max_lane(self) -> f32 {
            // SAFETY: AVX2 was detected.
            unsafe {
                let four =
                    _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }
        tiles!(6, 3, 2);
    }

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);
    operators!(Avx512, Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps,
        Div div _mm512_div_ps);

    /// The mask of the first `lanes` of sixteen.
    #[inline(always)]
    fn first(lanes: usize) -> u16 {
        !(u32::MAX << lanes.min(16)) as u16
    }

    impl Avx512 {
        /// As bf16, rounded to nearest even as the AVX2 path does.
        #[inline(always)]
        fn rounded(self) -> __m256i {
            // SAFETY: AVX-512F was detected.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let all = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x40_0000));
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(all))
            }
        }
    }

    impl Vector for Avx512 {
        type Scalar = f32;
        const LANES: usize = 16;
        const MR: usize = 12;
        const NR: usize = 32;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        fn load(src: &[f32]) -> Self {
            assert!(src.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen elements are readable.
            Self(unsafe { _mm512_loadu_ps(src.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, dst: &mut [f32]) {
            assert!(dst.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen elements are writable.
            unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn load_bf16(src: &[bf16]) -> Self {
            assert!(src.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen 2-byte elements are readable.
            Self(unsafe {
                let half = _mm256_loadu_si256(src.as_ptr().cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
            })
        }
        #[inline(always)]
        fn store_bf16(self, dst: &mut [bf16]) {
            assert!(dst.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen 2-byte elements are writable.
            unsafe { _mm256_storeu_si256(dst.as_mut_ptr().cast(), self.rounded()) }
        }
        #[inline(always)]
        fn load_part(src: &[f32]) -> Self {
            // SAFETY: AVX-512F was detected; the mask admits no more than there are.
            Self(unsafe { _mm512_maskz_loadu_ps(first(src.len()), src.as_ptr()) })
        }
        #[inline(always)]
        fn load_part_bf16(src: &[bf16]) -> Self {
            // SAFETY: AVX512BW and AVX512VL were detected; the mask admits no more than there are.
            Self(unsafe {
                let half = _mm256_maskz_loadu_epi16(first(src.len()), src.as_ptr().cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
            })
        }
        #[inline(always)]
        fn store_part(self, dst: &mut [f32]) {
            // SAFETY: AVX-512F was detected; the mask admits no more than there are.
            unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), first(dst.len()), self.0) }
        }
        #[inline(always)]
        fn store_part_bf16(self, dst: &mut [bf16]) {
            // SAFETY: AVX512BW and AVX512VL were detected; the mask admits no more than there are.
            unsafe {
                let dst_ptr = dst.as_mut_ptr().cast();
                _mm256_mask_storeu_epi16(dst_ptr, first(dst.len()), self.rounded());
            }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn zero_where_lt(self, x: Self, limit: Self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe {
                let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x.0, limit.0);
                _mm512_maskz_mov_ps(!less, self.0)
            })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
        }
        #[inline(always)]
        fn pow2(self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe {
                let n = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
            })
        }
        #[inline(always)]
        fn low_bits_to_exponent(self) -> Self {
            // SAFETY: AVX-512F was detected.
            Self(unsafe {
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0)))
            })
        }
        #[inline(always)]
        fn exp(self) -> Self {
            exp_f32(self)
        }
        /// As [`exp2_f32`], scaled by an instruction that saturates: nothing but the polynomial
        /// is left for the multipliers, which products keep busy.
        #[inline(always)]
        fn exp2(self) -> Self {
            let c = <Self as Vector>::splat;
            let bounded = c(-200.0).max(self);
            let n = Vector::round(bounded);
            // SAFETY: AVX-512F was detected.
            Self(unsafe { _mm512_scalef_ps(exp2_near_zero(bounded - n).0, n.0) })
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: AVX-512F was detected.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
        #[inline(always)]
        fn row_sums(rows: &[f32]) -> Self {
            let mut a = [<Self as Vector>::splat(0.0).0; 16];
            for i in 0..16 {
                a[i] = <Self as Vector>::load(&rows[i * 16..]).0;
            }
            // SAFETY: AVX-512F was detected. Each of the four steps adds the halves of two rows, so
            // that one register is left of both: neighbours in a quarter first, then quarters.
            unsafe {
                for i in 0..8 {
                    let low = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                    let high = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
                    a[i] = _mm512_add_ps(low, high);
                }
                for i in 0..4 {
                    let [x, y] = [a[2 * i], a[2 * i + 1]].map(|a| _mm512_castps_pd(a));
                    let low = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                    let high = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                    a[i] = _mm512_add_ps(low, high);
                }
                for n in [2, 1] {
                    for i in 0..n {
                        let low = _mm512_shuffle_f32x4::<0x88>(a[2 * i], a[2 * i + 1]);
                        let high = _mm512_shuffle_f32x4::<0xdd>(a[2 * i], a[2 * i + 1]);
                        a[i] = _mm512_add_ps(low, high);
                    }
                }
                Self(a[0])
            }
        }
        #[inline(always)]
        fn max_lane(self) -> f32 {
            // SAFETY: AVX-512F was detected.
            unsafe { _mm512_reduce_max_ps(self.0) }
        }
        tiles!(12, 6, 2);
        #[inline(always)]
        fn transpose(dst: &mut [f32], to: usize, src: &[f32], from: usize) {
            let mut rows = [<Self as Vector>::splat(0.0).0; 16];
            for i in 0..16 {
                rows[i] = <Self as Vector>::load(&src[i * from..]).0;
            }
            // SAFETY: AVX-512F was detected. Each of the four steps swaps one bit of the row number
            // with one of the column number: two within quarters of a register, two of quarters.
            let columns = unsafe {
                let mut a = rows;
                for i in (0..16).step_by(2) {
                    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
                }
                let mut b = a;
                for i in (0..16).step_by(4) {
                    for j in 0..2 {
                        let low = _mm512_castps_pd(a[i + j]);
                        let high = _mm512_castps_pd(a[i + j + 2]);
                        b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                        b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
                    }
                }
                for i in 0..4 {
                    let low = _mm512_shuffle_f32x4::<0x88>(b[i], b[i + 4]);
                    let high = _mm512_shuffle_f32x4::<0xdd>(b[i], b[i + 4]);
                    let low2 = _mm512_shuffle_f32x4::<0x88>(b[i + 8], b[i + 12]);
                    let high2 = _mm512_shuffle_f32x4::<0xdd>(b[i + 8], b[i + 12]);
                    a[i] = _mm512_shuffle_f32x4::<0x88>(low, low2);
                    a[i + 8] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
                    a[i + 4] = _mm512_shuffle_f32x4::<0x88>(high, high2);
                    a[i + 12] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
                }
                a
            };
            for j in 0..16 {
                Self(columns[j]).store(&mut dst[j * to..]);
            }
        }
    }

    /// Thirty-two bf16, two in each lane of 32 bits.
    #[derive(Clone, Copy)]
    pub struct Pairs512(__m512bh);

    impl Factors<Avx512> for Pairs512 {
        type Item = Pair;
        const K: usize = 2;
        #[inline(always)]
        fn splat(x: Pair) -> Self {
            // SAFETY: AVX-512F was detected; any bits are a register of bf16.
            Self(unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.0 as i32)) })
        }
        #[inline(always)]
        fn load(src: &[Pair]) -> Self {
            assert!(src.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen pairs are readable.
            Self(unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(src.as_ptr().cast())) })
        }
        #[inline(always)]
        fn store_items(self, dst: &mut [Pair]) {
            assert!(dst.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen pairs are writable.
            unsafe {
                let bits = transmute::<__m512bh, __m512i>(self.0);
                _mm512_storeu_si512(dst.as_mut_ptr().cast(), bits);
            }
        }
        #[inline(always)]
        fn in_place<E: Element<Acc = f32>>(rows: &[E]) -> Option<&[Pair]> {
            bytemuck::try_cast_slice(E::as_bf16(rows)?).ok()
        }
        #[inline(always)]
        fn of_row<E: Element<Acc = f32>>(row: &[E]) -> Self {
            let row = E::as_bf16(row).expect("pairs are made of bf16");
            assert!(row.len() >= 32);
            // SAFETY: AVX-512F was detected; 32 2-byte elements are readable.
            Self(unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(row.as_ptr().cast())) })
        }
        #[inline(always)]
        fn of_columns<E: Element<Acc = f32>>(first: &[E], second: &[E]) -> Self {
            let [first, second] =
                [first, second].map(|row| E::as_bf16(row).expect("pairs are made of bf16"));
            assert!(first.len() >= 16 && second.len() >= 16);
            // SAFETY: AVX-512F was detected; sixteen 2-byte elements of each are readable.
            Self(unsafe {
                let first = _mm256_loadu_si256(first.as_ptr().cast());
                let second = _mm256_loadu_si256(second.as_ptr().cast());
                let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(second));
                let pairs = _mm512_or_si512(_mm512_cvtepu16_epi32(first), second);
                transmute::<__m512i, __m512bh>(pairs)
            })
        }
        #[inline(always)]
        fn store_row(values: &[Avx512], dst: &mut [Pair]) {
            let first = values[0];
            let second = if values.len() > 1 { values[1] } else { Vector::splat(0.0) };
            // SAFETY: AVX512-BF16 was detected.
            Self(unsafe { _mm512_cvtne2ps_pbh(second.0, first.0) }).store_items(dst)
        }
        #[inline(always)]
        fn store_columns([first, second]: [Avx512; 2], dst: &mut [Pair], _: usize) {
            // SAFETY: AVX512-BF16 and AVX512BW were detected. The first row's values are the low
            // half of the register; the permutation deals them out, 16 bits from each half in turn.
            Self(unsafe {
                let halves = _mm512_cvtne2ps_pbh(second.0, first.0);
                let lanes = _mm512_set_epi32(
                    0x1f_000f, 0x1e_000e, 0x1d_000d, 0x1c_000c, 0x1b_000b, 0x1a_000a, 0x19_0009,
                    0x18_0008, 0x17_0007, 0x16_0006, 0x15_0005, 0x14_0004, 0x13_0003, 0x12_0002,
                    0x11_0001, 0x10_0000,
                );
                let halves = transmute::<__m512bh, __m512i>(halves);
                transmute::<__m512i, __m512bh>(_mm512_permutexvar_epi16(lanes, halves))
            })
            .store_items(dst)
        }
        #[inline(always)]
        fn transpose(dst: &mut [Pair], to: usize, src: &[Pair], from: usize) {
            let (dst, src) = (bytemuck::cast_slice_mut(dst), bytemuck::cast_slice(src));
            <Avx512 as Vector>::transpose(dst, to, src, from)
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Avx512) -> Avx512 {
            // SAFETY: AVX512-BF16 was detected.
            Avx512(unsafe { _mm512_dpbf16_ps(c.0, self.0, b.0) })
        }
        #[inline(always)]
        fn store<E: Element<Acc = f32>>(sums: Avx512, dst: &mut [E]) {
            let Some(dst) = E::as_bf16_mut(dst) else { return E::store(sums, dst) };
            assert!(dst.len() >= 16);
            // SAFETY: AVX512-BF16 was detected; sixteen 2-byte elements are writable.
            unsafe {
                let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums.0));
                _mm256_storeu_si256(dst.as_mut_ptr().cast(), rounded);
            }
        }
    }

    /// Pairs are made only inside `dispatch_dots`, after the feature was checked.
    impl Dots for Avx512 {
        type Pairs = Pairs512;
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn run_avx2<K: Kernel<f32>>(kernel: K) -> K::Out {
        kernel.run::<Avx2>()
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
    pub fn run_avx512<K: Kernel<f32>>(kernel: K) -> K::Out {
        kernel.run::<Avx512>()
    }

    #[target_feature(enable = "avx512f,avx512bf16,avx512bw,avx512vl,avx2,fma")]
    pub fn run_dots<K: DotKernel<f32>>(kernel: K) -> K::Out {
        kernel.run::<Avx512>()
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;
    use half::bf16;
    use std::arch::aarch64::*;

    #[derive(Clone, Copy)]
    pub struct Neon(float32x4_t);
    operators!(Neon, Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);

    /// NEON is part of every aarch64 CPU. Loads and stores assert their lengths.
    impl Vector for Neon {
        type Scalar = f32;
        const LANES: usize = 4;
        const MR: usize = 12;
        const NR: usize = 8;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vdupq_n_f32(x) })
        }
        #[inline(always)]
        fn load(src: &[f32]) -> Self {
            assert!(src.len() >= 4);
            // SAFETY: four elements are readable.
            Self(unsafe { vld1q_f32(src.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, dst: &mut [f32]) {
            assert!(dst.len() >= 4);
            // SAFETY: four elements are writable.
            unsafe { vst1q_f32(dst.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn load_bf16(src: &[bf16]) -> Self {
            Self::load(&std::array::from_fn::<f32, 4, _>(|i| src[i].to_f32()))
        }
        #[inline(always)]
        fn store_bf16(self, dst: &mut [bf16]) {
            let mut lanes = [0.0; 4];
            self.store(&mut lanes);
            for i in 0..4 {
                dst[i] = bf16::from_f32(lanes[i]);
            }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vfmaq_f32(c.0, self.0, b.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
        }
        #[inline(always)]
        fn zero_where_lt(self, x: Self, limit: Self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vbslq_f32(vcltq_f32(x.0, limit.0), vdupq_n_f32(0.0), self.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vsqrtq_f32(self.0) })
        }
        #[inline(always)]
        fn round(self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vrndnq_f32(self.0) })
        }
        #[inline(always)]
        fn pow2(self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe {
                let n = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
            })
        }
        #[inline(always)]
        fn low_bits_to_exponent(self) -> Self {
            // SAFETY: NEON is part of aarch64.
            Self(unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(self.0))) })
        }
        #[inline(always)]
        fn exp(self) -> Self {
            exp_f32(self)
        }
        #[inline(always)]
        fn exp2(self) -> Self {
            exp2_f32(self)
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: NEON is part of aarch64.
            unsafe { vaddvq_f32(self.0) }
        }
        #[inline(always)]
        fn max_lane(self) -> f32 {
            // SAFETY: NEON is part of aarch64.
            unsafe { vmaxvq_f32(self.0) }
        }
        tiles!(12, 6, 2);
    }
}

/// Lanes in an array, for CPUs without a path of their own and for f64.
#[derive(Clone, Copy)]
pub struct Portable<R, const LANES: usize>([R; LANES]);

macro_rules! portable {
    ($r:ident, $lanes:literal, $exp:expr, $exp2:expr) => {
        impl Portable<$r, $lanes> {
            #[inline(always)]
            fn zip(self, other: Self, f: impl Fn($r, $r) -> $r) -> Self {
                Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
            }
        }
        portable!(@operator $r, $lanes, Add add +, Sub sub -, Mul mul *, Div div /);
        impl Vector for Portable<$r, $lanes> {
            type Scalar = $r;
            const LANES: usize = $lanes;
            const MR: usize = 4;
            const NR: usize = $lanes;

            #[inline(always)]
            fn splat(x: $r) -> Self {
                Self([x; $lanes])
            }
            #[inline(always)]
            fn load(src: &[$r]) -> Self {
                Self(std::array::from_fn(|i| src[i]))
            }
            #[inline(always)]
            fn store(self, dst: &mut [$r]) {
                dst[..$lanes].copy_from_slice(&self.0);
            }
            #[inline(always)]
            fn load_bf16(src: &[bf16]) -> Self {
                Self(std::array::from_fn(|i| src[i].to_f32().into()))
            }
            #[inline(always)]
            fn store_bf16(self, dst: &mut [bf16]) {
                for i in 0..$lanes {
                    dst[i] = bf16::from_f32(self.0[i] as f32);
                }
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
                Self(std::array::from_fn(|i| if x.0[i] < limit.0[i] { 0.0 } else { self.0[i] }))
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(self.0.map($r::sqrt))
            }
            #[inline(always)]
            fn round(self) -> Self {
                Self(self.0.map($r::round_ties_even))
            }
            #[inline(always)]
            fn pow2(self) -> Self {
                Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23).into()))
            }
            #[inline(always)]
            fn low_bits_to_exponent(self) -> Self {
                Self(self.0.map(|x| f32::from_bits((x as f32).to_bits() << 23).into()))
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn exp2(self) -> Self {
                $exp2(self)
            }
            #[inline(always)]
            fn sum(self) -> $r {
                self.0.iter().sum()
            }
            #[inline(always)]
            fn max_lane(self) -> $r {
                self.0.into_iter().fold($r::NEG_INFINITY, $r::max)
            }
            tiles!(4, 2, 1);
        }
    };
    (@operator $r:ident, $lanes:literal, $($trait:ident $method:ident $op:tt),*) => {$(
        impl std::ops::$trait for Portable<$r, $lanes> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        }
    )*};
}
portable!(f32, 8, exp_f32, exp2_f32);
portable!(f64, 4, |x: Self| Self(x.0.map(f64::exp)), |x: Self| Self(x.0.map(f64::exp2)));

/// Runs `kernel` with the f32 vectors of `isa`.
///
/// # Panics
/// If this CPU lacks `isa`: a caller bug, [`Isa::choose`] checks.
pub fn dispatch_f32<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.available(), "{isa:?} is not available on this CPU");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an Isa held by a Cpu is available: every feature was detected.
        Isa::Avx512Bf16 | Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an Isa held by a Cpu is available: AVX2 and FMA were detected.
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernel.run::<arm::Neon>(),
        Isa::Portable => kernel.run::<Portable<f32, 8>>(),
        #[allow(unreachable_patterns)]
        _ => unreachable!("{isa:?} is not a path of this architecture"),
    }
}

/// Runs `kernel` with the dot products of `isa`.
///
/// # Panics
/// If `isa` has none, or this CPU lacks it: a caller bug.
pub fn dispatch_dots<K: DotKernel<f32>>(isa: Isa, kernel: K) -> K::Out {
    assert!(isa.available(), "{isa:?} is not available on this CPU");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an Isa held by a Cpu is available: every feature was detected.
        Isa::Avx512Bf16 => unsafe { x86::run_dots(kernel) },
        _ => unreachable!("{isa:?} has no dot products of bf16"),
    }
}

/// Runs `kernel` in f64, which is for proofs and has one path.
pub fn dispatch_f64<K: Kernel<f64>>(_: Isa, kernel: K) -> K::Out {
    kernel.run::<Portable<f64, 4>>()
}

/// Runs `kernel` on items of `values` of k: on the dot products of `isa` if there are two in one,
/// else on its vectors.
pub fn dispatch_items<R: Real>(isa: Isa, values: usize, kernel: impl ItemKernel<R>) {
    let kernel = OnItems(kernel);
    if values == 2 { R::dispatch_dots(isa, kernel) } else { R::dispatch(isa, kernel) }
}

/// Loads `V::LANES` elements, or what is left of `src`, zeros behind it.
#[inline(always)]
pub fn load<E: Element, V: Vector<Scalar = E::Acc>>(src: &[E]) -> V {
    if src.len() >= V::LANES { E::load(src) } else { E::load_part(src) }
}

/// Stores `V::LANES` elements, or as many as fit into `dst`.
#[inline(always)]
pub fn store<E: Element, V: Vector<Scalar = E::Acc>>(v: V, dst: &mut [E]) {
    if dst.len() >= V::LANES { E::store(v, dst) } else { E::store_part(v, dst) }
}

/// The items of a row's values from `d` on, zeros behind its end.
#[inline(always)]
pub fn items_of_row<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    row: &[E],
    d: usize,
) -> F {
    if d + V::LANES * F::K <= row.len() { F::of_row(&row[d..]) } else { F::of_row(&padded(row, d)) }
}

/// The items of the columns from `d` on of the rows of an item, zeros behind their end; an empty
/// row is all zeros.
#[inline(always)]
pub fn items_of_columns<E: Element, V: Vector<Scalar = E::Acc>, F: Factors<V>>(
    [first, second]: [&[E]; 2],
    d: usize,
) -> F {
    if d + V::LANES <= first.len() && d + V::LANES <= second.len() {
        F::of_columns(&first[d..], &second[d..])
    } else {
        F::of_columns(&padded(first, d), &padded(second, d))
    }
}

/// The values of a row from `d` on, zeros behind its end. Not inlined, for the usual case would clear
/// the room for it as well.
#[cold]
#[inline(never)]
fn padded<E: Element>(row: &[E], d: usize) -> [E; 2 * MAX_LANES] {
    let mut values = [E::default(); 2 * MAX_LANES];
    let row = &row[d.min(row.len())..];
    let len = row.len().min(2 * MAX_LANES);
    values[..len].copy_from_slice(&row[..len]);
    values
}

/// Asks memory for the lines of `data`. Changes no result.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(data.as_ptr().cast::<i8>().wrapping_add(byte)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// Asks memory for the lines that lie as far behind those of `data` as pays where one stream is
/// read, into the second level of the cache. Changes no result.
///
/// Hardware that runs ahead of a stream stops at a page. On Zen 4 two to four KiB are best, from
/// five on it is worse than nothing, and so is the first level.
#[inline(always)]
pub fn prefetch_stream<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let ahead = data.as_ptr().cast::<i8>().wrapping_add(byte + 3072);
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// Lanes of the widest vector.
pub const MAX_LANES: usize = 16;
