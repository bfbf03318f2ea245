//! Multiplication by a constant.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::scale::Scale;
//! use std::ptr::without_provenance_mut as at;
//!
//! let scale = Scale::<f32> { storage: Storage::F32, x: at(0x1000), len: 4096, factor: 0.5 };
//! // Four elements a thread.
//! assert_eq!(scale.launch(Target::of(90)).blocks, [4, 1, 1]);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

kernels! {
    /// Multiplies x in place.
    pub struct Scale<E> {
        x: *mut E,
        len: u32,
        factor: f32,
    }
    for scale_f32 { type E = f32; } scale_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(len) {
            scale::<E, Wide>(x, len, factor)
        } else {
            scale::<E, Single>(x, len, factor)
        }
    }
}
