use super::{Backward, Forward};
use crate::launch::{Launch, Storage, Target};

impl<E> Forward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::swiglu_forward_f32, Self::swiglu_forward_bf16);
        accesses(kernel, self.storage, self.N, self.F)
    }
}

impl<E> Backward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::swiglu_backward_f32, Self::swiglu_backward_bf16);
        accesses(kernel, self.storage, self.N, self.F)
    }
}

/// A thread for each access of a row of a.
fn accesses(kernel: &'static str, storage: Storage, N: u32, F: u32) -> Launch {
    Launch::flat(kernel, u64::from(N) * u64::from(F / storage.lanes(F)))
}
