//! `cp.async`: read when issued, delivered when waited for.

use super::access::{addresses, each_global};
use super::block::Block;
use super::regs::{LANES, lanes};
use super::warp::Warp;
use crate::error::{Exec, FaultKind, bad};
use crate::ir::CpAsync;
use crate::memory::Touch;

struct Copy {
    lane: u8,
    len: u8,
    group: u32,
    at: u32,
    data: [u8; 16],
}

/// Copies of a warp's lanes that are under way, oldest first.
#[derive(Default)]
pub(crate) struct Copies {
    pending: Vec<Copy>,
    /// The group that each lane's next copy belongs to.
    group: [u32; LANES],
}

impl Copies {
    pub fn commit(&mut self, m: u32) {
        for l in lanes(m) {
            self.group[l] += 1;
        }
    }
}

pub(super) fn issue(w: &mut Warp, b: &mut Block, pc: u32, c: &CpAsync, m: u32) -> Exec {
    let (dst, src) = (addresses(w, &c.dst), addresses(w, &c.src));
    let bytes = c.bytes as usize;
    let sizes = match c.src_size {
        None => [u32::from(c.bytes); LANES],
        Some(s) => *w.regs.get32(s),
    };
    let mut data = [[0u8; 16]; LANES];
    let mut whole = 0;
    for l in lanes(m) {
        let size = sizes[l] as usize;
        if size > bytes {
            let what = format!("cp.async reads {size} bytes into {bytes}");
            return Err(bad(FaultKind::Operand, l as u32, what));
        }
        if size == bytes {
            whole |= 1 << l;
        } else if src[l] % c.bytes as u64 != 0 {
            let what = format!("cp.async from {:#x}, which is misaligned", src[l]);
            return Err(bad(FaultKind::Misaligned, l as u32, what));
        } else {
            for i in 0..size {
                let mut one = [0; LANES];
                one[l] = src[l] + i as u64;
                each_global(b, pc, &one, 1 << l, 1, Touch::Read, |alloc, at, l| {
                    data[l][i] = alloc.load(at, 1) as u8;
                })?;
            }
        }
    }
    each_global(b, pc, &src, whole, bytes, Touch::Read, |alloc, at, l| {
        for i in (0..bytes).step_by(4) {
            let word = alloc.load(at + i, 4) as u32;
            data[l][i..i + 4].copy_from_slice(&word.to_le_bytes());
        }
    })?;
    b.count_shared(pc, &dst, m, bytes);
    for l in lanes(m) {
        let at = b.shared.begin_copy(&b.clocks, w.index * 32 + l, dst[l], bytes)?;
        w.copies.pending.push(Copy {
            lane: l as u8,
            len: c.bytes,
            group: w.copies.group[l],
            at: at as u32,
            data: data[l],
        });
    }
    Ok(())
}

/// Delivers what must have come: all but the latest `pending` groups, or everything.
pub(super) fn wait(w: &mut Warp, b: &mut Block, m: u32, pending: Option<u32>) -> Exec {
    let mut copies = std::mem::take(&mut w.copies);
    let mut failed = None;
    copies.pending.retain(|c| {
        let l = c.lane as usize;
        let done = match pending {
            None => true,
            Some(n) => u64::from(c.group) + u64::from(n) < u64::from(copies.group[l]),
        };
        if m >> l & 1 == 0 || !done || failed.is_some() {
            return true;
        }
        let data = &c.data[..c.len as usize];
        failed = b.shared.end_copy(&b.clocks, w.index * 32 + l, c.at as usize, data).err();
        false
    });
    w.copies = copies;
    failed.map_or(Ok(()), Err)
}
