//! Integer, logic and move instructions against the same in Rust.

mod common;

use common::Kind::{F32, I16, I32, I64, Pred, Small};
use common::{Kind, check, evaluate};

fn s16(v: u64) -> i64 {
    i64::from(v as i16)
}

fn s32(v: u64) -> i64 {
    i64::from(v as i32)
}

fn w16(v: i64) -> u64 {
    v as u64 & 0xffff
}

fn w32(v: i64) -> u64 {
    v as u64 & 0xffff_ffff
}

#[test]
fn add_sub_mul() {
    check("add.u32 %d, %a, %b;", I32, &[I32, I32], |v| w32((v[0] + v[1]) as i64));
    check("add.s64 %d, %a, %b;", I64, &[I64, I64], |v| v[0].wrapping_add(v[1]));
    check("add.s16 %d, %a, %b;", I16, &[I16, I16], |v| w16(s16(v[0]) + s16(v[1])));
    check("add.sat.s32 %d, %a, %b;", I32, &[I32, I32], |v| {
        w32((s32(v[0]) + s32(v[1])).clamp(i32::MIN.into(), i32::MAX.into()))
    });
    check("sub.s32 %d, %a, %b;", I32, &[I32, I32], |v| w32(s32(v[0]) - s32(v[1])));
    check("sub.u16 %d, %a, %b;", I16, &[I16, I16], |v| w16(v[0] as i64 - v[1] as i64));
    check("sub.u64 %d, %a, %b;", I64, &[I64, I64], |v| v[0].wrapping_sub(v[1]));
    check("mul.lo.s32 %d, %a, %b;", I32, &[I32, I32], |v| w32(s32(v[0]).wrapping_mul(s32(v[1]))));
    check("mul.lo.s16 %d, %a, %b;", I16, &[I16, I16], |v| w16(s16(v[0]) * s16(v[1])));
    check("mul.lo.u64 %d, %a, %b;", I64, &[I64, I64], |v| v[0].wrapping_mul(v[1]));
    check("mul.hi.u32 %d, %a, %b;", I32, &[I32, I32], |v| (v[0] * v[1]) >> 32);
    check("mul.hi.s32 %d, %a, %b;", I32, &[I32, I32], |v| w32((s32(v[0]) * s32(v[1])) >> 32));
    check("mul.hi.s16 %d, %a, %b;", I16, &[I16, I16], |v| w16((s16(v[0]) * s16(v[1])) >> 16));
    check("mul.hi.u16 %d, %a, %b;", I16, &[I16, I16], |v| (v[0] * v[1]) >> 16);
    check("mul.hi.u64 %d, %a, %b;", I64, &[I64, I64], |v| {
        ((u128::from(v[0]) * u128::from(v[1])) >> 64) as u64
    });
    check("mul.hi.s64 %d, %a, %b;", I64, &[I64, I64], |v| {
        ((i128::from(v[0] as i64) * i128::from(v[1] as i64)) >> 64) as u64
    });
    check("mul.wide.u32 %d, %a, %b;", I64, &[I32, I32], |v| v[0] * v[1]);
    check("mul.wide.s32 %d, %a, %b;", I64, &[I32, I32], |v| (s32(v[0]) * s32(v[1])) as u64);
    check("mul.wide.s16 %d, %a, %b;", I32, &[I16, I16], |v| w32(s16(v[0]) * s16(v[1])));
    check("mul.wide.u16 %d, %a, %b;", I32, &[I16, I16], |v| v[0] * v[1]);
}

#[test]
fn mad() {
    check("mad.lo.s32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| {
        w32(s32(v[0]).wrapping_mul(s32(v[1])).wrapping_add(s32(v[2])))
    });
    check(
        "mad.lo.u16 %d, %a, %b, %c;",
        I16,
        &[I16, I16, I16],
        |v| w16((v[0] * v[1] + v[2]) as i64),
    );
    check("mad.lo.s64 %d, %a, %b, %c;", I64, &[I64, I64, I64], |v| {
        v[0].wrapping_mul(v[1]).wrapping_add(v[2])
    });
    check("mad.hi.u32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| {
        w32((((v[0] * v[1]) >> 32) + v[2]) as i64)
    });
    check("mad.hi.s32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| {
        w32(((s32(v[0]) * s32(v[1])) >> 32) + s32(v[2]))
    });
    check("mad.wide.u32 %d, %a, %b, %c;", I64, &[I32, I32, I64], |v| {
        (v[0] * v[1]).wrapping_add(v[2])
    });
    check("mad.wide.s32 %d, %a, %b, %c;", I64, &[I32, I32, I64], |v| {
        ((s32(v[0]) * s32(v[1])) as u64).wrapping_add(v[2])
    });
    check("mad.wide.s16 %d, %a, %b, %c;", I32, &[I16, I16, I32], |v| {
        w32(s16(v[0]) * s16(v[1]) + s32(v[2]))
    });
    check("sad.s32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| {
        w32((s32(v[0]) - s32(v[1])).abs() + v[2] as i64)
    });
}

/// The carry chain of a 128-bit sum, as LLVM prints it.
#[test]
fn carries() {
    let text = ".reg .b64 %l; add.cc.s64 %l, %a, %a; addc.cc.s64 %d, %b, %b; addc.s64 %d, 0, 0;";
    let wide = |v: &[u64]| u128::from(v[1]) << 64 | u128::from(v[0]);
    check(text, I64, &[I64, I64], |v| (wide(v) >> 127) as u64);
    let text = ".reg .b64 %l; add.cc.s64 %l, %a, %b; addc.s64 %d, %b, %a;";
    check(text, I64, &[I64, I64], |v| {
        let (x, y) = (u128::from(v[1]) << 64 | u128::from(v[0]), wide(&[v[1], v[0]]));
        (x.wrapping_add(y) >> 64) as u64
    });
    let text = ".reg .b32 %l; sub.cc.u32 %l, %a, %b; subc.u32 %d, %b, %a;";
    check(text, I32, &[I32, I32], |v| {
        w32(((v[1] << 32 | v[0]).wrapping_sub(v[0] << 32 | v[1]) >> 32) as i64)
    });
}

#[test]
fn div_rem() {
    let some = |v: u64| v | 1;
    let or = "or.b32 %b, %b, 1;";
    check(&format!("{or} div.u32 %d, %a, %b;"), I32, &[I32, I32], |v| v[0] / some(v[1]));
    check(&format!("{or} rem.u32 %d, %a, %b;"), I32, &[I32, I32], |v| v[0] % some(v[1]));
    check(&format!("{or} div.s32 %d, %a, %b;"), I32, &[I32, I32], |v| {
        w32(s32(v[0]) / s32(some(v[1])))
    });
    check(&format!("{or} rem.s32 %d, %a, %b;"), I32, &[I32, I32], |v| {
        w32(s32(v[0]) % s32(some(v[1])))
    });
    let or = "or.b16 %b, %b, 1;";
    check(&format!("{or} div.s16 %d, %a, %b;"), I16, &[I16, I16], |v| {
        w16(s16(v[0]) / s16(some(v[1])))
    });
    check(&format!("{or} rem.u16 %d, %a, %b;"), I16, &[I16, I16], |v| v[0] % some(v[1]));
    let or = "or.b64 %b, %b, 1;";
    check(&format!("{or} div.s64 %d, %a, %b;"), I64, &[I64, I64], |v| {
        (v[0] as i64).wrapping_div(some(v[1]) as i64) as u64
    });
    check(&format!("{or} rem.u64 %d, %a, %b;"), I64, &[I64, I64], |v| v[0] % some(v[1]));
}

#[test]
fn min_max() {
    check("min.u32 %d, %a, %b;", I32, &[I32, I32], |v| v[0].min(v[1]));
    check("max.s32 %d, %a, %b;", I32, &[I32, I32], |v| w32(s32(v[0]).max(s32(v[1]))));
    check("min.s16 %d, %a, %b;", I16, &[I16, I16], |v| w16(s16(v[0]).min(s16(v[1]))));
    check("max.u16 %d, %a, %b;", I16, &[I16, I16], |v| v[0].max(v[1]));
    check("min.s64 %d, %a, %b;", I64, &[I64, I64], |v| (v[0] as i64).min(v[1] as i64) as u64);
    check("max.u64 %d, %a, %b;", I64, &[I64, I64], |v| v[0].max(v[1]));
}

#[test]
fn logic() {
    for (bits, k) in [(16, I16), (32, I32), (64, I64)] {
        let mask = u64::MAX >> (64 - bits);
        check(&format!("and.b{bits} %d, %a, %b;"), k, &[k, k], |v| v[0] & v[1]);
        check(&format!("or.b{bits} %d, %a, %b;"), k, &[k, k], |v| v[0] | v[1]);
        check(&format!("xor.b{bits} %d, %a, %b;"), k, &[k, k], |v| v[0] ^ v[1]);
        check(&format!("not.b{bits} %d, %a;"), k, &[k], |v| !v[0] & mask);
        check(&format!("cnot.b{bits} %d, %a;"), k, &[k], |v| u64::from(v[0] == 0));
        check(&format!("neg.s{bits} %d, %a;"), k, &[k], |v| v[0].wrapping_neg() & mask);
        let sign = move |v: u64| ((v << (64 - bits)) as i64) >> (64 - bits);
        check(&format!("abs.s{bits} %d, %a;"), k, &[k], |v| sign(v[0]).unsigned_abs() & mask);
    }
    check("and.pred %pd, %pa, %pb;", Pred, &[Pred, Pred], |v| v[0] & v[1]);
    check("or.pred %pd, %pa, %pb;", Pred, &[Pred, Pred], |v| v[0] | v[1]);
    check("xor.pred %pd, %pa, %pb;", Pred, &[Pred, Pred], |v| v[0] ^ v[1]);
    check("not.pred %pd, %pa;", Pred, &[Pred], |v| 1 - v[0]);
    check("mov.pred %pd, %pa;", Pred, &[Pred], |v| v[0]);
    check("lop3.b32 %d, %a, %b, %c, 0xCA;", I32, &[I32, I32, I32], |v| {
        (v[0] & v[1]) | (!v[0] & v[2])
    });
    check("lop3.b32 %d, %a, %b, %c, 0x96;", I32, &[I32, I32, I32], |v| v[0] ^ v[1] ^ v[2]);
}

#[test]
fn shifts() {
    for (bits, k) in [(16u64, I16), (32, I32), (64, I64)] {
        let mask = u64::MAX >> (64 - bits);
        let sign = move |v: u64| ((v << (64 - bits)) as i64) >> (64 - bits);
        check(&format!("shl.b{bits} %d, %a, %b;"), k, &[k, Small], |v| {
            if v[1] >= bits { 0 } else { v[0] << v[1] & mask }
        });
        check(&format!("shr.u{bits} %d, %a, %b;"), k, &[k, Small], |v| {
            if v[1] >= bits { 0 } else { v[0] >> v[1] }
        });
        check(&format!("shr.s{bits} %d, %a, %b;"), k, &[k, Small], |v| {
            (sign(v[0]) >> v[1].min(bits - 1)) as u64 & mask
        });
    }
    let funnel = |v: &[u64]| v[1] << 32 | v[0];
    check("shf.l.wrap.b32 %d, %a, %b, %c;", I32, &[I32, I32, Small], |v| {
        funnel(v) << (v[2] & 31) >> 32
    });
    check("shf.r.wrap.b32 %d, %a, %b, %c;", I32, &[I32, I32, Small], |v| {
        w32((funnel(v) >> (v[2] & 31)) as i64)
    });
    check("shf.l.clamp.b32 %d, %a, %b, %c;", I32, &[I32, I32, Small], |v| {
        if v[2] >= 32 { v[0] } else { funnel(v) << v[2] >> 32 }
    });
    check("shf.r.clamp.b32 %d, %a, %b, %c;", I32, &[I32, I32, Small], |v| {
        if v[2] >= 32 { v[1] } else { w32((funnel(v) >> v[2]) as i64) }
    });
}

#[test]
fn bits() {
    check("clz.b32 %d, %a;", I32, &[I32], |v| u64::from((v[0] as u32).leading_zeros()));
    check("clz.b64 %d, %a;", I32, &[I64], |v| u64::from(v[0].leading_zeros()));
    check("popc.b32 %d, %a;", I32, &[I32], |v| u64::from(v[0].count_ones()));
    check("popc.b64 %d, %a;", I32, &[I64], |v| u64::from(v[0].count_ones()));
    check("brev.b32 %d, %a;", I32, &[I32], |v| u64::from((v[0] as u32).reverse_bits()));
    check("brev.b64 %d, %a;", I64, &[I64], |v| v[0].reverse_bits());
    check("bfind.u32 %d, %a;", I32, &[I32], |v| {
        if v[0] == 0 { 0xffff_ffff } else { u64::from(v[0].ilog2()) }
    });
    check("bfind.s32 %d, %a;", I32, &[I32], |v| {
        let x = if s32(v[0]) < 0 { w32(!s32(v[0])) } else { v[0] };
        if x == 0 { 0xffff_ffff } else { u64::from(x.ilog2()) }
    });
    check("bfind.shiftamt.u64 %d, %a;", I32, &[I64], |v| {
        if v[0] == 0 { 0xffff_ffff } else { u64::from(v[0].leading_zeros()) }
    });
}

/// The ISA's pseudocode, bit by bit.
#[test]
fn fields() {
    for (bits, k) in [(32u64, I32), (64, I64)] {
        for signed in [false, true] {
            let ty = if signed { "s" } else { "u" };
            check(&format!("bfe.{ty}{bits} %d, %a, %b, %c;"), k, &[k, Small, Small], |v| {
                let (pos, len, msb) = (v[1], v[2], bits - 1);
                let sign =
                    if !signed || len == 0 { 0 } else { v[0] >> (pos + len - 1).min(msb) & 1 };
                (0..bits).fold(0, |d, i| {
                    let bit = if i < len && pos + i <= msb { v[0] >> (pos + i) & 1 } else { sign };
                    d | bit << i
                })
            });
        }
        let text = format!("bfi.b{bits} %d, %a, %b, %c, %e;");
        check(&text, k, &[k, k, Small, Small], |v| {
            let (pos, len) = (v[2], v[3]);
            (0..len)
                .filter(|i| pos + i < bits)
                .fold(v[1], |d, i| (d & !(1 << (pos + i))) | (v[0] >> i & 1) << (pos + i))
        });
    }
    check("prmt.b32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| {
        let bytes: Vec<u8> = (v[1] << 32 | v[0]).to_le_bytes().to_vec();
        (0..4).fold(0, |d, i| {
            let nibble = v[2] >> (4 * i) & 15;
            let b = bytes[nibble as usize & 7];
            let b = if nibble & 8 != 0 { if b & 0x80 != 0 { 0xff } else { 0 } } else { b };
            d | u64::from(b) << (8 * i)
        })
    });
}

#[test]
fn moves() {
    check("mov.b32 %d, %a;", I32, &[I32], |v| v[0]);
    check("mov.b64 %d, %a;", I64, &[I64], |v| v[0]);
    check("mov.b16 %d, %a;", I16, &[I16], |v| v[0]);
    check("mov.b64 %d, {%a, %b};", I64, &[I32, I32], |v| v[1] << 32 | v[0]);
    check("mov.b32 %d, {%a, %b};", I32, &[I16, I16], |v| v[1] << 16 | v[0]);
    check("mov.b64 %d, {%a, %b, %c, %e};", I64, &[I16; 4], |v| {
        v[3] << 48 | v[2] << 32 | v[1] << 16 | v[0]
    });
    check("mov.b64 {_, %d}, %a;", I32, &[I64], |v| v[0] >> 32);
    check("mov.b64 {%d, _}, %a;", I32, &[I64], |v| w32(v[0] as i64));
    check("mov.b32 {_, %d}, %a;", I16, &[I32], |v| v[0] >> 16);
    check("mov.u32 %d, -5;", I32, &[I32], |_| w32(-5));
    check("mov.b32 %d, 0f3F800000;", I32, &[I32], |_| 0x3f80_0000);
    check("mov.f64 %d, 0d3FF0000000000000;", I64, &[I32], |_| 1f64.to_bits());
    check(
        "{ .reg .b32 %a; mov.b32 %a, 9; mov.b32 %d, %a; } add.u32 %d, %d, %a;",
        I32,
        &[I32],
        |v| w32(v[0] as i64 + 9),
    );
}

#[test]
fn selections() {
    check("selp.b32 %d, %a, %b, %pc;", I32, &[I32, I32, Pred], |v| v[1 - v[2] as usize]);
    check("selp.b64 %d, %a, %b, !%pc;", I64, &[I64, I64, Pred], |v| v[v[2] as usize]);
    check("selp.b16 %d, %a, %b, %pc;", I16, &[I16, I16, Pred], |v| v[1 - v[2] as usize]);
    check("slct.u32.s32 %d, %a, %b, %c;", I32, &[I32, I32, I32], |v| v[usize::from(s32(v[2]) < 0)]);
    check("slct.b64.f32 %d, %a, %b, %c;", I64, &[I64, I64, F32], |v| {
        let c = f32::from_bits(v[2] as u32);
        if c >= 0.0 { v[0] } else { v[1] }
    });
}

#[test]
fn comparisons() {
    type Row = (&'static str, fn(i64, i64) -> bool);
    let rows: [Row; 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, f) in rows {
        let set = |ty: &str| format!("setp.{name}.{ty} %pd, %a, %b;");
        check(&set("s32"), Pred, &[I32, I32], |v| f(s32(v[0]), s32(v[1])).into());
        check(&set("u32"), Pred, &[I32, I32], |v| f(v[0] as i64, v[1] as i64).into());
        check(&set("s16"), Pred, &[I16, I16], |v| f(s16(v[0]), s16(v[1])).into());
        check(&set("u16"), Pred, &[I16, I16], |v| f(v[0] as i64, v[1] as i64).into());
        check(&set("s64"), Pred, &[I64, I64], |v| f(v[0] as i64, v[1] as i64).into());
        let flip = |v: u64| (v ^ 1 << 63) as i64;
        check(&set("u64"), Pred, &[I64, I64], |v| f(flip(v[0]), flip(v[1])).into());
    }
    check("setp.hi.u32 %pd, %a, %b;", Pred, &[I32, I32], |v| u64::from(v[0] > v[1]));
    let both = "setp.lt.and.s32 %pd|%pa, %a, %b, !%pc;";
    check(both, Pred, &[I32, I32, Pred], |v| u64::from(s32(v[0]) < s32(v[1]) && v[2] == 0));
    let second = "setp.lt.or.s32 _|%pd, %a, %b, %pc;";
    check(second, Pred, &[I32, I32, Pred], |v| u64::from(s32(v[0]) >= s32(v[1]) || v[2] == 1));
}

#[test]
fn special_registers() {
    let text = "mov.u32 %d, %laneid; { .reg .b32 %q; mov.u32 %q, %lanemask_lt; \
                popc.b32 %q, %q; sub.u32 %d, %d, %q; }";
    let rows = vec![vec![0]; 64];
    assert!(evaluate(text, I32, &[I32], &rows).iter().all(|v| *v == 0));
    let text = "mov.u32 %d, %warpid; mad.lo.u32 %d, %d, 32, WARP_SZ;";
    let got = evaluate(text, Kind::I32, &[I32], &rows);
    assert_eq!((got[31], got[32]), (32, 64));
}
