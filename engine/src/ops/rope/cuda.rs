use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, Segments, View, ViewMut};
use kernels_ptx::launch::rope;

/// `sign` is 1 forward, -1 backward.
pub fn rotate<E: Element>(
    cuda: &Cuda,
    x_NS: ViewMut<E>,
    table_TD: View<E::Acc>,
    segments: &Segments,
    S: usize,
    heads: usize,
    D: usize,
    sign: f32,
) {
    let T = segments.equal_len().expect("rope: kernels take segments of equal length alone");
    let N = x_NS.len() / S;
    let [N, T, S, heads, D] = [N, T, S, heads, D].map(int);
    let sizes = [N, T, S, heads, D].map(Arg::U32);
    let pointers = [x_NS.gpu(), table_TD.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &sizes, &[Arg::F32(sign)]].concat();
    cuda.launch(rope::rotate(storage::<E>(), N, S, D), &args);
}
