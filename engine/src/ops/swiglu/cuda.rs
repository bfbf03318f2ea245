use crate::cuda::{Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::swiglu;

pub fn forward<E: Element>(cuda: &Cuda, a_NF: ViewMut<E>, gu_N2F: View<E>, N: usize, F: usize) {
    let (storage, [N, F]) = (storage::<E>(), [N, F].map(int));
    cuda.launch(&swiglu::Forward { storage, a_NF: a_NF.gpu(), gu_N2F: gu_N2F.gpu(), N, F });
}

pub fn backward_inplace<E: Element>(
    cuda: &Cuda,
    gu_N2F: ViewMut<E>,
    da_NF: View<E>,
    N: usize,
    F: usize,
) {
    let (storage, [N, F]) = (storage::<E>(), [N, F].map(int));
    cuda.launch(&swiglu::Backward { storage, gu_N2F: gu_N2F.gpu(), da_NF: da_NF.gpu(), N, F });
}
