use super::{Backward, Forward};
use crate::launch::{Launch, Target};

impl<E> Forward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::embedding_forward_f32, Self::embedding_forward_bf16);
        Launch::flat(kernel, u64::from(self.N) * u64::from(self.C / self.storage.lanes(self.C)))
    }
}

impl<E> Backward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::embedding_backward_f32, Self::embedding_backward_bf16);
        let threads = if self.C.is_multiple_of(4) { self.C / 4 } else { self.C };
        let block = threads.next_multiple_of(32).min(64);
        Launch::new(kernel, [self.groups, threads.div_ceil(block), 1], block, 0)
    }
}

/// Rows grouped by token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Row numbers: those of the first group ascending, then those of the second, ...
    pub rows_N: Vec<u32>,
    /// Where each group starts in `rows_N`; one more for the end.
    pub starts: Vec<u32>,
    /// The token of each group.
    pub tokens: Vec<u32>,
}

/// Groups rows by token. The largest groups come first, because a group is one block's work.
pub fn order(tokens_N: &[u32]) -> Order {
    let mut rows_N: Vec<u32> = (0..tokens_N.len() as u32).collect();
    rows_N.sort_by_key(|&n| tokens_N[n as usize]);
    let same = |a: &u32, b: &u32| tokens_N[*a as usize] == tokens_N[*b as usize];
    let mut groups: Vec<&[u32]> = rows_N.chunk_by(same).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut order = Order { starts: vec![0], ..Order::default() };
    for group in groups {
        order.rows_N.extend(group);
        order.starts.push(order.rows_N.len() as u32);
        order.tokens.push(tokens_N[group[0] as usize]);
    }
    order
}
