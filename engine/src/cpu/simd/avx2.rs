//! AVX2 with fused multiply-add.
//!
//! Values of this type are only made inside of [`run`], which is called after the CPU's features
//! were checked: that makes the intrinsics callable. Loads and stores assert their lengths.

use super::tile::Tile;
use super::vector::operators;
use super::{Kernel, Vector};
use half::bf16;
use std::arch::x86_64::*;

/// Runs `kernel` with this set.
#[target_feature(enable = "avx2,fma")]
pub fn run<K: Kernel<f32>>(kernel: K) -> K::Out {
    kernel.run::<Avx2>()
}

/// Eight f32.
#[derive(Clone, Copy)]
pub struct Avx2(__m256);
operators!(Avx2, Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps,
    Div div _mm256_div_ps);

impl Vector for Avx2 {
    type Scalar = f32;
    type Tile = Tile<6, 3, 2>;
    const LANES: usize = 8;

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
            let all = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan);
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
    fn low_bits_to_exponent(self) -> Self {
        // SAFETY: AVX2 was detected.
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(self.0))) })
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
}
