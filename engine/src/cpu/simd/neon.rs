//! NEON, which is part of every aarch64 CPU: that makes the intrinsics callable. Loads and stores
//! assert their lengths.

use super::Vector;
use super::tile::Tile;
use super::vector::operators;
use std::arch::aarch64::*;

/// Four f32.
#[derive(Clone, Copy)]
pub struct Neon(float32x4_t);
operators!(Neon, Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);

impl Vector for Neon {
    type Scalar = f32;
    type Tile = Tile<12, 6, 2>;
    const LANES: usize = 4;

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
    fn low_bits_to_exponent(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(self.0))) })
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
}
