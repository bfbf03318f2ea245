use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::embedding;

pub fn forward<E: Element>(
    cuda: &Cuda,
    x_NC: ViewMut<E>,
    tokens_N: &[u32],
    w_VC: View<E>,
    C: usize,
) {
    let [ids, ..] = cuda.workspace(workspace(tokens_N.len()));
    cuda.upload(ids, tokens_N);
    let [N, C] = [tokens_N.len(), C].map(int);
    let pointers = [x_NC.gpu(), ids, w_VC.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &[N, C].map(Arg::U32)].concat();
    cuda.launch(embedding::forward(storage::<E>(), N, C), &args);
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dw_acc_VC: ViewMut<E::Acc>,
    dx_NC: View<E>,
    tokens_N: &[u32],
    C: usize,
) {
    let order = embedding::order(tokens_N);
    let [rows, starts, groups] = cuda.workspace(workspace(tokens_N.len()));
    cuda.upload(rows, &order.rows_N);
    cuda.upload(starts, &order.starts);
    cuda.upload(groups, &order.tokens);
    let pointers = [dw_acc_VC.gpu(), dx_NC.gpu(), rows, starts, groups].map(Arg::Ptr);
    let args = [&pointers[..], &[Arg::U32(int(C))]].concat();
    cuda.launch(embedding::backward(storage::<E>(), int(order.tokens.len()), int(C)), &args);
}

/// Bytes of work space: ids of rows, starts of groups, tokens of groups.
fn workspace(N: usize) -> [usize; 3] {
    [N, N + 1, N].map(|len| len * size_of::<u32>())
}
