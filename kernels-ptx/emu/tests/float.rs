//! Floating-point instructions and conversions, bit for bit where PTX rounds, within half a unit
//! where it approximates.

mod common;

use common::Kind::{Bf16, F16, F32, F64, I16, I32, I64, Pred};
use common::{Kind, check};
use half::{bf16, f16};

fn f(v: u64) -> f32 {
    f32::from_bits(v as u32)
}

fn d(v: u64) -> f64 {
    f64::from_bits(v)
}

fn out(v: f32) -> u64 {
    if v.is_nan() { 0x7fff_ffff } else { v.to_bits().into() }
}

fn flush(v: f32) -> f32 {
    if v.is_subnormal() { 0f32.copysign(v) } else { v }
}

#[test]
fn f32_arithmetic() {
    for rn in ["", ".rn"] {
        check(&format!("add{rn}.f32 %d, %a, %b;"), F32, &[F32, F32], |v| out(f(v[0]) + f(v[1])));
        check(&format!("sub{rn}.f32 %d, %a, %b;"), F32, &[F32, F32], |v| out(f(v[0]) - f(v[1])));
        check(&format!("mul{rn}.f32 %d, %a, %b;"), F32, &[F32, F32], |v| out(f(v[0]) * f(v[1])));
    }
    check("fma.rn.f32 %d, %a, %b, %c;", F32, &[F32, F32, F32], |v| {
        out(f(v[0]).mul_add(f(v[1]), f(v[2])))
    });
    check("add.ftz.f32 %d, %a, %b;", F32, &[F32, F32], |v| {
        out(flush(flush(f(v[0])) + flush(f(v[1]))))
    });
    check("fma.rn.ftz.f32 %d, %a, %b, %c;", F32, &[F32, F32, F32], |v| {
        out(flush(flush(f(v[0])).mul_add(flush(f(v[1])), flush(f(v[2])))))
    });
    check("mul.sat.f32 %d, %a, %b;", F32, &[F32, F32], |v| {
        let p = f(v[0]) * f(v[1]);
        if p > 0.0 { out(p.min(1.0)) } else { 0 }
    });
    for div in ["div.rn.f32", "div.full.f32"] {
        check(&format!("{div} %d, %a, %b;"), F32, &[F32, F32], |v| out(f(v[0]) / f(v[1])));
    }
    // Multiplies by a reciprocal, which the largest divisors do not have.
    check("div.approx.f32 %d, %a, %b;", F32, &[F32, F32], |v| {
        let (a, b) = (f(v[0]), f(v[1]));
        let vast = b.is_finite() && b.abs() > 2f32.powi(126);
        out(if vast { a * 0f32.copysign(b) } else { a / b })
    });
    check("neg.f32 %d, %a;", F32, &[F32], |v| v[0] ^ 0x8000_0000);
    check("abs.f32 %d, %a;", F32, &[F32], |v| v[0] & 0x7fff_ffff);
    check("copysign.f32 %d, %a, %b;", F32, &[F32, F32], |v| {
        v[0] & 0x8000_0000 | v[1] & 0x7fff_ffff
    });
}

/// A subnormal result must be rounded once.
#[test]
fn fma_rounds_once() {
    // 1 + 2^-23 squared is 1 + 2^-22 + 2^-46; minus 1 + 2^-22 leaves 2^-46.
    let x = u64::from(0x3f80_0001u32);
    let rows = vec![vec![x, x, u64::from((-1f32 - 2f32.powi(-22)).to_bits())]];
    let got = common::evaluate("fma.rn.f32 %d, %a, %b, %c;", F32, &[F32; 3], &rows);
    assert_eq!(f(got[0]), 2f32.powi(-46));
}

#[test]
fn min_max() {
    let least = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => f32::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    };
    check("min.f32 %d, %a, %b;", F32, &[F32, F32], |v| out(least(f(v[0]), f(v[1]))));
    check("max.f32 %d, %a, %b;", F32, &[F32, F32], |v| out(-least(-f(v[0]), -f(v[1]))));
    check("max.NaN.f32 %d, %a, %b;", F32, &[F32, F32], |v| {
        let (a, b) = (f(v[0]), f(v[1]));
        out(if a.is_nan() || b.is_nan() { f32::NAN } else { -least(-a, -b) })
    });
}

#[test]
fn f32_functions() {
    check("sqrt.rn.f32 %d, %a;", F32, &[F32], |v| out(f(v[0]).sqrt()));
    check("rcp.rn.f32 %d, %a;", F32, &[F32], |v| out(1.0 / f(v[0])));
    let wide = |g: fn(f64) -> f64| move |v: &[u64]| out(g(f64::from(f(v[0]))) as f32);
    check("rsqrt.approx.f32 %d, %a;", F32, &[F32], wide(|x| 1.0 / x.sqrt()));
    check("ex2.approx.f32 %d, %a;", F32, &[F32], wide(f64::exp2));
    check("lg2.approx.f32 %d, %a;", F32, &[F32], wide(f64::log2));
    check("sin.approx.f32 %d, %a;", F32, &[F32], wide(f64::sin));
    check("cos.approx.f32 %d, %a;", F32, &[F32], wide(f64::cos));
    check("tanh.approx.f32 %d, %a;", F32, &[F32], wide(f64::tanh));
    check("ex2.approx.ftz.f32 %d, %a;", F32, &[F32], |v| {
        out(flush(f64::from(flush(f(v[0]))).exp2() as f32))
    });
}

#[test]
fn f64_arithmetic() {
    let same = |a: u64, b: f64| if b.is_nan() { d(a).is_nan() } else { a == b.to_bits() };
    let rows: Vec<Vec<u64>> = [(0.1, 0.2, 0.3), (1e300, 1e10, -5.0), (-7.5, 0.125, 1e-20)]
        .map(|(a, b, c): (f64, f64, f64)| vec![a.to_bits(), b.to_bits(), c.to_bits()])
        .into();
    type Row = (&'static str, fn(f64, f64, f64) -> f64);
    let table: [Row; 9] = [
        ("add.rn.f64 %d, %a, %b;", |a, b, _| a + b),
        ("sub.f64 %d, %a, %b;", |a, b, _| a - b),
        ("mul.f64 %d, %a, %b;", |a, b, _| a * b),
        ("div.rn.f64 %d, %a, %b;", |a, b, _| a / b),
        ("fma.rn.f64 %d, %a, %b, %c;", f64::mul_add),
        ("sqrt.rn.f64 %d, %b;", |_, b, _| b.sqrt()),
        ("rcp.rn.f64 %d, %b;", |_, b, _| 1.0 / b),
        ("max.f64 %d, %a, %b;", |a, b, _| a.max(b)),
        ("neg.f64 %d, %c;", |_, _, c| -c),
    ];
    for (text, g) in table {
        let got = common::evaluate(text, F64, &[F64; 3], &rows);
        for (r, got) in rows.iter().zip(got) {
            assert!(same(got, g(d(r[0]), d(r[1]), d(r[2]))), "{text} {r:x?}: {got:x}");
        }
    }
}

#[test]
fn comparisons() {
    type Row = (&'static str, fn(f32, f32) -> bool);
    let rows: [Row; 14] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a.partial_cmp(&b).is_some_and(|o| o.is_ne())),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
        ("equ", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_eq())),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_lt())),
        ("leu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_le())),
        ("gtu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_gt())),
        ("geu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_ge())),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, g) in rows {
        let text = |ty: &str| format!("setp.{name}.{ty} %pd, %a, %b;");
        check(&text("f32"), Pred, &[F32, F32], |v| g(f(v[0]), f(v[1])).into());
        check(&text("bf16"), Pred, &[Bf16, Bf16], |v| g(f(v[0] << 16), f(v[1] << 16)).into());
    }
    check("setp.lt.f64 %pd, %a, %b;", Pred, &[F64, F64], |v| (d(v[0]) < d(v[1])).into());
    check("setp.gt.ftz.f32 %pd, %a, %b;", Pred, &[F32, F32], |v| {
        (flush(f(v[0])) > flush(f(v[1]))).into()
    });
    check("testp.subnormal.f32 %pd, %a;", Pred, &[F32], |v| f(v[0]).is_subnormal().into());
    check("testp.finite.f32 %pd, %a;", Pred, &[F32], |v| f(v[0]).is_finite().into());
    check("testp.notanumber.f64 %pd, %a;", Pred, &[F64], |v| d(v[0]).is_nan().into());
}

fn half_out(is_bf16: bool, v: f64) -> u64 {
    if v.is_nan() {
        0x7fff
    } else if is_bf16 {
        bf16::from_f64(v).to_bits().into()
    } else {
        f16::from_f64(v).to_bits().into()
    }
}

fn half_in(is_bf16: bool, v: u64) -> f64 {
    let v = v as u16;
    if is_bf16 { bf16::from_bits(v).to_f64() } else { f16::from_bits(v).to_f64() }
}

#[test]
fn half_arithmetic() {
    for (name, k, b) in [("bf16", Bf16, true), ("f16", F16, false)] {
        let (i, o) = (move |v: u64| half_in(b, v), move |v: f64| half_out(b, v));
        check(&format!("add.rn.{name} %d, %a, %b;"), k, &[k, k], |v| o(i(v[0]) + i(v[1])));
        check(&format!("sub.{name} %d, %a, %b;"), k, &[k, k], |v| o(i(v[0]) - i(v[1])));
        check(&format!("mul.{name} %d, %a, %b;"), k, &[k, k], |v| o(i(v[0]) * i(v[1])));
        check(&format!("neg.{name} %d, %a;"), k, &[k], |v| v[0] ^ 0x8000);
        check(&format!("abs.{name} %d, %a;"), k, &[k], |v| v[0] & 0x7fff);
        // Pairs: the same twice.
        let text = format!("fma.rn.{name}x2 %d, %a, %b, %c;");
        check(&text, I32, &[I32, I32, I32], |v| {
            let one = |s: u32| {
                let x = |v: u64| i(v >> s & 0xffff);
                half_fma(b, x(v[0]), x(v[1]), x(v[2]))
            };
            one(16) << 16 | one(0)
        });
        let text = format!("max.{name}x2 %d, %a, %b;");
        check(&text, I32, &[I32, I32], |v| {
            let one = |s: u32| {
                let (x, y) = (i(v[0] >> s & 0xffff), i(v[1] >> s & 0xffff));
                if x == 0.0 && y == 0.0 {
                    return if x.is_sign_negative() && y.is_sign_negative() { 0x8000 } else { 0 };
                }
                o(x.max(y))
            };
            one(16) << 16 | one(0)
        });
    }
}

/// The product is exact in f64; the sum is decided by its exact remainder where f64 rounds it.
fn half_fma(is_bf16: bool, a: f64, b: f64, c: f64) -> u64 {
    let (p, s) = (a * b, a * b + c);
    let t = s - p;
    let err = (p - (s - t)) + (c - t);
    if s.is_nan() || err == 0.0 || !err.is_finite() {
        return half_out(is_bf16, s);
    }
    // Where f64 is inexact, s is far from every tie but the one it may sit on: lean by the error.
    let lean = if err > 0.0 { s.next_up() } else { s.next_down() };
    half_out(is_bf16, lean)
}

#[test]
fn float_to_float() {
    check("cvt.f64.f32 %d, %a;", F64, &[F32], |v| {
        if f(v[0]).is_nan() { 0x7ff8_0000_0000_0000 } else { f64::from(f(v[0])).to_bits() }
    });
    check("cvt.rn.f32.f64 %d, %a;", F32, &[F64], |v| out(d(v[0]) as f32));
    check("cvt.f32.bf16 %d, %a;", F32, &[Bf16], |v| v[0] << 16);
    check("cvt.f32.f16 %d, %a;", F32, &[F16], |v| out(f16::from_bits(v[0] as u16).to_f32()));
    check("cvt.rn.bf16.f32 %d, %a;", Bf16, &[F32], |v| half_out(true, f(v[0]).into()));
    check("cvt.rn.f16.f32 %d, %a;", F16, &[F32], |v| half_out(false, f(v[0]).into()));
    check("cvt.rn.bf16x2.f32 %d, %a, %b;", I32, &[F32, F32], |v| {
        half_out(true, f(v[0]).into()) << 16 | half_out(true, f(v[1]).into())
    });
    check("cvt.rn.f16x2.f32 %d, %a, %b;", I32, &[F32, F32], |v| {
        half_out(false, f(v[0]).into()) << 16 | half_out(false, f(v[1]).into())
    });
    check("cvt.rn.relu.bf16.f32 %d, %a;", Bf16, &[F32], |v| {
        let x = f(v[0]);
        if x <= 0.0 { 0 } else { half_out(true, x.into()) }
    });
    // Truncation drops bits.
    check("cvt.rz.bf16.f32 %d, %a;", Bf16, &[F32], |v| {
        if f(v[0]).is_nan() { 0x7fff } else { v[0] >> 16 }
    });
    check("cvt.rna.tf32.f32 %d, %a;", I32, &[F32], |v| {
        let x = f(v[0]);
        if x.is_finite() { (v[0] + 0x1000) & !0x1fff } else { out(x) }
    });
    check("cvt.sat.f32.f32 %d, %a;", F32, &[F32], |v| {
        let x = f(v[0]);
        if x > 0.0 { out(x.min(1.0)) } else { 0 }
    });
    type Row = (&'static str, fn(f32) -> f32);
    let rows: [Row; 4] = [
        ("rni", f32::round_ties_even),
        ("rzi", f32::trunc),
        ("rmi", f32::floor),
        ("rpi", f32::ceil),
    ];
    for (name, g) in rows {
        check(&format!("cvt.{name}.f32.f32 %d, %a;"), F32, &[F32], |v| out(g(f(v[0]))));
    }
    // Directed rounding brackets the value.
    check("cvt.rp.f32.f64 %d, %a;", F32, &[F64], |v| {
        let x = d(v[0]);
        let near = x as f32;
        out(if f64::from(near) < x { near.next_up() } else { near })
    });
    check("cvt.rm.f32.f64 %d, %a;", F32, &[F64], |v| {
        let x = d(v[0]);
        let near = x as f32;
        out(if f64::from(near) > x { near.next_down() } else { near })
    });
}

#[test]
fn float_to_int() {
    let clamp = |x: f64, lo: f64, hi: f64| if x.is_nan() { 0.0 } else { x.clamp(lo, hi) };
    check("cvt.rzi.s32.f32 %d, %a;", I32, &[F32], |v| (f(v[0]) as i32) as u32 as u64);
    check("cvt.rzi.u32.f32 %d, %a;", I32, &[F32], |v| (f(v[0]) as u32).into());
    check("cvt.rni.s32.f32 %d, %a;", I32, &[F32], |v| {
        (f(v[0]).round_ties_even() as i32) as u32 as u64
    });
    check("cvt.rmi.s32.f32 %d, %a;", I32, &[F32], |v| (f(v[0]).floor() as i32) as u32 as u64);
    check("cvt.rpi.s32.f32 %d, %a;", I32, &[F32], |v| (f(v[0]).ceil() as i32) as u32 as u64);
    check("cvt.rzi.s16.f32 %d, %a;", I16, &[F32], |v| {
        clamp(f(v[0]).into(), -32768.0, 32767.0) as i16 as u16 as u64
    });
    check("cvt.rzi.s64.f32 %d, %a;", I64, &[F32], |v| {
        let x = f(v[0]);
        if x.is_nan() { 1 << 63 } else { x as i64 as u64 }
    });
    check("cvt.rzi.u64.f64 %d, %a;", I64, &[F64], |v| {
        if d(v[0]).is_nan() { 1 << 63 } else { d(v[0]) as u64 }
    });
}

#[test]
fn int_to_float() {
    check("cvt.rn.f32.s32 %d, %a;", F32, &[I32], |v| out(v[0] as i32 as f32));
    check("cvt.rn.f32.u32 %d, %a;", F32, &[I32], |v| out(v[0] as u32 as f32));
    check("cvt.rn.f32.s64 %d, %a;", F32, &[I64], |v| out(v[0] as i64 as f32));
    check("cvt.rn.f32.u64 %d, %a;", F32, &[I64], |v| out(v[0] as f32));
    check("cvt.rn.f64.u64 %d, %a;", F64, &[I64], |v| (v[0] as f64).to_bits());
    check("cvt.rn.f64.s32 %d, %a;", F64, &[I32], |v| f64::from(v[0] as i32).to_bits());
    check("cvt.rn.f32.u16 %d, %a;", F32, &[I16], |v| out(v[0] as f32));
    check("cvt.rn.bf16.s32 %d, %a;", Bf16, &[I32], |v| half_out(true, (v[0] as i32).into()));
}

#[test]
fn int_to_int() {
    check("cvt.u64.u32 %d, %a;", I64, &[I32], |v| v[0]);
    check("cvt.s64.s32 %d, %a;", I64, &[I32], |v| v[0] as i32 as i64 as u64);
    check("cvt.u32.u64 %d, %a;", I32, &[I64], |v| v[0] as u32 as u64);
    check("cvt.s32.s8 %d, %a;", I32, &[I32], |v| v[0] as i8 as i32 as u32 as u64);
    check("cvt.u32.u8 %d, %a;", I32, &[I32], |v| v[0] & 0xff);
    check("cvt.s16.s8 %d, %a;", I16, &[I32], |v| v[0] as i8 as u16 as u64);
    check("cvt.u16.u32 %d, %a;", I16, &[I32], |v| v[0] & 0xffff);
    check("cvt.s64.s16 %d, %a;", I64, &[I16], |v| v[0] as i16 as i64 as u64);
    check("cvt.sat.s16.s32 %d, %a;", I16, &[I32], |v| {
        (v[0] as i32).clamp(-32768, 32767) as u16 as u64
    });
    check("cvt.sat.u8.s32 %d, %a;", Kind::I32, &[I32], |v| (v[0] as i32).clamp(0, 255) as u64);
}
