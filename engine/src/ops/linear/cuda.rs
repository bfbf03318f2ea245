use crate::cuda::product::{Onto, Product};
use crate::cuda::{Cuda, Target, storage};
use crate::{Element, View, ViewMut};

pub fn forward<E: Element>(
    cuda: &Cuda,
    y_NO: ViewMut<E>,
    r_NO: Option<View<E>>,
    x_NI: View<E>,
    w_OI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let onto = r_NO.map_or(Onto::Zero, |r| Onto::Other(r.gpu()));
    let product = Product::forward(N, I, O);
    product.narrow(cuda, storage::<E>(), y_NO.gpu(), x_NI.gpu(), w_OI.gpu(), onto);
}

pub fn forward_wide<E: Element>(
    cuda: &Cuda,
    y_NO: ViewMut<E::Acc>,
    x_NI: View<E>,
    w_OI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let product = Product::forward(N, I, O);
    product.wide(cuda, storage::<E>(), y_NO.gpu(), x_NI.gpu(), w_OI.gpu(), Onto::Zero, 0);
}

pub fn backward<E: Element>(
    cuda: &Cuda,
    dx_NI: ViewMut<E>,
    dw_acc_OI: ViewMut<E::Acc>,
    dy_NO: View<E>,
    x_NI: View<E>,
    w_OI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let (storage, dy) = (storage::<E>(), dy_NO.gpu());
    Product::backward_input(N, I, O).narrow(cuda, storage, dx_NI.gpu(), dy, w_OI.gpu(), Onto::Zero);
    let product = Product::backward_weight(N, I, O);
    let [room] = cuda.workspace([product.room(cuda.target(), storage)]);
    product.wide(cuda, storage, dw_acc_OI.gpu(), dy, x_NI.gpu(), Onto::Itself, room);
}

/// Bytes of work space of [`backward`].
pub fn workspace<E: Element>(target: Target, [N, I, O]: [usize; 3]) -> [usize; 1] {
    [Product::backward_weight(N, I, O).room(target, storage::<E>())]
}
