use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::bias;

pub fn forward<E: Element>(cuda: &Cuda, y_acc_NO: ViewMut<E>, b_O: View<E>, N: usize, O: usize) {
    let (N, O) = (int(N), int(O));
    let args = [Arg::Ptr(y_acc_NO.gpu()), Arg::Ptr(b_O.gpu()), Arg::U32(N), Arg::U32(O)];
    cuda.launch(bias::forward(storage::<E>(), N, O), &args);
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    db_acc_O: ViewMut<E::Acc>,
    dy_NO: View<E>,
    N: usize,
    O: usize,
) {
    let (N, O) = (int(N), int(O));
    let args = [Arg::Ptr(db_acc_O.gpu()), Arg::Ptr(dy_NO.gpu()), Arg::U32(N), Arg::U32(O)];
    cuda.launch(bias::backward(storage::<E>(), O), &args);
}
