use super::{Apply, Backward, BackwardGain, Forward, ForwardResidual, IN_SHARED};
use crate::launch::{EXCHANGE, Launch, Storage, Target, row_threads};

/// Blocks of forward: enough to fill any device several times over.
const FORWARD_BLOCKS: u32 = 2048;
/// Blocks of backward. Each writes a row of partial sums: few, so that they are cheap.
const BACKWARD_BLOCKS: u32 = 512;

/// Rows of partial sums that [`Backward`] writes for N rows.
pub fn parts(N: u32) -> u32 {
    N.min(BACKWARD_BLOCKS)
}

/// Blocks that share N rows of forward.
fn rows(kernel: &'static str, storage: Storage, N: u32, C: u32) -> Launch {
    let threads = row_threads(C / storage.lanes(C), 1024);
    Launch::new(kernel, [N.min(FORWARD_BLOCKS), 1, 1], threads, EXCHANGE)
}

impl<E> Forward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::rmsnorm_forward_f32, Self::rmsnorm_forward_bf16);
        rows(kernel, self.storage, self.N, self.C)
    }
}

impl<E> ForwardResidual<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let (f32, bf16) = (Self::rmsnorm_forward_residual_f32, Self::rmsnorm_forward_residual_bf16);
        rows(self.storage.pick(f32, bf16), self.storage, self.N, self.C)
    }
}

impl<E> Apply<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::rmsnorm_apply_f32, Self::rmsnorm_apply_bf16);
        Launch { shared_bytes: 0, ..rows(kernel, self.storage, self.N, self.C) }
    }
}

impl<E> Backward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::rmsnorm_backward_f32, Self::rmsnorm_backward_bf16);
        let threads = row_threads(self.C / self.storage.lanes(self.C), 512);
        let sums = if self.C <= IN_SHARED { self.C } else { 0 };
        Launch::new(kernel, [parts(self.N), 1, 1], threads, (32 + sums) * 4)
    }
}

impl BackwardGain {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let blocks = [self.C.div_ceil(32), 1, 1];
        Launch::new(Self::rmsnorm_backward_gain, blocks, 1024, 1024 * 4)
    }
}
