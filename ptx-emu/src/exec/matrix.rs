//! `mma.sync`, `ldmatrix`, `stmatrix`, with the ISA's fragments.
//!
//! A product is exact in f32; sums are f32, each rounded to nearest, over ascending k, the
//! accumulator first. Hardware's order and rounding are not specified.

use super::access::{addresses, number};
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

/// Lane l holds row l/4 and row l/4 + 8 of A, column l/4 of B.
fn multiply(w: &mut Warp, o: &Mma) {
    let mut a_km = [[0f32; 16]; 16];
    let mut b_kn = [[0f32; 8]; 16];
    let r = &w.regs;
    let halves = |v: u32| {
        let is_bf16 = o.factor == Factor::Bf16;
        [half_to_f32(is_bf16, v as u16), half_to_f32(is_bf16, (v >> 16) as u16)]
    };
    // The part of a tf32 that counts.
    let tf32 = |v: u32| f32::from_bits(v & !0x1fff);
    let k = o.k as usize;
    for l in 0..LANES {
        let (group, four) = (l / 4, l % 4);
        if o.factor == Factor::Tf32 {
            for i in 0..k / 4 {
                a_km[4 * i + four][group] = tf32(r.get32(o.a[2 * i])[l]);
                a_km[4 * i + four][group + 8] = tf32(r.get32(o.a[2 * i + 1])[l]);
                b_kn[4 * i + four][group] = tf32(r.get32(o.b[i])[l]);
            }
        } else {
            for i in 0..k / 8 {
                let top = halves(r.get32(o.a[2 * i])[l]);
                let bottom = halves(r.get32(o.a[2 * i + 1])[l]);
                let col = halves(r.get32(o.b[i])[l]);
                for h in 0..2 {
                    let k = 8 * i + 2 * four + h;
                    a_km[k][group] = top[h];
                    a_km[k][group + 8] = bottom[h];
                    b_kn[k][group] = col[h];
                }
            }
        }
    }
    let mut sum_mn = [[0f32; 8]; 16];
    for l in 0..LANES {
        let (row, col) = (l / 4, l % 4 * 2);
        for (i, c) in o.c.iter().enumerate() {
            sum_mn[row + i / 2 * 8][col + i % 2] = f32::from_bits(r.get32(*c)[l]);
        }
    }
    for (a_m, b_n) in a_km.iter().zip(&b_kn).take(k) {
        for (sum_n, a) in sum_mn.iter_mut().zip(a_m) {
            for (s, b) in sum_n.iter_mut().zip(b_n) {
                *s += a * b;
            }
        }
    }
    for (i, d) in o.d.iter().enumerate() {
        let row = &mut w.regs.r32[*d as usize];
        for (l, d) in row.iter_mut().enumerate() {
            *d = sum_mn[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2].to_bits();
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
        at[l] = b.shared.read(&b.clocks, w.index * 32 + l, addr[l], 16, 2)?;
    }
    for (i, reg) in regs[..n as usize].iter().enumerate() {
        let half =
            |row: usize, col: usize| number(&b.shared.data[at[8 * i + row] + 2 * col..], 2) as u32;
        let row = std::array::from_fn(|l| {
            let (major, minor) = (l / 4, l % 4 * 2);
            match trans {
                false => half(major, minor) | half(major, minor + 1) << 16,
                true => half(minor, major) | half(minor + 1, major) << 16,
            }
        });
        w.regs.r32[*reg as usize] = row;
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
            let at = b.shared.write(&b.clocks, w.index * 32 + lane, addr[lane], 16, 2)?;
            for col in 0..8 {
                let (major, minor) = if trans { (col, row) } else { (row, col) };
                let half = (v[major * 4 + minor / 2] >> (16 * (minor % 2))) as u16;
                b.shared.data[at + 2 * col..][..2].copy_from_slice(&half.to_le_bytes());
            }
        }
    }
    Ok(())
}
