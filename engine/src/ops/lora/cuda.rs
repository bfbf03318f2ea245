use super::Place;
use crate::cuda::product::{Onto, Product};
use crate::cuda::{Arg, Cuda, Target, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::scale::scale;

pub fn forward<E: Element>(
    cuda: &Cuda,
    y_acc: ViewMut<E>,
    t_Nr: ViewMut<E>,
    x_NI: View<E>,
    a_rI: View<E>,
    b_Or: View<E>,
    at: Place,
    [N, I, r, O]: [usize; 4],
) {
    let [room] = cuda.workspace(workspace::<E>(cuda.target(), [N, I, r, O], at.stride));
    let (y, t) = (column::<E>(y_acc.gpu(), at), t_Nr.gpu());
    low::<E>(cuda, t, x_NI, a_rI, at, [N, I, r], room);
    let product = Product { ldc: at.stride, ..Product::forward(N, r, O) };
    product.narrow(cuda, storage::<E>(), y, t, b_Or.gpu(), Onto::Itself, room);
}

pub fn backward_input<E: Element>(
    cuda: &Cuda,
    dx_acc_NI: ViewMut<E>,
    u_Nr: ViewMut<E>,
    dy: View<E>,
    a_rI: View<E>,
    b_Or: View<E>,
    at: Place,
    [N, I, r, O]: [usize; 4],
) {
    let [room] = cuda.workspace(workspace::<E>(cuda.target(), [N, I, r, O], at.stride));
    let (dx, u, dy) = (dx_acc_NI.gpu(), u_Nr.gpu(), column::<E>(dy.gpu(), at));
    let product = Product { lda: at.stride, ..Product::backward_input(N, r, O) };
    product.narrow(cuda, storage::<E>(), u, dy, b_Or.gpu(), Onto::Zero, room);
    multiply::<E>(cuda, u, N * r, at.scale);
    let product = Product::backward_input(N, I, r);
    product.narrow(cuda, storage::<E>(), dx, u, a_rI.gpu(), Onto::Itself, room);
}

pub fn backward_b<E: Element>(
    cuda: &Cuda,
    db_acc_Or: ViewMut<E::Acc>,
    t_Nr: ViewMut<E>,
    dy: View<E>,
    x_NI: View<E>,
    a_rI: View<E>,
    at: Place,
    [N, I, r, O]: [usize; 4],
) {
    let [room] = cuda.workspace(workspace::<E>(cuda.target(), [N, I, r, O], at.stride));
    let (t, dy) = (t_Nr.gpu(), column::<E>(dy.gpu(), at));
    low::<E>(cuda, t, x_NI, a_rI, at, [N, I, r], room);
    let product = Product { lda: at.stride, ..Product::backward_weight(N, r, O) };
    product.wide(cuda, storage::<E>(), db_acc_Or.gpu(), dy, t, Onto::Itself, room);
}

/// t = s x A^T.
fn low<E: Element>(
    cuda: &Cuda,
    t: u64,
    x_NI: View<E>,
    a_rI: View<E>,
    at: Place,
    [N, I, r]: [usize; 3],
    room: u64,
) {
    let (x, a) = (x_NI.gpu(), a_rI.gpu());
    Product::forward(N, I, r).narrow(cuda, storage::<E>(), t, x, a, Onto::Zero, room);
    multiply::<E>(cuda, t, N * r, at.scale);
}

fn multiply<E: Element>(cuda: &Cuda, x: u64, len: usize, factor: f64) {
    let len = int(len);
    let args = [Arg::Ptr(x), Arg::U32(len), Arg::F32(factor as f32)];
    cuda.launch(scale(storage::<E>(), len), &args);
}

/// The address of the first row's first column.
fn column<E>(matrix: u64, at: Place) -> u64 {
    matrix + (at.first * size_of::<E>()) as u64
}

/// Bytes of work space of any of the above: parts of a product.
fn workspace<E: Element>(target: Target, [N, I, r, O]: [usize; 4], stride: usize) -> [usize; 1] {
    let products = [
        Product::forward(N, I, r),
        Product { ldc: stride, ..Product::forward(N, r, O) },
        Product { lda: stride, ..Product::backward_input(N, r, O) },
        Product::backward_input(N, I, r),
        Product { lda: stride, ..Product::backward_weight(N, r, O) },
    ];
    [products.map(|product| product.room(target, storage::<E>())).into_iter().max().unwrap_or(0)]
}
