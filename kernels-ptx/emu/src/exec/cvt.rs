//! Conversions between any two types, one rounding each.

use half::{bf16, f16};

use super::alu::{extend, map};
use super::float::{flush, half_to_f32};
use super::regs::Regs;
use crate::ast::Ty;
use crate::ir::{Cvt, Half, Reg, Round};

pub(super) fn run(r: &mut Regs, c: &Cvt, d: Reg, a: Reg, m: u32) {
    match (c.to, c.from, d, a) {
        (Ty::U64 | Ty::S64, Ty::U32, Reg::R64(d), Reg::R32(a)) => {
            let v = map(r.get32(a), u64::from);
            r.put64(d, &v, m);
        }
        (Ty::U64 | Ty::S64, Ty::S32, Reg::R64(d), Reg::R32(a)) if !c.sat => {
            let v = map(r.get32(a), |x| x as i32 as i64 as u64);
            r.put64(d, &v, m);
        }
        (Ty::U32 | Ty::S32, Ty::U64 | Ty::S64, Reg::R32(d), Reg::R64(a)) if !c.sat => {
            let v = map(r.get64(a), |x| x as u32);
            r.put32(d, &v, m);
        }
        (Ty::F32, Ty::Bf16, Reg::R32(d), Reg::R32(a)) if !c.sat && !c.ftz => {
            let v = map(r.get32(a), |x| x << 16);
            r.put32(d, &v, m);
        }
        (Ty::Bf16, Ty::F32, Reg::R32(d), Reg::R32(a))
            if c.round == Some(Round::Nearest) && !c.sat && !c.relu =>
        {
            let v = map(r.get32(a), |x| u32::from(nearest_bf16(x)));
            r.put32(d, &v, m);
        }
        _ => {
            let v = map(&r.get(a), |x| widen(c, one(c, x)));
            r.put(d, &v, m);
        }
    }
}

/// An integer result is extended to its register by its sign; the register keeps its own bits.
fn widen(c: &Cvt, v: u64) -> u64 {
    let v = if c.to.integer() { extend(c.to, v) as u64 } else { v };
    if c.width == 64 { v } else { v & ((1 << c.width) - 1) }
}

/// Round to nearest even by integer arithmetic on the bits.
#[inline(always)]
pub(super) fn nearest_bf16(x: u32) -> u16 {
    if x & 0x7fff_ffff > 0x7f80_0000 {
        return 0x7fff;
    }
    (x.wrapping_add(0x7fff + (x >> 16 & 1)) >> 16) as u16
}

/// `cvt.T.f32 d, a, b`: a above, b below.
pub(super) fn pair(half: Half, round: Round, relu: bool, a: f32, b: f32) -> u32 {
    let to = if half.bf16 { Ty::Bf16 } else { Ty::F16 };
    if half.bf16 && round == Round::Nearest && !relu {
        let f = |v: f32| u32::from(nearest_bf16(v.to_bits()));
        return f(a) << 16 | f(b);
    }
    let c = Cvt { to, from: Ty::F32, round: Some(round), ftz: false, sat: false, relu, width: 16 };
    let f = |v: f32| one(&c, u64::from(v.to_bits())) as u32;
    f(a) << 16 | f(b)
}

enum Value {
    Int(i128),
    Float(f64),
}

fn one(c: &Cvt, x: u64) -> u64 {
    let value = match c.from {
        Ty::F64 => Value::Float(f64::from_bits(x)),
        Ty::F32 => {
            let v = f32::from_bits(x as u32);
            Value::Float(f64::from(if c.ftz { flush(v) } else { v }))
        }
        Ty::F16 | Ty::Bf16 => Value::Float(half_to_f32(c.from == Ty::Bf16, x as u16).into()),
        _ => Value::Int(extend(c.from, x)),
    };
    match (value, c.to) {
        (Value::Int(v), Ty::F32) if c.round == Some(Round::Nearest) => {
            u64::from((v as f32).to_bits())
        }
        (Value::Int(v), Ty::F64) => int_to_f64(c.round, v).to_bits(),
        (Value::Int(v), Ty::F32 | Ty::F16 | Ty::Bf16) => float_bits(c, to_odd(v)),
        (Value::Int(v), _) if c.sat => clamp(c.to, v) as u64,
        (Value::Int(v), _) => v as u64,
        (Value::Float(v), to) if to.integer() => float_to_int(c, v),
        (Value::Float(v), _) => float_bits(c, v),
    }
}

/// An integer of up to 64 bits, rounded once.
fn int_to_f64(round: Option<Round>, v: i128) -> f64 {
    let nearest = v as f64;
    let off = nearest as i128 - v;
    match round {
        Some(Round::Down) if off > 0 => nearest.next_down(),
        Some(Round::Up) if off < 0 => nearest.next_up(),
        Some(Round::Zero) if off > 0 && v > 0 => nearest.next_down(),
        Some(Round::Zero) if off < 0 && v < 0 => nearest.next_up(),
        _ => nearest,
    }
}

/// An integer as f64 that rounds onward to fewer bits as the integer would: to odd beyond 53 bits.
fn to_odd(v: i128) -> f64 {
    let magnitude = v.unsigned_abs();
    let extra = (128 - magnitude.leading_zeros()).saturating_sub(53);
    let mut kept = magnitude >> extra;
    if kept << extra != magnitude {
        kept |= 1;
    }
    let f = kept as f64 * 2f64.powi(extra as i32);
    if v < 0 { -f } else { f }
}

fn range(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn clamp(ty: Ty, v: i128) -> i128 {
    let (lo, hi) = range(ty);
    v.clamp(lo, hi)
}

fn integral(round: Option<Round>, v: f64) -> f64 {
    match round {
        Some(Round::Nearest | Round::Away) => v.round_ties_even(),
        Some(Round::Down) => v.floor(),
        Some(Round::Up) => v.ceil(),
        Some(Round::Zero) | None => v.trunc(),
    }
}

/// Clamped to the range; NaN is zero, except where f64 or 64 bits are involved.
fn float_to_int(c: &Cvt, v: f64) -> u64 {
    if v.is_nan() {
        let wide = c.from == Ty::F64 || c.to.bytes() == 8;
        return if wide { 1 << (c.to.bits() - 1) } else { 0 };
    }
    let (lo, hi) = range(c.to);
    let v = integral(c.round, v);
    // The casts saturate; the bounds of 64 bits are not f64 numbers.
    (v as i128).clamp(lo, hi) as u64
}

/// Digits (with the leading one), smallest exponent, largest number.
fn format(ty: Ty) -> (i32, i32, f64) {
    match ty {
        Ty::F32 => (24, -126, f64::from(f32::MAX)),
        Ty::Bf16 => (8, -126, f64::from(bf16::MAX.to_f32())),
        Ty::F16 => (11, -14, 65504.0),
        Ty::Tf32 => (11, -126, f64::from(f32::from_bits(0x7f7f_e000))),
        _ => (53, -1022, f64::MAX),
    }
}

fn float_bits(c: &Cvt, v: f64) -> u64 {
    let same = c.from == c.to;
    let v = if same && c.round.is_some() { integral(c.round, v) } else { v };
    let v = round_to(c.to, c.round.unwrap_or(Round::Nearest), v);
    let v = match (c.sat, v.is_nan()) {
        (true, true) => 0.0,
        (true, false) => v.clamp(0.0, 1.0) + 0.0,
        _ => v,
    };
    let v = if c.relu && v <= 0.0 { 0.0 } else { v };
    match c.to {
        Ty::F64 if v.is_nan() => 0x7ff8_0000_0000_0000,
        Ty::F64 => v.to_bits(),
        Ty::F32 | Ty::Tf32 if v.is_nan() => 0x7fff_ffff,
        Ty::F32 if c.ftz => flush(v as f32).to_bits().into(),
        Ty::F32 | Ty::Tf32 => (v as f32).to_bits().into(),
        _ if v.is_nan() => 0x7fff,
        Ty::Bf16 => bf16::from_f64(v).to_bits().into(),
        _ => f16::from_f64(v).to_bits().into(),
    }
}

/// The neighbour in `ty` that the rounding picks; the result is exact in `ty`.
fn round_to(ty: Ty, round: Round, v: f64) -> f64 {
    if ty == Ty::F64 || v == 0.0 || !v.is_finite() {
        return v;
    }
    let (digits, least, max) = format(ty);
    let exponent = ((v.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least);
    let unit = 2f64.powi(exponent - digits + 1);
    let q = v / unit;
    let q = match round {
        Round::Nearest => q.round_ties_even(),
        Round::Away => q.round(),
        Round::Zero => q.trunc(),
        Round::Down => q.floor(),
        Round::Up => q.ceil(),
    };
    let r = q * unit;
    let inward = match round {
        Round::Zero => true,
        Round::Down => r > 0.0,
        Round::Up => r < 0.0,
        Round::Nearest | Round::Away => false,
    };
    match (r.abs() > max, inward) {
        (false, _) => r.copysign(v),
        (true, true) => max.copysign(r),
        (true, false) => f64::INFINITY.copysign(r),
    }
}
