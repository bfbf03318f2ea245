use super::Place;
use crate::cuda::product::{Onto, Product};
use crate::cuda::{Cuda, Target, int, storage};
use crate::{Element, View, ViewMut};
use kernels_ptx::scale::Scale;

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
    let room = room::<E>(cuda, [N, I, r, O], at.stride);
    let (y, t) = (y_acc.gpu().wrapping_add(at.first), t_Nr.gpu());
    low::<E>(cuda, t, x_NI, a_rI, at, [N, I, r], room);
    let product = Product { ldc: at.stride, ..Product::forward(N, r, O) };
    product.narrow(cuda, y, t, b_Or.gpu(), Onto::Itself, room);
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
    let room = room::<E>(cuda, [N, I, r, O], at.stride);
    let (dx, u, dy) = (dx_acc_NI.gpu(), u_Nr.gpu(), dy.gpu().wrapping_add(at.first));
    let product = Product { lda: at.stride, ..Product::backward_input(N, r, O) };
    product.narrow(cuda, u, dy, b_Or.gpu(), Onto::Zero, room);
    multiply::<E>(cuda, u, N * r, at.scale);
    let product = Product::backward_input(N, I, r);
    product.narrow(cuda, dx, u, a_rI.gpu(), Onto::Itself, room);
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
    let room = room::<E>(cuda, [N, I, r, O], at.stride);
    let (t, dy) = (t_Nr.gpu(), dy.gpu().wrapping_add(at.first));
    low::<E>(cuda, t, x_NI, a_rI, at, [N, I, r], room);
    let product = Product { lda: at.stride, ..Product::backward_weight(N, r, O) };
    product.wide(cuda, db_acc_Or.gpu(), dy, t, Onto::Itself, room);
}

/// t = s x A^T.
fn low<E: Element>(
    cuda: &Cuda,
    t: *mut E,
    x_NI: View<E>,
    a_rI: View<E>,
    at: Place,
    [N, I, r]: [usize; 3],
    room: *mut f32,
) {
    let (x, a) = (x_NI.gpu(), a_rI.gpu());
    Product::forward(N, I, r).narrow(cuda, t, x, a, Onto::Zero, room);
    multiply::<E>(cuda, t, N * r, at.scale);
}

fn multiply<E: Element>(cuda: &Cuda, x: *mut E, len: usize, factor: f64) {
    let (storage, len, factor) = (storage::<E>(), int(len), factor as f32);
    cuda.launch(&Scale { storage, x, len, factor });
}

/// The work space of an op.
fn room<E: Element>(cuda: &Cuda, sizes: [usize; 4], stride: usize) -> *mut f32 {
    let [room] = cuda.workspace(workspace::<E>(cuda.target(), sizes, stride));
    room.cast()
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
