//! Sum of squares of a flat arena, in an order that depends on its length alone: a block sums SPAN
//! elements to one f64, and `sum_f64` sums those.

use super::SPAN;
use crate::ptx::{self, block, block_reduce, thread, threads, warp_sum64};

/// Accesses whose loads are under way together.
const TOGETHER: usize = 8;

/// part_P[block] = sum of squares of the block's span of x.
#[inline(always)]
pub unsafe fn squares(part_P: *mut f64, x: *const f32, len: u64) {
    unsafe {
        let start = block() as usize * SPAN;
        let end = if start + SPAN < len as usize { start + SPAN } else { len as usize };
        let stride = threads() as usize * 4;
        let mut sums = [0.0f32; 4];
        let mut i = start + thread() as usize * 4;
        while i + stride * (TOGETHER - 1) + 4 <= end {
            let mut loaded: [[f32; 4]; TOGETHER] = ptx::zeroed();
            for k in 0..TOGETHER {
                loaded[k] = ptx::load4(x.add(i + k * stride));
            }
            for k in 0..TOGETHER {
                for j in 0..4 {
                    sums[j] = ptx::fma(loaded[k][j], loaded[k][j], sums[j]);
                }
            }
            i += stride * TOGETHER;
        }
        while i < end {
            if i + 4 <= end {
                let loaded = ptx::load4(x.add(i));
                for j in 0..4 {
                    sums[j] = ptx::fma(loaded[j], loaded[j], sums[j]);
                }
            } else {
                for j in 0..end - i {
                    let x = *x.add(i + j);
                    sums[0] = ptx::fma(x, x, sums[0]);
                }
            }
            i += stride;
        }
        let sum = (sums[0] as f64 + sums[1] as f64) + (sums[2] as f64 + sums[3] as f64);
        let sum = block_reduce(sum, ptx::shared_ptr(), 0.0, warp_sum64);
        if thread() == 0 {
            *part_P.add(block() as usize) = sum;
        }
    }
}

/// sum[0] = the sum of x. One block.
#[inline(always)]
pub unsafe fn total(sum: *mut f64, x: *const f64, len: u32) {
    unsafe {
        let mut own = 0.0;
        let mut i = thread();
        while i < len {
            own += *x.add(i as usize);
            i += threads();
        }
        let total = block_reduce(own, ptx::shared_ptr(), 0.0, warp_sum64);
        if thread() == 0 {
            *sum = total;
        }
    }
}
