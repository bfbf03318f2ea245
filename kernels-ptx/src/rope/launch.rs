use super::Rotate;
use crate::launch::{Launch, Target};

impl<E> Rotate<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::rope_rotate_f32, Self::rope_rotate_bf16);
        let lanes = self.storage.lanes(self.D / 2).min(self.storage.lanes(self.S));
        let count = u64::from(self.N) * u64::from(self.D / 2 / lanes);
        Launch { threads: 128, ..Launch::flat(kernel, 2 * count) }
    }
}
