//! Attention of brain floats on tensor cores, in tiles of a sequence's tokens.
//!
//! ```
//! use kernels_ptx::attention::flash::Forward;
//! use kernels_ptx::launch::{Kernel, Target};
//! use std::ptr::{null, without_provenance_mut as at};
//!
//! // Two sequences of 4096 tokens, in tiles of 128 queries.
//! let (o_NHD, lse_NH, qkv, items) = (at(0x100_0000), at(0x1000), at(0x200_0000), null());
//! let (T, H, G, D, count) = (4096, 32, 8, 128, 2);
//! let forward = Forward { o_NHD, lse_NH, qkv, items, T, H, G, D, scale: (D as f32).sqrt().recip(), count };
//! let launch = forward.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("attention_forward_bf16_128", [2 * 32, 32, 1]));
//! // Of 200 and 100 tokens: the tile with the most keys comes first.
//! let items = Forward::items(&[[0, 200], [200, 100]], D);
//! assert_eq!(items, [0, 200, 128, 0, 200, 0, 200, 100, 0]);
//! ```

use crate::math::Bf16;

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
mod tiles;
pub use tiles::{D64, D128, D128_SMALL, D256, D256_SMALL, Tiles};

kernels! {
    /// Writes o_NHD and lse_NH, the log-sum-exp of each row's scores.
    pub struct Forward {
        o_NHD: *mut Bf16,
        lse_NH: *mut f32,
        qkv: *const Bf16,
        /// Of [`Forward::items`]; null for sequences of equal length. Otherwise T has no meaning.
        items: *const u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    grid {
        /// Sequences, or items.
        count: u32,
    }
    for
    attention_forward_bf16_64 { const X: Tiles = D64; const EXACT: bool = true; const BLOCKS: u32 = 2; }
    attention_forward_bf16_128 { const X: Tiles = D128; const EXACT: bool = true; const BLOCKS: u32 = 2; }
    attention_forward_bf16_any64 { const X: Tiles = D64; const EXACT: bool = false; const BLOCKS: u32 = 1; }
    attention_forward_bf16_any256 { const X: Tiles = D256; const EXACT: bool = false; const BLOCKS: u32 = 1; }
    => {
        ptx::launch_bounds::<128, { ptx::fitting(BLOCKS, X.forward_bytes()) }>();
        let s = Shape { row: 0, T, H, G, D: if EXACT { X.width } else { D } };
        forward::<
            { X.width },
            { X.width * 2 },
            { X.width as usize / 8 },
            { X.groups as usize },
            { X.forward_keys as usize / 8 },
            { X.rows() },
            { X.forward_keys },
            EXACT,
        >(o_NHD, lse_NH, qkv, items, s, scale)
    }

    /// Writes dQ.
    pub struct BackwardQueries {
        dqkv: *mut Bf16,
        do_NHD: *const Bf16,
        qkv: *const Bf16,
        lse_NH: *const f32,
        delta_NH: *const f32,
        /// Of [`BackwardQueries::items`]; as in [`Forward`].
        items: *const u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    grid {
        /// Sequences, or items.
        count: u32,
    }
    for
    attention_backward_queries_bf16_64 { const X: Tiles = D64; const EXACT: bool = true; const BLOCKS: u32 = 2; }
    attention_backward_queries_bf16_128 { const X: Tiles = D128; const EXACT: bool = true; const BLOCKS: u32 = 2; }
    attention_backward_queries_bf16_any64 { const X: Tiles = D64; const EXACT: bool = false; const BLOCKS: u32 = 1; }
    attention_backward_queries_bf16_any256 { const X: Tiles = D256; const EXACT: bool = false; const BLOCKS: u32 = 1; }
    attention_backward_queries_bf16_any256_small { const X: Tiles = D256_SMALL; const EXACT: bool = false; const BLOCKS: u32 = 1; }
    => {
        ptx::launch_bounds::<128, { ptx::fitting(BLOCKS, X.queries_bytes()) }>();
        let s = Shape { row: 0, T, H, G, D: if EXACT { X.width } else { D } };
        backward_queries::<
            { X.width },
            { X.width * 2 },
            { X.width as usize / 8 },
            { X.groups as usize },
            { X.backward_keys as usize / 8 },
            { X.rows() },
            { X.backward_keys },
            EXACT,
        >(dqkv, do_NHD, qkv, lse_NH, delta_NH, items, s, scale)
    }

    /// Writes dK and dV.
    pub struct BackwardKeys {
        dqkv: *mut Bf16,
        do_NHD: *const Bf16,
        qkv: *const Bf16,
        lse_NH: *const f32,
        delta_NH: *const f32,
        /// Of [`BackwardKeys::items`]; as in [`Forward`].
        items: *const u32,
        T: u32,
        H: u32,
        G: u32,
        D: u32,
        scale: f32,
    }
    grid {
        /// Sequences, or items.
        count: u32,
    }
    for
    attention_backward_keys_bf16_64 { const X: Tiles = D64; const EXACT: bool = true; }
    attention_backward_keys_bf16_128 { const X: Tiles = D128; const EXACT: bool = true; }
    attention_backward_keys_bf16_128_small { const X: Tiles = D128_SMALL; const EXACT: bool = true; }
    attention_backward_keys_bf16_any64 { const X: Tiles = D64; const EXACT: bool = false; }
    attention_backward_keys_bf16_any256 { const X: Tiles = D256; const EXACT: bool = false; }
    attention_backward_keys_bf16_any256_small { const X: Tiles = D256_SMALL; const EXACT: bool = false; }
    => {
        ptx::launch_bounds::<{ X.warps * 32 }, 1>();
        let s = Shape { row: 0, T, H, G, D: if EXACT { X.width } else { D } };
        macro_rules! of {
            ($keys:literal, $values:literal) => {
                backward_keys::<
                    { X.width },
                    { X.width * 2 },
                    { X.width as usize / 8 },
                    { X.queries as usize / 8 },
                    { X.queries },
                    { X.warps },
                    { X.warps * 32 },
                    $keys,
                    $values,
                    EXACT,
                >(dqkv, do_NHD, qkv, lse_NH, delta_NH, items, s, scale)
            };
        }
        // Beyond a width of 128 the sums of both do not fit in registers.
        if X.width <= 128 {
            of!(true, true)
        } else if ptx::block_z() == 0 {
            of!(true, false)
        } else {
            of!(false, true)
        }
    }
}
