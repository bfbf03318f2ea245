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
    let [room] = cuda.workspace(forward_workspace::<E>(cuda.target(), [N, I, O]));
    let (y, x, w) = (y_NO.gpu(), x_NI.gpu(), w_OI.gpu());
    Product::forward(N, I, O).narrow(cuda, y, x, w, onto, room.cast());
}

pub fn forward_wide<E: Element>(
    cuda: &Cuda,
    y_NO: ViewMut<E::Acc>,
    x_NI: View<E>,
    w_OI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let [room] = cuda.workspace(forward_workspace::<E>(cuda.target(), [N, I, O]));
    let (y, x, w) = (y_NO.gpu(), x_NI.gpu(), w_OI.gpu());
    Product::forward(N, I, O).wide(cuda, y, x, w, Onto::Zero, room.cast());
}

/// Bytes of work space of [`forward`] and [`forward_wide`]: parts of the product.
fn forward_workspace<E: Element>(target: Target, [N, I, O]: [usize; 3]) -> [usize; 1] {
    [Product::forward(N, I, O).room(target, storage::<E>())]
}

pub fn backward_input<E: Element>(
    cuda: &Cuda,
    dx_NI: ViewMut<E>,
    dy_NO: View<E>,
    w_OI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let [room] = cuda.workspace(backward_workspace::<E>(cuda.target(), [N, I, O])[0]);
    let (dx, dy, w) = (dx_NI.gpu(), dy_NO.gpu(), w_OI.gpu());
    Product::backward_input(N, I, O).narrow(cuda, dx, dy, w, Onto::Zero, room.cast());
}

pub fn backward_weight<E: Element>(
    cuda: &Cuda,
    dw_acc_OI: ViewMut<E::Acc>,
    dy_NO: View<E>,
    x_NI: View<E>,
    [N, I, O]: [usize; 3],
) {
    let [room] = cuda.workspace(backward_workspace::<E>(cuda.target(), [N, I, O])[1]);
    let (dw, dy, x) = (dw_acc_OI.gpu(), dy_NO.gpu(), x_NI.gpu());
    Product::backward_weight(N, I, O).wide(cuda, dw, dy, x, Onto::Itself, room.cast());
}

/// Bytes of work space of [`backward_input`] and of [`backward_weight`]: parts of the product.
fn backward_workspace<E: Element>(target: Target, [N, I, O]: [usize; 3]) -> [[usize; 1]; 2] {
    [Product::backward_input(N, I, O), Product::backward_weight(N, I, O)]
        .map(|product| [product.room(target, storage::<E>())])
}
