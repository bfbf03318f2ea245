//! RMSNorm: y = w * x * r, r = 1 / sqrt(mean(x^2) + eps). A block takes rows block, block + blocks, ...
//! A thread keeps up to KEPT accesses of a row between the two looks at it; wider rows than
//! KEPT accesses a thread are read again, from cache.

use super::IN_SHARED;
use crate::ptx::{
    self, Access, Element, block, block_reduce, blocks, thread, threads, warp_sum, zeroed,
};

const KEPT: usize = 2;

/// y_NC, r_N; with RESIDUAL also x_NC = x_NC + a_NC before.
#[inline(always)]
pub unsafe fn forward<E: Element, W: Access<E>, const RESIDUAL: bool>(
    y_NC: *mut E,
    r_N: *mut f32,
    x_NC: *mut E,
    a_NC: *const E,
    w_C: *const E,
    N: u32,
    C: u32,
    eps: f32,
) {
    unsafe {
        let (steps, stride) = (C / W::LANES as u32, threads());
        let at = |i: u32| i as usize * W::LANES;
        let w = kept::<E, W>(w_C, steps);
        let mut n = block();
        while n < N {
            let row = n as usize * C as usize;
            let read = |i: u32| {
                let x = W::load(x_NC.add(row + at(i)));
                if !RESIDUAL {
                    return x;
                }
                let a = W::unpack(W::load(a_NC.add(row + at(i))));
                let mut x = W::unpack(x);
                for j in 0..W::LANES {
                    x[j] += a[j];
                }
                W::store(x_NC.add(row + at(i)), x);
                W::round(x)
            };
            let mut kept: [W::Packed; KEPT] = zeroed();
            for k in 0..KEPT {
                let i = thread() + k as u32 * stride;
                if i < steps {
                    kept[k] = read(i);
                }
            }
            let mut sum = 0.0;
            let mut square = |x: W::Packed| {
                let x = W::unpack(x);
                for j in 0..W::LANES {
                    sum = ptx::fma(x[j], x[j], sum);
                }
            };
            for k in 0..KEPT {
                square(kept[k]);
            }
            let mut i = thread() + KEPT as u32 * stride;
            while i < steps {
                square(read(i));
                i += stride;
            }
            let sum = block_reduce(sum, ptx::shared_ptr(), 0.0, warp_sum);
            let r = ptx::recip_exact(ptx::sqrt(sum / C as f32 + eps));
            if thread() == 0 {
                *r_N.add(n as usize) = r;
            }
            let write = |i: u32, x: W::Packed, w: W::Packed| {
                W::store(y_NC.add(row + at(i)), scaled::<E, W>(x, w, r));
            };
            for k in 0..KEPT {
                let i = thread() + k as u32 * stride;
                if i < steps {
                    write(i, kept[k], w[k]);
                }
            }
            let mut i = thread() + KEPT as u32 * stride;
            while i < steps {
                write(i, W::load(x_NC.add(row + at(i))), W::load(w_C.add(at(i))));
                i += stride;
            }
            n += blocks();
        }
    }
}

/// w * x * r.
#[inline(always)]
fn scaled<E: Element, W: Access<E>>(x: W::Packed, w: W::Packed, r: f32) -> [f32; 8] {
    let (mut y, w) = (W::unpack(x), W::unpack(w));
    for j in 0..W::LANES {
        y[j] = w[j] * y[j] * r;
    }
    y
}

/// y_NC again from r_N, to the same bits.
#[inline(always)]
pub unsafe fn apply<E: Element, W: Access<E>>(
    y_NC: *mut E,
    x_NC: *const E,
    w_C: *const E,
    r_N: *const f32,
    N: u32,
    C: u32,
) {
    unsafe {
        let (steps, stride) = (C / W::LANES as u32, threads());
        let at = |i: u32| i as usize * W::LANES;
        let w = kept::<E, W>(w_C, steps);
        let mut n = block();
        while n < N {
            let row = n as usize * C as usize;
            let r = *r_N.add(n as usize);
            let x = kept::<E, W>(x_NC.add(row), steps);
            for k in 0..KEPT {
                let i = thread() + k as u32 * stride;
                if i < steps {
                    W::store(y_NC.add(row + at(i)), scaled::<E, W>(x[k], w[k], r));
                }
            }
            let mut i = thread() + KEPT as u32 * stride;
            while i < steps {
                let (x, w) = (W::load(x_NC.add(row + at(i))), W::load(w_C.add(at(i))));
                W::store(y_NC.add(row + at(i)), scaled::<E, W>(x, w, r));
                i += stride;
            }
            n += blocks();
        }
    }
}

/// The thread's first KEPT accesses of a row.
#[inline(always)]
unsafe fn kept<E: Element, W: Access<E>>(row: *const E, steps: u32) -> [W::Packed; KEPT] {
    let mut kept: [W::Packed; KEPT] = zeroed();
    for k in 0..KEPT {
        let i = thread() + k as u32 * threads();
        if i < steps {
            // SAFETY: the row has `steps` accesses.
            kept[k] = unsafe { W::load(row.add(i as usize * W::LANES)) };
        }
    }
    kept
}

/// Adds to dx_acc_NC; writes this block's share of dw to its row of dw_part_PC. With s = sum w*dy*x:
/// dx += r * (w*dy - x*s*r*r/C), dw += dy * x * r. The shares are summed in shared memory, in two
/// halves of four floats an access, so that neighbours never share a bank. Rows too wide for that
/// (IN_SHARED) are summed in the block's row of dw_part_PC itself, where the cache holds them.
#[inline(always)]
pub unsafe fn backward<E: Element, W: Access<E>>(
    dx_acc_NC: *mut E,
    dw_part_PC: *mut f32,
    dy_NC: *const E,
    x_NC: *const E,
    w_C: *const E,
    r_N: *const f32,
    N: u32,
    C: u32,
) {
    unsafe {
        let (steps, stride) = (C / W::LANES as u32, threads());
        let at = |i: u32| i as usize * W::LANES;
        let part = dw_part_PC.add(block() as usize * C as usize);
        let in_shared = C <= IN_SHARED;
        let sums = if in_shared { ptx::shared_ptr::<f32>().add(32) } else { part };
        let width = if W::LANES < 4 { W::LANES } else { 4 };
        let half = |i: u32, j: usize| {
            let (i, half) = (i as usize, j / 4 * width);
            let first =
                if in_shared { half * steps as usize + i * width } else { i * W::LANES + half };
            first + j % 4
        };
        let mut c = thread();
        while c < C {
            *sums.add(c as usize) = 0.0;
            c += stride;
        }
        ptx::barrier();
        let w = kept::<E, W>(w_C, steps);
        let mut n = block();
        while n < N {
            let row = n as usize * C as usize;
            let r = *r_N.add(n as usize);
            let (mut x, mut dy): ([W::Packed; KEPT], [W::Packed; KEPT]) = (zeroed(), zeroed());
            for k in 0..KEPT {
                let i = thread() + k as u32 * stride;
                if i < steps {
                    x[k] = W::load(x_NC.add(row + at(i)));
                    dy[k] = W::load(dy_NC.add(row + at(i)));
                }
            }
            let mut s = 0.0;
            let mut project = |x: W::Packed, dy: W::Packed, w: W::Packed| {
                let (x, dy, w) = (W::unpack(x), W::unpack(dy), W::unpack(w));
                for j in 0..W::LANES {
                    s = ptx::fma(w[j] * dy[j], x[j], s);
                }
            };
            for k in 0..KEPT {
                project(x[k], dy[k], w[k]);
            }
            let mut i = thread() + KEPT as u32 * stride;
            while i < steps {
                let (x, dy) = (W::load(x_NC.add(row + at(i))), W::load(dy_NC.add(row + at(i))));
                project(x, dy, W::load(w_C.add(at(i))));
                i += stride;
            }
            let s = block_reduce(s, ptx::shared_ptr(), 0.0, warp_sum);
            let along = s * r * r / C as f32;
            let add = |i: u32, x: W::Packed, dy: W::Packed, w: W::Packed| {
                let to = dx_acc_NC.add(row + at(i));
                let mut dx = W::unpack(W::load(to));
                let (x, dy, w) = (W::unpack(x), W::unpack(dy), W::unpack(w));
                for j in 0..W::LANES {
                    dx[j] = ptx::fma(r, w[j] * dy[j] - x[j] * along, dx[j]);
                }
                W::store(to, dx);
                if W::LANES == 1 {
                    *sums.add(i as usize) += dy[0] * x[0] * r;
                    return;
                }
                for first in [0, 4] {
                    if first < W::LANES {
                        let to = sums.add(half(i, first));
                        let mut sum = ptx::load4(to);
                        for j in 0..4 {
                            sum[j] += dy[first + j] * x[first + j] * r;
                        }
                        ptx::store16(to, sum.map(f32::to_bits));
                    }
                }
            };
            for k in 0..KEPT {
                let i = thread() + k as u32 * stride;
                if i < steps {
                    add(i, x[k], dy[k], w[k]);
                }
            }
            let mut i = thread() + KEPT as u32 * stride;
            while i < steps {
                let (x, dy) = (W::load(x_NC.add(row + at(i))), W::load(dy_NC.add(row + at(i))));
                add(i, x, dy, W::load(w_C.add(at(i))));
                i += stride;
            }
            n += blocks();
        }
        // A thread reads the sums of other threads here: c runs over columns, not accesses.
        ptx::barrier();
        let mut c = if in_shared { thread() } else { C };
        while c < C {
            let (i, j) = (c / W::LANES as u32, c as usize % W::LANES);
            *part.add(c as usize) = *sums.add(half(i, j));
            c += stride;
        }
    }
}
