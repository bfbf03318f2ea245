//! Causal attention in f32 on ordinary cores, for comparisons: a warp for a row. Shapes and formulas
//! are those of `attention`. D is at most 256.

use crate::math::{LN_2, LOG2_E};
use crate::ptx::{self, WARP, block, from_lane, lane, threads, warp, warp_max, warp_sum, zeroed};

/// Most elements of a head that a lane holds.
const PER_LANE: usize = 8;

/// A row of a head, its elements spread over the lanes.
type Row = [f32; PER_LANE];

#[inline(always)]
unsafe fn add_scaled(sum: &mut Row, factor: f32, row: *const f32, D: u32) {
    for i in 0..PER_LANE {
        let d = lane() + WARP * i as u32;
        if d < D {
            sum[i] = ptx::fma(factor, unsafe { *row.add(d as usize) }, sum[i]);
        }
    }
}
#[inline(always)]
unsafe fn store(to: *mut f32, row: &Row, factor: f32, D: u32) {
    for i in 0..PER_LANE {
        let d = lane() + WARP * i as u32;
        if d < D {
            unsafe { *to.add(d as usize) = row[i] * factor };
        }
    }
}
#[inline(always)]
unsafe fn dot(a: *const f32, b: *const f32, D: u32) -> f32 {
    let mut sum = 0.0;
    for d in 0..D as usize {
        sum = unsafe { ptx::fma(*a.add(d), *b.add(d), sum) };
    }
    sum
}

/// A row of one head: the first row of its sequence in the batch, the tokens of that, the row's own
/// token, and the head.
struct Place {
    first: u32,
    T: u32,
    t: u32,
    head: u32,
}

/// Of the warp's row, of N * heads. Without `items` all sequences have T tokens; with them there is one
/// for each row of the batch, as in `attention`.
#[inline(always)]
unsafe fn place(items: *const u32, N: u32, T: u32, heads: u32) -> Option<Place> {
    let row = block() * (threads() / WARP) + warp();
    if row >= N * heads {
        return None;
    }
    // SAFETY: heads is not zero, nor is T without items, or there would be no row.
    unsafe {
        let n = ptx::div(row, heads);
        let head = row - n * heads;
        if !items.is_null() {
            let item = items.add(3 * n as usize);
            return Some(Place { first: *item, T: *item.add(1), t: *item.add(2), head });
        }
        let first = ptx::div(n, T) * T;
        Some(Place { first, T, t: n - first, head })
    }
}

#[unsafe(no_mangle)]
unsafe extern "ptx-kernel" fn attention_forward_f32(
    o_NHD: *mut f32,
    lse_NH: *mut f32,
    qkv: *const f32,
    items: *const u32,
    N: u32,
    T: u32,
    H: u32,
    G: u32,
    D: u32,
    scale: f32,
) {
    unsafe {
        let Some(Place { first: row, t, head: h, .. }) = place(items, N, T, H) else { return };
        let g = ptx::div(h, ptx::div(H, G));
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let q = qkv.add(at(t, h));
        let (mut max, mut sum): (f32, f32) = (f32::NEG_INFINITY, 0.0);
        let mut out: Row = zeroed();
        let mut first = 0;
        while first <= t {
            let key = first + lane();
            let s = if key <= t {
                dot(q, qkv.add(at(key, H + g)), D) * scale
            } else {
                f32::NEG_INFINITY
            };
            let new = ptx::max(max, warp_max(s));
            let shrink = ptx::exp2((max - new) * LOG2_E);
            let p = ptx::exp2((s - new) * LOG2_E);
            (max, sum) = (new, ptx::fma(sum, shrink, warp_sum(p)));
            for i in 0..PER_LANE {
                out[i] *= shrink;
            }
            for k in 0..ptx::opaque((t + 1 - first).min(WARP)) {
                add_scaled(&mut out, from_lane(p, k), qkv.add(at(first + k, H + G + g)), D);
            }
            first += WARP;
        }
        let row = (row + t) as usize * H as usize + h as usize;
        if lane() == 0 {
            *lse_NH.add(row) = ptx::fma(LN_2, ptx::log2(sum), max);
        }
        store(o_NHD.add(row * D as usize), &out, ptx::recip_exact(sum), D);
    }
}

#[unsafe(no_mangle)]
unsafe extern "ptx-kernel" fn attention_backward_queries_f32(
    dqkv: *mut f32,
    do_NHD: *const f32,
    qkv: *const f32,
    lse_NH: *const f32,
    delta_NH: *const f32,
    items: *const u32,
    N: u32,
    T: u32,
    H: u32,
    G: u32,
    D: u32,
    scale: f32,
) {
    unsafe {
        let Some(Place { first: row, t, head: h, .. }) = place(items, N, T, H) else { return };
        let g = ptx::div(h, ptx::div(H, G));
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let row = (row + t) as usize * H as usize + h as usize;
        let (q, d_o) = (qkv.add(at(t, h)), do_NHD.add(row * D as usize));
        let (lse, delta) = (*lse_NH.add(row), *delta_NH.add(row));
        let mut dq: Row = zeroed();
        let mut first = 0;
        while first <= t {
            let key = first + lane();
            let ds = if key <= t {
                let s = dot(q, qkv.add(at(key, H + g)), D) * scale;
                let dp = dot(d_o, qkv.add(at(key, H + G + g)), D);
                ptx::exp2((s - lse) * LOG2_E) * (dp - delta)
            } else {
                0.0
            };
            for k in 0..ptx::opaque((t + 1 - first).min(WARP)) {
                add_scaled(&mut dq, from_lane(ds, k), qkv.add(at(first + k, H + g)), D);
            }
            first += WARP;
        }
        store(dqkv.add(at(t, h)), &dq, scale, D);
    }
}

#[unsafe(no_mangle)]
unsafe extern "ptx-kernel" fn attention_backward_keys_f32(
    dqkv: *mut f32,
    do_NHD: *const f32,
    qkv: *const f32,
    lse_NH: *const f32,
    delta_NH: *const f32,
    items: *const u32,
    N: u32,
    T: u32,
    H: u32,
    G: u32,
    D: u32,
    scale: f32,
) {
    unsafe {
        let Some(Place { first: row, T, t, head: g }) = place(items, N, T, G) else { return };
        let at = |t: u32, head: u32| {
            ((row + t) as usize * (H + 2 * G) as usize + head as usize) * D as usize
        };
        let row = |t: u32, h: u32| (row + t) as usize * H as usize + h as usize;
        let (k, v) = (qkv.add(at(t, H + g)), qkv.add(at(t, H + G + g)));
        let (mut dk, mut dv): (Row, Row) = (zeroed(), zeroed());
        let group = ptx::div(H, G);
        for h in g * group..(g + 1) * group {
            let mut first = t;
            while first < T {
                let query = first + lane();
                let (p, ds) = if query < T {
                    let row = row(query, h);
                    let s = dot(qkv.add(at(query, h)), k, D) * scale;
                    let p = ptx::exp2((s - *lse_NH.add(row)) * LOG2_E);
                    let dp = dot(do_NHD.add(row * D as usize), v, D);
                    (p, p * (dp - *delta_NH.add(row)))
                } else {
                    (0.0, 0.0)
                };
                for i in 0..ptx::opaque((T - first).min(WARP)) {
                    let query = first + i;
                    add_scaled(&mut dk, from_lane(ds, i), qkv.add(at(query, h)), D);
                    let d_o = do_NHD.add(row(query, h) * D as usize);
                    add_scaled(&mut dv, from_lane(p, i), d_o, D);
                }
                first += WARP;
            }
        }
        store(dqkv.add(at(t, H + g)), &dk, scale, D);
        store(dqkv.add(at(t, H + G + g)), &dv, 1.0, D);
    }
}
