//! Embedding: row n of x is row token[n] of the table. Backward takes the rows of dx in an order
//! that groups equal tokens (`order` in `launch.rs`): a block adds up one group,
//! in ascending n, and adds it to its row of dw once.

use crate::ptx::{self, Access, Element, block, block_y, global_thread, lane, thread, threads};

/// Rows of dx whose loads are under way together.
const ROWS: u32 = 8;

#[inline(always)]
pub unsafe fn forward<E: Element, W: Access<E>>(
    x_NC: *mut E,
    tokens_N: *const u32,
    w_VC: *const E,
    N: u32,
    C: u32,
) {
    unsafe {
        let step = global_thread();
        let at = step * W::LANES;
        if at >= N as usize * C as usize {
            return;
        }
        let n = ptx::div(step as u32, C / W::LANES as u32) as usize;
        let from = *tokens_N.add(n) as usize * C as usize + at - n * C as usize;
        W::store(x_NC.add(at), W::unpack(W::load(w_VC.add(from))));
    }
}

/// WIDTH columns a thread: four, or one where rows are not whole fours.
#[inline(always)]
pub unsafe fn backward<E: Element, const WIDTH: usize>(
    dw_acc_VC: *mut f32,
    dx_NC: *const E,
    rows_N: *const u32,
    starts: *const u32,
    tokens: *const u32,
    C: u32,
) {
    unsafe {
        let c = (block_y() * threads() + thread()) as usize * WIDTH;
        let inside = c < C as usize;
        let group = block() as usize;
        let (mut i, end) = (*starts.add(group), *starts.add(group + 1));
        let load = |row: u32| {
            let from = dx_NC.wrapping_add(row as usize * C as usize + c);
            match (inside, WIDTH) {
                (false, _) => [0.0; 4],
                (true, 4) => ptx::load4(from),
                _ => [(*from).get(), 0.0, 0.0, 0.0],
            }
        };
        let mut sum = [0.0f32; 4];
        while i < end {
            // Row numbers are read by a warp at once, and handed round.
            let count = (end - i).min(ptx::WARP);
            let numbers = if lane() < count { *rows_N.add((i + lane()) as usize) } else { 0 };
            let mut k = 0;
            while k + ROWS <= count {
                let mut rows: [[f32; 4]; ROWS as usize] = ptx::zeroed();
                for r in 0..ROWS {
                    rows[r as usize] = load(ptx::bits_from_lane(numbers, k + r));
                }
                for r in 0..ROWS as usize {
                    for j in 0..WIDTH {
                        sum[j] += rows[r][j];
                    }
                }
                k += ROWS;
            }
            while k < count {
                let row = load(ptx::bits_from_lane(numbers, k));
                for j in 0..WIDTH {
                    sum[j] += row[j];
                }
                k += 1;
            }
            i += ptx::WARP;
        }
        if !inside {
            return;
        }
        let to = dw_acc_VC.add(*tokens.add(group) as usize * C as usize + c);
        if WIDTH == 4 {
            let old = ptx::load4(to);
            let new = [old[0] + sum[0], old[1] + sum[1], old[2] + sum[2], old[3] + sum[3]];
            ptx::store16(to, new.map(f32::to_bits));
        } else {
            *to += sum[0];
        }
    }
}
