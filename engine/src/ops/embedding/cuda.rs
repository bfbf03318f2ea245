use crate::cuda::{Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::embedding;

pub fn forward<E: Element>(
    cuda: &Cuda,
    x_NC: ViewMut<E>,
    tokens_N: &[u32],
    w_VC: View<E>,
    C: usize,
) {
    let [ids, ..] = cuda.workspace(workspace(tokens_N.len())).map(|part| part.cast());
    cuda.upload(ids, tokens_N);
    let (storage, x_NC, w_VC) = (storage::<E>(), x_NC.gpu(), w_VC.gpu());
    let [N, C] = [tokens_N.len(), C].map(int);
    cuda.launch(&embedding::Forward { storage, x_NC, tokens_N: ids, w_VC, N, C });
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dw_acc_VC: ViewMut<E::Acc>,
    dx_NC: View<E>,
    tokens_N: &[u32],
    C: usize,
) {
    let order = embedding::order(tokens_N);
    let parts = cuda.workspace(workspace(tokens_N.len()));
    let [rows_N, starts, tokens] = parts.map(|part| part.cast());
    cuda.upload(rows_N, &order.rows_N);
    cuda.upload(starts, &order.starts);
    cuda.upload(tokens, &order.tokens);
    cuda.launch(&embedding::Backward {
        storage: storage::<E>(),
        dw_acc_VC: dw_acc_VC.same::<f32>().gpu(),
        dx_NC: dx_NC.gpu(),
        rows_N,
        starts,
        tokens,
        C: int(C),
        groups: int(order.tokens.len()),
    });
}

/// Bytes of work space: ids of rows, starts of groups, tokens of groups.
fn workspace(N: usize) -> [usize; 3] {
    [N, N + 1, N].map(|len| len * size_of::<u32>())
}
