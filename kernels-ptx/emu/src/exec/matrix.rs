//! `mma.sync`, `ldmatrix`, `stmatrix`, with the ISA's fragments.
//!
//! Products are exact. What NVIDIA does not specify, the order of sums and their rounding, is
//! either as measured on the card (see [`Alignment`]), or over ascending k, the accumulator first,
//! each sum rounded to nearest.

use super::access::addresses;
use super::block::Block;
use super::float::{NAN32, half_to_f32};
use super::regs::LANES;
use super::warp::Warp;
use crate::error::Exec;
use crate::hardware::Alignment;
use crate::ir::{Address, Factor, Mma, Op, Slot};

pub(super) fn run(w: &mut Warp, b: &mut Block, op: &Op, pc: u32, m: u32) -> Exec {
    match op {
        Op::Mma(mma) => {
            multiply(w, mma, b.alignment);
            b.tally[pc as usize].matrix_flop += 2 * 16 * 8 * u64::from(mma.k);
            Ok(())
        }
        Op::LdMatrix { regs, n, trans, addr } => load(w, b, pc, regs, *n, *trans, addr, m),
        Op::StMatrix { regs, n, trans, addr } => store(w, b, pc, regs, *n, *trans, addr, m),
        _ => unreachable!("no matrix instruction"),
    }
}

/// Lane l holds parts of rows l/4 and l/4 + 8 of A and of column l/4 of B; of the sums, two
/// neighbours in each of those rows.
fn multiply(w: &mut Warp, o: &Mma, alignment: Option<Alignment>) {
    let mut a_mk = [[0f32; 16]; 16];
    let mut b_kn = [[0f32; 8]; 16];
    let mut sum_mn = [[0f32; 8]; 16];
    match o.factor {
        Factor::Bf16 => gather_halves(w, o, &mut a_mk, &mut b_kn, |h| half_to_f32(true, h)),
        Factor::F16 => gather_halves(w, o, &mut a_mk, &mut b_kn, |h| half_to_f32(false, h)),
        Factor::Tf32 => gather_tf32(w, o, &mut a_mk, &mut b_kn),
    }
    for (i, c) in o.c.iter().enumerate() {
        let c = w.regs.get32(*c);
        for l in 0..LANES {
            sum_mn[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2] = f32::from_bits(c[l]);
        }
    }
    match alignment {
        None => round(&mut sum_mn, &a_mk, &b_kn, o.k as usize),
        Some(alignment) => truncate(&mut sum_mn, &a_mk, &b_kn, o, alignment),
    }
    for (i, d) in o.d.iter().enumerate() {
        let d = &mut w.regs.r32[*d as usize];
        for l in 0..LANES {
            let sum = sum_mn[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
            d[l] = if sum.is_nan() { NAN32 } else { sum.to_bits() };
        }
    }
}

fn round(sum_mn: &mut [[f32; 8]; 16], a_mk: &[[f32; 16]; 16], b_kn: &[[f32; 8]; 16], k: usize) {
    for (sum_n, a_k) in sum_mn.iter_mut().zip(a_mk) {
        let mut sum = *sum_n;
        for (a, b_n) in a_k.iter().zip(b_kn).take(k) {
            for (s, b) in sum.iter_mut().zip(b_n) {
                *s += a * b;
            }
        }
        *sum_n = sum;
    }
}

/// Exponent below which nothing is aligned, so that the last bit kept lies below f32's.
const LOWEST: i16 = -133;
/// Exponent of zero: below those of all products.
const NONE: i16 = -1000;

/// Block by block of k: products and the sum so far lose what lies below one unit, which is
/// 2^-(23 + extra) of the power of two in the largest of them (of a product: the product of its
/// factors' powers of two); they are added exactly; the result loses what f32 does not hold.
fn truncate(
    sum_mn: &mut [[f32; 8]; 16],
    a_mk: &[[f32; 16]; 16],
    b_kn: &[[f32; 8]; 16],
    o: &Mma,
    alignment: Alignment,
) {
    let (block, least) = match o.factor {
        Factor::Bf16 => (alignment.products, -126),
        Factor::F16 => (alignment.products, -14),
        Factor::Tf32 => (alignment.products / 2, -126),
    };
    let wide_kn = b_kn.map(|b_n| b_n.map(f64::from));
    let exponent_kn = b_kn.map(|b_n| b_n.map(|b| exponent(b, least)));
    for (sum_n, a_k) in sum_mn.iter_mut().zip(a_mk) {
        let exponent_k = a_k.map(|a| exponent(a, least));
        let plain = plain_sums(sum_n, a_k, b_kn, o.k as usize);
        for first in (0..o.k as usize).step_by(block as usize) {
            let ks = first..(first + block as usize).min(o.k as usize);
            let mut largest = sum_n.map(|c| exponent(c, -126).max(LOWEST));
            for k in ks.clone() {
                for (e, b) in largest.iter_mut().zip(&exponent_kn[k]) {
                    *e = (*e).max(exponent_k[k] + b);
                }
            }
            let units = largest.map(|e| power(e - 23 - alignment.extra_bits as i16));
            let mut sums = Truncated::new(units);
            sums.add(sum_n.map(f64::from));
            for k in ks {
                let a = f64::from(a_k[k]);
                sums.add(wide_kn[k].map(|b| a * b));
            }
            *sum_n = sums.get().map(towards_zero);
        }
        for (sum, plain) in sum_n.iter_mut().zip(plain) {
            if !plain.is_finite() {
                *sum = plain as f32;
            }
        }
    }
}

/// Sums in f64, of which only infinity and NaN are of interest.
fn plain_sums(c_n: &[f32; 8], a_k: &[f32; 16], b_kn: &[[f32; 8]; 16], k: usize) -> [f64; 8] {
    let finite = |x: &[f32]| x.iter().all(|x| x.is_finite());
    if finite(c_n) && finite(a_k) && b_kn.iter().all(|b_n| finite(b_n)) {
        return [0.0; 8];
    }
    std::array::from_fn(|n| {
        let products = a_k.iter().zip(b_kn).take(k).map(|(a, b)| f64::from(*a) * f64::from(b[n]));
        f64::from(c_n[n]) + products.sum::<f64>()
    })
}

/// Sums of what is left of numbers once they are cut off, towards zero, at a unit. The numbers are
/// below 2^27 units and have at most 24 significant bits.
///
/// Adding to 1.5 * 2^52 units rounds to whole units, to nearest; drawn nearer to zero by a bit less
/// than half a unit before, every number is rounded to the whole unit that truncation gives. 2^-26
/// of a unit is less than such a number's distance from the next unit, and all of this is exact.
struct Truncated {
    base: [f64; 8],
    nearer: [f64; 8],
    sums: [f64; 8],
}

impl Truncated {
    fn new(units: [f64; 8]) -> Truncated {
        let base = units.map(|u| 1.5 * 2f64.powi(52) * u);
        Truncated { base, nearer: units.map(|u| (0.5 - 2f64.powi(-26)) * u), sums: base }
    }

    #[inline(always)]
    fn add(&mut self, x: [f64; 8]) {
        for n in 0..8 {
            self.sums[n] += x[n] - self.nearer[n].copysign(x[n]);
        }
    }

    fn get(&self) -> [f64; 8] {
        std::array::from_fn(|n| self.sums[n] - self.base[n])
    }
}

/// The exponent of a number's leading bit, of a subnormal one that of the least normal one.
#[inline(always)]
fn exponent(x: f32, least: i16) -> i16 {
    let e = ((x.to_bits() >> 23 & 0xff) as i16 - 127).max(least);
    if x == 0.0 { NONE } else { e }
}

/// 2^n, for normal numbers.
fn power(n: i16) -> f64 {
    f64::from_bits(((i64::from(n) + 1023) as u64) << 52)
}

/// To f32, cut off; beyond its range infinite.
#[inline(always)]
fn towards_zero(x: f64) -> f32 {
    let near = x as f32;
    let past = f64::from(near.abs()) > x.abs() && x.abs() < 2f64.powi(128);
    f32::from_bits(near.to_bits() - u32::from(past))
}

/// 16-bit factors: two neighbours along k a register, eight columns apart from one to the next.
#[inline(always)]
fn gather_halves(
    w: &Warp,
    o: &Mma,
    a_mk: &mut [[f32; 16]; 16],
    b_kn: &mut [[f32; 8]; 16],
    f: impl Fn(u16) -> f32,
) {
    for i in 0..o.k as usize / 8 {
        let (top, bottom) = (w.regs.get32(o.a[2 * i]), w.regs.get32(o.a[2 * i + 1]));
        let col = w.regs.get32(o.b[i]);
        for l in 0..LANES {
            let (group, k) = (l / 4, 8 * i + l % 4 * 2);
            for h in 0..2 {
                let half = |v: u32| f((v >> (16 * h)) as u16);
                a_mk[group][k + h] = half(top[l]);
                a_mk[group + 8][k + h] = half(bottom[l]);
                b_kn[k + h][group] = half(col[l]);
            }
        }
    }
}

/// One factor a register, four columns apart; the low 13 bits do not count.
fn gather_tf32(w: &Warp, o: &Mma, a_mk: &mut [[f32; 16]; 16], b_kn: &mut [[f32; 8]; 16]) {
    let tf32 = |v: u32| f32::from_bits(v & !0x1fff);
    for i in 0..o.k as usize / 4 {
        let (top, bottom) = (w.regs.get32(o.a[2 * i]), w.regs.get32(o.a[2 * i + 1]));
        let col = w.regs.get32(o.b[i]);
        for l in 0..LANES {
            let (group, k) = (l / 4, 4 * i + l % 4);
            a_mk[group][k] = tf32(top[l]);
            a_mk[group + 8][k] = tf32(bottom[l]);
            b_kn[k][group] = tf32(col[l]);
        }
    }
}

/// Lanes 8i to 8i + 7 give the rows of matrix i, 16 bytes each; lane l receives two neighbours of
/// row l/4, or of column l/4 if transposed.
fn load(
    w: &mut Warp,
    b: &mut Block,
    pc: u32,
    regs: &[Slot; 4],
    n: u8,
    trans: bool,
    addr: &Address,
    m: u32,
) -> Exec {
    let addr = addresses(w, addr);
    let m = m & rows(n);
    b.count_shared(pc, &addr, m, 16);
    let mut at = [0; LANES];
    for l in 0..8 * n as usize {
        at[l] = b.shared.read(&b.clocks, w.index * 32 + l, addr[l], 16, 16)?;
    }
    for (i, reg) in regs[..n as usize].iter().enumerate() {
        let mut tile = [[0u16; 8]; 8];
        for (row, at) in tile.iter_mut().zip(&at[8 * i..]) {
            let (halves, _) = b.shared.data[*at..*at + 16].as_chunks::<2>();
            *row = std::array::from_fn(|c| u16::from_le_bytes(halves[c]));
        }
        w.regs.r32[*reg as usize] = std::array::from_fn(|l| {
            let (major, minor) = (l / 4, l % 4 * 2);
            let (lo, hi) = match trans {
                false => (tile[major][minor], tile[major][minor + 1]),
                true => (tile[minor][major], tile[minor + 1][major]),
            };
            u32::from(lo) | u32::from(hi) << 16
        });
    }
    Ok(())
}

fn rows(n: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(n))
}

fn store(
    w: &mut Warp,
    b: &mut Block,
    pc: u32,
    regs: &[Slot; 4],
    n: u8,
    trans: bool,
    addr: &Address,
    m: u32,
) -> Exec {
    let addr = addresses(w, addr);
    let m = m & rows(n);
    b.count_shared(pc, &addr, m, 16);
    for (i, reg) in regs[..n as usize].iter().enumerate() {
        let v = *w.regs.get32(*reg);
        for row in 0..8 {
            let lane = 8 * i + row;
            let at = b.shared.write(&b.clocks, w.index * 32 + lane, addr[lane], 16, 16)?;
            for col in 0..8 {
                let (major, minor) = if trans { (col, row) } else { (row, col) };
                let half = (v[major * 4 + minor / 2] >> (16 * (minor % 2))) as u16;
                b.shared.data[at + 2 * col..][..2].copy_from_slice(&half.to_le_bytes());
            }
        }
    }
    Ok(())
}
