//! Causal attention of sequences, H query heads that share G key/value heads of D. Rows of qkv hold H
//! query heads, G key heads and G value heads; head h reads key/value head h / (H/G). `scale` is
//! 1/sqrt(D).
//!
//! [`flash`] is for brain floats, on tensor cores, and takes tiles of a sequence's tokens; [`plain`] is in
//! f32, for comparisons, and takes a row a warp. Sequences of equal length T are known to both by T. Of
//! others they read `items`, three numbers for each tile (in f32 each row): the first row of its sequence,
//! the rows of that, and the first of them that it takes; the tiles with the most work come first.
//! [`decode`] is for new tokens over a cache.
//!
//! ```
//! use kernels_ptx::attention::Delta;
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::math::Bf16;
//! use std::ptr::without_provenance_mut as at;
//!
//! // 4096 tokens of 32 heads, eight threads a row.
//! let (delta_NH, do_NHD, o_NHD) = (at(0x1000), at(0x100_0000), at(0x200_0000));
//! let (storage, rows, D) = (Storage::Bf16, 4096 * 32, 128);
//! let delta = Delta::<Bf16> { storage, delta_NH, do_NHD, o_NHD, rows, D };
//! let launch = delta.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("attention_delta_bf16", [4096, 1, 1]));
//! ```

pub mod decode;
pub mod flash;
pub mod plain;

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

/// Widest head.
pub const MAX_D: u32 = 256;

kernels! {
    /// Writes delta_NH, the product of each row's dO and O: before the backward kernels.
    pub struct Delta<E> {
        delta_NH: *mut f32,
        do_NHD: *const E,
        o_NHD: *const E,
        /// N * H.
        rows: u32,
        D: u32,
    }
    for attention_delta_f32 { type E = f32; } attention_delta_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(D) {
            delta::<E, Wide>(delta_NH, do_NHD, o_NHD, rows, D)
        } else {
            delta::<E, Single>(delta_NH, do_NHD, o_NHD, rows, D)
        }
    }
}
