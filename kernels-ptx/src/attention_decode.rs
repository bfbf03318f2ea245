//! Attention of a few new tokens over a cache of keys and values: a block for a token and a head.
//! Its warps take the keys in turns of 32, a lane a key, and join what they have at the end. D is
//! at most 256.

use crate::math::{Bf16, LOG2_E};
use crate::ptx::{self, Element, WARP, block, from_lane, lane, thread, threads, warp};
use crate::ptx::{warp_max, warp_sum, zeroed};

/// Most elements of a head that a lane holds.
const PER_LANE: usize = 8;

#[inline(always)]
unsafe fn decode<E: Element>(
    o_NHD: *mut E,
    q_NS: *const E,
    kv: *const E,
    N: u32,
    past: u32,
    S: u32,
    H: u32,
    G: u32,
    D: u32,
    scale: f32,
) {
    unsafe {
        let n = ptx::div(block(), H);
        if n >= N {
            return;
        }
        let h = block() - n * H;
        let g = ptx::div(h, ptx::div(H, G));
        let q = q_NS.add(n as usize * S as usize + (h * D) as usize);
        let row = |t: u32, head: u32| {
            kv.add((t as usize * (2 * G) as usize + head as usize) * D as usize)
        };
        let keys = past + n + 1;
        let (mut max, mut sum): (f32, f32) = (f32::NEG_INFINITY, 0.0);
        let mut out: [f32; PER_LANE] = zeroed();
        let mut first = warp() * WARP;
        while first < keys {
            let mut s = f32::NEG_INFINITY;
            if first + lane() < keys {
                let key = row(first + lane(), g);
                let mut dot = 0.0;
                for d in 0..D as usize {
                    dot = ptx::fma((*q.add(d)).get(), (*key.add(d)).get(), dot);
                }
                s = dot * scale;
            }
            let new = ptx::max(max, warp_max(s));
            let shrink = ptx::exp2((max - new) * LOG2_E);
            let p = ptx::exp2((s - new) * LOG2_E);
            (max, sum) = (new, ptx::fma(sum, shrink, warp_sum(p)));
            for i in 0..PER_LANE {
                out[i] *= shrink;
            }
            for k in 0..ptx::opaque((keys - first).min(WARP)) {
                let (p, value) = (from_lane(p, k), row(first + k, G + g));
                for i in 0..PER_LANE {
                    let d = lane() + WARP * i as u32;
                    if d < D {
                        out[i] = ptx::fma(p, (*value.add(d as usize)).get(), out[i]);
                    }
                }
            }
            first += threads();
        }
        join(o_NHD.add((block() * D) as usize), max, sum, &out, D);
    }
}

/// Joins the warps' maxima, sums and outputs, and writes the head.
#[inline(always)]
unsafe fn join<E: Element>(o_D: *mut E, max: f32, sum: f32, out: &[f32; PER_LANE], D: u32) {
    unsafe {
        let room: *mut f32 = ptx::shared_ptr();
        let of = |warp: u32| room.add((warp * (D + 2)) as usize);
        let mine = of(warp());
        if lane() == 0 {
            (*mine, *mine.add(1)) = (max, sum);
        }
        for i in 0..PER_LANE {
            let d = lane() + WARP * i as u32;
            if d < D {
                *mine.add(2 + d as usize) = out[i];
            }
        }
        ptx::barrier();
        let warps = ptx::opaque(threads() / WARP);
        let mut most = f32::NEG_INFINITY;
        for w in 0..warps {
            most = ptx::max(most, *of(w));
        }
        let mut d = thread();
        while d < D {
            let (mut sum, mut total) = (0.0, 0.0);
            for w in 0..warps {
                let part = of(w);
                let share = ptx::exp2((*part - most) * LOG2_E);
                sum = ptx::fma(*part.add(1), share, sum);
                total = ptx::fma(*part.add(2 + d as usize), share, total);
            }
            *o_D.add(d as usize) = E::of(total * ptx::recip_exact(sum));
            d += threads();
        }
    }
}

macro_rules! kernels {
    ($E:ty, $decode:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $decode(
            o_NHD: *mut $E,
            q_NS: *const $E,
            kv: *const $E,
            N: u32,
            past: u32,
            S: u32,
            H: u32,
            G: u32,
            D: u32,
            scale: f32,
        ) {
            unsafe { decode::<$E>(o_NHD, q_NS, kv, N, past, S, H, G, D, scale) }
        }
    };
}
kernels!(f32, attention_decode_f32);
kernels!(Bf16, attention_decode_bf16);
