//! AdamW over flat arenas.
//!
//! ```
//! use kernels_ptx::adamw::Step;
//! use kernels_ptx::launch::{Kernel, Target};
//! use std::ptr::without_provenance_mut as at;
//!
//! // The first step of a million weights, in two slots.
//! let (beta1, beta2) = (0.9f32, 0.95f32);
//! let (w, m, v, g) = (at(0x100_0000), at(0x200_0000), at(0x300_0000), at(0x400_0000));
//! let (sum, ends, decays, slots) = (at(0x1000), at(0x1100), at(0x1200), 2);
//! let (lr, eps, max_norm) = (1e-3, 1e-8, 1.0);
//! let (rate, root, len) = (lr / (1.0 - beta1), 1.0 / (1.0 - beta2).sqrt(), 1 << 20);
//! let step = Step {
//!     w, m, v, g, sum, ends, decays, slots, lr, beta1, beta2, eps, max_norm, rate, root, len,
//! };
//! assert_eq!(step.launch(Target::of(90)).blocks, [256, 1, 1]);
//! assert_eq!(step.and_copy(at(0x500_0000)).launch(Target::of(90)).kernel, "adamw_bf16");
//! ```

use crate::math::Bf16;

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

/// Elements that a block updates.
const SPAN: usize = 1 << 12;

kernels! {
    /// Updates w, m and v by gradients g, which are multiplied by min(1, max_norm / (sqrt(sum) + 1e-6)).
    /// If `sum` is not finite the kernel writes nothing.
    pub struct Step {
        w: *mut f32,
        m: *mut f32,
        v: *mut f32,
        g: *const f32,
        /// One number: the sum of squares of all gradients, by [`norm`](crate::norm).
        sum: *const f64,
        /// Slot k ends at `ends[k]`, the last at `len`.
        ends: *const u64,
        /// One for each slot.
        decays: *const f32,
        slots: u32,
        lr: f32,
        beta1: f32,
        beta2: f32,
        eps: f32,
        /// May be infinite.
        max_norm: f32,
        /// lr / (1 - beta1^t), for step t from 1.
        rate: f32,
        /// 1 / sqrt(1 - beta2^t).
        root: f32,
    }
    grid {
        /// Elements of each arena.
        len: u64,
    }
    for adamw_f32 {}
    => {
        let copy = core::ptr::null_mut();
        step::<false>(
            w, copy, m, v, g, sum, ends, decays, slots, lr, beta1, beta2, eps, max_norm, rate, root,
        )
    }

    /// As [`Step`]; also writes `copy`, w rounded.
    pub struct StepAndCopy {
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
    }
    grid {
        /// Elements of each arena.
        len: u64,
    }
    for adamw_bf16 {}
    => {
        step::<true>(
            w, copy, m, v, g, sum, ends, decays, slots, lr, beta1, beta2, eps, max_norm, rate, root,
        )
    }
}
