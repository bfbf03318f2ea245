//! Bias of a linear layer: y += b on each row, one access a thread; db is the sum of the rows of dy.

use crate::ptx::{self, Access, Element, block, global_thread, thread};

#[inline(always)]
pub unsafe fn forward<E: Element, W: Access<E>>(y_acc_NO: *mut E, b_O: *const E, N: u32, O: u32) {
    unsafe {
        let at = global_thread() * W::LANES;
        if at >= N as usize * O as usize {
            return;
        }
        // O is not zero, or no element would be below N * O.
        let row = ptx::div((at / W::LANES) as u32, O / W::LANES as u32);
        let column = at - row as usize * O as usize;
        let mut y = W::unpack(W::load(y_acc_NO.add(at)));
        let b = W::unpack(W::load(b_O.add(column)));
        for i in 0..W::LANES {
            y[i] += b[i];
        }
        W::store(y_acc_NO.add(at), y);
    }
}

/// db_acc_O += the sum of N rows of dy_NO, in an order that depends on N alone. A warp's lanes are
/// neighbouring columns, its warps take every 32nd row each.
#[inline(always)]
pub unsafe fn backward<E: Element>(db_acc_O: *mut f32, dy_NO: *const E, N: u32, O: u32) {
    unsafe {
        let c = (block() * ptx::WARP + ptx::lane()) as usize;
        let room: *mut f32 = ptx::shared_ptr();
        let mut sum = 0.0;
        if c < O as usize {
            let mut n = ptx::warp();
            while n < N {
                sum += (*dy_NO.add(n as usize * O as usize + c)).get();
                n += 32;
            }
        }
        *room.add(thread() as usize) = sum;
        ptx::barrier();
        if ptx::warp() == 0 && c < O as usize {
            let mut sum = *db_acc_O.add(c);
            for k in 0..32 {
                sum += *room.add(k * 32 + thread() as usize);
            }
            *db_acc_O.add(c) = sum;
        }
    }
}
