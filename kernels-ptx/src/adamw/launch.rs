use super::{SPAN, Step, StepAndCopy};
use crate::launch::{Launch, Target};
use crate::math::Bf16;

impl Step {
    /// The same step, which also writes `copy`.
    pub fn and_copy(self, copy: *mut Bf16) -> StepAndCopy {
        let Step { w, m, v, g, sum, ends, decays, slots, .. } = self;
        let Step { lr, beta1, beta2, eps, max_norm, rate, root, len, .. } = self;
        StepAndCopy {
            w,
            copy,
            m,
            v,
            g,
            sum,
            ends,
            decays,
            slots,
            lr,
            beta1,
            beta2,
            eps,
            max_norm,
            rate,
            root,
            len,
        }
    }

    pub(super) fn grid(&self, _: Target) -> Launch {
        spans(Self::adamw_f32, self.len)
    }
}

impl StepAndCopy {
    pub(super) fn grid(&self, _: Target) -> Launch {
        spans(Self::adamw_bf16, self.len)
    }
}

/// A block for each span.
fn spans(kernel: &'static str, len: u64) -> Launch {
    let blocks = len.div_ceil(SPAN as u64).try_into().expect("adamw: more than 2^32 blocks");
    Launch::new(kernel, [blocks, 1, 1], 256, 0)
}
