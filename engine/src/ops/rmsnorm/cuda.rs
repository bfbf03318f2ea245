use crate::cuda::{Arg, Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::rmsnorm;

pub fn forward<E: Element>(
    cuda: &Cuda,
    y_NC: ViewMut<E>,
    r_N: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_C: View<E>,
    eps: f32,
) {
    let [N, C] = [r_N.len(), w_C.len()].map(int);
    let pointers = [y_NC.gpu(), r_N.gpu(), x_NC.gpu(), w_C.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &[Arg::U32(N), Arg::U32(C), Arg::F32(eps)]].concat();
    cuda.launch(rmsnorm::forward(storage::<E>(), N, C), &args);
}

pub fn apply<E: Element>(
    cuda: &Cuda,
    y_NC: ViewMut<E>,
    x_NC: View<E>,
    w_C: View<E>,
    r_N: View<E::Acc>,
) {
    let [N, C] = [r_N.len(), w_C.len()].map(int);
    let pointers = [y_NC.gpu(), x_NC.gpu(), w_C.gpu(), r_N.gpu()].map(Arg::Ptr);
    let args = [&pointers[..], &[N, C].map(Arg::U32)].concat();
    cuda.launch(rmsnorm::apply(storage::<E>(), N, C), &args);
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dx_acc_NC: ViewMut<E>,
    dw_acc_C: Option<ViewMut<E::Acc>>,
    dy_NC: View<E>,
    x_NC: View<E>,
    w_C: View<E>,
    r_N: View<E::Acc>,
) {
    let [part_PC] = cuda.workspace(workspace::<E>(r_N.len(), w_C.len()));
    let [N, C] = [r_N.len(), w_C.len()].map(int);
    let launch = rmsnorm::backward(storage::<E>(), N, C);
    let P = launch.blocks[0];
    let rows = [dx_acc_NC.gpu(), part_PC, dy_NC.gpu(), x_NC.gpu(), w_C.gpu(), r_N.gpu()];
    cuda.launch(launch, &[&rows.map(Arg::Ptr)[..], &[N, C].map(Arg::U32)].concat());
    let Some(dw_acc_C) = dw_acc_C else { return };
    let gains = [dw_acc_C.gpu(), part_PC].map(Arg::Ptr);
    cuda.launch(rmsnorm::backward_gain(C), &[&gains[..], &[P, C].map(Arg::U32)].concat());
}

/// Bytes of work space of [`backward`]: a row of partial sums for each block.
fn workspace<E: Element>(N: usize, C: usize) -> [usize; 1] {
    let blocks = rmsnorm::backward(storage::<E>(), int(N), int(C)).blocks[0] as usize;
    [blocks * C * size_of::<f32>()]
}
