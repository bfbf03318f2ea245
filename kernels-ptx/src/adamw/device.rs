//! AdamW over flat arenas, one launch a step: 30 bytes an element with a bf16 copy. A block updates
//! SPAN elements, so that looking for its slot costs little. Element i decays by decays[k], where k
//! is the first with i < ends[k]; the last of `ends` is the length. The factor that clips gradients
//! to a global norm comes from their sum of squares in device memory, so that no step waits for the
//! host; if that is not finite, nothing is written.

use super::SPAN;
use crate::math::Bf16;
use crate::ptx::{self, block, thread, threads};

/// With COPY also copy = w rounded.
#[inline(always)]
pub unsafe fn step<const COPY: bool>(
    w: *mut f32,
    copy: *mut Bf16,
    m: *mut f32,
    v: *mut f32,
    g: *const f32,
    sum: *const f64,
    ends: *const u64,
    decays: *const f32,
    slots: u32,
    lr: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    max_norm: f32,
    rate: f32,
    root: f32,
) {
    unsafe {
        let len = *ends.add(slots as usize - 1);
        let first = block() as u64 * SPAN as u64;
        let norm = ptx::sqrt64(*sum);
        if first + thread() as u64 * 4 >= len || !norm.is_finite() {
            return;
        }
        let factor = max_norm / (norm as f32 + 1e-6);
        let clip = if factor < 1.0 { factor } else { 1.0 };
        // The block's first slot by halving; the thread's own lies at most a few further on.
        let (mut low, mut high) = (0, slots - 1);
        while low < high {
            let middle = (low + high) / 2;
            if *ends.add(middle as usize) <= first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut slot = low as usize;
        let (mut end, mut decay) = (*ends.add(slot), *decays.add(slot));
        let mut update = |i: u64, w: f32, m: f32, v: f32, g: f32| {
            while end <= i {
                slot += 1;
                (end, decay) = (*ends.add(slot), *decays.add(slot));
            }
            let g = g * clip;
            let m = ptx::fma(beta1, m, (1.0 - beta1) * g);
            let v = ptx::fma(beta2, v, (1.0 - beta2) * g * g);
            let w = w * ptx::fma(-lr, decay, 1.0);
            (w - rate * m / ptx::fma(ptx::sqrt(v), root, eps), m, v)
        };
        let mut i = first + thread() as u64 * 4;
        let stop = if first + (SPAN as u64) < len { first + SPAN as u64 } else { len };
        while i < stop {
            let at = i as usize;
            if i + 4 <= len {
                let (mut w4, mut m4, mut v4) =
                    (ptx::load4(w.add(at)), ptx::load4(m.add(at)), ptx::load4(v.add(at)));
                let g4 = ptx::load4(g.add(at));
                for j in 0..4 {
                    (w4[j], m4[j], v4[j]) = update(i + j as u64, w4[j], m4[j], v4[j], g4[j]);
                }
                ptx::store16(w.add(at), w4.map(f32::to_bits));
                ptx::store16(m.add(at), m4.map(f32::to_bits));
                ptx::store16(v.add(at), v4.map(f32::to_bits));
                if COPY {
                    ptx::store8(copy.add(at), [ptx::pack(w4[0], w4[1]), ptx::pack(w4[2], w4[3])]);
                }
            } else {
                for at in at..len as usize {
                    let (w, m, v) = (w.add(at), m.add(at), v.add(at));
                    (*w, *m, *v) = update(at as u64, *w, *m, *v, *g.add(at));
                    if COPY {
                        *copy.add(at) = ptx::Element::of(*w);
                    }
                }
            }
            i += threads() as u64 * 4;
        }
    }
}
