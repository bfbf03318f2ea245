//! What backward needs of each row of O, in any storage.

use crate::ptx::{self, Access, Element, global_thread, thread};

/// delta = sum over D of dO * O, for each row of D. Eight lanes take a row.
#[inline(always)]
pub unsafe fn delta<E: Element, W: Access<E>>(
    delta_R: *mut f32,
    do_RD: *const E,
    o_RD: *const E,
    R: u32,
    D: u32,
) {
    unsafe {
        let (row, lane) = (global_thread() / 8, thread() % 8);
        let mut sum = 0.0;
        if row < R as usize {
            let mut d = lane * W::LANES as u32;
            while d < D {
                let at = row * D as usize + d as usize;
                let (x, y) = (W::load(do_RD.add(at)), W::load(o_RD.add(at)));
                let (x, y) = (W::unpack(x), W::unpack(y));
                for j in 0..W::LANES {
                    sum = ptx::fma(x[j], y[j], sum);
                }
                d += 8 * W::LANES as u32;
            }
        }
        for k in 0..3 {
            sum += ptx::from_xor(sum, 4 >> k);
        }
        if row < R as usize && lane == 0 {
            *delta_R.add(row) = sum;
        }
    }
}
