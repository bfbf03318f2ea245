//! Floating point. Everything PTX rounds to nearest is rounded so here, bit for bit. What PTX only
//! approximates (`.approx`, `.full`) is computed in f64; it then errs as far as PTX allows, by a
//! seed, or is rounded once.

use half::f16;

use super::alu::{map, zip};
use super::approx::{self, BRAIN, Bound, HALF, SINGLE};
use super::cvt::nearest_bf16;
use super::regs::{Regs, mask_of};
use crate::ir::{Alu, F1, F2, FMods, H1, Half, Reg, Testp};

/// The NaN that PTX's instructions make in f32.
pub(super) const NAN32: u32 = 0x7fff_ffff;
const NAN16: u16 = 0x7fff;

/// `seed`: of the errors of approximations; none rounds them to nearest.
pub(super) fn run(r: &mut Regs, op: &Alu, m: u32, seed: Option<u64>) {
    match op {
        Alu::F32x1(op, mods, d, a) => {
            let v = map(r.get32(*a), |x| f32x1(*op, *mods, x, seed));
            r.put32(*d, &v, m);
        }
        Alu::F32x2(op, mods, d, a, b) => {
            let (x, y) = (r.get32(*a), r.get32(*b));
            let v = match (op, *mods == FMods::default()) {
                (F2::Add, true) => zip(x, y, |a, b| bits(f32::from_bits(a) + f32::from_bits(b))),
                (F2::Sub, true) => zip(x, y, |a, b| bits(f32::from_bits(a) - f32::from_bits(b))),
                (F2::Mul, true) => zip(x, y, |a, b| bits(f32::from_bits(a) * f32::from_bits(b))),
                (F2::Div, _) if mods.approximate => zip(x, y, |a, b| quotient(*mods, a, b, seed)),
                (F2::Max, true) => zip(x, y, |a, b| f32x2(F2::Max, FMods::default(), a, b)),
                _ => zip(x, y, |a, b| f32x2(*op, *mods, a, b)),
            };
            r.put32(*d, &v, m);
        }
        Alu::Fma32(mods, d, a, b, c) => {
            let (x, y, z) = (r.get32(*a), r.get32(*b), r.get32(*c));
            let v = if *mods == FMods::default() {
                std::array::from_fn(|l| {
                    bits(fma(f32::from_bits(x[l]), f32::from_bits(y[l]), f32::from_bits(z[l])))
                })
            } else {
                let f = |v: u32| input(*mods, v);
                std::array::from_fn(|l| output(*mods, fma(f(x[l]), f(y[l]), f(z[l]))))
            };
            r.put32(*d, &v, m);
        }
        Alu::F64x1(op, d, a) => {
            let v = map(r.get64(*a), |x| match op {
                F1::Abs => x & !(1 << 63),
                F1::Neg => x ^ 1 << 63,
                F1::Sqrt => f64::from_bits(x).sqrt().to_bits(),
                _ => f64::from_bits(x).recip().to_bits(),
            });
            r.put64(*d, &v, m);
        }
        Alu::F64x2(op, d, a, b) => {
            let v = zip(r.get64(*a), r.get64(*b), |a, b| {
                f64x2(*op, f64::from_bits(a), f64::from_bits(b)).to_bits()
            });
            r.put64(*d, &v, m);
        }
        Alu::Fma64(d, a, b, c) => {
            let (x, y, z) = (r.get64(*a), r.get64(*b), r.get64(*c));
            let f = f64::from_bits;
            let v = std::array::from_fn(|l| f(x[l]).mul_add(f(y[l]), f(z[l])).to_bits());
            r.put64(*d, &v, m);
        }
        Alu::Half1(h, op, d, a) => {
            let v = map(r.get32(*a), |x| each(*h, |s| half1(*h, *op, part(x, s), seed)));
            r.put32(*d, &v, m);
        }
        Alu::Half2(h, op, d, a, b) => {
            let v = zip(r.get32(*a), r.get32(*b), |x, y| {
                each(*h, |s| half2(*h, *op, part(x, s), part(y, s)))
            });
            r.put32(*d, &v, m);
        }
        Alu::HalfFma(h, relu, d, a, b, c) => {
            let (x, y, z) = (r.get32(*a), r.get32(*b), r.get32(*c));
            let v = std::array::from_fn(|l| {
                each(*h, |s| half_fma(*h, *relu, part(x[l], s), part(y[l], s), part(z[l], s)))
            });
            r.put32(*d, &v, m);
        }
        Alu::Testp { op, wide, d, a } => {
            let v = r.get(*a);
            let hit = mask_of(|l| {
                let class = if *wide {
                    f64::from_bits(v[l]).classify()
                } else {
                    f32::from_bits(v[l] as u32).classify()
                };
                testp(*op, class)
            });
            r.put_pred(*d, hit, m);
            debug_assert!(!matches!(a, Reg::Pred(_)));
        }
        _ => unreachable!("an integer instruction"),
    }
}

/// Bits of a result; every NaN is the canonical one.
#[inline(always)]
fn bits(v: f32) -> u32 {
    if v.is_nan() { NAN32 } else { v.to_bits() }
}

/// Subnormal to zero of the same sign.
#[inline(always)]
pub(super) fn flush(v: f32) -> f32 {
    if v.is_subnormal() { 0f32.copysign(v) } else { v }
}

fn input(mods: FMods, v: u32) -> f32 {
    let v = f32::from_bits(v);
    if mods.ftz { flush(v) } else { v }
}

fn output(mods: FMods, v: f32) -> u32 {
    let v = if mods.ftz { flush(v) } else { v };
    bits(match (mods.sat, v.is_nan()) {
        (false, _) => v,
        (true, true) => 0.0,
        (true, false) => v.clamp(0.0, 1.0) + 0.0,
    })
}

/// `p + c` in f64, rounded to odd: a later rounding to a much shorter format is then correct.
#[inline(always)]
fn add_to_odd(p: f64, c: f64) -> f64 {
    let s = p + c;
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    let bits = s.to_bits();
    let inexact = err != 0.0 && err.is_finite() && bits & 1 == 0;
    // Towards the exact sum: away from zero if the error has the sum's sign.
    let step = if (err > 0.0) == (s > 0.0) { 1u64 } else { u64::MAX };
    f64::from_bits(if inexact { bits.wrapping_add(step) } else { bits })
}

/// One rounding: the product of two f32 is exact in f64.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    add_to_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

fn f32x1(op: F1, mods: FMods, bits: u32, seed: Option<u64>) -> u32 {
    match op {
        F1::Abs if !mods.ftz => return bits & 0x7fff_ffff,
        F1::Neg if !mods.ftz => return bits ^ 0x8000_0000,
        _ => {}
    }
    let x = input(mods, bits);
    let wide = f64::from(x);
    // Rounded to f64 and then to f32, roots and quotients have the bits of one rounding.
    let exact = match op {
        F1::Abs => wide.abs(),
        F1::Neg => -wide,
        F1::Sqrt => wide.sqrt(),
        F1::Rcp => wide.recip(),
        F1::Rsqrt => wide.sqrt().recip(),
        F1::Ex2 => wide.exp2(),
        F1::Lg2 => wide.log2(),
        F1::Sin => wide.sin(),
        F1::Cos => wide.cos(),
        F1::Tanh => wide.tanh(),
    };
    let bound = || approx::bound32(op, x, exact).filter(|_| (exact as f32).is_finite());
    let draw = seed.filter(|_| mods.approximate).zip(bound());
    output(mods, single(exact, draw.map(|(s, b)| (b, approx::draw(s, op as u64, bits.into())))))
}

/// `exact` rounded to f32, or as far from it as a draw says.
fn single(exact: f64, stray: Option<(Bound, u64)>) -> f32 {
    match stray {
        None => exact as f32,
        Some((bound, draw)) => approx::stray(exact, bound, SINGLE, draw) as f32,
    }
}

/// `div.approx` and `div.full`: within 2 units in the last place. The former multiplies by a
/// reciprocal, which is zero for the largest divisors.
fn quotient(mods: FMods, a_bits: u32, b_bits: u32, seed: Option<u64>) -> u32 {
    let (a, b) = (input(mods, a_bits), input(mods, b_bits));
    if !mods.full && b.is_finite() && b.abs() > 2f32.powi(126) {
        let reciprocal = 0f32.copysign(b);
        return output(mods, a * reciprocal);
    }
    let exact = f64::from(a) / f64::from(b);
    let errs = exact != 0.0 && (exact as f32).is_finite() && b.is_finite();
    let operands = u64::from(a_bits) << 32 | u64::from(b_bits);
    let draw = seed.filter(|_| errs).map(|seed| approx::draw(seed, 15, operands));
    output(mods, single(exact, draw.map(|draw| (Bound::Ulp(2.0), draw))))
}

#[inline(always)]
fn f32x2(op: F2, mods: FMods, a: u32, b: u32) -> u32 {
    if op == F2::Copysign {
        return (a & 0x8000_0000) | (b & 0x7fff_ffff);
    }
    let (a, b) = (input(mods, a), input(mods, b));
    output(
        mods,
        match op {
            F2::Add => a + b,
            F2::Sub => a - b,
            F2::Mul => a * b,
            F2::Div => a / b,
            F2::Min => least(a, b),
            F2::Max => -least(-a, -b),
            F2::MinNan | F2::MaxNan if a.is_nan() || b.is_nan() => f32::NAN,
            F2::MinNan => least(a, b),
            F2::MaxNan => -least(-a, -b),
            F2::Copysign => unreachable!("done above"),
        },
    )
}

/// The smaller; a number rather than NaN; -0 below +0.
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a.is_nan() {
        b
    } else if b.is_nan() || a < b {
        a
    } else if b < a {
        b
    } else {
        f32::from_bits(a.to_bits() | b.to_bits())
    }
}

fn f64x2(op: F2, a: f64, b: f64) -> f64 {
    let least = |a: f64, b: f64| match a.partial_cmp(&b) {
        None if a.is_nan() => b,
        None | Some(std::cmp::Ordering::Less) => a,
        Some(std::cmp::Ordering::Greater) => b,
        Some(std::cmp::Ordering::Equal) => f64::from_bits(a.to_bits() | b.to_bits()),
    };
    match op {
        F2::Add => a + b,
        F2::Sub => a - b,
        F2::Mul => a * b,
        F2::Div => a / b,
        F2::MinNan | F2::MaxNan if a.is_nan() || b.is_nan() => f64::NAN,
        F2::Min | F2::MinNan => least(a, b),
        F2::Max | F2::MaxNan => -least(-a, -b),
        F2::Copysign => b.copysign(a),
    }
}

fn part(x: u32, shift: u32) -> u16 {
    (x >> shift) as u16
}

/// Applies `f` to the halves of a pair, or to the one half.
#[inline(always)]
fn each(h: Half, f: impl Fn(u32) -> u16) -> u32 {
    let low = u32::from(f(0));
    if h.pair { low | u32::from(f(16)) << 16 } else { low }
}

#[inline(always)]
pub(super) fn half_to_f32(is_bf16: bool, x: u16) -> f32 {
    if is_bf16 { f32::from_bits(u32::from(x) << 16) } else { f16::from_bits(x).to_f32() }
}

/// One rounding, from f64. `half` has two: through f32, or by the upper 32 bits, as the machine has it.
fn half_from(h: Half, v: f64) -> u16 {
    if v.is_nan() {
        NAN16
    } else if h.bf16 {
        nearest_bf16(narrow_to_odd(v).to_bits())
    } else {
        f16::from_f32(narrow_to_odd(v)).to_bits()
    }
}

/// As f32 so that a later rounding to a much shorter format is correct: what is not exact gets an odd
/// last digit.
fn narrow_to_odd(v: f64) -> f32 {
    let near = v as f32;
    if f64::from(near) == v {
        return near;
    }
    let beyond = f64::from(near).abs() > v.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

fn half1(h: Half, op: H1, bits: u16, seed: Option<u64>) -> u16 {
    let wide = || f64::from(half_to_f32(h.bf16, bits));
    let exact = match op {
        H1::Abs => return bits & 0x7fff,
        H1::Neg => return bits ^ 0x8000,
        H1::Ex2 => wide().exp2(),
        H1::Tanh => wide().tanh(),
    };
    let format = if h.bf16 { BRAIN } else { HALF };
    let rounded = half_from(h, exact);
    let bound = approx::bound16(op, h.bf16, wide(), exact)
        .filter(|_| half_to_f32(h.bf16, rounded).is_finite());
    match seed.zip(bound) {
        None => rounded,
        Some((seed, bound)) => {
            let draw = approx::draw(seed, 16 + op as u64, bits.into());
            half_from(h, approx::stray(exact, bound, format, draw))
        }
    }
}

fn half2(h: Half, op: F2, a: u16, b: u16) -> u16 {
    let (a, b) = (half_to_f32(h.bf16, a), half_to_f32(h.bf16, b));
    let (x, y) = (f64::from(a), f64::from(b));
    half_from(
        h,
        match op {
            F2::Add => add_to_odd(x, y),
            F2::Sub => add_to_odd(x, -y),
            F2::Mul => x * y,
            F2::Min => least(a, b).into(),
            F2::Max => (-least(-a, -b)).into(),
            F2::MinNan | F2::MaxNan if a.is_nan() || b.is_nan() => f64::NAN,
            F2::MinNan => least(a, b).into(),
            F2::MaxNan => (-least(-a, -b)).into(),
            F2::Div | F2::Copysign => unreachable!("refused by the decoder"),
        },
    )
}

fn half_fma(h: Half, relu: bool, a: u16, b: u16, c: u16) -> u16 {
    let f = |x: u16| f64::from(half_to_f32(h.bf16, x));
    let v = half_from(h, add_to_odd(f(a) * f(b), f(c)));
    if relu && v & 0x8000 != 0 { 0 } else { v }
}

fn testp(op: Testp, class: std::num::FpCategory) -> bool {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal};
    match op {
        Testp::Finite => !matches!(class, Infinite | Nan),
        Testp::Infinite => class == Infinite,
        Testp::Number => class != Nan,
        Testp::NotANumber => class == Nan,
        Testp::Normal => class == Normal,
        Testp::Subnormal => class == Subnormal,
    }
}
