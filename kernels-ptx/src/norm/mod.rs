//! Sum of squares of a flat arena.

#[cfg(target_arch = "nvptx64")]
mod device;
#[cfg(not(target_arch = "nvptx64"))]
mod launch;
#[cfg(not(target_arch = "nvptx64"))]
pub use launch::parts;

/// Elements that a block sums.
const SPAN: usize = 1 << 16;

kernels! {
    /// Writes part_P, the sum of squares of each span of x; P is [`parts`](crate::norm::parts).
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
