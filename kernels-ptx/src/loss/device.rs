//! Softmax cross-entropy over rows of logits, a block a row: nats = log-sum-exp - logit of the target,
//! the id of the largest logit, and with GRADIENT the scaled gradient over the logits. The row then
//! stays in registers between the looks at it (32768 elements; what is beyond is read again). Without,
//! only the id is looked for again, in a cache, and two blocks share a multiprocessor. Rows of V lie S
//! elements apart, whole multiples of 16 bytes, so that any V is read 16 bytes at a time. What lies
//! between them may be anything and does not count.
//! Source of the running maximum and sum: Milakov and Gimelshein 2018, arXiv:1805.02867.

use crate::math::{LN_2, LOG2_E};
use crate::ptx::{self, Element, block, block_reduce, thread, threads, zeroed};
use crate::ptx::{warp_least, warp_max, warp_sum, warp_sum64};

/// Accesses that a thread keeps of brain floats, and of floats.
pub const KEPT_BF16: usize = 8;
pub const KEPT_F32: usize = 16;

/// Largest logit so far, and the sum of e^(logit - largest).
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

impl Running {
    #[inline(always)]
    fn add<E: Element>(&mut self, x: [u32; 4]) {
        let x = E::unpack(x);
        let mut max = x[0];
        for j in 1..E::LANES {
            max = ptx::max(max, x[j]);
        }
        if max > self.max {
            self.sum *= ptx::exp2((self.max - max) * LOG2_E);
            self.max = max;
        }
        // Where all so far are -inf, they have no weight beside any number.
        let from = if self.max > f32::NEG_INFINITY { self.max } else { 0.0 };
        for j in 0..E::LANES {
            self.sum += ptx::exp2((x[j] - from) * LOG2_E);
        }
    }
}

/// What rows have beside their logits. Largest and weights may be null.
#[derive(Clone, Copy)]
pub struct Rows {
    pub nats_N: *mut f32,
    pub largest_N: *mut i32,
    pub targets_N: *const i32,
    pub weights_N: *const f32,
}

#[inline(always)]
pub unsafe fn row<E: Element, const KEPT: usize, const GRADIENT: bool>(
    rows: Rows,
    logits_NS: *mut E,
    scale: f32,
    V: u32,
    S: u32,
) {
    unsafe {
        let (steps, stride) = (V.div_ceil(E::LANES as u32), threads());
        let at = |i: u32| i as usize * E::LANES;
        let n = block() as usize;
        let logits = logits_NS.add(n * S as usize);
        let clear = || {
            let mut i = thread();
            while GRADIENT && i < steps {
                ptx::store16(logits.add(at(i)), zeroed());
                i += stride;
            }
        };
        let target = *rows.targets_N.add(n);
        if target < 0 {
            if thread() == 0 {
                *rows.nats_N.add(n) = 0.0;
                if !rows.largest_N.is_null() {
                    *rows.largest_N.add(n) = target;
                }
            }
            clear();
            return;
        }

        // Behind the end of a row a logit is -inf: it has no weight.
        let read = |i: u32| {
            let words = ptx::load16(logits.add(at(i)));
            let inside = V - i * E::LANES as u32;
            if inside >= E::LANES as u32 {
                return words;
            }
            let mut x = E::unpack(words);
            for j in 0..E::LANES {
                x[j] = if (j as u32) < inside { x[j] } else { f32::NEG_INFINITY };
            }
            E::repack(x)
        };
        let mut kept: [[u32; 4]; KEPT] = zeroed();
        for k in 0..KEPT {
            let i = thread() + k as u32 * stride;
            if i < steps {
                kept[k] = read(i);
            }
        }
        let at_target = if thread() == 0 { (*logits.add(target as usize)).get() } else { 0.0 };
        let mut own = Running { max: f32::NEG_INFINITY, sum: 0.0 };
        for k in 0..KEPT {
            if thread() + (k as u32) * stride < steps {
                own.add::<E>(kept[k]);
            }
        }
        let mut i = thread() + KEPT as u32 * stride;
        while i < steps {
            own.add::<E>(read(i));
            i += stride;
        }
        let room: *mut f32 = ptx::shared_ptr();
        let max = block_reduce(own.max, room, f32::NEG_INFINITY, warp_max);
        // A thread without logits has sum 0, and its largest is no number to compute with.
        let share = if own.max > f32::NEG_INFINITY {
            own.sum * ptx::exp2((own.max - max) * LOG2_E)
        } else {
            own.sum
        };
        let sum = block_reduce(share, room, 0.0, warp_sum);
        if thread() == 0 {
            *rows.nats_N.add(n) = LN_2 * ptx::log2(sum) + (max - at_target);
        }
        if !rows.largest_N.is_null() {
            // The first of a thread's own, in ascending order; then the least of all.
            let mut own = u32::MAX;
            let mut look = |i: u32, words: [u32; 4]| {
                let x = E::unpack(words);
                for j in 0..E::LANES {
                    let v = i * E::LANES as u32 + j as u32;
                    own = if x[j] == max && v < own { v } else { own };
                }
            };
            let mut i = thread();
            for k in 0..KEPT {
                if GRADIENT && i < steps {
                    look(i, kept[k]);
                    i += stride;
                }
            }
            while i < steps {
                look(i, read(i));
                i += stride;
            }
            let least = block_reduce(own, ptx::shared_ptr(), u32::MAX, warp_least);
            if thread() == 0 {
                *rows.largest_N.add(n) = least as i32;
            }
        }
        if !GRADIENT {
            return;
        }
        let weight = if rows.weights_N.is_null() { 1.0 } else { *rows.weights_N.add(n) };
        if weight == 0.0 {
            clear();
            return;
        }
        let scale = scale * weight;
        let factor = scale / sum;
        let write = |i: u32, words: [u32; 4]| {
            let mut x = E::unpack(words);
            for j in 0..E::LANES {
                x[j] = factor * ptx::exp2((x[j] - max) * LOG2_E);
                if i * E::LANES as u32 + j as u32 == target as u32 {
                    x[j] -= scale;
                }
            }
            ptx::store16(logits.add(at(i)), E::repack(x));
        };
        for k in 0..KEPT {
            let i = thread() + k as u32 * stride;
            if i < steps {
                write(i, kept[k]);
            }
        }
        let mut i = thread() + KEPT as u32 * stride;
        while i < steps {
            write(i, read(i));
            i += stride;
        }
    }
}

/// sum[0] += the nats of all rows, each times its weight, if there are weights; in f64. One block.
#[inline(always)]
pub unsafe fn total(sum: *mut f64, nats_N: *const f32, weights_N: *const f32, N: u32) {
    unsafe {
        let mut own = 0.0;
        let mut n = thread();
        while n < N {
            let nats = *nats_N.add(n as usize) as f64;
            if weights_N.is_null() {
                own += nats;
            } else {
                let weight = *weights_N.add(n as usize) as f64;
                // No weight, whatever the nats.
                own += if weight == 0.0 { 0.0 } else { weight * nats };
            }
            n += threads();
        }
        let total = block_reduce(own, ptx::shared_ptr(), 0.0, warp_sum64);
        if thread() == 0 {
            *sum += total;
        }
    }
}
