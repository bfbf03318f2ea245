//! Sum of squares of a flat arena.
//!
//! ```
//! use kernels_ptx::launch::{Kernel, Target};
//! use kernels_ptx::norm::{Squares, Sum, parts};
//! use std::ptr::without_provenance_mut as at;
//!
//! // A million numbers: sixteen sums, then theirs.
//! let (part_P, x, len) = (at(0x1000), at(0x100_0000), 1 << 20);
//! let squares = Squares { part_P, x, len };
//! assert_eq!(squares.launch(Target::of(90)).blocks, [parts(len), 1, 1]);
//! let sum = Sum { sum: at(0x2000), x: part_P, len: parts(len) };
//! assert_eq!((sum.len, sum.launch(Target::of(90)).kernel), (16, "sum_f64"));
//! ```

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::parts;

/// Elements that a block sums.
const SPAN: usize = 1 << 16;

kernels! {
    /// Writes part_P, the sum of squares of each span of x; P is [`parts`].
    pub struct Squares {
        part_P: *mut f64,
        x: *const f32,
        len: u64,
    }
    for norm_squares {}
    => { squares(part_P, x, len) }

    /// Writes the sum of x to `sum`, which is one number.
    pub struct Sum {
        sum: *mut f64,
        x: *const f64,
        len: u32,
    }
    for sum_f64 {}
    => { total(sum, x, len) }
}
