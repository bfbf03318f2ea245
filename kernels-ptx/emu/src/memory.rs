//! Device memory: allocations apart from each other, with a record of which bytes were ever written
//! and which blocks touched them in this launch. The second is kept for pieces as large as the
//! kernel's narrowest access, so that every access covers whole pieces.
//!
//! Words are atomics with relaxed ordering, so that blocks may run on several host threads; a
//! block's claim on a cell comes before its access, and a clash of claims is an error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::ast::Space;
use crate::error::{Error, Result};

/// Address windows of the generic address space. Global addresses lie outside both.
const SHARED_WINDOW: u64 = 0x0100_0000_0000;
const LOCAL_WINDOW: u64 = 0x0200_0000_0000;
const WINDOW: u64 = 1 << 32;
const GLOBAL_BASE: u64 = 0x7000_0000_0000;
/// Allocations keep at least this distance: a stray pointer should meet nothing.
const GAP: u64 = 1 << 28;

/// What a space's own address 0 is in the generic space.
pub(crate) fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        _ => 0,
    }
}

pub(crate) fn space_of(addr: u64) -> Space {
    if addr.wrapping_sub(SHARED_WINDOW) < WINDOW {
        Space::Shared
    } else if addr.wrapping_sub(LOCAL_WINDOW) < WINDOW {
        Space::Local
    } else {
        Space::Global
    }
}

/// Bits of a cell: reader 24, writer 24, atomics-only 1, launch 15.
const BLOCK: u64 = (1 << 24) - 1;
const MANY: u64 = BLOCK;
const WRITER: u32 = 24;
const ATOMIC: u64 = 1 << 48;
const EPOCH: u32 = 49;
const EPOCHS: u64 = 1 << 15;
/// Blocks a launch can have with every one told apart.
pub(crate) const MAX_BLOCKS: u64 = MANY - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    Atomic,
}

/// Why an access may not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clash {
    Uninitialised,
    /// The other block, if it is one and known.
    Race(Option<u32>),
}

pub(crate) struct Alloc {
    pub base: u64,
    pub len: usize,
    pub freed: bool,
    words: Vec<AtomicU32>,
    /// One bit a byte: written since the allocation.
    init: Vec<AtomicU32>,
    /// One for each two bytes; wider pieces use the first of theirs.
    cells: Vec<AtomicU64>,
    /// One for each 32 bytes: launch, written, read.
    sectors: Vec<AtomicU32>,
}

impl Alloc {
    fn new(base: u64, len: usize) -> Alloc {
        let zeros = |n| (0..n).map(|_| AtomicU32::new(0)).collect();
        Alloc {
            base,
            len,
            freed: false,
            words: (0..len.div_ceil(4)).map(|_| AtomicU32::new(u32::MAX)).collect(),
            init: zeros(len.div_ceil(32)),
            cells: (0..len.div_ceil(2)).map(|_| AtomicU64::new(0)).collect(),
            sectors: zeros(len.div_ceil(32)),
        }
    }

    /// Up to 8 bytes at an offset that is a multiple of `bytes`.
    #[inline(always)]
    pub fn load(&self, at: usize, bytes: usize) -> u64 {
        let word = u64::from(self.words[at / 4].load(Relaxed));
        match bytes {
            4 => word,
            8 => word | u64::from(self.words[at / 4 + 1].load(Relaxed)) << 32,
            2 => word >> (8 * (at & 2)) & 0xffff,
            _ => word >> (8 * (at & 3)) & 0xff,
        }
    }

    #[inline(always)]
    pub fn store(&self, at: usize, bytes: usize, v: u64) {
        let word = &self.words[at / 4];
        match bytes {
            4 => word.store(v as u32, Relaxed),
            8 => {
                word.store(v as u32, Relaxed);
                self.words[at / 4 + 1].store((v >> 32) as u32, Relaxed);
            }
            _ => {
                let shift = 8 * (at & 3);
                let mask = if bytes == 2 { 0xffff } else { 0xff } << shift;
                // Another block may own the rest of the word.
                let put = |w: u32| Some((w & !mask) | ((v as u32) << shift & mask));
                let _ = word.fetch_update(Relaxed, Relaxed, put);
            }
        }
    }

    /// Records that `block` touches bytes `[at, at + bytes)`, which are at most 16 and aligned.
    #[inline(always)]
    pub fn claim(
        &self,
        at: usize,
        bytes: usize,
        touch: Touch,
        who: Claimant,
    ) -> std::result::Result<(), Clash> {
        let bits = (u32::MAX >> (32 - bytes)) << (at % 32);
        let init = &self.init[at / 32];
        if init.load(Relaxed) & bits != bits {
            if touch != Touch::Write {
                return Err(Clash::Uninitialised);
            }
            init.fetch_or(bits, Relaxed);
        }
        let Some(block) = who.block else { return Ok(()) };
        let now = who.epoch << EPOCH;
        let me = u64::from(block) + 1;
        // What the cell most often holds when it needs no change.
        let (mine, shared) = match touch {
            Touch::Read => (now | me, now | MANY),
            _ => (now | me << WRITER, now | me << WRITER | me),
        };
        let step = (1usize << who.granule).max(2);
        // Only a copy of a part reads less than a piece, and reads have no quarrel among themselves.
        for i in (at & !(step - 1)..at + bytes).step_by(step) {
            let cell = &self.cells[i / 2];
            let old = cell.load(Relaxed);
            if touch == Touch::Atomic || (old != mine && old != shared) {
                claim_cell(cell, old, touch, who.epoch, me)?;
            }
        }
        Ok(())
    }

    /// True if the sector is touched so for the first time in this launch.
    pub fn first_touch(&self, sector: usize, write: bool, epoch: u64) -> bool {
        let bit = if write { 2 } else { 1 };
        let cell = &self.sectors[sector];
        let mut old = cell.load(Relaxed);
        loop {
            let now = if u64::from(old >> 2) == epoch { old } else { (epoch as u32) << 2 };
            if now & bit != 0 {
                return false;
            }
            match cell.compare_exchange_weak(old, now | bit, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(seen) => old = seen,
            }
        }
    }

    fn initialised(&self, at: usize) -> bool {
        self.init[at / 32].load(Relaxed) >> (at % 32) & 1 == 1
    }

    fn set_byte(&self, at: usize, v: u8) {
        self.store(at, 1, u64::from(v));
        self.init[at / 32].fetch_or(1 << (at % 32), Relaxed);
    }

    fn write(&self, at: usize, data: &[u8]) {
        let mut i = 0;
        while i < data.len() {
            if (at + i).is_multiple_of(4) && data.len() - i >= 4 {
                let word = u32::from_le_bytes(data[i..i + 4].try_into().expect("four bytes"));
                self.words[(at + i) / 4].store(word, Relaxed);
                self.init[(at + i) / 32].fetch_or(0xf << ((at + i) % 32), Relaxed);
                i += 4;
            } else {
                self.set_byte(at + i, data[i]);
                i += 1;
            }
        }
    }

    /// The bytes, or the offset of the first that nothing was written to.
    fn read(&self, at: usize, out: &mut [u8]) -> std::result::Result<(), usize> {
        for (i, b) in out.iter_mut().enumerate() {
            if !self.initialised(at + i) {
                return Err(at + i);
            }
            *b = self.load(at + i, 1) as u8;
        }
        Ok(())
    }

    /// Forgets which launch touched what; what is initialised stays so.
    fn forget(&self) {
        for c in &self.cells {
            c.store(0, Relaxed);
        }
        for s in &self.sectors {
            s.store(0, Relaxed);
        }
    }
}

/// Who touches: a block of a launch, or nobody in particular where races are not looked for.
#[derive(Clone, Copy)]
pub(crate) struct Claimant {
    pub epoch: u64,
    pub block: Option<u32>,
    /// log2 of the kernel's narrowest global access.
    pub granule: u32,
}

fn claim_cell(
    cell: &AtomicU64,
    mut old: u64,
    touch: Touch,
    epoch: u64,
    me: u64,
) -> std::result::Result<(), Clash> {
    loop {
        let now = if old >> EPOCH == epoch { old } else { epoch << EPOCH };
        let (reader, writer, atomic) = (now & BLOCK, now >> WRITER & BLOCK, now & ATOMIC != 0);
        let other = |who: u64| who != 0 && who != me;
        let name = |who: u64| if who == MANY { None } else { Some(who as u32 - 1) };
        let new = match touch {
            Touch::Read if other(writer) => return Err(Clash::Race(name(writer))),
            Touch::Read if writer == me || reader == me || reader == MANY => return Ok(()),
            Touch::Read => (now & !BLOCK) | if reader == 0 { me } else { MANY },
            _ if other(reader) => return Err(Clash::Race(name(reader))),
            Touch::Write if other(writer) => return Err(Clash::Race(name(writer))),
            Touch::Write => (now & !(BLOCK << WRITER | ATOMIC)) | me << WRITER,
            Touch::Atomic if other(writer) && !atomic => {
                return Err(Clash::Race(name(writer)));
            }
            Touch::Atomic => match writer {
                0 => now | me << WRITER | ATOMIC,
                w if w == me => now,
                _ => now | MANY << WRITER,
            },
        };
        if new == old {
            return Ok(());
        }
        match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
            Ok(_) => return Ok(()),
            Err(seen) => old = seen,
        }
    }
}

/// All allocations, ascending. Addresses are never used twice, so a freed one stays recognisable.
#[derive(Default)]
pub(crate) struct Memory {
    pub allocs: Vec<Alloc>,
    pub epoch: u64,
    /// Held by each atomic operation.
    pub lock: Mutex<()>,
}

impl Memory {
    pub fn alloc(&mut self, len: usize) -> u64 {
        let base = self
            .allocs
            .last()
            .map_or(GLOBAL_BASE, |a| (a.base + a.len as u64 + GAP).next_multiple_of(GAP));
        self.allocs.push(Alloc::new(base, len));
        base
    }

    pub fn free(&mut self, addr: u64) -> Result<()> {
        match self.allocs.iter_mut().find(|a| a.base == addr && !a.freed) {
            None => {
                Err(Error::Memory { what: format!("free of {addr:#x}, which is no allocation") })
            }
            Some(a) => {
                *a = Alloc { len: a.len, freed: true, ..Alloc::new(a.base, 0) };
                Ok(())
            }
        }
    }

    /// Index of the allocation at or below an address.
    #[inline(always)]
    pub fn find(&self, addr: u64) -> Option<usize> {
        self.allocs.partition_point(|a| a.base <= addr).checked_sub(1)
    }

    /// The allocation that holds all of `[addr, addr + len)`, and the offset in it.
    pub fn span(&self, addr: u64, len: usize) -> Result<(&Alloc, usize)> {
        let found = self.find(addr).map(|i| &self.allocs[i]);
        if let Some(a) = found {
            let at = (addr - a.base) as usize;
            if !a.freed && at + len <= a.len {
                return Ok((a, at));
            }
        }
        Err(Error::Memory { what: format!("{len} bytes at {addr:#x}: {}", self.describe(addr)) })
    }

    /// Where a bad address lies, in words.
    pub fn describe(&self, addr: u64) -> String {
        match self.find(addr).map(|i| &self.allocs[i]) {
            Some(a) if a.freed => format!("in an allocation of {} bytes that was freed", a.len),
            Some(a) if addr - a.base < a.len as u64 => {
                format!("at offset {} of an allocation of {} bytes", addr - a.base, a.len)
            }
            Some(a) => format!(
                "{} bytes past the end of an allocation of {} bytes",
                addr - a.base - a.len as u64,
                a.len
            ),
            None => "below every allocation".to_string(),
        }
    }

    pub fn write(&self, addr: u64, data: &[u8]) -> Result<()> {
        let (a, at) = self.span(addr, data.len())?;
        a.write(at, data);
        Ok(())
    }

    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<()> {
        let (a, at) = self.span(addr, out.len())?;
        a.read(at, out).map_err(|bad| Error::Memory {
            what: format!(
                "read of offset {bad} of an allocation of {} bytes, which nothing was written to",
                a.len
            ),
        })
    }

    /// Copies bytes together with whether they are initialised.
    pub fn copy(&self, dst: u64, src: u64, len: usize) -> Result<()> {
        let ((d, d_at), (s, s_at)) = (self.span(dst, len)?, self.span(src, len)?);
        if std::ptr::eq(d, s) && d_at < s_at + len && s_at < d_at + len && len > 0 {
            return Err(Error::Memory { what: "copy between ranges that overlap".to_string() });
        }
        for i in 0..len {
            if s.initialised(s_at + i) {
                d.set_byte(d_at + i, s.load(s_at + i, 1) as u8);
            } else {
                let at = d_at + i;
                d.init[at / 32].fetch_and(!(1 << (at % 32)), Relaxed);
            }
        }
        Ok(())
    }

    /// Starts a launch: what earlier ones touched no longer matters.
    pub fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        if self.epoch == EPOCHS {
            self.epoch = 1;
            self.allocs.iter().for_each(Alloc::forget);
        }
        self.epoch
    }
}
