//! Exponentials of vectors.

use super::{MAX_LANES, Vector};

/// Added to x of f32, it leaves no bits below one: the sum's low bits are n + 127 for the nearest
/// whole n, which is the exponent of 2^n (0 and 255 for n = -127 and 128: zero and infinity).
pub(super) const TO_EXPONENT: f32 = 12_582_912.0 + 127.0; // 1.5 * 2^23 + 127

/// e^x in f32: x = n*ln2 + r, a degree-6 polynomial in r, scaled by 2^n. Relative error at most
/// 2e-7 (tested). 0 below -87.33, 2.406e38 above 88.37; NaN stays NaN.
#[inline(always)]
pub fn exp_f32<V: Vector<Scalar = f32>>(x: V) -> V {
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
    (p * (n + c(TO_EXPONENT)).low_bits_to_exponent()).zero_where_lt(x, c(LOWEST))
}

/// 2^x in f32: x = n + f with n whole, a degree-5 polynomial in f, scaled by 2^n. Relative error
/// at most 2e-7 (tested). 0 below -126.5, infinity above 127.5; NaN stays NaN.
#[inline(always)]
pub fn exp2_f32<V: Vector<Scalar = f32>>(x: V) -> V {
    let c = V::splat;
    let whole = c(TO_EXPONENT);
    let bounded = c(128.0).min(c(-127.0).max(x));
    let shifted = bounded + whole;
    exp2_near_zero(bounded - (shifted - whole)) * shifted.low_bits_to_exponent()
}

/// 2^x for |x| <= 1/2: the polynomial with the least relative error, 9.2e-8, among those of its
/// degree that start with 1.
#[inline(always)]
pub(super) fn exp2_near_zero<V: Vector<Scalar = f32>>(x: V) -> V {
    let c = V::splat;
    let mut p = c(0.001_326_472_7);
    #[expect(clippy::approx_constant, reason = "near ln 2, but the fit's own coefficient")]
    for k in [0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0] {
        p = p.mul_add(x, c(k));
    }
    p
}

/// e^x in f64, lane by lane.
#[inline(always)]
pub fn exp_f64<V: Vector<Scalar = f64>>(x: V) -> V {
    lane_by_lane(x, f64::exp)
}

/// 2^x in f64, lane by lane.
#[inline(always)]
pub fn exp2_f64<V: Vector<Scalar = f64>>(x: V) -> V {
    lane_by_lane(x, f64::exp2)
}

/// f64 is for proofs: the standard library's functions, with no polynomial to trust.
#[inline(always)]
fn lane_by_lane<V: Vector<Scalar = f64>>(x: V, f: impl Fn(f64) -> f64) -> V {
    let mut lanes = [0.0; MAX_LANES];
    x.store(&mut lanes);
    for lane in &mut lanes[..V::LANES] {
        *lane = f(*lane);
    }
    V::load(&lanes)
}
