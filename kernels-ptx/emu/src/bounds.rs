//! The most by which a GPU's arithmetic errs, for the budgets of tests: what the emulator errs by in
//! its strict mode, and hardware as far as it is documented. Sources are at [`crate::Card`] and
//! [`crate::Hardware`].
//!
//! ```
//! use ptx_emu::bounds;
//!
//! // What a dot product of 4096 pairs of numbers below 1 may err by on an H100's tensor cores: as if each
//! // of its 256 blocks of 16 lost five last bits of a sum of 4096.
//! let budget = bounds::sum(90, 4096, 4096.0);
//! assert_eq!(budget, 256.0 * 5.25 * bounds::LAST_BIT * 4096.0);
//! // On an A100 blocks are smaller, and keep fewer bits.
//! assert!(bounds::sum(80, 4096, 4096.0) > budget);
//! ```

use crate::hardware::alignment;

/// 2^-23: the last bit of f32, as a share of the leading one.
pub const LAST_BIT: f64 = 1.0 / (1 << 23) as f64;

/// Of `ex2.approx`, relative: 2 units in the last place.
pub const EX2: f64 = 2.0 * LAST_BIT;

/// Of `rcp.approx`, relative: 1 unit in the last place.
pub const RCP: f64 = LAST_BIT;

/// Of `lg2.approx` where the result is `log`, absolute: 2^-22 for operands from 1/2 to 2, elsewhere
/// as much of the result.
pub fn lg2(log: f64) -> f64 {
    2.0 * LAST_BIT * log.abs().max(1.0)
}

/// Of a sum of `k` products of 16-bit factors by `mma`, absolute, where no product and no sum on
/// the way is larger than `largest`.
///
/// Of each block of b products, these and the sum so far, b + 1 numbers, are cut off at 2^-23 of the
/// largest, some extra bits further down; then the result is cut off at 2^-23 of itself:
/// (b + 1) / 2^extra + 1 last bits a block.
pub fn sum(capability: u32, k: usize, largest: f64) -> f64 {
    let of = alignment(capability);
    let blocks = k.div_ceil(of.products as usize) as f64;
    let numbers = f64::from(of.products + 1);
    blocks * (numbers / f64::from(1 << of.extra_bits) + 1.0) * LAST_BIT * largest
}
