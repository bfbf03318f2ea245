use crate::cuda::{Cuda, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::bias;

pub fn forward<E: Element>(cuda: &Cuda, y_acc_NO: ViewMut<E>, b_O: View<E>, N: usize, O: usize) {
    let (storage, [N, O]) = (storage::<E>(), [N, O].map(int));
    cuda.launch(&bias::Forward { storage, y_acc_NO: y_acc_NO.gpu(), b_O: b_O.gpu(), N, O });
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    db_acc_O: ViewMut<E::Acc>,
    dy_NO: View<E>,
    N: usize,
    O: usize,
) {
    let (storage, [N, O]) = (storage::<E>(), [N, O].map(int));
    let db_acc_O = db_acc_O.same().gpu();
    cuda.launch(&bias::Backward { storage, db_acc_O, dy_NO: dy_NO.gpu(), N, O });
}
