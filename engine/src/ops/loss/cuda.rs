use super::{Sum, chunk_rows};
use crate::cuda::product::{Onto, Product};
use crate::cuda::{Arg, Cuda, int, storage};
use crate::ops::norm::cuda::sum;
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::loss;

pub fn forward<E: Element>(
    cuda: &Cuda,
    total: &mut Sum,
    logits: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V) = (targets_N.len(), w_VC.len() / C);
    let rows = chunk_rows(N, V);
    let (storage, logits, w) = (storage::<E>(), logits.gpu(), w_VC.gpu());
    let [targets_at, nats, _] = cuda.workspace(workspace::<E>(N, C, V));
    cuda.upload(targets_at, targets_N);
    for first in (0..N).step_by(rows) {
        let n = rows.min(N - first);
        let x = x_NC.range(first * C..(first + n) * C).gpu();
        Product::forward(n, C, V).narrow(cuda, storage, logits, x, w, Onto::Zero);
        let args = [nats, logits, targets_at + 4 * first as u64].map(Arg::Ptr);
        let args = [&args[..], &[Arg::U32(int(V))]].concat();
        cuda.launch(loss::forward(storage, int(n), int(V)), &args);
        sum(cuda, total.nats.view_mut(), nats, int(n), true);
    }
}

pub fn forward_backward<E: Element>(
    cuda: &Cuda,
    total: &mut Sum,
    dx_NC: ViewMut<E>,
    dw_acc_VC: ViewMut<E::Acc>,
    logits: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    scale: f64,
    C: usize,
) {
    let (N, V) = (targets_N.len(), w_VC.len() / C);
    let rows = chunk_rows(N, V);
    let (storage, logits, w) = (storage::<E>(), logits.gpu(), w_VC.gpu());
    let (dx, dw) = (dx_NC.gpu(), dw_acc_VC.gpu());
    let [targets_at, nats, room] = cuda.workspace(workspace::<E>(N, C, V));
    cuda.upload(targets_at, targets_N);
    for first in (0..N).step_by(rows) {
        let n = rows.min(N - first);
        let x = x_NC.range(first * C..(first + n) * C).gpu();
        Product::forward(n, C, V).narrow(cuda, storage, logits, x, w, Onto::Zero);
        let args = [nats, logits, targets_at + 4 * first as u64].map(Arg::Ptr);
        let scalars = [Arg::F32(scale as f32), Arg::U32(int(V))];
        let launch = loss::forward_backward(storage, int(n), int(V));
        cuda.launch(launch, &[&args[..], &scalars].concat());
        sum(cuda, total.nats.view_mut(), nats, int(n), true);
        let dx = dx + (first * C * size_of::<E>()) as u64;
        Product::backward_input(n, C, V).narrow(cuda, storage, dx, logits, w, Onto::Zero);
        let product = Product::backward_weight(n, C, V);
        product.wide(cuda, storage, dw, logits, x, Onto::Itself, room);
    }
}

/// Bytes of work space: targets, nats of a chunk's rows, and parts of a product.
pub fn workspace<E: Element>(N: usize, C: usize, V: usize) -> [usize; 3] {
    let rows = chunk_rows(N, V);
    let last = (N - 1) % rows + 1;
    let room = |n| Product::backward_weight(n, C, V).room(storage::<E>());
    [N * size_of::<i32>(), rows * size_of::<f64>(), room(rows).max(room(last))]
}
