//! `mma.sync`, `ldmatrix`, `stmatrix`, with the ISA's fragments.
//!
//! A product is exact in f32; sums are f32, each rounded to nearest, over ascending k, the
//! accumulator first. Hardware's order and rounding are not specified.

use super::access::addresses;
use super::block::Block;
use super::float::half_to_f32;
use super::regs::LANES;
use super::warp::Warp;
use crate::error::Exec;
use crate::ir::{Address, Factor, Mma, Op, Slot};

pub(super) fn run(w: &mut Warp, b: &mut Block, op: &Op, pc: u32, m: u32) -> Exec {
    match op {
        Op::Mma(mma) => {
            multiply(w, mma);
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
fn multiply(w: &mut Warp, o: &Mma) {
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
    for (sum_n, a_k) in sum_mn.iter_mut().zip(&a_mk) {
        let mut sum = *sum_n;
        for (a, b_n) in a_k.iter().zip(&b_kn).take(o.k as usize) {
            for (s, b) in sum.iter_mut().zip(b_n) {
                *s += a * b;
            }
        }
        *sum_n = sum;
    }
    for (i, d) in o.d.iter().enumerate() {
        let d = &mut w.regs.r32[*d as usize];
        for l in 0..LANES {
            d[l] = sum_mn[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2].to_bits();
        }
    }
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
