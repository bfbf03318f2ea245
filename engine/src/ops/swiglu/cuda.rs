use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::swiglu;

pub fn forward<E: Element>(cuda: &Cuda, a_NF: ViewMut<E>, gu_N2F: View<E>, N: usize, F: usize) {
    let (N, F) = (int(N), int(F));
    let args = [Arg::Ptr(a_NF.gpu()), Arg::Ptr(gu_N2F.gpu()), Arg::U32(N), Arg::U32(F)];
    cuda.launch(swiglu::forward(storage::<E>(), N, F), &args);
}

pub fn backward_inplace<E: Element>(
    cuda: &Cuda,
    gu_N2F: ViewMut<E>,
    da_NF: View<E>,
    N: usize,
    F: usize,
) {
    let (N, F) = (int(N), int(F));
    let args = [Arg::Ptr(gu_N2F.gpu()), Arg::Ptr(da_NF.gpu()), Arg::U32(N), Arg::U32(F)];
    cuda.launch(swiglu::backward(storage::<E>(), N, F), &args);
}
