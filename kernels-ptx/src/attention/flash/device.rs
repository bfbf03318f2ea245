//! Causal attention on tensor cores, brain floats. Rows of qkv hold H query heads, G key heads and G
//! value heads of D; head h reads key/value head h / (H/G).
//! Source: Dao 2023, arXiv:2307.08691. Backward divides differently from there: one kernel has a
//! block for a tile of queries and sums dQ, another has a block for a tile of keys and sums dK and
//! dV over all heads that share them. S and dO V^T are computed in both (7 products where 5 would
//! do), and in return no sum crosses blocks: no atomics, the same bits in every run.
//!
//! W is the width in shared memory and registers; EXACT says that D is W. Otherwise D <= W, and
//! columns beyond D are zero.

use crate::fragment::{across, along, load_across, load_along};
use crate::math::{Bf16, LN_2, LOG2_E, swizzled};
use crate::ptx::{self, block, block_y, lane, thread, zeroed};

/// Where heads and the block's sequence lie.
#[derive(Clone, Copy)]
pub struct Shape {
    /// First row of the sequence in the batch.
    pub row: u32,
    /// Its tokens.
    pub T: u32,
    pub H: u32,
    pub G: u32,
    pub D: u32,
}

impl Shape {
    /// Elements of a row of qkv.
    #[inline(always)]
    fn qkv(&self) -> u32 {
        (self.H + 2 * self.G) * self.D
    }
    /// The head of `heads` that the block takes, and the first token of its tile of `rows`.
    ///
    /// Without `items` all sequences have T tokens: the first index of a block is a head of one of
    /// them, the second a tile, with `last_first` counted from the last. With items the first index is
    /// a head, the second an item: first row of its sequence, tokens of it, first token of the tile.
    #[inline(always)]
    unsafe fn place(
        &mut self,
        items: *const u32,
        heads: u32,
        rows: u32,
        last_first: bool,
    ) -> (u32, u32) {
        // SAFETY: heads is not zero, and there are as many items as blocks along the second index.
        unsafe {
            if !items.is_null() {
                let item = items.add(3 * block_y() as usize);
                (self.row, self.T) = (*item, *item.add(1));
                return (block(), *item.add(2));
            }
            let b = ptx::div(block(), heads);
            self.row = b * self.T;
            let last = self.T.div_ceil(rows) - 1;
            let tile = if last_first { last - block_y() } else { block_y() };
            (block() - b * heads, tile * rows)
        }
    }
    /// Element of qkv where head `head` (keys start at H, values at H + G) of token t starts.
    #[inline(always)]
    fn at(&self, t: u32, head: u32) -> usize {
        (self.row + t) as usize * self.qkv() as usize + (head * self.D) as usize
    }
    /// The same in o.
    #[inline(always)]
    fn out(&self, t: u32, head: u32) -> usize {
        self.row(t, head) * self.D as usize
    }
    /// The same in lse and delta.
    #[inline(always)]
    fn row(&self, t: u32, head: u32) -> usize {
        (self.row + t) as usize * self.H as usize + head as usize
    }
}

/// Starts copying ROWS rows of a head to a tile; rows from `inside` on are zero.
#[inline(always)]
unsafe fn copy_rows<const W: u32, const ROWS: u32, const THREADS: u32, const EXACT: bool>(
    tile: u32,
    from: *const Bf16,
    ld: u32,
    inside: u32,
    D: u32,
) {
    let cols = W / 8;
    let (row, col) = (thread() / cols, thread() % cols);
    let stride = THREADS / cols;
    let to = tile + swizzled(row, col, cols) * 16;
    let mut from = from.wrapping_add(row as usize * ld as usize + col as usize * 8);
    let step = stride as usize * ld as usize;
    let copies = ROWS / stride;
    for i in 0..if EXACT { copies } else { ptx::opaque(copies) } {
        let valid = row + i * stride < inside;
        // Where fewer than eight rows are copied at a time, the permutation differs between them.
        let to = if stride >= 8 {
            to + i * stride * W * 2
        } else {
            tile + swizzled(row + i * stride, col, cols) * 16
        };
        // SAFETY: valid rows have D elements; the tile has room for ROWS rows of W.
        unsafe {
            if EXACT {
                ptx::copy16(to, from, if valid { 16 } else { 0 });
            } else {
                let inside = if valid { D.saturating_sub(col * 8) } else { 0 };
                ptx::gather16(to, from, inside);
            }
        }
        from = ptx::opaque_ptr(from.wrapping_add(step));
    }
}

/// Stores 16 rows of sums, times a factor for each half, of which rows below `inside` exist.
#[inline(always)]
unsafe fn store_rows<const NB: usize, const EXACT: bool>(
    to: *mut Bf16,
    ld: usize,
    sums: &[[f32; 4]; NB],
    factor: [f32; 2],
    inside: u32,
    D: u32,
) {
    let (lane_row, lane_col) = (lane() / 4, lane() % 4);
    for half in 0..2 {
        let row = half as u32 * 8 + lane_row;
        for j in 0..NB / 4 {
            let mut words: [u32; 4] = zeroed();
            for k in 0..4 {
                let s = &sums[4 * j + k];
                words[k] = ptx::pack(s[2 * half] * factor[half], s[2 * half + 1] * factor[half]);
            }
            let words = ptx::transpose_quad(words);
            let col = (4 * j as u32 + lane_col) * 8;
            let to = to.wrapping_add(row as usize * ld + col as usize);
            if row < inside {
                // SAFETY: the row exists, and columns are checked where they may not.
                unsafe {
                    if EXACT {
                        ptx::store16(to, words);
                    } else {
                        for k in 0..8 {
                            if col + k < D {
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

/// Two neighbouring blocks of sums as a left fragment 16 deep.
#[inline(always)]
fn packed<const NB: usize>(s: &[[f32; 4]; NB], step: usize) -> [u32; 4] {
    let (x, y) = (&s[2 * step], &s[2 * step + 1]);
    [ptx::pack(x[0], x[1]), ptx::pack(x[2], x[3]), ptx::pack(y[0], y[1]), ptx::pack(y[2], y[3])]
}

/// sums[m] += rows of `left` times rows of `right`, both W deep along their rows.
#[inline(always)]
unsafe fn rows_by_rows<const W: u32, const ROW: u32, const MT: usize, const NB: usize>(
    sums: &mut [[[f32; 4]; NB]; MT],
    left: u32,
    right: u32,
) {
    for step in 0..W as usize / 16 {
        let mut a: [[u32; 4]; MT] = zeroed();
        // SAFETY: places in tiles of W columns.
        unsafe {
            for m in 0..MT {
                a[m] = load_along::<ROW>(left, m, step);
            }
            for n in 0..NB / 2 {
                let b = load_along::<ROW>(right, n, step);
                for m in 0..MT {
                    ptx::mma(&mut sums[m][2 * n], &a[m], [b[0], b[1]]);
                    ptx::mma(&mut sums[m][2 * n + 1], &a[m], [b[2], b[3]]);
                }
            }
        }
    }
}

/// sums[m] += `left` (in registers) times the rows of `right`, whose columns are the result's.
#[inline(always)]
unsafe fn registers_by_rows<const ROW: u32, const MT: usize, const NB: usize, const WB: usize>(
    sums: &mut [[[f32; 4]; WB]; MT],
    left: &[[[f32; 4]; NB]; MT],
    right: u32,
) {
    for step in 0..NB / 2 {
        let mut a: [[u32; 4]; MT] = zeroed();
        for m in 0..MT {
            a[m] = packed(&left[m], step);
        }
        for n in 0..WB / 2 {
            // SAFETY: a place in a tile of 8 * WB columns.
            let b = unsafe { load_across::<ROW>(right, n, step) };
            for m in 0..MT {
                ptx::mma(&mut sums[m][2 * n], &a[m], [b[0], b[1]]);
                ptx::mma(&mut sums[m][2 * n + 1], &a[m], [b[2], b[3]]);
            }
        }
    }
}

/// A block for BR queries of a head: 4 warps of 16 * MT rows. Keys and values come in tiles of
/// BC = 8 * NB. `WB` is W / 8, ROW is 2 * W.
#[inline(always)]
pub unsafe fn forward<
    const W: u32,
    const ROW: u32,
    const WB: usize,
    const MT: usize,
    const NB: usize,
    const BR: u32,
    const BC: u32,
    const EXACT: bool,
>(
    o_NHD: *mut Bf16,
    lse_NH: *mut f32,
    qkv: *const Bf16,
    items: *const u32,
    mut s: Shape,
    scale: f32,
) {
    unsafe {
        // The longest rows first.
        let (h, first) = s.place(items, s.H, BR, true);
        let g = ptx::div(h, ptx::div(s.H, s.G));
        let warp = ptx::uniform_warp();
        let (own, ld) = (first + warp * 16 * MT as u32, s.qkv());
        let (q_tile, k_tile) = (ptx::shared(), ptx::shared() + BR * ROW);
        let v_tile = k_tile + BC * ROW;
        let keys = (first + BR).min(s.T);

        // One pointer moves along the keys; their values lie G heads further on.
        let (q, mut k) = (qkv.add(s.at(first, h)), qkv.add(s.at(0, s.H + g)));
        copy_rows::<W, BR, 128, EXACT>(q_tile, q, ld, s.T - first, s.D);
        copy_rows::<W, BC, 128, EXACT>(k_tile, k, ld, s.T, s.D);
        ptx::commit();

        let q_place = along::<ROW>(q_tile, warp * 16 * MT as u32, true);
        let (k_place, v_place) = (along::<ROW>(k_tile, 0, false), across::<ROW>(v_tile, 0, false));
        let mut out: [[[f32; 4]; WB]; MT] = zeroed();
        let mut max = [[f32::NEG_INFINITY; 2]; MT];
        let mut sum = [[0.0f32; 2]; MT];
        let rate = scale * LOG2_E;
        let mut key = 0;
        while key < keys {
            ptx::wait::<0>();
            ptx::barrier();
            let v = k.wrapping_add((s.G * s.D) as usize);
            copy_rows::<W, BC, 128, EXACT>(v_tile, v, ld, s.T - key, s.D);
            ptx::commit();
            // A warp sees nothing behind its last row, and nothing at all if it has no row.
            let seen = key < own + 16 * MT as u32 && own < s.T;
            let mut p: [[[f32; 4]; NB]; MT] = zeroed();
            if seen {
                rows_by_rows::<W, ROW, MT, NB>(&mut p, q_place, k_place);
            }
            ptx::wait::<0>();
            ptx::barrier();
            k = ptx::opaque_ptr(k.wrapping_add(BC as usize * ld as usize));
            if key + BC < keys {
                copy_rows::<W, BC, 128, EXACT>(k_tile, k, ld, s.T - key - BC, s.D);
            }
            ptx::commit();
            if seen {
                if key + BC > own {
                    for m in 0..MT {
                        for n in 0..NB {
                            for e in 0..4 {
                                let row = own + m as u32 * 16 + e as u32 / 2 * 8 + lane() / 4;
                                let col = key + n as u32 * 8 + lane() % 4 * 2 + e as u32 % 2;
                                if col > row {
                                    p[m][n][e] = f32::NEG_INFINITY;
                                }
                            }
                        }
                    }
                }
                for m in 0..MT {
                    for half in 0..2 {
                        let old = max[m][half];
                        let mut new = old;
                        for n in 0..NB {
                            new = ptx::max(new, ptx::max(p[m][n][2 * half], p[m][n][2 * half + 1]));
                        }
                        new = ptx::max(new, ptx::from_xor(new, 1));
                        new = ptx::max(new, ptx::from_xor(new, 2));
                        max[m][half] = new;
                        let (shrink, shift) = (ptx::exp2((old - new) * rate), -new * rate);
                        let mut own_sum = 0.0;
                        for n in 0..NB {
                            for e in 2 * half..2 * half + 2 {
                                p[m][n][e] = ptx::exp2(ptx::fma(p[m][n][e], rate, shift));
                                own_sum += p[m][n][e];
                            }
                        }
                        sum[m][half] = ptx::fma(sum[m][half], shrink, own_sum);
                        for n in 0..WB {
                            out[m][n][2 * half] *= shrink;
                            out[m][n][2 * half + 1] *= shrink;
                        }
                    }
                }
                registers_by_rows::<ROW, MT, NB, WB>(&mut out, &p, v_place);
            }
            key += BC;
        }

        for m in 0..MT {
            let row = own + 16 * m as u32;
            let mut factor = [0.0; 2];
            for half in 0..2 {
                let total = sum[m][half] + ptx::from_xor(sum[m][half], 1);
                let total = total + ptx::from_xor(total, 2);
                factor[half] = ptx::recip(total);
                let row = row + 8 * half as u32 + lane() / 4;
                if row < s.T && lane() % 4 == 0 {
                    let lse = ptx::fma(max[m][half], scale, LN_2 * ptx::log2(total));
                    *lse_NH.add(s.row(row, h)) = lse;
                }
            }
            let to = o_NHD.wrapping_add(s.out(row, h));
            let (ld, inside) = ((s.H * s.D) as usize, s.T.saturating_sub(row));
            store_rows::<WB, EXACT>(to, ld, &out[m], factor, inside, s.D);
        }
    }
}

/// dQ of BR queries of a head: as [`forward`], with the log-sum-exp known.
#[inline(always)]
pub unsafe fn backward_queries<
    const W: u32,
    const ROW: u32,
    const WB: usize,
    const MT: usize,
    const NB: usize,
    const BR: u32,
    const BC: u32,
    const EXACT: bool,
>(
    dqkv: *mut Bf16,
    do_NHD: *const Bf16,
    qkv: *const Bf16,
    lse_NH: *const f32,
    delta_NH: *const f32,
    items: *const u32,
    mut s: Shape,
    scale: f32,
) {
    unsafe {
        let (h, first) = s.place(items, s.H, BR, true);
        let g = ptx::div(h, ptx::div(s.H, s.G));
        let warp = ptx::uniform_warp();
        let (own, ld) = (first + warp * 16 * MT as u32, s.qkv());
        let (q_tile, do_tile) = (ptx::shared(), ptx::shared() + BR * ROW);
        let (kv_tiles, tile) = (do_tile + BR * ROW, BC * ROW);
        let keys = (first + BR).min(s.T);

        let (q, k, v) = (s.at(first, h), s.at(0, s.H + g), s.at(0, s.H + s.G + g));
        let next = |from: usize, t: u32| qkv.wrapping_add(from + t as usize * ld as usize);
        let fill = |stage: u32, key: u32| {
            if key < keys {
                let to = kv_tiles + stage * 2 * tile;
                copy_rows::<W, BC, 128, EXACT>(to, next(k, key), ld, s.T - key, s.D);
                copy_rows::<W, BC, 128, EXACT>(to + tile, next(v, key), ld, s.T - key, s.D);
            }
            ptx::commit();
        };
        let from = do_NHD.wrapping_add(s.out(first, h));
        copy_rows::<W, BR, 128, EXACT>(q_tile, next(q, 0), ld, s.T - first, s.D);
        copy_rows::<W, BR, 128, EXACT>(do_tile, from, s.H * s.D, s.T - first, s.D);
        fill(0, 0);

        let q_place = along::<ROW>(q_tile, warp * 16 * MT as u32, true);
        let do_place = along::<ROW>(do_tile, warp * 16 * MT as u32, true);
        let (along_kv, across_kv) =
            (along::<ROW>(kv_tiles, 0, false), across::<ROW>(kv_tiles, 0, false));
        let (mut shift, mut delta): ([[f32; 2]; MT], [[f32; 2]; MT]) = (zeroed(), zeroed());
        for m in 0..MT {
            for half in 0..2 {
                let row = own + m as u32 * 16 + half as u32 * 8 + lane() / 4;
                if row < s.T {
                    shift[m][half] = -LOG2_E * *lse_NH.add(s.row(row, h));
                    delta[m][half] = *delta_NH.add(s.row(row, h));
                }
            }
        }
        let rate = scale * LOG2_E;
        let mut dq: [[[f32; 4]; WB]; MT] = zeroed();
        let (mut key, mut stage) = (0, 0);
        while key < keys {
            ptx::wait::<0>();
            ptx::barrier();
            fill(1 - stage, key + BC);
            let at = stage * 2 * tile;
            // A warp sees nothing behind its last row, and nothing at all if it has no row.
            if key < own + 16 * MT as u32 && own < s.T {
                let (mut p, mut ds): ([[[f32; 4]; NB]; MT], [[[f32; 4]; NB]; MT]) =
                    (zeroed(), zeroed());
                rows_by_rows::<W, ROW, MT, NB>(&mut p, q_place, along_kv + at);
                rows_by_rows::<W, ROW, MT, NB>(&mut ds, do_place, along_kv + at + tile);
                for m in 0..MT {
                    for n in 0..NB {
                        for e in 0..4 {
                            let p = ptx::exp2(ptx::fma(p[m][n][e], rate, shift[m][e / 2]));
                            ds[m][n][e] = p * (ds[m][n][e] - delta[m][e / 2]);
                        }
                    }
                }
                if key + BC > own {
                    for m in 0..MT {
                        for n in 0..NB {
                            for e in 0..4 {
                                let row = own + m as u32 * 16 + e as u32 / 2 * 8 + lane() / 4;
                                let col = key + n as u32 * 8 + lane() % 4 * 2 + e as u32 % 2;
                                if col > row {
                                    ds[m][n][e] = 0.0;
                                }
                            }
                        }
                    }
                }
                registers_by_rows::<ROW, MT, NB, WB>(&mut dq, &ds, across_kv + at);
            }
            stage = 1 - stage;
            key += BC;
        }
        for m in 0..MT {
            let row = own + 16 * m as u32;
            let to = dqkv.wrapping_add(s.at(row, h));
            let inside = s.T.saturating_sub(row);
            store_rows::<WB, EXACT>(to, ld as usize, &dq[m], [scale; 2], inside, s.D);
        }
    }
}

/// dK (KEYS) and dV (VALUES) of a tile of keys: WARPS warps of 16 keys. Queries and their dO come in
/// tiles of BR = 8 * NB, head after head of those that share the keys. Everything is transposed: a
/// warp's sums have keys as rows, so that P and dS are left operands without leaving registers.
#[inline(always)]
pub unsafe fn backward_keys<
    const W: u32,
    const ROW: u32,
    const WB: usize,
    const NB: usize,
    const BR: u32,
    const WARPS: u32,
    const THREADS: u32,
    const KEYS: bool,
    const VALUES: bool,
    const EXACT: bool,
>(
    dqkv: *mut Bf16,
    do_NHD: *const Bf16,
    qkv: *const Bf16,
    lse_NH: *const f32,
    delta_NH: *const f32,
    items: *const u32,
    mut s: Shape,
    scale: f32,
) {
    unsafe {
        let BC = 16 * WARPS;
        // The first keys are seen by the most queries, and come first.
        let (g, first) = s.place(items, s.G, BC, false);
        let warp = ptx::uniform_warp();
        // No query is so far behind as to see a warp whose keys do not exist.
        let (own, ld) = (first + warp * 16, s.qkv());
        let own = if own < s.T { own } else { 1 << 30 };
        let (k_tile, v_tile) = (ptx::shared(), ptx::shared() + BC * ROW);
        let (stages, tile) = (v_tile + BC * ROW, BR * ROW);
        // Behind the tiles: log-sum-exp and delta of each stage's queries.
        let rows = stages + 4 * tile;

        let group = ptx::div(s.H, s.G);
        let start = first / BR * BR;
        let per_head = (s.T - start).div_ceil(BR);
        let fill = |stage: u32, head: u32, query: u32| {
            let h = g * group + head;
            let to = stages + stage * 2 * tile;
            let q = qkv.wrapping_add(s.at(query, h));
            copy_rows::<W, BR, THREADS, EXACT>(to, q, ld, s.T - query, s.D);
            let d_o = do_NHD.wrapping_add(s.out(query, h));
            copy_rows::<W, BR, THREADS, EXACT>(to + tile, d_o, s.H * s.D, s.T - query, s.D);
            if thread() < BR {
                let t = query + thread();
                let (at, bytes) = (s.row(t, h), if t < s.T { 4 } else { 0 });
                let to = rows + stage * BR * 8 + thread() * 4;
                ptx::copy4(to, lse_NH.wrapping_add(at), bytes);
                ptx::copy4(to + BR * 4, delta_NH.wrapping_add(at), bytes);
            }
            ptx::commit();
        };
        let (k, v) = (s.at(first, s.H + g), s.at(first, s.H + s.G + g));
        let inside = s.T - first;
        if WARPS == 8 {
            copy_rows::<W, 128, THREADS, EXACT>(k_tile, qkv.wrapping_add(k), ld, inside, s.D);
            copy_rows::<W, 128, THREADS, EXACT>(v_tile, qkv.wrapping_add(v), ld, inside, s.D);
        } else {
            copy_rows::<W, 64, THREADS, EXACT>(k_tile, qkv.wrapping_add(k), ld, inside, s.D);
            copy_rows::<W, 64, THREADS, EXACT>(v_tile, qkv.wrapping_add(v), ld, inside, s.D);
        }
        fill(0, 0, start);

        let k_place = along::<ROW>(k_tile, warp * 16, true);
        let v_place = along::<ROW>(v_tile, warp * 16, true);
        let (along_q, across_q) = (along::<ROW>(stages, 0, false), across::<ROW>(stages, 0, false));
        let rate = scale * LOG2_E;
        let (mut dk, mut dv): ([[[f32; 4]; WB]; 1], [[[f32; 4]; WB]; 1]) = (zeroed(), zeroed());
        let (mut head, mut query, mut stage) = (0, start, 0);
        while head < group {
            ptx::wait::<0>();
            ptx::barrier();
            let (mut next_head, mut next_query) = (head, query + BR);
            if next_query >= start + per_head * BR {
                (next_head, next_query) = (head + 1, start);
            }
            if next_head < group {
                fill(1 - stage, next_head, next_query);
            }
            // A tile whose last query stands before the warp's first key sees none of its keys.
            if query + BR > own {
                let at = stage * 2 * tile;
                let (mut p, mut ds): ([[[f32; 4]; NB]; 1], [[[f32; 4]; NB]; 1]) =
                    (zeroed(), zeroed());
                let row = rows + stage * BR * 8 + lane() % 4 * 8;
                rows_by_rows::<W, ROW, 1, NB>(&mut p, k_place, along_q + at);
                for n in 0..NB {
                    let row = row + n as u32 * 32;
                    let lse = [ptx::load_shared(row), ptx::load_shared(row + 4)];
                    for e in 0..4 {
                        p[0][n][e] = ptx::exp2(ptx::fma(p[0][n][e], rate, -LOG2_E * lse[e % 2]));
                    }
                }
                if own + 16 > query {
                    for n in 0..NB {
                        for e in 0..4 {
                            let key = own + e as u32 / 2 * 8 + lane() / 4;
                            let query = query + n as u32 * 8 + lane() % 4 * 2 + e as u32 % 2;
                            if key > query {
                                p[0][n][e] = 0.0;
                            }
                        }
                    }
                }
                if VALUES {
                    registers_by_rows::<ROW, 1, NB, WB>(&mut dv, &p, across_q + at + tile);
                }
                if KEYS {
                    rows_by_rows::<W, ROW, 1, NB>(&mut ds, v_place, along_q + at + tile);
                    for n in 0..NB {
                        let row = row + n as u32 * 32 + BR * 4;
                        let delta = [ptx::load_shared(row), ptx::load_shared(row + 4)];
                        for e in 0..4 {
                            ds[0][n][e] = p[0][n][e] * (ds[0][n][e] - delta[e % 2]);
                        }
                    }
                    registers_by_rows::<ROW, 1, NB, WB>(&mut dk, &ds, across_q + at);
                }
            }
            (head, query, stage) = (next_head, next_query, 1 - stage);
        }
        let inside = s.T.saturating_sub(own);
        if KEYS {
            let to = dqkv.wrapping_add(s.at(own, s.H + g));
            store_rows::<WB, EXACT>(to, ld as usize, &dk[0], [scale; 2], inside, s.D);
        }
        if VALUES {
            let to = dqkv.wrapping_add(s.at(own, s.H + s.G + g));
            store_rows::<WB, EXACT>(to, ld as usize, &dv[0], [1.0; 2], inside, s.D);
        }
    }
}
