//! SwiGLU: a = silu(g) * u. Rows of gu_N2F hold F gates, then F ups.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::swiglu::Backward;
//! use std::ptr::without_provenance_mut as at;
//!
//! let (gu_N2F, da_NF) = (at(0x200_0000), at(0x100_0000));
//! let backward = Backward::<f32> { storage: Storage::F32, gu_N2F, da_NF, N: 1024, F: 2048 };
//! let launch = backward.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("swiglu_backward_f32", [2048, 1, 1]));
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// Writes a_NF.
    pub struct Forward<E> {
        a_NF: *mut E,
        gu_N2F: *const E,
        N: u32,
        F: u32,
    }
    for swiglu_forward_f32 { type E = f32; } swiglu_forward_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(F) {
            forward::<E, Wide>(a_NF, gu_N2F, N, F)
        } else {
            forward::<E, Single>(a_NF, gu_N2F, N, F)
        }
    }

    /// Replaces gu_N2F by its gradient.
    pub struct Backward<E> {
        gu_N2F: *mut E,
        da_NF: *const E,
        N: u32,
        F: u32,
    }
    for swiglu_backward_f32 { type E = f32; } swiglu_backward_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(F) {
            backward::<E, Wide>(gu_N2F, da_NF, N, F)
        } else {
            backward::<E, Single>(gu_N2F, da_NF, N, F)
        }
    }
}
