//! A row of a head spread over the lanes of a warp.

use crate::ptx::{self, WARP, block, lane, threads, warp};

/// Most elements of a head that a lane holds.
pub const PER_LANE: usize = 8;

/// A row of a head, its elements spread over the lanes.
pub type Row = [f32; PER_LANE];

#[inline(always)]
pub unsafe fn add_scaled(sum: &mut Row, factor: f32, row: *const f32, D: u32) {
    for i in 0..PER_LANE {
        let d = lane() + WARP * i as u32;
        if d < D {
            sum[i] = ptx::fma(factor, unsafe { *row.add(d as usize) }, sum[i]);
        }
    }
}
#[inline(always)]
pub unsafe fn store(to: *mut f32, row: &Row, factor: f32, D: u32) {
    for i in 0..PER_LANE {
        let d = lane() + WARP * i as u32;
        if d < D {
            unsafe { *to.add(d as usize) = row[i] * factor };
        }
    }
}
#[inline(always)]
pub unsafe fn dot(a: *const f32, b: *const f32, D: u32) -> f32 {
    let mut sum = 0.0;
    for d in 0..D as usize {
        sum = unsafe { ptx::fma(*a.add(d), *b.add(d), sum) };
    }
    sum
}

/// A row of one head: the first row of its sequence in the batch, the tokens of that, the row's own
/// token, and the head.
pub struct Place {
    pub first: u32,
    pub T: u32,
    pub t: u32,
    pub head: u32,
}

/// Of the warp's row, of N * heads. Without `items` all sequences have T tokens; with them there is one
/// for each row of the batch, as in `attention`.
#[inline(always)]
pub unsafe fn place(items: *const u32, N: u32, T: u32, heads: u32) -> Option<Place> {
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
