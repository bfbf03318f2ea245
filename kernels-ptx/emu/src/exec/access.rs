//! Loads, stores and atomics, with what they cost.

use super::block::Block;
use super::regs::{LANES, Row64, lanes};
use super::warp::Warp;
use crate::ast::{Space, Ty};
use crate::error::{Bad, Exec, FaultKind, bad};
use crate::ir::{Access, Address, AtomOp, Atomic};
use crate::memory::{Alloc, Clash, Touch, space_of, window};

/// What each lane loads or stores: up to four elements.
type Values = [Row64; 4];

pub(super) fn addresses(w: &Warp, a: &Address) -> Row64 {
    let base = w.regs.get(a.base);
    std::array::from_fn(|l| base[l].wrapping_add_signed(a.offset))
}

/// Splits lanes of a generic access by where they go; addresses become those of the space.
fn split(space: Space, addr: &mut Row64, m: u32) -> [(Space, u32); 3] {
    if space != Space::Generic {
        let space = if space == Space::Const { Space::Global } else { space };
        return [(space, m), (Space::Shared, 0), (Space::Local, 0)];
    }
    let mut out = [(Space::Global, 0), (Space::Shared, 0), (Space::Local, 0)];
    for l in lanes(m) {
        let space = space_of(addr[l]);
        addr[l] -= window(space);
        let i = out.iter().position(|(s, _)| *s == space).expect("one of the three");
        out[i].1 |= 1 << l;
    }
    out
}

pub(super) fn load(w: &mut Warp, b: &mut Block, pc: u32, a: &Access, m: u32) -> Exec {
    let mut addr = addresses(w, &a.addr);
    let mut v: Values = [[0; LANES]; 4];
    for (space, m) in split(a.space, &mut addr, m) {
        if m == 0 {
            continue;
        }
        match space {
            Space::Shared => {
                b.count_shared(pc, &addr, m, a.bytes());
                for l in lanes(m) {
                    let thread = w.index * 32 + l;
                    let (shared, clocks) = (&mut b.shared, &b.clocks);
                    let at = shared.read(clocks, thread, addr[l], a.bytes(), a.width.into())?;
                    unpack(&mut v, l, a, &b.shared.data[at..]);
                }
            }
            Space::Local => {
                for l in lanes(m) {
                    let at = local(w, l, addr[l], a)?;
                    unpack(&mut v, l, a, &w.local[at..]);
                }
            }
            _ => {
                let touch = if a.strong { Touch::Atomic } else { Touch::Read };
                let width = a.width as usize;
                each_global(b, pc, &addr, m, a.bytes(), touch, |alloc, at, l| {
                    for (e, row) in v[..a.n as usize].iter_mut().enumerate() {
                        row[l] = alloc.load(at + e * width, width);
                    }
                })?;
            }
        }
    }
    put(w, a, &mut v, m);
    Ok(())
}

/// Extends to the registers' width and writes.
fn put(w: &mut Warp, a: &Access, v: &mut Values, m: u32) {
    let bits = 8 * u32::from(a.width);
    for (reg, row) in a.regs[..a.n as usize].iter().zip(v) {
        if a.signed && bits < a.reg_bits.into() {
            let shift = 64 - bits;
            let keep = u64::MAX >> (64 - a.reg_bits);
            row.iter_mut().for_each(|x| *x = ((*x << shift) as i64 >> shift) as u64 & keep);
        }
        w.regs.put(*reg, row, m);
    }
}

fn unpack(v: &mut Values, l: usize, a: &Access, bytes: &[u8]) {
    let width = a.width as usize;
    for (e, row) in v[..a.n as usize].iter_mut().enumerate() {
        row[l] = number(&bytes[e * width..], width);
    }
}

#[inline(always)]
pub(super) fn number(bytes: &[u8], width: usize) -> u64 {
    match width {
        4 => u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")).into(),
        2 => u16::from_le_bytes(bytes[..2].try_into().expect("two bytes")).into(),
        8 => u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")),
        _ => bytes[0].into(),
    }
}

pub(super) fn param(w: &mut Warp, b: &Block, offset: u32, a: &Access, m: u32) -> Exec {
    let at = offset as usize;
    if at + a.bytes() > b.params.len() {
        let what = format!("parameter read at {at}, of {} bytes there are", b.params.len());
        return Err(bad(FaultKind::OutOfBounds, m.trailing_zeros(), what));
    }
    if !at.is_multiple_of(a.bytes()) {
        let what = format!("parameter read of {} bytes at {at}, which is misaligned", a.bytes());
        return Err(bad(FaultKind::Misaligned, m.trailing_zeros(), what));
    }
    let width = a.width as usize;
    let mut v: Values = [[0; LANES]; 4];
    for (e, row) in v[..a.n as usize].iter_mut().enumerate() {
        row.fill(number(&b.params[at + e * width..], width));
    }
    put(w, a, &mut v, m);
    Ok(())
}

pub(super) fn store(w: &mut Warp, b: &mut Block, pc: u32, a: &Access, m: u32) -> Exec {
    let mut addr = addresses(w, &a.addr);
    let mut v: Values = [[0; LANES]; 4];
    for (reg, row) in a.regs[..a.n as usize].iter().zip(&mut v) {
        *row = w.regs.get(*reg);
    }
    let width = a.width as usize;
    for (space, m) in split(a.space, &mut addr, m) {
        if m == 0 {
            continue;
        }
        match space {
            Space::Shared => {
                b.count_shared(pc, &addr, m, a.bytes());
                for l in lanes(m) {
                    let thread = w.index * 32 + l;
                    let (shared, clocks) = (&mut b.shared, &b.clocks);
                    let at = shared.write(clocks, thread, addr[l], a.bytes(), width)?;
                    pack(&v, l, a, &mut b.shared.data[at..]);
                }
            }
            Space::Local => {
                for l in lanes(m) {
                    let at = local(w, l, addr[l], a)?;
                    pack(&v, l, a, &mut w.local[at..]);
                }
            }
            _ => {
                let touch = if a.strong { Touch::Atomic } else { Touch::Write };
                each_global(b, pc, &addr, m, a.bytes(), touch, |alloc, at, l| {
                    for (e, row) in v[..a.n as usize].iter().enumerate() {
                        alloc.store(at + e * width, width, row[l]);
                    }
                })?;
            }
        }
    }
    Ok(())
}

fn pack(v: &Values, l: usize, a: &Access, bytes: &mut [u8]) {
    let width = a.width as usize;
    for (e, row) in v[..a.n as usize].iter().enumerate() {
        bytes[e * width..][..width].copy_from_slice(&row[l].to_le_bytes()[..width]);
    }
}

fn local(w: &Warp, l: usize, at: u64, a: &Access) -> Exec<usize> {
    let bytes = a.bytes();
    if at.checked_add(bytes as u64).is_none_or(|end| end > w.frame as u64) {
        let what =
            format!("local access of {bytes} bytes at {at:#x}, of {} bytes a thread has", w.frame);
        return Err(bad(FaultKind::OutOfBounds, l as u32, what));
    }
    if !(at as usize).is_multiple_of(bytes) {
        let what = format!("local access of {bytes} bytes at {at:#x}, which is misaligned");
        return Err(bad(FaultKind::Misaligned, l as u32, what));
    }
    Ok(l * w.frame + at as usize)
}

/// Checks, counts and performs an access of global memory lane by lane.
#[inline(always)]
pub(super) fn each_global(
    b: &mut Block,
    pc: u32,
    addr: &Row64,
    m: u32,
    bytes: usize,
    touch: Touch,
    mut f: impl FnMut(&Alloc, usize, usize),
) -> Exec {
    let memory = b.memory;
    let who = b.claimant();
    let mut sectors = Sectors::default();
    let mut index = usize::MAX;
    for l in lanes(m) {
        let within = |i: usize| {
            memory.allocs.get(i).is_some_and(|a| {
                addr[l] >= a.base && addr[l] + bytes as u64 <= a.base + a.len as u64 && !a.freed
            })
        };
        if !within(index) {
            index = memory
                .find(addr[l])
                .filter(|i| within(*i))
                .ok_or_else(|| outside(b, touch, addr[l], bytes, l))?;
        }
        let alloc = &memory.allocs[index];
        let at = (addr[l] - alloc.base) as usize;
        // Widths are powers of two.
        if at & (bytes - 1) != 0 {
            return Err(misaligned(touch, addr[l], bytes, l));
        }
        alloc.claim(at, bytes, touch, who).map_err(|c| clash(b, c, touch, alloc, at, l))?;
        sectors.add(index, at / 32);
        f(alloc, at, l);
    }
    let asked = u64::from(m.count_ones()) * bytes as u64;
    b.count_global(pc, &mut sectors, touch, asked);
    Ok(())
}

#[cold]
fn outside(b: &Block, touch: Touch, addr: u64, bytes: usize, l: usize) -> Box<Bad> {
    let what = format!(
        "global {} of {bytes} bytes at {addr:#x}, {}",
        verb(touch),
        b.memory.describe(addr)
    );
    bad(FaultKind::OutOfBounds, l as u32, what)
}

#[cold]
fn misaligned(touch: Touch, addr: u64, bytes: usize, l: usize) -> Box<Bad> {
    let what = format!("global {} of {bytes} bytes at {addr:#x}, which is misaligned", verb(touch));
    bad(FaultKind::Misaligned, l as u32, what)
}

#[cold]
fn clash(b: &Block, c: Clash, touch: Touch, a: &Alloc, at: usize, l: usize) -> Box<Bad> {
    let place =
        format!("global {} at offset {at} of an allocation of {} bytes", verb(touch), a.len);
    match c {
        Clash::Uninitialised => {
            let what = format!("{place}, which nothing was written to");
            bad(FaultKind::Uninitialised, l as u32, what)
        }
        Clash::Race(other) => {
            let [x, y, _] = b.grid;
            let who = other.map_or("other blocks".to_string(), |o| {
                format!("block ({},{},{})", o % x, o / x % y, o / (x * y))
            });
            let what = format!("race between blocks: {place}, which {who} also touches");
            bad(FaultKind::Race, l as u32, what)
        }
    }
}

fn verb(touch: Touch) -> &'static str {
    match touch {
        Touch::Read => "read",
        Touch::Write => "write",
        Touch::Atomic => "atomic access",
    }
}

/// Distinct 32-byte sectors of one warp instruction.
pub(crate) struct Sectors {
    ids: [u64; 64],
    n: usize,
    sorted: bool,
}

impl Default for Sectors {
    fn default() -> Self {
        Sectors { ids: [0; 64], n: 0, sorted: true }
    }
}

impl Sectors {
    #[inline(always)]
    pub fn add(&mut self, alloc: usize, sector: usize) {
        let id = (alloc as u64) << 40 | sector as u64;
        match self.n.checked_sub(1).map(|i| self.ids[i]) {
            Some(last) if last == id => return,
            Some(last) => self.sorted &= last < id,
            None => {}
        }
        self.ids[self.n] = id;
        self.n += 1;
    }

    /// Allocation and sector of each, once.
    pub fn distinct(&mut self) -> impl Iterator<Item = (usize, usize)> {
        let ids = &mut self.ids[..self.n];
        if !self.sorted {
            ids.sort_unstable();
        }
        let ids = &*ids;
        (0..ids.len())
            .filter(|i| *i == 0 || ids[*i] != ids[*i - 1])
            .map(|i| ((ids[i] >> 40) as usize, (ids[i] & ((1 << 40) - 1)) as usize))
    }
}

pub(super) fn atomic(w: &mut Warp, b: &mut Block, pc: u32, a: &Atomic, m: u32) -> Exec {
    let mut addr = addresses(w, &a.addr);
    let bytes = a.ty.bytes();
    let (x, y) = (w.regs.get(a.a), a.b.map(|r| w.regs.get(r)).unwrap_or([0; LANES]));
    let mut old = [0u64; LANES];
    for (space, m) in split(a.space, &mut addr, m) {
        if m == 0 {
            continue;
        }
        match space {
            Space::Local => {
                let what = "an atomic on local memory".to_string();
                return Err(bad(FaultKind::Operand, m.trailing_zeros(), what));
            }
            Space::Shared => {
                b.count_shared(pc, &addr, m, bytes);
                for l in lanes(m) {
                    let at = b.shared.atomic(l, addr[l], bytes)?;
                    old[l] = number(&b.shared.data[at..], bytes);
                    let new = apply(a.op, a.ty, old[l], x[l], y[l]);
                    b.shared.data[at..at + bytes].copy_from_slice(&new.to_le_bytes()[..bytes]);
                }
            }
            _ => {
                let memory = b.memory;
                each_global(b, pc, &addr, m, bytes, Touch::Atomic, |alloc, at, l| {
                    let _all = memory.lock.lock().unwrap_or_else(|e| e.into_inner());
                    old[l] = alloc.load(at, bytes);
                    alloc.store(at, bytes, apply(a.op, a.ty, old[l], x[l], y[l]));
                })?;
            }
        }
    }
    if let Some(d) = a.d {
        w.regs.put(d, &old, m);
    }
    Ok(())
}

fn apply(op: AtomOp, ty: Ty, old: u64, a: u64, b: u64) -> u64 {
    let s = |v: u64| if ty.bytes() == 4 { i64::from(v as u32 as i32) } else { v as i64 };
    match op {
        AtomOp::Add if ty == Ty::F32 => {
            let sum = f32::from_bits(old as u32) + f32::from_bits(a as u32);
            sum.to_bits().into()
        }
        AtomOp::Add if ty == Ty::F64 => (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        AtomOp::Add => old.wrapping_add(a),
        AtomOp::Min if ty.signed() => s(old).min(s(a)) as u64,
        AtomOp::Max if ty.signed() => s(old).max(s(a)) as u64,
        AtomOp::Min => old.min(a),
        AtomOp::Max => old.max(a),
        AtomOp::And => old & a,
        AtomOp::Or => old | a,
        AtomOp::Xor => old ^ a,
        AtomOp::Inc => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
        AtomOp::Exch => a,
        AtomOp::Cas => {
            if old == a {
                b
            } else {
                old
            }
        }
    }
}
