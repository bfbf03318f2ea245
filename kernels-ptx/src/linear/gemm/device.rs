//! Matrix products C = A B on tensor cores: A is M x K, B is K x N, brain floats, sums f32.
//!
//! A block computes a tile of BM x BN, a warp 64 x 64 of it. Slices of 64 along K wait in STAGES
//! buffers of shared memory, filled by `cp.async`; fragments of the next 16 columns are loaded while
//! the tensor cores multiply the last ones. Operands lie in memory either with K innermost or with M
//! (N) innermost, and keep that order in shared memory: `ldmatrix` transposes on the way to
//! registers. 16-byte columns are permuted by the low bits of the row ([`swizzled`]), so that
//! neither the copies nor `ldmatrix` meet a bank twice.

use super::{BK, F32_DEPTH as DEEP, F32_TILE as SIDE, STAGES, WARP_TILE};
use crate::fragment::{across, along, load_across, load_along};
use crate::math::{Bf16, swizzled, tile_of};
use crate::ptx::{self, Element, block, block_y, lane, thread, zeroed};

/// Rows of tiles in a band: see [`tile_of`].
const BAND: u32 = 8;
/// Bytes of a row of an operand with K innermost.
const ROW: u32 = BK * 2;
/// Blocks of 16 in a warp's tile.
const BLOCKS: usize = WARP_TILE as usize / 16;

/// Whether K is innermost in A and in B.
pub const NT: (bool, bool) = (true, true);
pub const NN: (bool, bool) = (true, false);
pub const TN: (bool, bool) = (false, false);

/// What the kernels of a product are compiled for.
pub struct Tile {
    /// Columns of a block's tile, and its threads: a warp has 64 x 64 of its 128 rows.
    pub BN: u32,
    /// Blocks on a multiprocessor.
    pub blocks: u32,
    pub a_K_inner: bool,
    pub b_K_inner: bool,
    /// Whether rows start at multiples of 16 bytes.
    pub aligned: bool,
}

impl Tile {
    /// 128 x 256, where rows are aligned.
    pub const fn wide((a_K_inner, b_K_inner): (bool, bool)) -> Tile {
        Tile { BN: 256, blocks: 1, a_K_inner, b_K_inner, aligned: true }
    }
    /// 128 x 128, two on a multiprocessor.
    pub const fn square((a_K_inner, b_K_inner): (bool, bool)) -> Tile {
        Tile { BN: 128, blocks: 2, a_K_inner, b_K_inner, aligned: true }
    }
    /// For any rows.
    pub const fn any((a_K_inner, b_K_inner): (bool, bool)) -> Tile {
        Tile { BN: 128, blocks: 1, a_K_inner, b_K_inner, aligned: false }
    }
}

/// One operand in memory: `len` rows of A (columns of B), K deep. With K_INNER element (i, k) is
/// `i * ld + k`, otherwise `k * ld + i`.
#[derive(Clone, Copy)]
struct Operand {
    from: *const Bf16,
    ld: u32,
    len: u32,
    K: u32,
}

/// One thread's share of copying slices of an operand: TILE rows from `first` on, 64 deep. Its 16
/// bytes lie at the same column of rows `row`, `row + stride`, ...
struct Copies {
    from: *const Bf16,
    to: u32,
    row: u32,
    col: u32,
}

impl Operand {
    /// Columns of 16 bytes in a row of the slice in shared memory.
    #[inline(always)]
    const fn cols<const TILE: u32, const K_INNER: bool>() -> u32 {
        if K_INNER { BK / 8 } else { TILE / 8 }
    }

    #[inline(always)]
    fn copies<const TILE: u32, const K_INNER: bool>(&self, first: u32, k: u32) -> Copies {
        let cols = Self::cols::<TILE, K_INNER>();
        let (row, col) = (thread() / cols, thread() % cols);
        let to = swizzled(row, col, cols) * 16;
        let (outer, inner) = if K_INNER { (first, k) } else { (k, first) };
        let (row, col) = (outer + row, inner + col * 8);
        // Beyond the operand's end nothing is read.
        let from = self.from.wrapping_add(row as usize * self.ld as usize + col as usize);
        Copies { from, to, row, col }
    }

    /// Starts the thread's copies of one slice to `stage`, then moves on by a slice. What lies
    /// outside of the operand is zero.
    #[inline(always)]
    unsafe fn copy<const TILE: u32, const K_INNER: bool, const THREADS: u32, const WIDE: bool>(
        &self,
        c: &mut Copies,
        stage: u32,
    ) {
        let cols = Self::cols::<TILE, K_INNER>();
        let stride = THREADS / cols;
        let (rows, row_len) = if K_INNER { (self.len, self.K) } else { (self.K, self.len) };
        let inside = row_len.saturating_sub(c.col).min(8);
        let mut from = c.from;
        let copies = TILE * BK / 8 / THREADS;
        for i in 0..if WIDE { copies } else { ptx::opaque(copies) } {
            let to = stage + c.to + i * stride * cols * 16;
            let inside = if c.row + i * stride < rows { inside } else { 0 };
            // SAFETY: `inside` elements at `from` belong to the operand; `to` lies in the stage.
            unsafe {
                if WIDE {
                    ptx::copy16(to, from, inside * 2);
                } else {
                    ptx::gather16(to, from, inside);
                }
            }
            // One pointer that moves, where the compiler would keep one for each copy.
            from = ptx::further(from, self.ld, stride);
        }
        if K_INNER {
            c.col += BK;
            c.from = c.from.wrapping_add(BK as usize);
        } else {
            c.row += BK;
            c.from = c.from.wrapping_add(BK as usize * self.ld as usize);
        }
    }
}

/// The lane's place in the fragments of the warp's 64 rows (columns) from `first` on.
#[inline(always)]
fn place<const TILE: u32, const K_INNER: bool>(slice: u32, first: u32, left: bool) -> u32 {
    match (K_INNER, TILE) {
        (true, _) => along::<ROW>(slice, first, left),
        (false, 128) => across::<256>(slice, first, left),
        _ => across::<512>(slice, first, left),
    }
}
#[inline(always)]
unsafe fn fragment<const TILE: u32, const K_INNER: bool>(
    place: u32,
    block: usize,
    step: usize,
) -> [u32; 4] {
    unsafe {
        match (K_INNER, TILE) {
            (true, _) => load_along::<ROW>(place, block, step),
            (false, 128) => load_across::<256>(place, block, step),
            _ => load_across::<512>(place, block, step),
        }
    }
}

/// The sums of a warp: blocks of 16 x 8.
type Sums = [[[f32; 4]; 2 * BLOCKS]; BLOCKS];
/// Fragments of 64 rows of A and 64 columns of B, 16 deep.
type Fragments = ([[u32; 4]; BLOCKS], [[u32; 4]; BLOCKS]);

/// A block's tile of the product over `left` slices of K from k_first on: the sums of this warp, and
/// its row and column.
#[inline(always)]
pub unsafe fn tile<
    const BM: u32,
    const BN: u32,
    const THREADS: u32,
    const A_K_INNER: bool,
    const B_K_INNER: bool,
    const WIDE: bool,
>(
    a: *const Bf16,
    b: *const Bf16,
    M: u32,
    N: u32,
    K: u32,
    k_first: u32,
    mut left: u32,
    lda: u32,
    ldb: u32,
) -> (Sums, u32, u32) {
    let (tiles_m, tiles_n) = (M.div_ceil(BM), N.div_ceil(BN));
    // SAFETY: there is at least one tile, or no block would run; BAND is not zero.
    let (tile_m, tile_n) = tile_of(block(), tiles_m, tiles_n, BAND);
    let (row, col) = (tile_m * BM, tile_n * BN);
    let warp = ptx::uniform_warp();
    let (warp_m, warp_n) = (warp % (BM / WARP_TILE), warp / (BM / WARP_TILE));
    let (warp_row, warp_col) = (warp_m * WARP_TILE, warp_n * WARP_TILE);

    let a = Operand { from: a, ld: lda, len: M, K };
    let b = Operand { from: b, ld: ldb, len: N, K };
    let mut a_copies = a.copies::<BM, A_K_INNER>(row, k_first);
    let mut b_copies = b.copies::<BN, B_K_INNER>(col, k_first);
    let (a_bytes, stage_bytes) = (BM * BK * 2, (BM + BN) * BK * 2);
    let base = ptx::shared();
    let last = base + (STAGES - 1) * stage_bytes;
    let next = |stage: u32| if stage == last { base } else { stage + stage_bytes };
    let previous = |stage: u32| if stage == base { last } else { stage - stage_bytes };

    // SAFETY: stages lie in the shared memory that the launch provides (`stages_bytes`); a stage is
    // filled after the barrier behind its last use and read after the barrier behind its wait.
    unsafe {
        let mut fill = |stage: u32, exists: bool| {
            if exists {
                a.copy::<BM, A_K_INNER, THREADS, WIDE>(&mut a_copies, stage);
                b.copy::<BN, B_K_INNER, THREADS, WIDE>(&mut b_copies, stage + a_bytes);
            }
            ptx::commit();
        };
        for slice in 0..STAGES - 1 {
            fill(base + slice * stage_bytes, slice < left);
        }
        let mut read = base;
        let a_place = place::<BM, A_K_INNER>(0, warp_row, true);
        let b_place = place::<BN, B_K_INNER>(a_bytes, warp_col, false);
        let load = |to: &mut Fragments, stage: u32, step: usize| {
            for i in 0..BLOCKS {
                to.0[i] = fragment::<BM, A_K_INNER>(stage + a_place, i, step);
                to.1[i] = fragment::<BN, B_K_INNER>(stage + b_place, i, step);
            }
        };
        let mut sums: Sums = zeroed();
        let mut fragments: [Fragments; 2] = zeroed();
        ptx::wait::<{ STAGES - 2 }>();
        ptx::barrier();
        load(&mut fragments[0], read, 0);
        const STEPS: usize = BK as usize / 16;
        while left > 0 {
            for step in 0..STEPS {
                if step == STEPS - 1 {
                    // Behind the last slice nothing was filled; what is loaded there is not used.
                    read = if left > 1 { next(read) } else { read };
                    ptx::wait::<{ STAGES - 2 }>();
                    ptx::barrier();
                }
                load(&mut fragments[(step + 1) % 2], read, (step + 1) % STEPS);
                if step == 0 {
                    // The buffer of the slice before: every warp has read it.
                    fill(previous(read), left > STAGES - 1);
                }
                let (a, b) = &fragments[step % 2];
                for i in 0..BLOCKS {
                    for j in 0..BLOCKS {
                        ptx::mma(&mut sums[i][2 * j], &a[i], [b[j][0], b[j][1]]);
                        ptx::mma(&mut sums[i][2 * j + 1], &a[i], [b[j][2], b[j][3]]);
                    }
                }
            }
            left -= 1;
        }
        (sums, row + warp_row, col + warp_col)
    }
}

/// Stores sums as brain floats; adds `r` (laid out like `c`) before rounding unless it is null. Lanes
/// of a quad exchange columns, so that each stores 16 bytes.
#[inline(always)]
pub unsafe fn store_rounded(
    (sums, row, col): (Sums, u32, u32),
    c: *mut Bf16,
    r: *const Bf16,
    M: u32,
    N: u32,
    ldc: u32,
) {
    unsafe {
        let (lane_row, lane_col) = (lane() / 4, lane() % 4);
        // C may be some columns of wider rows.
        let aligned = (c.addr() as u32 / 2 | ldc).is_multiple_of(8);
        for i in 0..2 * BLOCKS {
            let row = row + i as u32 * 8 + lane_row;
            for j in 0..BLOCKS / 2 {
                let mut words: [u32; 4] = zeroed();
                for k in 0..4 {
                    let [x, y] = {
                        let s = sums[i / 2][4 * j + k];
                        if i % 2 == 0 { [s[0], s[1]] } else { [s[2], s[3]] }
                    };
                    let col = col + (4 * j + k) as u32 * 8 + lane_col * 2;
                    let at = row as usize * ldc as usize + col as usize;
                    let old = |k: u32| {
                        let inside = !r.is_null() && row < M && col + k < N;
                        if inside { (*r.add(at + k as usize)).get() } else { 0.0 }
                    };
                    words[k] = if r.is_null() {
                        ptx::pack(x, y)
                    } else {
                        ptx::pack(x + old(0), y + old(1))
                    };
                }
                let words = ptx::transpose_quad(words);
                let col = col + (4 * j as u32 + lane_col) * 8;
                let to = c.wrapping_add(row as usize * ldc as usize + col as usize);
                if row < M && col < N {
                    if col + 8 <= N && aligned {
                        ptx::store16(to, words);
                    } else {
                        for k in 0..8 {
                            if col + k < N {
                                let pair = words[k as usize / 2];
                                *to.add(k as usize) = Bf16((pair >> (16 * (k % 2))) as u16);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Stores sums as f32, or adds them to what is there.
#[inline(always)]
pub unsafe fn store_wide(
    (sums, row, col): (Sums, u32, u32),
    c: *mut f32,
    M: u32,
    N: u32,
    ldc: u32,
    add: bool,
) {
    unsafe {
        for i in 0..2 * BLOCKS {
            let row = row + i as u32 * 8 + lane() / 4;
            for j in 0..2 * BLOCKS {
                let s = sums[i / 2][j];
                let [x, y] = if i % 2 == 0 { [s[0], s[1]] } else { [s[2], s[3]] };
                let col = col + j as u32 * 8 + lane() % 4 * 2;
                let to = c.wrapping_add(row as usize * ldc as usize + col as usize);
                if row < M && col + 1 < N && ldc.is_multiple_of(2) {
                    let [p, q] = if add { ptx::load8(to) } else { [0, 0] }.map(f32::from_bits);
                    ptx::store8(to, [(x + p).to_bits(), (y + q).to_bits()]);
                } else if row < M {
                    if col < N {
                        *to = x + if add { *to } else { 0.0 };
                    }
                    if col + 1 < N {
                        let to = to.add(1);
                        *to = y + if add { *to } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// c = the sum of `count` arrays of M x N behind each other, in ascending order, plus `r` (laid out
/// like `c`, rows of `ldc`) unless it is null, rounded once. For products whose K is divided over
/// blocks. A thread has 4 columns of a row; M * N is below 2^34, or no memory would hold it.
#[inline(always)]
pub unsafe fn round_parts(
    c: *mut Bf16,
    r: *const Bf16,
    parts: *const f32,
    M: u32,
    N: u32,
    ldc: u32,
    count: u32,
) {
    unsafe {
        // At least one, which the compiler cannot know.
        let (thread, columns) = (ptx::global_thread() as u32, N.div_ceil(4).max(1));
        let (row, col) = (thread / columns, thread % columns * 4);
        if row >= M {
            return;
        }
        let inside = (N - col).min(4);
        let at = row as usize * ldc as usize + col as usize;
        let mut part = parts.add(row as usize * N as usize + col as usize);
        let mut sum: [f32; 4] = zeroed();
        for _ in 0..count {
            if N.is_multiple_of(4) {
                let x = ptx::load4(part);
                for j in 0..4 {
                    sum[j] += x[j];
                }
            } else {
                for j in 0..4 {
                    if (j as u32) < inside {
                        sum[j] += *part.add(j);
                    }
                }
            }
            part = part.wrapping_add(M as usize * N as usize);
        }
        if inside == 4 && ldc.is_multiple_of(4) {
            if !r.is_null() {
                let old = ptx::load4(r.add(at));
                for j in 0..4 {
                    sum[j] += old[j];
                }
            }
            ptx::store8(c.add(at), [ptx::pack(sum[0], sum[1]), ptx::pack(sum[2], sum[3])]);
        } else {
            for j in 0..4 {
                if (j as u32) < inside {
                    let old = if r.is_null() { 0.0 } else { (*r.add(at + j)).get() };
                    *c.add(at + j) = Bf16::of(sum[j] + old);
                }
            }
        }
    }
}

/// The same products in f32 on ordinary cores, for comparisons: element (i, k) of A is
/// `a[i * a_row + k * a_col]`, and B alike. A block computes 64 x 64, a thread 4 x 4. Adds to c if
/// `add`, to `r` unless it is null.
#[inline(always)]
pub unsafe fn f32(
    c: *mut f32,
    r: *const f32,
    a: *const f32,
    b: *const f32,
    M: u32,
    N: u32,
    K: u32,
    a_row: u32,
    a_col: u32,
    b_row: u32,
    b_col: u32,
    ldc: u32,
    add: u32,
) {
    ptx::launch_bounds::<256, 2>();
    unsafe {
        let (row, col) = (block() * SIDE, block_y() * SIDE);
        let (thread_row, thread_col) = (thread() / 16, thread() % 16);
        // One float of padding: a column of 16 falls on 16 banks.
        let a_tile: *mut f32 = ptx::shared_ptr();
        let b_tile = a_tile.add((DEEP * (SIDE + 1)) as usize);
        let place = |k: u32, i: u32| (k * (SIDE + 1) + i) as usize;
        let mut sums: [[f32; 4]; 4] = zeroed();
        let mut k0 = 0;
        while k0 < K {
            for part in 0..SIDE * DEEP / 256 {
                let (k, i) = (thread() % DEEP, thread() / DEEP + part * 256 / DEEP);
                let (at_a, at_b) = ((row + i, k0 + k), (k0 + k, col + i));
                let inside = |i: u32, k: u32, len: u32| i < len && k < K;
                *a_tile.add(place(k, i)) = if inside(at_a.0, at_a.1, M) {
                    *a.add(at_a.0 as usize * a_row as usize + at_a.1 as usize * a_col as usize)
                } else {
                    0.0
                };
                *b_tile.add(place(k, i)) = if inside(at_b.1, at_b.0, N) {
                    *b.add(at_b.0 as usize * b_row as usize + at_b.1 as usize * b_col as usize)
                } else {
                    0.0
                };
            }
            ptx::barrier();
            for k in 0..DEEP {
                for i in 0..4 {
                    for j in 0..4 {
                        let x = *a_tile.add(place(k, thread_row + 16 * i));
                        let y = *b_tile.add(place(k, thread_col + 16 * j));
                        let sum = &mut sums[i as usize][j as usize];
                        *sum = ptx::fma(x, y, *sum);
                    }
                }
            }
            ptx::barrier();
            k0 += DEEP;
        }
        for i in 0..4 {
            for j in 0..4 {
                let (row, col) = (row + thread_row + 16 * i, col + thread_col + 16 * j);
                if row < M && col < N {
                    let at = row as usize * ldc as usize + col as usize;
                    let old = if add != 0 { *c.add(at) } else { 0.0 };
                    let old = if r.is_null() { old } else { *r.add(at) };
                    *c.add(at) = old + sums[i as usize][j as usize];
                }
            }
        }
    }
}
