use super::{BackwardKeys, BackwardQueries, Forward};
use crate::attention::launch::{KEYS_BEFORE, QUERIES_BEHIND, items};
use crate::launch::{Launch, Target};

/// Warps of a block.
const WARPS: u32 = 4;

/// A warp for each of N rows of `heads`.
fn rows(kernel: &'static str, N: u32, heads: u32) -> Launch {
    Launch::new(kernel, [(N * heads).div_ceil(WARPS), 1, 1], WARPS * 32, 0)
}

impl Forward {
    /// What must lie at `items` for sequences that do not have one length: `list` has the first row and
    /// the rows of each.
    pub fn items(list: &[[u32; 2]]) -> Vec<u32> {
        items(list, 1, KEYS_BEFORE)
    }

    pub(super) fn grid(&self, _: Target) -> Launch {
        rows(Self::attention_forward_f32, self.N, self.H)
    }
}

impl BackwardQueries {
    /// As [`Forward::items`].
    pub fn items(list: &[[u32; 2]]) -> Vec<u32> {
        items(list, 1, KEYS_BEFORE)
    }

    pub(super) fn grid(&self, _: Target) -> Launch {
        rows(Self::attention_backward_queries_f32, self.N, self.H)
    }
}

impl BackwardKeys {
    /// As [`Forward::items`].
    pub fn items(list: &[[u32; 2]]) -> Vec<u32> {
        items(list, 1, QUERIES_BEHIND)
    }

    pub(super) fn grid(&self, _: Target) -> Launch {
        rows(Self::attention_backward_keys_f32, self.N, self.G)
    }
}
