use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::rope;

/// `sign` is 1 forward, -1 backward.
pub fn rotate<E: Element>(
    cuda: &Cuda,
    x_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    S: usize,
    heads: usize,
    D: usize,
    sign: f32,
) {
    let (N, T) = (x_NS.len() / S, table_TD.len() / D);
    let [N, T, S, heads, D] = [N, T, S, heads, D].map(int);
    let sizes = [N, T, S, heads, D].map(Arg::U32);
    let pointers = [x_NS.gpu(), table_TD.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &sizes, &[Arg::F32(sign)]].concat();
    cuda.launch(rope::rotate(storage::<E>(), N, S, D), &args);
}
