use super::{Delta, MAX_D};
use crate::launch::{Launch, Target};

impl<E> Delta<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::attention_delta_f32, Self::attention_delta_bf16);
        Launch::flat(kernel, 8 * u64::from(self.rows))
    }
}

/// How the work of a tile grows, given its sequence's length and its first token.
pub(super) type Work = fn(u32, u32) -> u32;
/// Of queries: with the keys before them.
pub(super) const KEYS_BEFORE: Work = |_, first| first;
/// Of keys: with the queries behind them.
pub(super) const QUERIES_BEHIND: Work = |len, first| len - first;

/// The items of sequences, of which `list` has the first row and the rows of each, in tiles of `rows`.
pub(super) fn items(list: &[[u32; 2]], rows: u32, work: Work) -> Vec<u32> {
    let tiles = list.iter().flat_map(|&[row, len]| {
        (0..len).step_by(rows as usize).map(move |first| [row, len, first])
    });
    let mut tiles: Vec<[u32; 3]> = tiles.collect();
    tiles.sort_by_key(|&[_, len, first]| std::cmp::Reverse(work(len, first)));
    tiles.concat()
}

pub(super) fn check_width(D: u32) {
    assert!(D > 0 && D <= MAX_D, "attention: heads of {D}, of {MAX_D} at most");
}
