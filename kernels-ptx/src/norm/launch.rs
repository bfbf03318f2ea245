use super::{SPAN, Squares, Sum};
use crate::launch::{EXCHANGE, Launch, Target};

/// Sums that [`Squares`] writes for `len` elements.
pub fn parts(len: u64) -> u32 {
    len.div_ceil(SPAN as u64) as u32
}

impl Squares {
    pub(super) fn grid(&self, _: Target) -> Launch {
        Launch::new(Self::norm_squares, [parts(self.len), 1, 1], 256, EXCHANGE)
    }
}

impl Sum {
    pub(super) fn grid(&self, _: Target) -> Launch {
        Launch::new(Self::sum_f64, [1, 1, 1], 1024, EXCHANGE)
    }
}
