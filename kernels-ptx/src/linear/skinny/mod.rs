//! Products of at most [`ROWS`] rows with a weight: y (M x N) of x (M x K) and W, N rows of K. Brain
//! floats. Neither the strips that a block takes nor M nor the device changes a row's bits.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Target};
//! use kernels_ptx::linear::skinny::{Wide, takes};
//! use std::ptr::without_provenance_mut as at;
//!
//! let (M, N, K) = (1, 4096, 4096);
//! assert!(takes(M, K, K, K));
//! let (y, x, w) = (at(0x1000), at(0x8000), at(0x100_0000));
//! let product = Wide { y, x, w, M, N, K, ldx: K, ldw: K, ldy: N };
//! // Two strips of eight rows a block: with four, some of 132 multiprocessors would idle.
//! let launch = product.launch(Target::of(90));
//! assert_eq!((launch.kernel, launch.blocks), ("skinny_bf16_f32_16", [256, 1, 1]));
//! ```

use crate::math::Bf16;

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::takes;

/// Most rows of x: those of a matrix instruction.
pub const ROWS: u32 = 16;
/// Rows of W in a strip: columns of a matrix instruction.
pub const STRIP: u32 = 8;
/// Depth of a piece: 16 bytes of each of a row's four lanes.
pub const DEPTH: u32 = 32;
/// Bytes of a piece of eight rows.
const PIECE: u32 = 8 * DEPTH * 2;
/// Warps of a block, which divide K.
pub const WARPS: u32 = 8;
/// Threads of a block.
const THREADS: u32 = 32 * WARPS;

/// Pieces that a warp has under way, for blocks of 1, 2 or 4 strips: with eight warps 32 or 48
/// KiB of W a block, and with 16 rows of x no more shared memory than a block has anywhere.
pub const fn stages(strips: u32) -> u32 {
    match strips {
        1 => 8,
        2 => 6,
        _ => 3,
    }
}

kernels! {
    /// Writes y, rounded.
    pub struct Rounded {
        y: *mut Bf16,
        /// Laid out like y, added before rounding; or null.
        r: *const Bf16,
        x: *const Bf16,
        w: *const Bf16,
        M: u32,
        N: u32,
        K: u32,
        ldx: u32,
        ldw: u32,
        ldy: u32,
    }
    for
    skinny_bf16_8 { const STRIPS: usize = 1; }
    skinny_bf16_16 { const STRIPS: usize = 2; }
    skinny_bf16_32 { const STRIPS: usize = 4; }
    => {
        ptx::launch_bounds::<THREADS, 4>();
        const STAGES: u32 = stages(STRIPS as u32);
        product::<STRIPS, STAGES, { STAGES - 1 }>(x, w, Sizes { M, N, K, ldx, ldw }, |m, n, sum| {
            let at = m as usize * ldy as usize + n as usize;
            let old = if r.is_null() { 0.0 } else { ptx::Element::get(*r.add(at)) };
            *y.add(at) = ptx::Element::of(sum + old);
        })
    }

    /// Writes y in f32.
    pub struct Wide {
        y: *mut f32,
        x: *const Bf16,
        w: *const Bf16,
        M: u32,
        N: u32,
        K: u32,
        ldx: u32,
        ldw: u32,
        ldy: u32,
    }
    for
    skinny_bf16_f32_8 { const STRIPS: usize = 1; }
    skinny_bf16_f32_16 { const STRIPS: usize = 2; }
    skinny_bf16_f32_32 { const STRIPS: usize = 4; }
    => {
        ptx::launch_bounds::<THREADS, 4>();
        const STAGES: u32 = stages(STRIPS as u32);
        product::<STRIPS, STAGES, { STAGES - 1 }>(x, w, Sizes { M, N, K, ldx, ldw }, |m, n, sum| {
            *y.add(m as usize * ldy as usize + n as usize) = sum;
        })
    }
}
