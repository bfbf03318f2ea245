use super::Step;
use crate::arena::Slot;
use crate::cuda::{Cuda, int};
use crate::{Element, View, ViewMut};
use half::bf16;
use kernels_ptx::adamw;

pub fn step<E: Element>(
    cuda: &Cuda,
    w: ViewMut<E::Acc>,
    copy: Option<ViewMut<E>>,
    m: ViewMut<E::Acc>,
    v: ViewMut<E::Acc>,
    g: View<E::Acc>,
    sum_1: View<f64>,
    decays: &[(Slot, f64)],
    step: Step,
) {
    let slot_ends: Vec<u64> = decays.iter().map(|(slot, _)| slot.range().end as u64).collect();
    let rates: Vec<f32> = decays.iter().map(|&(_, rate)| rate as f32).collect();
    let [ends, decays_at] = cuda.workspace(workspace(decays.len()));
    let (ends, decays_at) = (ends.cast(), decays_at.cast());
    cuda.upload(ends, &slot_ends);
    cuda.upload(decays_at, &rates);

    let (rate, root) = step.corrections();
    let launch = adamw::Step {
        len: w.len() as u64,
        w: w.same::<f32>().gpu(),
        m: m.same::<f32>().gpu(),
        v: v.same::<f32>().gpu(),
        g: g.same::<f32>().gpu(),
        sum: sum_1.gpu(),
        ends,
        decays: decays_at,
        slots: int(decays.len()),
        lr: step.lr as f32,
        beta1: step.beta1 as f32,
        beta2: step.beta2 as f32,
        eps: step.eps as f32,
        max_norm: step.max_norm as f32,
        rate: rate as f32,
        root: root as f32,
    };
    match copy {
        None => cuda.launch(&launch),
        Some(copy) => cuda.launch(&launch.and_copy(copy.same::<bf16>().gpu())),
    }
}

/// Bytes of work space: where parameters end, and their rates of decay.
fn workspace(slots: usize) -> [usize; 2] {
    [slots * size_of::<u64>(), slots * size_of::<f32>()]
}
