//! Every conversion between floating-point types and integers, against arithmetic on the bits that
//! shares nothing with the emulator: ties, NaN, infinities, subnormals, overflow, saturation. What
//! `half` can do is held against it as well.

mod common;

use common::Kind::{F32, F64, I16, I32, I64};
use common::exact::{FORMATS, Format, Number, ROUNDINGS, Rounding, all, shifted};
use common::{Kind, evaluate};
use half::{bf16, f16};

/// The reference itself against `half` and the language, which round to nearest. From f64 `half` rounds
/// twice.
#[test]
fn the_reference_agrees_with_half_and_with_casts() {
    let [b, h, single, double] = FORMATS;
    let near = |from: Format, to: Format, v: u64| to.bits(from.number(v), Rounding::Nearest);
    for v in single.values() {
        let x = f32::from_bits(v as u32);
        if !x.is_nan() {
            assert_eq!(near(single, b, v), u64::from(bf16::from_f32(x).to_bits()), "{x:e}");
            assert_eq!(near(single, h, v), u64::from(f16::from_f32(x).to_bits()), "{x:e}");
            assert_eq!(near(single, double, v), f64::from(x).to_bits(), "{x:e}");
        }
    }
    for v in double.values() {
        let x = f64::from_bits(v);
        if !x.is_nan() {
            assert_eq!(near(double, single, v), u64::from((x as f32).to_bits()), "{x:e}");
        }
    }
    for v in b.values().into_iter().filter(|&v| b.number(v) != Number::Nan) {
        assert_eq!(near(b, single, v), v << 16);
    }
}

#[test]
fn between_floats() {
    for (from, to) in FORMATS.iter().flat_map(|from| FORMATS.map(|to| (*from, to))) {
        let values = from.values();
        if from == to {
            continue;
        }
        // What widens rounds nothing and names no rounding.
        let widens = from.exponent <= to.exponent && from.mantissa <= to.mantissa;
        let roundings = if widens { &[("", Rounding::Zero)][..] } else { &ROUNDINGS };
        for (name, rounding) in roundings {
            let dot = if widens { "" } else { "." };
            let text = format!("cvt{dot}{name}.{}.{} %d, %a;", to.name, from.name);
            all(&text, to.kind, from.kind, &values, |v| {
                // bf16 is the upper half of an f32, NaN and all.
                let shift = from.name == "bf16" && to.name == "f32";
                if shift { v << 16 } else { to.bits(from.number(v), *rounding) }
            });
        }
    }
}

#[test]
fn floats_to_themselves_as_whole_numbers() {
    let roundings = [
        ("rni", Rounding::Nearest),
        ("rzi", Rounding::Zero),
        ("rmi", Rounding::Down),
        ("rpi", Rounding::Up),
    ];
    for format in [FORMATS[2], FORMATS[3]] {
        for (name, rounding) in roundings {
            let text = format!("cvt.{name}.{0}.{0} %d, %a;", format.name);
            all(&text, format.kind, format.kind, &format.values(), |v| match format.number(v) {
                Number::Finite { negative, digits, power } if power < 0 => {
                    let digits = shifted(digits, power, rounding, negative);
                    format.bits(Number::Finite { negative, digits, power: 0 }, rounding)
                }
                Number::Nan => format.nan,
                _ => v,
            });
        }
    }
}

#[test]
fn pairs() {
    let single = FORMATS[2];
    let values = single.values();
    // Each value above, another below.
    let rows: Vec<Vec<u64>> =
        values.iter().zip(values.iter().rev()).map(|(&a, &b)| vec![a, b]).collect();
    for to in [FORMATS[0], FORMATS[1]] {
        for (name, rounding) in [ROUNDINGS[0], ROUNDINGS[1]] {
            for relu in ["", ".relu"] {
                let text = format!("cvt.{name}{relu}.{}x2.f32 %d, %a, %b;", to.name);
                let one = |v: u64| {
                    let bits = to.bits(single.number(v), rounding);
                    // Below zero and -0 are 0; NaN stays.
                    if !relu.is_empty() && bits & 0x8000 != 0 { 0 } else { bits }
                };
                for (row, got) in rows.iter().zip(evaluate(&text, I32, &[F32, F32], &rows)) {
                    let want = one(row[0]) << 16 | one(row[1]);
                    assert!(got == want, "{text} of {row:#x?}: {got:#x}, expected {want:#x}");
                }
            }
        }
    }
}

#[test]
fn saturated_floats() {
    for (from, to) in [(2, 2), (3, 2), (3, 3)].map(|(from, to)| (FORMATS[from], FORMATS[to])) {
        let rn = if from == to { "" } else { ".rn" };
        let text = format!("cvt{rn}.sat.{}.{} %d, %a;", to.name, from.name);
        let one = to.bits(Number::Finite { negative: false, digits: 1, power: 0 }, Rounding::Zero);
        all(&text, to.kind, from.kind, &from.values(), |v| match from.number(v) {
            Number::Nan | Number::Infinite { negative: true } => 0,
            Number::Finite { negative: true, .. } => 0,
            number => to.bits(number, Rounding::Nearest).min(one),
        });
    }
}

#[test]
fn subnormals_are_flushed_where_asked() {
    let (single, double) = (FORMATS[2], FORMATS[3]);
    let flush = |v: u64| if v & 0x7f80_0000 == 0 { v & 0x8000_0000 } else { v };
    all("cvt.ftz.f64.f32 %d, %a;", F64, F32, &single.values(), |v| {
        double.bits(single.number(flush(v)), Rounding::Zero)
    });
    all("cvt.rn.ftz.f32.f64 %d, %a;", F32, F64, &double.values(), |v| {
        flush(single.bits(double.number(v), Rounding::Nearest))
    });
}

/// Integer types: name, register, bits, sign.
const INTEGERS: [(&str, Kind, u32, bool); 6] = [
    ("u16", I16, 16, false),
    ("s16", I16, 16, true),
    ("u32", I32, 32, false),
    ("s32", I32, 32, true),
    ("u64", I64, 64, false),
    ("s64", I64, 64, true),
];

fn least_and_most(bits: u32, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// Out of range is clamped. NaN is 0, or the top bit alone where f64 or 64 bits are involved.
#[test]
fn floats_to_integers() {
    let roundings = [
        ("rni", Rounding::Nearest),
        ("rzi", Rounding::Zero),
        ("rmi", Rounding::Down),
        ("rpi", Rounding::Up),
    ];
    for from in FORMATS {
        // The unit is at most 2^971, and beyond 2^64 everything is clamped.
        let whole = |negative: bool, digits: u128, power: i32, rounding| {
            let size =
                if power > 70 { 1 << 80 } else { shifted(digits, power, rounding, negative) };
            if negative { -(size as i128) } else { size as i128 }
        };
        for ((name, kind, bits, signed), (by, rounding)) in
            INTEGERS.iter().flat_map(|to| roundings.map(|rounding| (*to, rounding)))
        {
            let (least, most) = least_and_most(bits, signed);
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let text = format!("cvt.{by}.{name}.{} %d, %a;", from.name);
            all(&text, kind, from.kind, &from.values(), |v| {
                let number = match from.number(v) {
                    Number::Nan if from.name == "f64" || bits == 64 => return 1 << (bits - 1),
                    Number::Nan => 0,
                    Number::Infinite { negative: true } => least,
                    Number::Infinite { negative: false } => most,
                    // Only a zero has no digits, at whatever power.
                    Number::Finite { digits: 0, .. } => 0,
                    Number::Finite { negative, digits, power } => {
                        whole(negative, digits, power, rounding).clamp(least, most)
                    }
                };
                number as u64 & mask
            });
        }
    }
}

/// Whole numbers around every power of two, and those that lie on ties of the narrower formats.
fn integers(bits: u32) -> Vec<u64> {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let mut values = vec![0, mask];
    for power in 0..bits {
        let top = 1u64 << power;
        values.extend([top, top - 1, top + 1]);
        for kept in [7, 8, 10, 11, 23, 24, 52, 53].into_iter().filter(|&kept| kept < power) {
            let (unit, half) = (1u64 << (power - kept), 1u64 << (power - kept - 1));
            for below in [0, unit, top - unit] {
                values.extend([top + below + half, top + below + half - 1, top + below + half + 1]);
            }
        }
    }
    values.extend(values.clone().into_iter().map(|v| v.wrapping_neg()));
    values.into_iter().map(|v| v & mask).collect()
}

#[test]
fn integers_to_floats() {
    for (name, kind, bits, signed) in INTEGERS {
        for to in FORMATS {
            for (by, rounding) in ROUNDINGS {
                let text = format!("cvt.{by}.{}.{name} %d, %a;", to.name);
                all(&text, to.kind, kind, &integers(bits), |v| {
                    let negative = signed && v >> (bits - 1) != 0;
                    let digits = if negative { (1 << bits) - u128::from(v) } else { v.into() };
                    to.bits(Number::Finite { negative, digits, power: 0 }, rounding)
                });
            }
        }
    }
}

#[test]
fn integers_to_integers() {
    for (from_name, from_kind, from_bits, from_signed) in INTEGERS {
        for (to_name, to_kind, to_bits, to_signed) in INTEGERS {
            let mask = if to_bits == 64 { u64::MAX } else { (1 << to_bits) - 1 };
            let value = |v: u64| {
                let negative = from_signed && v >> (from_bits - 1) != 0;
                if negative { i128::from(v) - (1 << from_bits) } else { v.into() }
            };
            let (least, most) = least_and_most(to_bits, to_signed);
            let values = integers(from_bits);
            let text = format!("cvt.{to_name}.{from_name} %d, %a;");
            all(&text, to_kind, from_kind, &values, |v| value(v) as u64 & mask);
            let text = format!("cvt.sat.{to_name}.{from_name} %d, %a;");
            all(&text, to_kind, from_kind, &values, |v| value(v).clamp(least, most) as u64 & mask);
        }
    }
}
