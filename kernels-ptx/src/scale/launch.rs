use super::Scale;
use crate::launch::{Launch, Target};

impl<E> Scale<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::scale_f32, Self::scale_bf16);
        Launch::flat(kernel, u64::from(self.len / self.storage.lanes(self.len)))
    }
}
