use crate::cuda::{Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::rmsnorm;

pub fn forward<E: Element>(
    cuda: &Cuda,
    y_NC: ViewMut<E>,
    r_N: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_C: View<E>,
    eps: f32,
) {
    let [N, C] = [r_N.len(), w_C.len()].map(int);
    cuda.launch(&rmsnorm::Forward {
        storage: storage::<E>(),
        y_NC: y_NC.gpu(),
        r_N: r_N.same::<f32>().gpu(),
        x_NC: x_NC.gpu(),
        w_C: w_C.gpu(),
        N,
        C,
        eps,
    });
}

pub fn apply<E: Element>(
    cuda: &Cuda,
    y_NC: ViewMut<E>,
    x_NC: View<E>,
    w_C: View<E>,
    r_N: View<E::Acc>,
) {
    let [N, C] = [r_N.len(), w_C.len()].map(int);
    cuda.launch(&rmsnorm::Apply {
        storage: storage::<E>(),
        y_NC: y_NC.gpu(),
        x_NC: x_NC.gpu(),
        w_C: w_C.gpu(),
        r_N: r_N.same::<f32>().gpu(),
        N,
        C,
    });
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
    let [part] = cuda.workspace(workspace(r_N.len(), w_C.len()));
    let (dw_part_PC, [N, C]) = (part.cast(), [r_N.len(), w_C.len()].map(int));
    cuda.launch(&rmsnorm::Backward {
        storage: storage::<E>(),
        dx_acc_NC: dx_acc_NC.gpu(),
        dw_part_PC,
        dy_NC: dy_NC.gpu(),
        x_NC: x_NC.gpu(),
        w_C: w_C.gpu(),
        r_N: r_N.same::<f32>().gpu(),
        N,
        C,
    });
    if let Some(dw_acc_C) = dw_acc_C {
        let (dw_acc_C, P) = (dw_acc_C.same::<f32>().gpu(), rmsnorm::parts(N));
        cuda.launch(&rmsnorm::BackwardGain { dw_acc_C, dw_part_PC, P, C });
    }
}

/// Bytes of work space of [`backward`]: a row of partial sums for each block.
fn workspace(N: usize, C: usize) -> [usize; 1] {
    [rmsnorm::parts(int(N)) as usize * C * size_of::<f32>()]
}
