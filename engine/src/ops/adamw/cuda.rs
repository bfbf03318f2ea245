use super::Step;
use crate::arena::Slot;
use crate::cuda::{Arg, Cuda, Storage, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::adamw;

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
    let ends: Vec<u64> = decays.iter().map(|(slot, _)| slot.range().end as u64).collect();
    let rates: Vec<f32> = decays.iter().map(|&(_, rate)| rate as f32).collect();
    let [ends_at, rates_at] = cuda.workspace(workspace(decays.len()));
    cuda.upload(ends_at, &ends);
    cuda.upload(rates_at, &rates);

    let len = w.len() as u64;
    assert!(copy.is_none() || storage::<E>() == Storage::Bf16, "adamw: a copy is narrower");
    let kind = if copy.is_some() { Storage::Bf16 } else { Storage::F32 };
    let mut pointers = vec![w.gpu()];
    pointers.extend(copy.map(ViewMut::gpu));
    pointers.extend([m.gpu(), v.gpu(), g.gpu(), sum_1.gpu(), ends_at, rates_at]);
    let mut args: Vec<Arg> = pointers.into_iter().map(Arg::Ptr).collect();
    args.push(Arg::U32(int(decays.len())));
    let Step { lr, beta1, beta2, eps, max_norm, .. } = step;
    let (rate, root) = step.corrections();
    args.extend([lr, beta1, beta2, eps, max_norm, rate, root].map(|x| Arg::F32(x as f32)));
    cuda.launch(adamw::step(kind, len), &args);
}

/// Bytes of work space: where parameters end, and their rates of decay.
fn workspace(slots: usize) -> [usize; 2] {
    [slots * size_of::<u64>(), slots * size_of::<f32>()]
}
