//! A block's shared memory, its clocks, and what they say about who may touch which byte.
//!
//! Order between threads comes from barriers alone. Each warp has a clock that ticks when the warp
//! synchronises; a warp knows of another's clock what barriers told it. An access is stamped with
//! its thread and its warp's clock; a later access to the same bytes by another thread must know
//! that stamp. Lanes of one warp are threads like any others: only `bar.warp.sync` or a barrier
//! orders them. Where several warps read the same bytes and only a part of the block then
//! synchronises, the oldest stamp stands for all, which may miss a race and never invents one.

use crate::error::{Exec, FaultKind, bad};

const NONE: u16 = u16::MAX;
const MANY: u16 = u16::MAX - 1;
const INIT: u8 = 1;
const PENDING: u8 = 2;

#[derive(Clone, Copy)]
struct Cell {
    /// Barriers of the whole block so far; what an older cell says is ordered before everything.
    epoch: u32,
    writer: u16,
    write_clock: u16,
    /// Warps that have read since.
    readers: u32,
    /// The one thread that read, or `MANY`.
    reader: u16,
    read_clock: u16,
}

const BLANK: Cell =
    Cell { epoch: 0, writer: NONE, write_clock: 0, readers: 0, reader: NONE, read_clock: 0 };

/// What each warp knows of the others.
#[derive(Default)]
pub(crate) struct Clocks {
    epoch: u32,
    warps: usize,
    own: Vec<u16>,
    /// `known[w * warps + v]`: the latest stamp of v that is ordered before w's next access.
    known: Vec<u16>,
}

impl Clocks {
    pub fn reset(&mut self, warps: usize) {
        self.epoch = 1;
        self.warps = warps;
        self.own = vec![1; warps];
        self.known = vec![0; warps * warps];
    }

    #[inline(always)]
    fn knows(&self, warp: usize, thread: u16) -> u16 {
        self.known[warp * self.warps + thread as usize / 32]
    }

    /// The warp's lanes are ordered among themselves.
    pub fn tick(&mut self, warp: usize) {
        self.known[warp * self.warps + warp] = self.own[warp];
        match self.own[warp].checked_add(1) {
            Some(t) => self.own[warp] = t,
            // So many without a barrier of the block: start over, forgetting.
            None => self.barrier(),
        }
    }

    /// The whole block has met.
    pub fn barrier(&mut self) {
        self.epoch += 1;
        self.own.fill(1);
        self.known.fill(0);
    }

    /// What a warp brings to a barrier.
    pub fn give(&self, warp: usize, into: &mut Vec<u16>) {
        into.resize(self.warps, 0);
        for (v, k) in into.iter_mut().enumerate() {
            let mine = if v == warp { self.own[v] } else { self.known[warp * self.warps + v] };
            *k = (*k).max(mine);
        }
    }

    /// What a warp takes from it.
    pub fn take(&mut self, warp: usize, from: &[u16]) {
        for (v, k) in from.iter().enumerate().filter(|(v, _)| *v != warp) {
            let mine = &mut self.known[warp * self.warps + v];
            *mine = (*mine).max(*k);
        }
    }
}

#[derive(Default)]
pub(crate) struct Shared {
    pub data: Vec<u8>,
    state: Vec<u8>,
    cells: Vec<Cell>,
    /// log2 of the bytes a cell stands for: the narrowest access seen so far.
    shift: u32,
    races: bool,
}

impl Shared {
    pub fn reset(&mut self, len: usize, races: bool) {
        self.data.clear();
        self.data.resize(len, 0xff);
        self.state.clear();
        self.state.resize(len, 0);
        self.shift = 2;
        self.cells.clear();
        self.cells.resize(len.div_ceil(4), BLANK);
        self.races = races;
    }

    /// Eight bytes of state at once, where there are as many.
    #[inline(always)]
    fn all_initialised(&self, at: usize, bytes: usize) -> bool {
        let state = &self.state[at..at + bytes];
        let (eights, rest) = state.as_chunks::<8>();
        eights.iter().all(|s| *s == [INIT; 8]) && rest.iter().all(|s| *s == INIT)
    }

    #[inline(always)]
    fn any_pending(&self, at: usize, bytes: usize) -> bool {
        let state = &self.state[at..at + bytes];
        let (eights, rest) = state.as_chunks::<8>();
        let pending = u64::from_ne_bytes([PENDING; 8]);
        eights.iter().any(|s| u64::from_ne_bytes(*s) & pending != 0)
            || rest.iter().any(|s| s & PENDING != 0)
    }

    /// Makes cells as fine as an access of `width` bytes needs.
    fn refine(&mut self, width: usize) {
        while 1 << self.shift > width {
            self.cells = self.cells.iter().flat_map(|c| [*c, *c]).collect();
            self.shift -= 1;
        }
    }

    fn outside(&self, lane: usize, at: u64, bytes: usize, what: &str) -> Box<crate::error::Bad> {
        let len = self.data.len();
        let what =
            format!("shared {what} of {bytes} bytes at {at:#x}, of {len} bytes the block has");
        bad(FaultKind::OutOfBounds, lane as u32, what)
    }

    #[inline(always)]
    fn place(&self, lane: usize, at: u64, bytes: usize, align: usize, what: &str) -> Exec<usize> {
        if at.checked_add(bytes as u64).is_none_or(|end| end > self.data.len() as u64) {
            return Err(self.outside(lane, at, bytes, what));
        }
        if at as usize & (align - 1) != 0 {
            let text = format!("shared {what} of {align} bytes at {at:#x}, which is misaligned");
            return Err(bad(FaultKind::Misaligned, lane as u32, text));
        }
        Ok(at as usize)
    }

    /// Checks that `thread` may read; the bytes are then `data[at..at + bytes]`.
    #[inline(always)]
    pub fn read(
        &mut self,
        clocks: &Clocks,
        thread: usize,
        at: u64,
        bytes: usize,
        width: usize,
    ) -> Exec<usize> {
        let at = self.place(thread % 32, at, bytes, bytes, "read")?;
        if !self.all_initialised(at, bytes) {
            return Err(self.bad_state(thread, at, bytes, true));
        }
        self.stamp_read(clocks, thread, at, bytes, width)?;
        Ok(at)
    }

    #[inline(always)]
    fn stamp_read(
        &mut self,
        clocks: &Clocks,
        thread: usize,
        at: usize,
        bytes: usize,
        width: usize,
    ) -> Exec {
        if !self.races {
            return Ok(());
        }
        if width < 1 << self.shift {
            self.refine(width);
        }
        let warp = thread / 32;
        let (me, clock) = (thread as u16, clocks.own[warp]);
        for i in at >> self.shift..=(at + bytes - 1) >> self.shift {
            let c = &mut self.cells[i];
            if c.epoch != clocks.epoch {
                *c = Cell { epoch: clocks.epoch, ..BLANK };
            }
            if c.writer != NONE && c.writer != me && clocks.knows(warp, c.writer) < c.write_clock {
                return Err(race(thread, i << self.shift, "reads", "wrote", Some(c.writer)));
            }
            let ordered = c.readers == 0
                || c.reader == me
                || (c.reader != MANY && clocks.knows(warp, c.reader) >= c.read_clock);
            if ordered {
                (c.readers, c.reader, c.read_clock) = (1 << warp, me, clock);
            } else {
                c.readers |= 1 << warp;
                c.reader = MANY;
                c.read_clock = c.read_clock.min(clock);
            }
        }
        Ok(())
    }

    /// Checks that `thread` may write, and records it; the caller puts the bytes.
    #[inline(always)]
    pub fn write(
        &mut self,
        clocks: &Clocks,
        thread: usize,
        at: u64,
        bytes: usize,
        width: usize,
    ) -> Exec<usize> {
        let at = self.place(thread % 32, at, bytes, bytes, "write")?;
        if self.any_pending(at, bytes) {
            return Err(self.bad_state(thread, at, bytes, false));
        }
        self.stamp_write(clocks, thread, at, bytes, width)?;
        self.state[at..at + bytes].fill(INIT);
        Ok(at)
    }

    #[inline(always)]
    fn stamp_write(
        &mut self,
        clocks: &Clocks,
        thread: usize,
        at: usize,
        bytes: usize,
        width: usize,
    ) -> Exec {
        if !self.races {
            return Ok(());
        }
        if width < 1 << self.shift {
            self.refine(width);
        }
        let warp = thread / 32;
        let (me, clock) = (thread as u16, clocks.own[warp]);
        for i in at >> self.shift..=(at + bytes - 1) >> self.shift {
            let c = &mut self.cells[i];
            if c.epoch == clocks.epoch {
                if c.writer != NONE
                    && c.writer != me
                    && clocks.knows(warp, c.writer) < c.write_clock
                {
                    return Err(race(thread, i << self.shift, "writes", "wrote", Some(c.writer)));
                }
                if c.readers != 0 && c.reader != me {
                    unread(clocks, thread, c, i << self.shift)?;
                }
            }
            *c = Cell { epoch: clocks.epoch, writer: me, write_clock: clock, ..BLANK };
        }
        Ok(())
    }

    /// An asynchronous copy begins: from now on the bytes are nobody's until it is waited for.
    pub fn begin_copy(
        &mut self,
        clocks: &Clocks,
        thread: usize,
        at: u64,
        bytes: usize,
    ) -> Exec<usize> {
        let at = self.write(clocks, thread, at, bytes, bytes)?;
        self.state[at..at + bytes].fill(PENDING);
        Ok(at)
    }

    /// The thread waited; others see the bytes after a barrier.
    pub fn end_copy(&mut self, clocks: &Clocks, thread: usize, at: usize, data: &[u8]) -> Exec {
        self.state[at..at + data.len()].fill(INIT);
        self.data[at..at + data.len()].copy_from_slice(data);
        self.stamp_write(clocks, thread, at, data.len(), data.len())
    }

    /// Atomics order themselves: no stamp, but initialised memory.
    pub fn atomic(&mut self, lane: usize, at: u64, bytes: usize) -> Exec<usize> {
        let at = self.place(lane, at, bytes, bytes, "atomic")?;
        if !self.all_initialised(at, bytes) {
            return Err(self.bad_state(lane, at, bytes, true));
        }
        Ok(at)
    }

    #[cold]
    fn bad_state(
        &self,
        thread: usize,
        at: usize,
        bytes: usize,
        read: bool,
    ) -> Box<crate::error::Bad> {
        let i = (at..at + bytes)
            .find(|i| self.state[*i] & PENDING != 0 || (read && self.state[*i] == 0))
            .unwrap_or(at);
        let verb = if read { "read" } else { "write" };
        let (kind, what) = if self.state[i] & PENDING != 0 {
            (
                FaultKind::Pending,
                format!("shared {verb} at {i:#x}, where a cp.async has not been waited for"),
            )
        } else {
            let what = format!("shared read at {i:#x}, which nothing was written to");
            (FaultKind::Uninitialised, what)
        };
        bad(kind, thread as u32 % 32, what)
    }
}

/// A write after reads of others: every one of them must be known.
fn unread(clocks: &Clocks, thread: usize, c: &Cell, at: usize) -> Exec {
    let warp = thread / 32;
    if c.reader != MANY {
        return if clocks.knows(warp, c.reader) < c.read_clock {
            Err(race(thread, at, "writes", "read", Some(c.reader)))
        } else {
            Ok(())
        };
    }
    for w in (0..32u16).filter(|w| c.readers >> w & 1 == 1) {
        if clocks.knows(warp, w * 32) < c.read_clock {
            return Err(race(thread, at, "writes", "read", None));
        }
    }
    Ok(())
}

#[cold]
fn race(
    thread: usize,
    at: usize,
    now: &str,
    before: &str,
    other: Option<u16>,
) -> Box<crate::error::Bad> {
    let who = other.map_or("another thread".to_string(), |t| format!("thread {t} of the block"));
    let what =
        format!("race on shared memory at {at:#x}: {now} what {who} {before}, no barrier between");
    bad(FaultKind::Race, thread as u32 % 32, what)
}
