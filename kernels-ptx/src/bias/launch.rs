use super::{Backward, Forward};
use crate::launch::{Launch, Target};

impl<E> Forward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::bias_forward_f32, Self::bias_forward_bf16);
        let accesses = u64::from(self.O / self.storage.lanes(self.O));
        Launch::flat(kernel, u64::from(self.N) * accesses)
    }
}

impl<E> Backward<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::bias_backward_f32, Self::bias_backward_bf16);
        Launch::new(kernel, [self.O.div_ceil(32), 1, 1], 1024, 1024 * 4)
    }
}
