//! Scalar maths that host and device share, in core alone, so that the host can test it.
//!
//! ```
//! use kernels_ptx::math::{high, low, swizzled, tile_of};
//!
//! assert_eq!((low(0x4000_3f80), high(0x4000_3f80)), (1.0, 2.0));
//! // Eight rows of one column lie in eight different groups of banks.
//! let mut groups: Vec<u32> = (0..8).map(|row| swizzled(row, 3, 8) % 8).collect();
//! groups.sort();
//! assert_eq!(groups, [0, 1, 2, 3, 4, 5, 6, 7]);
//! // Blocks go down a band of two rows of tiles, then to its next column.
//! assert_eq!([0, 1, 2].map(|block| tile_of(block, 4, 4, 2)), [(0, 0), (1, 0), (0, 1)]);
//! ```

/// A brain float: the upper half of an f32.
#[cfg(target_arch = "nvptx64")]
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Bf16(pub u16);
#[cfg(not(target_arch = "nvptx64"))]
pub use half::bf16 as Bf16;

/// log2(e): e^x = 2^(x * LOG2_E), and `ex2` is an instruction.
pub const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// ln(2): `lg2` is an instruction.
pub const LN_2: f32 = core::f32::consts::LN_2;

/// The low of two brain floats in a word, widened exactly.
#[inline(always)]
pub fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

/// The high of two brain floats in a word, widened exactly.
#[inline(always)]
pub fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

/// Where 16 bytes of a row go in shared memory: the column's lowest three bits change with the
/// row, so that eight rows of one column lie in eight different groups of four banks. `row_len`
/// is in units of 16 bytes, and a multiple of 8.
#[inline(always)]
pub const fn swizzled(row: u32, col: u32, row_len: u32) -> u32 {
    row * row_len + (col ^ (row & 7))
}

/// Position of a product's tile in the order of blocks: bands of `band` rows of tiles, column by
/// column inside, so that blocks that run together share rows and columns in the L2 cache.
#[inline(always)]
pub fn tile_of(block: u32, tiles_m: u32, tiles_n: u32, band: u32) -> (u32, u32) {
    let in_band = (band * tiles_n).max(1);
    let first = block / in_band * band;
    let height = (tiles_m - first).min(band).max(1);
    let within = block % in_band;
    (first + within % height, within / height)
}
