//! Attention of a few new tokens over a cache of keys and values.
//!
//! ```
//! use kernels_ptx::attention::decode::Decode;
//! use kernels_ptx::launch::{Kernel, Storage, Target};
//! use kernels_ptx::math::Bf16;
//! use std::ptr::{null, without_provenance_mut as at};
//!
//! // The token at position 100 of one sequence; a block a head.
//! let (o_NHD, q_NS, kv, items) = (at(0x1000), at(0x2000), at(0x100_0000), null());
//! let (H, G, D) = (32, 8, 128);
//! let (storage, N, past, S, scale) = (Storage::Bf16, 1, 100, (H + 2 * G) * D, (D as f32).sqrt().recip());
//! let decode = Decode::<Bf16> { storage, o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale };
//! assert_eq!(decode.launch(Target::of(90)).blocks, [H, 1, 1]);
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;

/// Warps of a block.
const WARPS: u32 = 16;

kernels! {
    /// Writes o_NHD of N new tokens over a cache of rows of G keys and G values.
    pub struct Decode<E> {
        o_NHD: *mut E,
        q_NS: *const E,
        kv: *const E,
        /// Null: the tokens are one sequence's, the first at position `past`. Otherwise `past` has no
        /// meaning, and each may be another's: the row of the cache where that begins, and how many it
        /// sees.
        items: *const u32,
        N: u32,
        past: u32,
        S: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    for attention_decode_f32 { type E = f32; } attention_decode_bf16 { type E = Bf16; }
    => {
        ptx::launch_bounds::<{ WARPS * ptx::WARP }, 1>();
        if ptx::wide::<E>(D) {
            decode::<E, Wide>(o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale)
        } else {
            decode::<E, Single>(o_NHD, q_NS, kv, items, N, past, S, H, G, D, scale)
        }
    }

    /// Before [`Decode`] with items: the last `width` = 2 * G * D elements of each token's row join the
    /// cache.
    pub struct Keep<E> {
        kv: *mut E,
        qkv_NS: *const E,
        items: *const u32,
        N: u32,
        S: u32,
        width: u32,
    }
    for attention_keep_f32 { type E = f32; } attention_keep_bf16 { type E = Bf16; }
    => {
        if ptx::wide::<E>(width) && ptx::wide::<E>(S) {
            keep::<E, Wide>(kv, qkv_NS, items, N, S, width)
        } else {
            keep::<E, Single>(kv, qkv_NS, items, N, S, width)
        }
    }
}
