//! A warp's registers: one row of 32 lanes each.

use crate::ir::{Reg, Slot};

pub(crate) const LANES: usize = 32;
pub(crate) const FULL: u32 = u32::MAX;
pub(crate) type Row32 = [u32; LANES];
pub(crate) type Row64 = [u64; LANES];

#[derive(Default)]
pub(crate) struct Regs {
    pub r32: Vec<Row32>,
    pub r64: Vec<Row64>,
    /// One bit a lane.
    pub pred: Vec<u32>,
    /// The carry flag of `add.cc` and its kind.
    pub carry: u32,
}

impl Regs {
    pub fn new(r32: usize, r64: usize, preds: usize) -> Regs {
        Regs {
            r32: vec![[0; LANES]; r32],
            r64: vec![[0; LANES]; r64],
            pred: vec![0; preds],
            carry: 0,
        }
    }

    #[inline(always)]
    pub fn get32(&self, s: Slot) -> &Row32 {
        &self.r32[s as usize]
    }

    #[inline(always)]
    pub fn get64(&self, s: Slot) -> &Row64 {
        &self.r64[s as usize]
    }

    #[inline(always)]
    pub fn put32(&mut self, d: Slot, v: &Row32, m: u32) {
        let d = &mut self.r32[d as usize];
        if m == FULL {
            *d = *v;
        } else {
            for l in 0..LANES {
                let keep = (m >> l & 1).wrapping_sub(1);
                d[l] = (v[l] & !keep) | (d[l] & keep);
            }
        }
    }

    #[inline(always)]
    pub fn put64(&mut self, d: Slot, v: &Row64, m: u32) {
        let d = &mut self.r64[d as usize];
        if m == FULL {
            *d = *v;
        } else {
            for l in 0..LANES {
                let keep = (u64::from(m >> l & 1)).wrapping_sub(1);
                d[l] = (v[l] & !keep) | (d[l] & keep);
            }
        }
    }

    #[inline(always)]
    pub fn put_pred(&mut self, d: Slot, bits: u32, m: u32) {
        let d = &mut self.pred[d as usize];
        *d = (*d & !m) | (bits & m);
    }

    /// A register of either width, zero-extended.
    #[inline(always)]
    pub fn get(&self, r: Reg) -> Row64 {
        match r {
            Reg::R32(s) => std::array::from_fn(|l| u64::from(self.r32[s as usize][l])),
            Reg::R64(s) => self.r64[s as usize],
            Reg::Pred(s) => std::array::from_fn(|l| u64::from(self.pred[s as usize] >> l & 1)),
        }
    }

    #[inline(always)]
    pub fn put(&mut self, r: Reg, v: &Row64, m: u32) {
        match r {
            Reg::R32(d) => self.put32(d, &std::array::from_fn(|l| v[l] as u32), m),
            Reg::R64(d) => self.put64(d, v, m),
            Reg::Pred(d) => self.put_pred(d, mask_of(|l| v[l] != 0), m),
        }
    }
}

/// The mask of lanes for which `f` holds.
#[inline(always)]
pub(crate) fn mask_of(f: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).fold(0, |m, l| m | u32::from(f(l)) << l)
}

/// The lanes of a mask, ascending.
#[inline(always)]
pub(crate) fn lanes(mut m: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if m == 0 {
            return None;
        }
        let l = m.trailing_zeros() as usize;
        m &= m - 1;
        Some(l)
    })
}
