//! AVX-512 with its BW and VL parts, and its dot products of bf16 pairs.
//!
//! Values of these types are only made inside of [`run`] and [`run_dots`], which are called after
//! the CPU's features were checked: that makes the intrinsics callable. Loads and stores assert
//! their lengths.

use super::exp::exp2_near_zero;
use super::tile::Tile;
use super::vector::operators;
use super::{Factors, ItemKernel, Kernel, Vector};
use crate::element::Element;
use bytemuck::{Pod, Zeroable};
use half::bf16;
use std::arch::x86_64::*;
use std::mem::transmute;

/// Runs `kernel` with this set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
pub fn run<K: Kernel<f32>>(kernel: K) -> K::Out {
    kernel.run::<Avx512>()
}

/// Runs `kernel` with this set and its dot products.
#[target_feature(enable = "avx512f,avx512bf16,avx512bw,avx512vl,avx2,fma")]
pub fn run_dots(kernel: impl ItemKernel<f32>) {
    kernel.run::<Avx512, Pairs>()
}

/// Sixteen f32.
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
    type Tile = Tile<12, 6, 2>;
    const LANES: usize = 16;

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
    fn low_bits_to_exponent(self) -> Self {
        // SAFETY: AVX-512F was detected.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }
    /// As [`exp2_f32`], scaled by an instruction that saturates: nothing but the polynomial
    /// is left for the multipliers, which products keep busy.
    #[inline(always)]
    fn exp2(self) -> Self {
        let c = Self::splat;
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
        let mut a = [Self::splat(0.0).0; 16];
        for i in 0..16 {
            a[i] = Self::load(&rows[i * 16..]).0;
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
    #[inline(always)]
    fn transpose(dst: &mut [f32], to: usize, src: &[f32], from: usize) {
        let mut rows = [Self::splat(0.0).0; 16];
        for i in 0..16 {
            rows[i] = Self::load(&src[i * from..]).0;
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

/// Two neighbouring bf16 in one lane of 32 bits, the first in the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Pair(u32);

/// Thirty-two bf16, two in each lane of 32 bits.
#[derive(Clone, Copy)]
pub struct Pairs(__m512bh);

impl Factors<Avx512> for Pairs {
    type Item = Pair;
    const K: usize = 2;
    #[inline(always)]
    fn splat_item(x: Pair) -> Self {
        // SAFETY: AVX-512F was detected; any bits are a register of bf16.
        Self(unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.0 as i32)) })
    }
    #[inline(always)]
    fn load_items(src: &[Pair]) -> Self {
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
    fn transpose_items(dst: &mut [Pair], to: usize, src: &[Pair], from: usize) {
        let (dst, src) = (bytemuck::cast_slice_mut(dst), bytemuck::cast_slice(src));
        Avx512::transpose(dst, to, src, from)
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Avx512) -> Avx512 {
        // SAFETY: AVX512-BF16 was detected.
        Avx512(unsafe { _mm512_dpbf16_ps(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn store_sums<E: Element<Acc = f32>>(sums: Avx512, dst: &mut [E]) {
        let Some(dst) = E::as_bf16_mut(dst) else { return E::store(sums, dst) };
        assert!(dst.len() >= 16);
        // SAFETY: AVX512-BF16 was detected; sixteen 2-byte elements are writable.
        unsafe {
            let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums.0));
            _mm256_storeu_si256(dst.as_mut_ptr().cast(), rounded);
        }
    }
}
