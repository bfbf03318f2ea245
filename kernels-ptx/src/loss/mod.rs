//! Softmax cross-entropy of rows of V logits, S elements apart. A negative target does not count.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::loss::{Forward, stride};
//! use kernels_ptx::math::Bf16;
//! use std::ptr::{null_mut, without_provenance_mut as at};
//!
//! let (storage, V) = (Storage::Bf16, 50257);
//! let S = stride(storage, V);
//! assert_eq!(S, 50304);
//! let (nats_N, largest_N, logits_NS, targets_N) = (at(0x1000), null_mut(), at(0x100_0000), at(0x2000));
//! let forward = Forward::<Bf16> { storage, nats_N, largest_N, logits_NS, targets_N, V, S, N: 512 };
//! assert_eq!(forward.launch(Target::of(90)).blocks, [512, 1, 1]);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::stride;

kernels! {
    /// Writes nats_N and largest_N, the ids of the largest logits.
    pub struct Forward<E> {
        nats_N: *mut f32,
        /// Or null.
        largest_N: *mut i32,
        logits_NS: *const E,
        targets_N: *const i32,
        V: u32,
        S: u32,
    }
    grid {
        /// Rows.
        N: u32,
    }
    for
    loss_forward_f32 { type E = f32; const KEPT: usize = KEPT_F32; }
    loss_forward_bf16 { type E = Bf16; const KEPT: usize = KEPT_BF16; }
    => {
        ptx::launch_bounds::<512, 1>();
        let rows = Rows { nats_N, largest_N, targets_N, weights_N: core::ptr::null() };
        row::<E, KEPT, false>(rows, logits_NS.cast_mut(), 0.0, V, S)
    }

    /// As [`Forward`]; also replaces logits by their gradient times `scale` and the row's weight.
    pub struct ForwardBackward<E> {
        nats_N: *mut f32,
        /// Or null.
        largest_N: *mut i32,
        logits_NS: *mut E,
        targets_N: *const i32,
        /// Null: 1 each.
        weights_N: *const f32,
        scale: f32,
        V: u32,
        S: u32,
    }
    grid {
        /// Rows.
        N: u32,
    }
    for
    loss_forward_backward_f32 { type E = f32; const KEPT: usize = KEPT_F32; }
    loss_forward_backward_bf16 { type E = Bf16; const KEPT: usize = KEPT_BF16; }
    => {
        ptx::launch_bounds::<512, 1>();
        let rows = Rows { nats_N, largest_N, targets_N, weights_N };
        row::<E, KEPT, true>(rows, logits_NS, scale, V, S)
    }

    /// Adds the nats of all rows, each times its weight, to `sum`, which is one number. Rows of weight 0
    /// add nothing.
    pub struct Sum {
        sum: *mut f64,
        nats_N: *const f32,
        /// Null: 1 each.
        weights_N: *const f32,
        N: u32,
    }
    for loss_sum {}
    => { total(sum, nats_N, weights_N, N) }
}
