//! Products of a few rows: y = x W^T for at most 16 rows of x, as decoding has them. Brain floats,
//! sums f32.
//!
//! Reading W sets the pace: two bytes for two to 32 FLOP, where tensor cores would take hundreds. So
//! each byte of W is asked for once, 16 bytes a lane, and never waits in a tile for others: a warp
//! walks along rows of W with copies under way to a ring of its own, from which each lane takes back
//! the bytes that it copied itself. No barrier stands in that loop. By Little's law an H100 has
//! 3.35 TB/s for about a microsecond under way, some 25 KB a multiprocessor, and more is safer: a
//! block keeps 32 or 48 KiB (`stages`), and where there are many blocks several run together.
//!
//! One kernel for all counts of rows, on tensor cores: x is the left operand of `mma`, whose 16 rows
//! are there whether they are used or not, and eight rows of W are the right one. Multiplying and
//! adding on ordinary cores would do for one row, but not for 16, and would be a second order of sums.
//! A dot product does not care for the order of k as long as both sides share it: the 16 bytes of a
//! lane are k = 8t..8t+8 of a piece of 32, and serve two `mma` as they are, without `ldmatrix`.
//!
//! K is divided over the warps of a block, whose sums are added in ascending order. How, depends on
//! K alone: a row's bits are the same beside any other rows, for any strip and on every device.
//! Blocks differ in how many strips of eight rows of W share what is read of x.

use super::{DEPTH, PIECE, ROWS, STRIP, THREADS, WARPS};
use crate::math::Bf16;
use crate::ptx::{self, block, lane, thread, zeroed};

/// Floats from a strip's sums to the next one's in a warp's room: where rows of several strips
/// are read side by side, they lie in different banks.
const fn pitch(strips: u32) -> u32 {
    ROWS * STRIP + 32 / strips
}

/// Bytes of a warp's sums.
const fn sums_bytes(strips: u32) -> u32 {
    strips * pitch(strips) * 4
}

/// Rows of x and of W, their length, and the elements from one to the next.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub M: u32,
    pub N: u32,
    pub K: u32,
    pub ldx: u32,
    pub ldw: u32,
}

/// One lane's share of the copies of a warp: 16 bytes of a row of each strip of W and of each half
/// of x, from column k on.
struct Walk<const STRIPS: usize> {
    w: *const Bf16,
    x: *const Bf16,
    /// Rows of W and of x that the lane reads first, of eight apart.
    row: u32,
    x_row: u32,
    k: u32,
    end: u32,
}

impl<const STRIPS: usize> Walk<STRIPS> {
    /// Starts the copies of the next piece of 32 to `slot`. What lies outside is zero.
    #[inline(always)]
    unsafe fn copy(&mut self, slot: u32, s: Sizes) {
        let inside = self.k < self.end;
        for i in 0..STRIPS as u32 {
            let from = self.w.wrapping_add(i as usize * (STRIP * s.ldw) as usize);
            let bytes = if inside && self.row + i * STRIP < s.N { 16 } else { 0 };
            // SAFETY: rows below N have K elements, K and the pitch are multiples of eight.
            unsafe { ptx::copy16(slot + i * PIECE, from, bytes) };
        }
        let x_slot = slot + STRIPS as u32 * PIECE;
        for half in 0..2 {
            if half == 0 || s.M > ROWS / 2 {
                let from = self.x.wrapping_add(half as usize * (ROWS / 2 * s.ldx) as usize);
                let bytes = if inside && self.x_row + half * ROWS / 2 < s.M { 16 } else { 0 };
                // SAFETY: as above, for M rows.
                unsafe { ptx::copy16(x_slot + half * PIECE, from, bytes) };
            }
        }
        self.k += DEPTH;
        self.w = self.w.wrapping_add(DEPTH as usize);
        self.x = self.x.wrapping_add(DEPTH as usize);
    }
}

/// The products of all rows of x with the block's STRIPS strips of W; `store` gets (row of x, row of
/// W, sum) of each that exists, once. PENDING is STAGES - 1.
#[inline(always)]
pub unsafe fn product<const STRIPS: usize, const STAGES: u32, const PENDING: u32>(
    x: *const Bf16,
    w: *const Bf16,
    s: Sizes,
    mut store: impl FnMut(u32, u32, f32),
) {
    let (g, t, warp) = (lane() / 4, lane() % 4, ptx::uniform_warp());
    let first = block() * STRIPS as u32 * STRIP;
    // Each warp takes as many pieces of K, the last one what is left.
    let span = s.K.div_ceil(DEPTH).div_ceil(WARPS) * DEPTH;
    let start = if warp * span < s.K { warp * span } else { s.K };
    let end = if s.K - start < span { s.K } else { start + span };
    let k = start + t * 8;
    let mut walk = Walk::<STRIPS> {
        // Beyond the operands' ends nothing is read.
        w: w.wrapping_add((first + g) as usize * s.ldw as usize + k as usize),
        x: x.wrapping_add(g as usize * s.ldx as usize + k as usize),
        row: first + g,
        x_row: g,
        k,
        end,
    };
    let pieces = (end - start).div_ceil(DEPTH);
    let both = s.M > ROWS / 2;
    let stage = (STRIPS as u32 + if both { 2 } else { 1 }) * PIECE;
    let ring = ptx::shared() + warp * STAGES * stage + lane() * 16;
    let last = ring + (STAGES - 1) * stage;

    // SAFETY: the launch provides a ring for each warp. A lane reads what it copied itself, behind
    // its wait, and copies anew where it has read.
    unsafe {
        for i in 0..STAGES {
            if i < pieces {
                walk.copy(ring + i * stage, s);
            }
            ptx::commit();
        }
        let mut sums: [[f32; 4]; STRIPS] = zeroed();
        let (mut slot, mut done) = (ring, 0);
        while done < pieces {
            ptx::wait::<PENDING>();
            let x_slot = slot + STRIPS as u32 * PIECE;
            let low = ptx::load_shared16(x_slot);
            let high = if both { ptx::load_shared16(x_slot + PIECE) } else { zeroed() };
            for i in 0..STRIPS {
                let w = ptx::load_shared16(slot + i as u32 * PIECE);
                for j in 0..2 {
                    let x = [low[2 * j], high[2 * j], low[2 * j + 1], high[2 * j + 1]];
                    ptx::mma(&mut sums[i], &x, [w[2 * j], w[2 * j + 1]]);
                }
            }
            if done + STAGES < pieces {
                walk.copy(slot, s);
            }
            ptx::commit();
            slot = if slot == last { ring } else { slot + stage };
            done += 1;
        }

        // The rings are done with, and become room for the warps' sums.
        ptx::barrier();
        let room: *mut f32 = ptx::shared_ptr();
        let (pitch, mine) =
            (pitch(STRIPS as u32), room.add((warp * sums_bytes(STRIPS as u32) / 4) as usize));
        for i in 0..STRIPS {
            for half in 0..2 {
                let row = half as u32 * ROWS / 2 + g;
                let at = i as u32 * pitch + row * STRIP + t * 2;
                let pair = [sums[i][2 * half], sums[i][2 * half + 1]];
                ptx::store8(mine.add(at as usize), pair.map(f32::to_bits));
            }
        }
        ptx::barrier();
        let width = STRIPS as u32 * STRIP;
        let mut i = thread();
        while i < s.M * width {
            let (m, n) = (i / width, i % width);
            let at = n / STRIP * pitch + m * STRIP + n % STRIP;
            let mut sum = 0.0;
            for warp in 0..WARPS {
                sum += *room.add((warp * sums_bytes(STRIPS as u32) / 4 + at) as usize);
            }
            if first + n < s.N {
                store(m, first + n, sum);
            }
            i += THREADS;
        }
    }
}
