//! How results of `.approx` and `.full` err: within what PTX allows, and as far as that.
//! Source of the bounds and of the operands that have exact results: NVIDIA, PTX ISA, the tables of
//! each instruction.

use crate::ir::{F1, H1};

/// The numbers that a result may be.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// Bits of a significand, the leading one included.
    digits: i32,
    /// Exponent of the least normal number, and of the largest.
    exponents: [i32; 2],
}

pub(super) const SINGLE: Format = Format { digits: 24, exponents: [-126, 127] };
pub(super) const BRAIN: Format = Format { digits: 8, exponents: [-126, 127] };
pub(super) const HALF: Format = Format { digits: 11, exponents: [-14, 15] };

impl Format {
    /// The distance of neighbours at `x`.
    fn ulp(self, x: f64) -> f64 {
        let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(self.exponents[0]);
        power(exponent - self.digits + 1)
    }

    fn largest(self) -> f64 {
        power(self.exponents[1] + 1) - power(self.exponents[1] + 1 - self.digits)
    }

    fn least_normal(self) -> f64 {
        power(self.exponents[0])
    }
}

/// 2^n, for normal numbers.
fn power(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// How far a result may be from the exact value.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    Ulp(f64),
    Relative(f64),
    Absolute(f64),
}

/// Of an instruction in f32 at `x`; none where the result is exact.
pub(super) fn bound32(op: F1, x: f32, exact: f64) -> Option<Bound> {
    if x == 0.0 || !x.is_finite() || !exact.is_finite() {
        return None;
    }
    let two_to = f64::exp2;
    Some(match op {
        F1::Abs | F1::Neg => return None,
        F1::Rcp => Bound::Ulp(1.0),
        F1::Sqrt => Bound::Relative(two_to(-23.0)),
        F1::Rsqrt => Bound::Relative(two_to(-22.9)),
        F1::Ex2 => Bound::Ulp(2.0),
        F1::Lg2 if 0.5 < x && x < 2.0 => Bound::Absolute(two_to(-22.0)),
        F1::Lg2 => Bound::Relative(two_to(-22.0)),
        F1::Sin | F1::Cos if x.abs() <= std::f32::consts::TAU => Bound::Absolute(two_to(-20.5)),
        // Up to 100 pi; beyond, nothing is promised.
        F1::Sin | F1::Cos => Bound::Absolute(two_to(-14.7)),
        F1::Tanh => Bound::Relative(two_to(-11.0)),
    })
}

/// Of an instruction in half precision; none where the result is exact.
pub(super) fn bound16(op: H1, bf16: bool, x: f64, exact: f64) -> Option<Bound> {
    if x == 0.0 || !x.is_finite() || !exact.is_finite() {
        return None;
    }
    Some(match (op, bf16) {
        (H1::Abs | H1::Neg, _) => return None,
        (H1::Ex2, true) => Bound::Relative(f64::exp2(-7.0)),
        (H1::Ex2, false) => Bound::Relative(f64::exp2(-9.9)),
        (H1::Tanh, true) => Bound::Absolute(f64::exp2(-8.0)),
        (H1::Tanh, false) => Bound::Absolute(f64::exp2(-10.987)),
    })
}

/// A number of `format` no further from `exact` than `bound`. Half of them are at the bound, as far
/// as the format has a number there; `draw` decides.
pub(super) fn stray(exact: f64, bound: Bound, format: Format, draw: u64) -> f64 {
    let most = match bound {
        Bound::Ulp(n) => n * format.ulp(exact),
        Bound::Relative(share) => share * exact.abs(),
        Bound::Absolute(most) => most,
    };
    let size = if draw & 1 == 0 { 1.0 } else { (draw >> 11) as f64 / (1u64 << 53) as f64 };
    let up = draw & 2 == 0;
    let aim = exact + if up { size * most } else { -size * most };
    let ulp = format.ulp(aim);
    // Towards the exact value.
    let near = if up { (aim / ulp).floor() * ulp } else { (aim / ulp).ceil() * ulp };
    if (near - exact).abs() > most {
        // Subnormal numbers may be further apart than the bound.
        return exact;
    }
    let least = if exact.abs() < format.least_normal() { 0.0 } else { format.least_normal() };
    near.abs().clamp(least, format.largest()).copysign(near)
}

/// Mixes operands, instruction and seed into a number that looks random (SplitMix64).
pub(super) fn draw(seed: u64, op: u64, operands: u64) -> u64 {
    let z = operands ^ op.wrapping_shl(58) ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
