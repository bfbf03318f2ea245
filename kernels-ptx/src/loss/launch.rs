use super::{Forward, ForwardBackward, Sum};
use crate::launch::{EXCHANGE, Launch, Storage, Target, row_threads};

/// S for rows of V: each starts at a line of 128 bytes, as warps and caches move them, whatever V is.
pub fn stride(storage: Storage, V: u32) -> u32 {
    V.next_multiple_of(128 / storage.bytes() as u32)
}

impl<E> Forward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::loss_forward_f32, Self::loss_forward_bf16);
        rows(kernel, self.storage, self.N, self.V)
    }
}

impl<E> ForwardBackward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel =
            self.storage.pick(Self::loss_forward_backward_f32, Self::loss_forward_backward_bf16);
        rows(kernel, self.storage, self.N, self.V)
    }
}

impl Sum {
    pub(super) fn grid(&self, _: Target) -> Launch {
        Launch::new(Self::loss_sum, [1, 1, 1], 1024, EXCHANGE)
    }
}

/// A block for each row.
fn rows(kernel: &'static str, storage: Storage, N: u32, V: u32) -> Launch {
    let accesses = V.div_ceil(16 / storage.bytes() as u32);
    Launch::new(kernel, [N, 1, 1], row_threads(accesses, 512), EXCHANGE)
}
