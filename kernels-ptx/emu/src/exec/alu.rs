//! Integers, logic, moves, comparisons: 32 lanes at a time.

use super::cvt;
use super::float;
use super::regs::{LANES, Regs, Row32, Row64, lanes, mask_of};
use crate::ast::Ty;
use crate::error::{Exec, FaultKind, bad};
use crate::ir::{Alu, Bool, Cmp, Int1, Int2, Int3, Reg, Slot};
use crate::memory::window;

#[inline(always)]
pub(super) fn map<T: Copy, U>(x: &[T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    std::array::from_fn(|l| f(x[l]))
}

#[inline(always)]
pub(super) fn zip<T: Copy, V: Copy, U>(
    x: &[T; LANES],
    y: &[V; LANES],
    f: impl Fn(T, V) -> U,
) -> [U; LANES] {
    std::array::from_fn(|l| f(x[l], y[l]))
}

/// `seed`: of the errors of approximations.
pub(super) fn run(r: &mut Regs, op: &Alu, m: u32, seed: Option<u64>) -> Exec {
    match op {
        Alu::Mov32(d, a) => {
            let v = *r.get32(*a);
            r.put32(*d, &v, m);
        }
        Alu::Mov64(d, a) => {
            let v = *r.get64(*a);
            r.put64(*d, &v, m);
        }
        Alu::MovPred(d, a) => r.put_pred(*d, r.pred[*a as usize], m),
        Alu::NotPred(d, a) => r.put_pred(*d, !r.pred[*a as usize], m),
        Alu::Pred2(op, d, a, b) => {
            let v = boolean(*op, r.pred[*a as usize], r.pred[*b as usize]);
            r.put_pred(*d, v, m);
        }
        Alu::Pack { d, parts, n } => {
            let bits = if matches!((d, n), (Reg::R64(_), 2)) { 32 } else { 16 };
            let mut v = [0u64; LANES];
            for (i, p) in parts[..*n as usize].iter().enumerate() {
                let part = r.get32(*p);
                for l in 0..LANES {
                    v[l] |= u64::from(part[l]) << (i * bits);
                }
            }
            r.put(*d, &v, m);
        }
        Alu::Unpack { parts, n, a } => {
            let v = r.get(*a);
            let (bits, keep) =
                if matches!((a, n), (Reg::R64(_), 2)) { (32, u32::MAX) } else { (16, 0xffff) };
            for (i, p) in parts[..*n as usize].iter().enumerate() {
                r.put32(*p, &map(&v, |x| (x >> (i * bits)) as u32 & keep), m);
            }
        }
        Alu::Int1 { op, ty, d, a } => {
            let v = map(&r.get(*a), |x| int1(*op, *ty, x));
            r.put(*d, &v, m);
        }
        Alu::I32(op, signed, d, a, b) => {
            let (x, y) = (r.get32(*a), r.get32(*b));
            check_divisor(*op, m, |l| y[l] == 0)?;
            let v = i32x2(*op, *signed, x, y);
            r.put32(*d, &v, m);
        }
        Alu::I16(op, signed, d, a, b) => {
            let (x, y) = (*r.get32(*a), *r.get32(*b));
            check_divisor(*op, m, |l| y[l] & 0xffff == 0)?;
            let v = i16x2(*op, *signed, &x, &y);
            r.put32(*d, &v, m);
        }
        Alu::I64(op, signed, d, a, b) => {
            let x = r.get64(*a);
            let v = match op {
                Int2::Shl => zip(x, r.get32(*b), |a, b| a.checked_shl(b).unwrap_or(0)),
                Int2::Shr if *signed => {
                    zip(x, r.get32(*b), |a, b| ((a as i64) >> b.min(63)) as u64)
                }
                Int2::Shr => zip(x, r.get32(*b), |a, b| a.checked_shr(b).unwrap_or(0)),
                _ => {
                    let y = r.get64(*b);
                    check_divisor(*op, m, |l| y[l] == 0)?;
                    i64x2(*op, *signed, x, y)
                }
            };
            r.put64(*d, &v, m);
        }
        Alu::Int3 { op, ty, d, a, b, c } => int3(r, *op, *ty, [*d, *a, *b, *c], m),
        Alu::Bfi { wide, d, a, b, pos, len } => {
            let (a, b) = (r.get(*a), r.get(*b));
            let (pos, len) = (r.get32(*pos), r.get32(*len));
            let v = std::array::from_fn(|l| bfi(*wide, a[l], b[l], pos[l], len[l]));
            r.put(*d, &v, m);
        }
        Alu::Wide { ty, d, a, b, c } => wide(r, *ty, *d, *a, *b, *c, m),
        Alu::Carry { sub, wide, read, write, d, a, b } => {
            let regs = |s: Slot| if *wide { Reg::R64(s) } else { Reg::R32(s) };
            let v = carry(r, (*sub, *wide, *read, *write), r.get(regs(*a)), r.get(regs(*b)), m);
            r.put(regs(*d), &v, m);
        }
        Alu::Setp { cmp, ty, ftz, p, q, a, b, combine } => {
            let hit = compare(r, *cmp, *ty, *ftz, *a, *b);
            let (mut yes, mut no) = (hit, !hit);
            if let Some((op, c, negated)) = combine {
                let c = r.pred[*c as usize] ^ if *negated { u32::MAX } else { 0 };
                (yes, no) = (boolean(*op, hit, c), boolean(*op, !hit, c));
            }
            r.put_pred(*p, yes, m);
            if let Some(q) = q {
                r.put_pred(*q, no, m);
            }
        }
        Alu::Sel32(d, a, b, p) => {
            let (x, y, p) = (r.get32(*a), r.get32(*b), r.pred[*p as usize]);
            let v = std::array::from_fn(|l| if p >> l & 1 == 1 { x[l] } else { y[l] });
            r.put32(*d, &v, m);
        }
        Alu::Sel64(d, a, b, p) => {
            let (x, y, p) = (r.get64(*a), r.get64(*b), r.pred[*p as usize]);
            let v = std::array::from_fn(|l| if p >> l & 1 == 1 { x[l] } else { y[l] });
            r.put64(*d, &v, m);
        }
        Alu::SelPred(d, a, b, p) => {
            let (x, y, p) = (r.pred[*a as usize], r.pred[*b as usize], r.pred[*p as usize]);
            r.put_pred(*d, (x & p) | (y & !p), m);
        }
        Alu::Slct { d, a, b, c, float } => {
            let (x, y, c) = (r.get(*a), r.get(*b), r.get32(*c));
            let first = |c: u32| if *float { f32::from_bits(c) >= 0.0 } else { c as i32 >= 0 };
            let v = std::array::from_fn(|l| if first(c[l]) { x[l] } else { y[l] });
            r.put(*d, &v, m);
        }
        Alu::Cvt { cvt, d, a } => cvt::run(r, cvt, *d, *a, m),
        Alu::CvtPair { half, round, relu, d, a, b } => {
            let v = zip(r.get32(*a), r.get32(*b), |a, b| {
                cvt::pair(*half, *round, *relu, f32::from_bits(a), f32::from_bits(b))
            });
            r.put32(*d, &v, m);
        }
        Alu::Cvta { to, space, d, a } => {
            let base = window(*space);
            let v =
                map(r.get64(*a), |x| if *to { x.wrapping_sub(base) } else { x.wrapping_add(base) });
            r.put64(*d, &v, m);
        }
        Alu::IsSpace { space, p, a } => {
            let v = r.get64(*a);
            let hit = mask_of(|l| crate::memory::space_of(v[l]) == *space);
            r.put_pred(*p, hit, m);
        }
        Alu::Clock { .. } => unreachable!("handled by the warp, which counts its instructions"),
        _ => float::run(r, op, m, seed),
    }
    Ok(())
}

fn check_divisor(op: Int2, m: u32, zero: impl Fn(usize) -> bool) -> Exec {
    if matches!(op, Int2::Div | Int2::Rem)
        && let Some(l) = lanes(m).find(|l| zero(*l))
    {
        return Err(bad(FaultKind::Operand, l as u32, "division by zero".into()));
    }
    Ok(())
}

fn boolean(op: Bool, a: u32, b: u32) -> u32 {
    match op {
        Bool::And => a & b,
        Bool::Or => a | b,
        Bool::Xor => a ^ b,
    }
}

/// Sign- or zero-extends the low `ty.bits()` of x.
pub(super) fn extend(ty: Ty, x: u64) -> i128 {
    let shift = 128 - ty.bits();
    if ty.signed() {
        ((x as i128) << shift) >> shift
    } else {
        (((x as u128) << shift) >> shift) as i128
    }
}

/// The low `bits` of x.
fn low(bits: u32, x: u64) -> u64 {
    if bits == 64 { x } else { x & ((1 << bits) - 1) }
}

fn int1(op: Int1, ty: Ty, x: u64) -> u64 {
    let bits = ty.bits();
    let zeros = |x: u64| x.leading_zeros() - (64 - bits);
    low(
        bits.max(32),
        match op {
            Int1::Neg => low(bits, x.wrapping_neg()),
            Int1::Abs => low(bits, extend(ty, x).unsigned_abs() as u64),
            Int1::Not => low(bits, !x),
            Int1::Cnot => u64::from(x == 0),
            Int1::Clz => u64::from(zeros(x)),
            Int1::Popc => u64::from(x.count_ones()),
            Int1::Brev => x.reverse_bits() >> (64 - bits),
            Int1::Bfind { shiftamt } => {
                let v = if extend(ty, x) < 0 { low(bits, !x) } else { x };
                match (v, shiftamt) {
                    (0, _) => u64::from(u32::MAX),
                    (_, true) => u64::from(zeros(v)),
                    (_, false) => u64::from(bits - 1 - zeros(v)),
                }
            }
        },
    )
}

fn i32x2(op: Int2, signed: bool, x: &Row32, y: &Row32) -> Row32 {
    let s = |f: fn(i32, i32) -> i32| zip(x, y, move |a, b| f(a as i32, b as i32) as u32);
    match (op, signed) {
        (Int2::Add, _) => zip(x, y, u32::wrapping_add),
        (Int2::Sub, _) => zip(x, y, u32::wrapping_sub),
        (Int2::MulLo, _) => zip(x, y, u32::wrapping_mul),
        (Int2::And, _) => zip(x, y, |a, b| a & b),
        (Int2::Or, _) => zip(x, y, |a, b| a | b),
        (Int2::Xor, _) => zip(x, y, |a, b| a ^ b),
        (Int2::Shl, _) => zip(x, y, |a, b| if b > 31 { 0 } else { a << b }),
        (Int2::Shr, false) => zip(x, y, |a, b| if b > 31 { 0 } else { a >> b }),
        (Int2::Shr, true) => zip(x, y, |a, b| ((a as i32) >> b.min(31)) as u32),
        (Int2::Min, false) => zip(x, y, u32::min),
        (Int2::Max, false) => zip(x, y, u32::max),
        (Int2::Min, true) => zip(x, y, |a, b| (a as i32).min(b as i32) as u32),
        (Int2::Max, true) => zip(x, y, |a, b| (a as i32).max(b as i32) as u32),
        (Int2::MulHi, false) => zip(x, y, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        (Int2::MulHi, true) => {
            zip(x, y, |a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32)
        }
        (Int2::Div, false) => zip(x, y, |a, b| a.checked_div(b).unwrap_or(0)),
        (Int2::Rem, false) => zip(x, y, |a, b| a.checked_rem(b).unwrap_or(0)),
        (Int2::Div, true) => s(|a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
        (Int2::Rem, true) => s(|a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
        (Int2::AddSat, false) => zip(x, y, u32::saturating_add),
        (Int2::SubSat, false) => zip(x, y, u32::saturating_sub),
        (Int2::AddSat, true) => s(i32::saturating_add),
        (Int2::SubSat, true) => s(i32::saturating_sub),
    }
}

fn i64x2(op: Int2, signed: bool, x: &Row64, y: &Row64) -> Row64 {
    let s = |f: fn(i64, i64) -> i64| zip(x, y, move |a, b| f(a as i64, b as i64) as u64);
    match (op, signed) {
        (Int2::Add, _) => zip(x, y, u64::wrapping_add),
        (Int2::Sub, _) => zip(x, y, u64::wrapping_sub),
        (Int2::MulLo, _) => zip(x, y, u64::wrapping_mul),
        (Int2::And, _) => zip(x, y, |a, b| a & b),
        (Int2::Or, _) => zip(x, y, |a, b| a | b),
        (Int2::Xor, _) => zip(x, y, |a, b| a ^ b),
        (Int2::Min, false) => zip(x, y, u64::min),
        (Int2::Max, false) => zip(x, y, u64::max),
        (Int2::Min, true) => s(i64::min),
        (Int2::Max, true) => s(i64::max),
        (Int2::MulHi, false) => zip(x, y, |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        (Int2::MulHi, true) => {
            zip(x, y, |a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64)
        }
        (Int2::Div, false) => zip(x, y, |a, b| a.checked_div(b).unwrap_or(0)),
        (Int2::Rem, false) => zip(x, y, |a, b| a.checked_rem(b).unwrap_or(0)),
        (Int2::Div, true) => s(|a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
        (Int2::Rem, true) => s(|a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
        (Int2::AddSat, false) => zip(x, y, u64::saturating_add),
        (Int2::SubSat, false) => zip(x, y, u64::saturating_sub),
        (Int2::AddSat, true) => s(i64::saturating_add),
        (Int2::SubSat, true) => s(i64::saturating_sub),
        (Int2::Shl | Int2::Shr, _) => unreachable!("shifts take a 32-bit amount"),
    }
}

/// In 32 bits on extended operands, then cut back to 16.
fn i16x2(op: Int2, signed: bool, x: &Row32, y: &Row32) -> Row32 {
    let shift = matches!(op, Int2::Shl | Int2::Shr);
    let ext = |v: u32| if signed { v as i16 as i32 as u32 } else { v & 0xffff };
    let y = if shift { *y } else { map(y, ext) };
    let x = map(x, ext);
    if op == Int2::MulHi {
        return zip(&x, &y, |a, b| (a.wrapping_mul(b) >> 16) & 0xffff);
    }
    if let Int2::AddSat | Int2::SubSat = op {
        let (lo, hi) = if signed { (-0x8000, 0x7fff) } else { (0, 0xffff) };
        let sign = if op == Int2::AddSat { 1 } else { -1 };
        return zip(&x, &y, |a, b| (a as i32 + sign * b as i32).clamp(lo, hi) as u32 & 0xffff);
    }
    map(&i32x2(op, signed, &x, &y), |v| v & 0xffff)
}

fn int3(r: &mut Regs, op: Int3, ty: Ty, [d, a, b, c]: [Reg; 4], m: u32) {
    if let (Int3::MadLo, Reg::R32(d), Reg::R32(a), Reg::R32(b), Reg::R32(c), 4) =
        (op, d, a, b, c, ty.bytes())
    {
        let (x, y, z) = (r.get32(a), r.get32(b), r.get32(c));
        let v = std::array::from_fn(|l| x[l].wrapping_mul(y[l]).wrapping_add(z[l]));
        return r.put32(d, &v, m);
    }
    let (x, y, z) = (r.get(a), r.get(b), r.get(c));
    let bits = ty.bits();
    let one = |a: u64, b: u64, c: u64| -> u64 {
        let product = || extend(ty, a).wrapping_mul(extend(ty, b));
        let funnel = u64::from(b as u32) << 32 | u64::from(a as u32);
        let amount = |clamp: bool| if clamp { (c as u32).min(32) } else { c as u32 & 31 };
        match op {
            Int3::MadLo => a.wrapping_mul(b).wrapping_add(c),
            Int3::MadHi => ((product() >> bits) as u64).wrapping_add(c),
            Int3::Sad => (extend(ty, a) - extend(ty, b)).unsigned_abs() as u64 + c,
            Int3::Bfe => bfe(ty, a, b as u32 & 0xff, c as u32 & 0xff),
            Int3::ShfLeft { clamp } => (funnel << amount(clamp)) >> 32,
            Int3::ShfRight { clamp } => funnel >> amount(clamp),
            Int3::Prmt => u64::from(prmt(a as u32, b as u32, c as u32)),
            Int3::Lop3(table) => lop3(table, a, b, c),
        }
    };
    let v = std::array::from_fn(|l| low(bits, one(x[l], y[l], z[l])));
    r.put(d, &v, m);
}

fn bfe(ty: Ty, a: u64, pos: u32, len: u32) -> u64 {
    let bits = ty.bits();
    let msb = bits - 1;
    if len == 0 {
        return 0;
    }
    let sign = ty.signed() && a >> (pos + len - 1).min(msb) & 1 == 1;
    let field = if pos > msb { 0 } else { a >> pos };
    let got = len.min(bits - pos.min(bits));
    let kept = if got >= 64 { field } else { field & ((1 << got) - 1) };
    if sign && got < 64 { kept | u64::MAX << got } else { kept }
}

fn bfi(wide: bool, a: u64, b: u64, pos: u32, len: u32) -> u64 {
    let bits = if wide { 64 } else { 32 };
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= bits || len == 0 {
        return b;
    }
    let len = len.min(bits - pos);
    let field = if len >= 64 { u64::MAX } else { (1 << len) - 1 } << pos;
    (b & !field) | (a << pos & field)
}

/// Each nibble of `c` picks one of eight bytes; its top bit asks for the byte's sign alone.
fn prmt(a: u32, b: u32, c: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |v, i| {
        let pick = c >> (4 * i) & 0xf;
        let byte = (bytes >> (8 * (pick & 7))) as u8;
        let byte = if pick & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        v | u32::from(byte) << (8 * i)
    })
}

fn lop3(table: u8, a: u64, b: u64, c: u64) -> u64 {
    (0..8).filter(|i| table >> i & 1 == 1).fold(0, |v, i| {
        let pick = |x: u64, bit: u32| if i >> bit & 1 == 1 { x } else { !x };
        v | (pick(a, 2) & pick(b, 1) & pick(c, 0))
    })
}

fn wide(r: &mut Regs, ty: Ty, d: Reg, a: Slot, b: Slot, c: Option<Reg>, m: u32) {
    let (x, y) = (r.get32(a), r.get32(b));
    let mut v: Row64 = match ty {
        Ty::U32 => zip(x, y, |a, b| u64::from(a) * u64::from(b)),
        Ty::S32 => zip(x, y, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        _ => zip(x, y, |a, b| (extend(ty, a.into()).wrapping_mul(extend(ty, b.into()))) as u64),
    };
    if let Some(c) = c {
        v = zip(&v, &r.get(c), u64::wrapping_add);
    }
    r.put(d, &v, m);
}

fn carry(
    r: &mut Regs,
    (sub, wide, read, write): (bool, bool, bool, bool),
    x: Row64,
    y: Row64,
    m: u32,
) -> Row64 {
    let bits = if wide { 64 } else { 32 };
    let mut out = [0; LANES];
    let mut flags = 0u32;
    for l in 0..LANES {
        let c = if read { i128::from(r.carry >> l & 1) } else { 0 };
        let (a, b) = (i128::from(x[l]), i128::from(y[l]));
        let sum = if sub { a - b - c } else { a + b + c };
        out[l] = low(bits, sum as u64);
        // A borrow is a carry flag of one here, for subc to take away.
        flags |= ((sum >> bits & 1) as u32) << l;
    }
    if write {
        r.carry = (r.carry & !m) | (flags & m);
    }
    out
}

fn compare(r: &Regs, cmp: Cmp, ty: Ty, ftz: bool, a: Reg, b: Reg) -> u32 {
    match (ty, a, b) {
        (Ty::U32 | Ty::B32, Reg::R32(a), Reg::R32(b)) => ints(cmp, r.get32(a), r.get32(b)),
        (Ty::S32, Reg::R32(a), Reg::R32(b)) => {
            ints(cmp, &map(r.get32(a), |v| v as i32), &map(r.get32(b), |v| v as i32))
        }
        (Ty::U64 | Ty::B64, Reg::R64(a), Reg::R64(b)) => ints(cmp, r.get64(a), r.get64(b)),
        (Ty::F32, Reg::R32(a), Reg::R32(b)) => {
            let f = |v: u32| if ftz { float::flush(f32::from_bits(v)) } else { f32::from_bits(v) };
            floats(cmp, &map(r.get32(a), f), &map(r.get32(b), f))
        }
        (Ty::F64, Reg::R64(a), Reg::R64(b)) => {
            floats(cmp, &map(r.get64(a), f64::from_bits), &map(r.get64(b), f64::from_bits))
        }
        (Ty::F16 | Ty::Bf16, Reg::R32(a), Reg::R32(b)) => {
            let f = |v: u32| float::half_to_f32(ty == Ty::Bf16, v as u16);
            floats(cmp, &map(r.get32(a), f), &map(r.get32(b), f))
        }
        _ => ints(cmp, &map(&r.get(a), |v| extend(ty, v)), &map(&r.get(b), |v| extend(ty, v))),
    }
}

fn ints<T: Copy + Ord>(cmp: Cmp, x: &[T; LANES], y: &[T; LANES]) -> u32 {
    match cmp {
        Cmp::Eq => mask_of(|l| x[l] == y[l]),
        Cmp::Ne => mask_of(|l| x[l] != y[l]),
        Cmp::Lt => mask_of(|l| x[l] < y[l]),
        Cmp::Le => mask_of(|l| x[l] <= y[l]),
        Cmp::Gt => mask_of(|l| x[l] > y[l]),
        Cmp::Ge => mask_of(|l| x[l] >= y[l]),
        _ => unreachable!("decoded for floats only"),
    }
}

fn floats<T: Copy + PartialOrd>(cmp: Cmp, x: &[T; LANES], y: &[T; LANES]) -> u32 {
    let ordered = mask_of(|l| x[l].partial_cmp(&y[l]).is_some());
    match cmp {
        Cmp::Eq => mask_of(|l| x[l] == y[l]),
        Cmp::Ne => mask_of(|l| x[l] != y[l]) & ordered,
        Cmp::Lt => mask_of(|l| x[l] < y[l]),
        Cmp::Le => mask_of(|l| x[l] <= y[l]),
        Cmp::Gt => mask_of(|l| x[l] > y[l]),
        Cmp::Ge => mask_of(|l| x[l] >= y[l]),
        Cmp::Equ => mask_of(|l| x[l] == y[l]) | !ordered,
        Cmp::Neu => mask_of(|l| x[l] != y[l]),
        Cmp::Ltu => mask_of(|l| x[l] < y[l]) | !ordered,
        Cmp::Leu => mask_of(|l| x[l] <= y[l]) | !ordered,
        Cmp::Gtu => mask_of(|l| x[l] > y[l]) | !ordered,
        Cmp::Geu => mask_of(|l| x[l] >= y[l]) | !ordered,
        Cmp::Num => ordered,
        Cmp::Nan => !ordered,
    }
}
