//! Matrix products: C (M x N) of A (M x K) and B (K x N).
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Target};
//! use kernels_ptx::linear::gemm::{self, Layout, Rounded};
//! use std::ptr::{null, without_provenance_mut as at};
//!
//! let (target, M, N, K) = (Target::of(90), 8192, 8192, 4096);
//! let (c, r, a, b) = (at(0x1000_0000), null(), at(0x2000_0000), at(0x3000_0000));
//! let (layout, cut) = (Layout::Nt, gemm::cut(target, M, N, K));
//! let product = Rounded { c, r, a, b, M, N, K, lda: K, ldb: K, ldc: N, layout, cut };
//! let launch = product.launch(target);
//! assert_eq!((launch.kernel, launch.blocks), ("gemm_nt_bf16_128x256", [64 * 32, 1, 1]));
//! // Of a single tile and a deep K every multiprocessor takes a part.
//! assert!(gemm::cut(target, 128, 128, 1 << 20).parts > 100);
//! ```

use crate::math::Bf16;

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::{Cut, Layout, cut};

/// Depth of a slice of a block's tile.
pub const BK: u32 = 64;
/// Slices in shared memory.
const STAGES: u32 = 3;
/// Rows and columns of a warp's tile.
const WARP_TILE: u32 = 64;
/// Rows and columns of a block's tile in f32.
const F32_TILE: u32 = 64;
/// Depth of its slices.
const F32_DEPTH: u32 = 16;

/// Bytes of the stages of a block with tiles of 128 x BN.
pub const fn stages_bytes(BN: u32) -> u32 {
    STAGES * (128 + BN) * BK * 2
}

kernels! {
    /// Brain floats, C rounded. Not for [`Layout::Tn`], whose sums are
    /// gradients of weights and stay f32, and not for a cut with parts: those are [`Wide`], and
    /// [`RoundParts`] follows.
    pub struct Rounded {
        c: *mut Bf16,
        /// Laid out like c, added before rounding; or null.
        r: *const Bf16,
        a: *const Bf16,
        b: *const Bf16,
        M: u32,
        N: u32,
        K: u32,
        lda: u32,
        ldb: u32,
        ldc: u32,
    }
    grid {
        /// How A and B lie.
        layout: crate::linear::gemm::Layout,
        /// How blocks share the product.
        cut: crate::linear::gemm::Cut,
    }
    for
    gemm_nt_bf16_128x256 { const X: Tile = Tile::wide(NT); }
    gemm_nt_bf16_128x128 { const X: Tile = Tile::square(NT); }
    gemm_nt_bf16_any { const X: Tile = Tile::any(NT); }
    gemm_nn_bf16_128x256 { const X: Tile = Tile::wide(NN); }
    gemm_nn_bf16_128x128 { const X: Tile = Tile::square(NN); }
    gemm_nn_bf16_any { const X: Tile = Tile::any(NN); }
    => {
        ptx::launch_bounds::<{ X.BN }, { ptx::fitting(X.blocks, stages_bytes(X.BN)) }>();
        let slices = K.div_ceil(BK);
        let sums = tile::<128, { X.BN }, { X.BN }, { X.a_K_inner }, { X.b_K_inner }, { X.aligned }>(
            a, b, M, N, K, 0, slices, lda, ldb,
        );
        store_rounded(sums, c, r, M, N, ldc)
    }

    /// Brain floats, C in f32. If the cut has parts, c is room for as many products, rows of N, `add` is
    /// 0, and [`AddParts`] or [`RoundParts`] follows.
    pub struct Wide {
        c: *mut f32,
        a: *const Bf16,
        b: *const Bf16,
        M: u32,
        N: u32,
        K: u32,
        lda: u32,
        ldb: u32,
        ldc: u32,
        /// That of the cut.
        depth: u32,
        /// 1: c += AB, 0: c = AB.
        add: u32,
    }
    grid {
        /// How A and B lie.
        layout: crate::linear::gemm::Layout,
        /// How blocks share the product.
        cut: crate::linear::gemm::Cut,
    }
    for
    gemm_nt_bf16_f32_128x256 { const X: Tile = Tile::wide(NT); }
    gemm_nt_bf16_f32_128x128 { const X: Tile = Tile::square(NT); }
    gemm_nt_bf16_f32_any { const X: Tile = Tile::any(NT); }
    gemm_nn_bf16_f32_128x256 { const X: Tile = Tile::wide(NN); }
    gemm_nn_bf16_f32_128x128 { const X: Tile = Tile::square(NN); }
    gemm_nn_bf16_f32_any { const X: Tile = Tile::any(NN); }
    gemm_tn_bf16_f32_128x256 { const X: Tile = Tile::wide(TN); }
    gemm_tn_bf16_f32_128x128 { const X: Tile = Tile::square(TN); }
    gemm_tn_bf16_f32_any { const X: Tile = Tile::any(TN); }
    => {
        ptx::launch_bounds::<{ X.BN }, { ptx::fitting(X.blocks, stages_bytes(X.BN)) }>();
        // Parts are whole slices but for the last, so only K ends inside of one.
        let k = ptx::block_z() * depth;
        let slices = (K - k).min(depth).div_ceil(BK);
        let sums = tile::<128, { X.BN }, { X.BN }, { X.a_K_inner }, { X.b_K_inner }, { X.aligned }>(
            a, b, M, N, K, k, slices, lda, ldb,
        );
        // Read again, so that no register waits with it through the loop.
        let c = c.add(ptx::block_z_again() as usize * M as usize * ldc as usize);
        store_wide(sums, c, M, N, ldc, add != 0)
    }

    /// acc += parts, `count` arrays of `len` behind each other, in ascending order.
    pub struct AddParts {
        acc: *mut f32,
        parts: *const f32,
        len: u64,
        count: u32,
    }
    for gemm_add_parts {}
    => {
        let i = ptx::global_thread() * 4;
        if i + 4 <= len as usize && len.is_multiple_of(4) {
            let mut sum = ptx::load4(acc.add(i));
            for k in 0..count {
                let part = ptx::load4(parts.add(k as usize * len as usize + i));
                for j in 0..4 {
                    sum[j] += part[j];
                }
            }
            ptx::store16(acc.add(i), sum.map(f32::to_bits));
        } else {
            let mut i = i;
            let end = (i + 4).min(len as usize);
            while i < end {
                let mut sum = *acc.add(i);
                for k in 0..count {
                    sum += *parts.add(k as usize * len as usize + i);
                }
                *acc.add(i) = sum;
                i += 1;
            }
        }
    }

    /// c = parts, `count` arrays of M x N behind each other, in ascending order, + r, rounded.
    pub struct RoundParts {
        c: *mut Bf16,
        /// Laid out like c; or null.
        r: *const Bf16,
        parts: *const f32,
        M: u32,
        N: u32,
        ldc: u32,
        count: u32,
    }
    for gemm_round_parts {}
    => { round_parts(c, r, parts, M, N, ldc, count) }

    /// The same products in f32. Element (i, k) of A is `a[i * a_row + k * a_col]`; B alike.
    pub struct F32 {
        c: *mut f32,
        /// Laid out like c, what AB is added to; or null.
        r: *const f32,
        a: *const f32,
        b: *const f32,
        M: u32,
        N: u32,
        K: u32,
        a_row: u32,
        a_col: u32,
        b_row: u32,
        b_col: u32,
        ldc: u32,
        /// 1: c += AB, 0: c = AB.
        add: u32,
    }
    for gemm_f32 {}
    => { f32(c, r, a, b, M, N, K, a_row, a_col, b_row, b_col, ldc, add) }
}
