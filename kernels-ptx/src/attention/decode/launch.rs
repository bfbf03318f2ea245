use super::{Decode, Keep, WARPS};
use crate::attention::launch::check_width;
use crate::launch::{Launch, Target};

impl<E> Decode<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        check_width(self.D);
        let kernel = self.storage.pick(Self::attention_decode_f32, Self::attention_decode_bf16);
        Launch::new(kernel, [self.N * self.H, 1, 1], WARPS * 32, WARPS * (self.D + 2) * 4)
    }
}

impl<E> Keep<E> {
    pub(super) fn grid(&self, _: Target) -> Launch {
        let kernel = self.storage.pick(Self::attention_keep_f32, Self::attention_keep_bf16);
        let lanes = self.storage.lanes(self.width).min(self.storage.lanes(self.S));
        Launch::flat(kernel, u64::from(self.N) * u64::from(self.width / lanes))
    }
}
