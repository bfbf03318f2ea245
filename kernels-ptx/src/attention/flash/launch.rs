use super::{
    BackwardKeys, BackwardQueries, D64, D128, D128_SMALL, D256, D256_SMALL, Forward, Tiles,
};
use crate::attention::launch::{KEYS_BEFORE, QUERIES_BEHIND, check_width, items};
use crate::launch::{Launch, Target};

/// Tiles and the kernel that has them.
type Choice = (Tiles, &'static str);

/// The first of a head's choices whose `bytes` of shared memory a block can have on the target.
fn pick(target: Target, bytes: fn(&Tiles) -> u32, choices: &[Choice]) -> Choice {
    let fits = |(tiles, _): &&Choice| bytes(tiles) <= target.shared_bytes;
    *choices.iter().find(fits).unwrap_or(&choices[choices.len() - 1])
}

/// Blocks for tiles of `rows` tokens of `heads`, in so many parts: of `count` items, or where there are
/// none (`items` is null) of as many sequences of T.
fn blocks(items: *const u32, count: u32, T: u32, [heads, rows, parts]: [u32; 3]) -> [u32; 3] {
    if items.is_null() { [count * heads, T.div_ceil(rows), parts] } else { [heads, count, parts] }
}

impl Forward {
    fn choice(D: u32) -> Choice {
        check_width(D);
        match D {
            64 => (D64, Self::attention_forward_bf16_64),
            ..64 => (D64, Self::attention_forward_bf16_any64),
            128 => (D128, Self::attention_forward_bf16_128),
            _ => (D256, Self::attention_forward_bf16_any256),
        }
    }

    /// What must lie at `items` for sequences that do not have one length, of heads of D: `list` has the
    /// first row and the rows of each. `count` is a third of its length.
    ///
    /// # Panics
    /// If D is beyond [`MAX_D`](crate::attention::MAX_D): a caller bug, also of a launch.
    pub fn items(list: &[[u32; 2]], D: u32) -> Vec<u32> {
        items(list, Self::choice(D).0.rows(), KEYS_BEFORE)
    }

    pub(super) fn grid(&self, _: Target) -> Launch {
        let (tiles, kernel) = Self::choice(self.D);
        let blocks = blocks(self.items, self.count, self.T, [self.H, tiles.rows(), 1]);
        Launch::new(kernel, blocks, 128, tiles.forward_bytes())
    }
}

impl BackwardQueries {
    fn choice(target: Target, D: u32) -> Choice {
        check_width(D);
        let choices: &[Choice] = match D {
            64 => &[(D64, Self::attention_backward_queries_bf16_64)],
            ..64 => &[(D64, Self::attention_backward_queries_bf16_any64)],
            128 => &[(D128, Self::attention_backward_queries_bf16_128)],
            _ => &[
                (D256, Self::attention_backward_queries_bf16_any256),
                (D256_SMALL, Self::attention_backward_queries_bf16_any256_small),
            ],
        };
        pick(target, Tiles::queries_bytes, choices)
    }

    /// As [`Forward::items`]; tiles depend on the device.
    ///
    /// # Panics
    /// As [`Forward::items`].
    pub fn items(target: Target, list: &[[u32; 2]], D: u32) -> Vec<u32> {
        items(list, Self::choice(target, D).0.rows(), KEYS_BEFORE)
    }

    pub(super) fn grid(&self, target: Target) -> Launch {
        let (tiles, kernel) = Self::choice(target, self.D);
        let blocks = blocks(self.items, self.count, self.T, [self.H, tiles.rows(), 1]);
        Launch::new(kernel, blocks, 128, tiles.queries_bytes())
    }
}

impl BackwardKeys {
    fn choice(target: Target, D: u32) -> Choice {
        check_width(D);
        let choices: &[Choice] = match D {
            64 => &[(D64, Self::attention_backward_keys_bf16_64)],
            ..64 => &[(D64, Self::attention_backward_keys_bf16_any64)],
            128 => &[
                (D128, Self::attention_backward_keys_bf16_128),
                (D128_SMALL, Self::attention_backward_keys_bf16_128_small),
            ],
            _ => &[
                (D256, Self::attention_backward_keys_bf16_any256),
                (D256_SMALL, Self::attention_backward_keys_bf16_any256_small),
            ],
        };
        pick(target, Tiles::keys_bytes, choices)
    }

    /// As [`Forward::items`]; tiles depend on the device.
    ///
    /// # Panics
    /// As [`Forward::items`].
    pub fn items(target: Target, list: &[[u32; 2]], D: u32) -> Vec<u32> {
        items(list, Self::choice(target, D).0.keys(), QUERIES_BEHIND)
    }

    pub(super) fn grid(&self, target: Target) -> Launch {
        let (tiles, kernel) = Self::choice(target, self.D);
        // Beyond a width of 128 dK and dV are a block each.
        let parts = if tiles.width <= 128 { 1 } else { 2 };
        let blocks = blocks(self.items, self.count, self.T, [self.G, tiles.keys(), parts]);
        Launch::new(kernel, blocks, 32 * tiles.warps, tiles.keys_bytes())
    }
}
