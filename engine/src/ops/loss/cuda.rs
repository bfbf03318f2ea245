use super::{Sum, chunk_rows};
use crate::cuda::product::{Onto, Product};
use crate::cuda::{Arg, Cuda, Target, int, storage};
use crate::ops::norm::cuda::sum;
use crate::{Element, View, ViewMut};
use kernels_ptx::launch::loss;

/// Where gradients go, and the factor on them.
pub struct Gradients<'a, E: Element> {
    pub dx_NC: ViewMut<'a, E>,
    pub dw_acc_VC: ViewMut<'a, E::Acc>,
    pub scale: f64,
}

/// The loss, and its gradients where they are wanted.
pub fn run<E: Element>(
    cuda: &Cuda,
    total: &mut Sum,
    gradients: Option<Gradients<E>>,
    logits: ViewMut<E::Acc>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V) = (targets_N.len(), w_VC.len() / C);
    let rows = chunk_rows(N, V);
    let (storage, logits, w) = (storage::<E>(), logits.gpu(), w_VC.gpu());
    let gradients = gradients.map(|g| (g.dx_NC.gpu(), g.dw_acc_VC.gpu(), g.scale as f32));
    let [targets_at, nats, room] = cuda.workspace(workspace::<E>(cuda.target(), N, C, V));
    cuda.upload(targets_at, targets_N);
    for first in (0..N).step_by(rows) {
        let n = rows.min(N - first);
        let x = x_NC.range(first * C..(first + n) * C).gpu();
        Product::forward(n, C, V).narrow(cuda, storage, logits, x, w, Onto::Zero);
        let mut args = [nats, logits, targets_at + 4 * first as u64].map(Arg::Ptr).to_vec();
        args.extend(gradients.map(|(.., scale)| Arg::F32(scale)));
        args.push(Arg::U32(int(V)));
        let launch = if gradients.is_some() { loss::forward_backward } else { loss::forward };
        cuda.launch(launch(storage, int(n), int(V)), &args);
        sum(cuda, total.nats.view_mut(), nats, int(n), true);
        if let Some((dx, dw, _)) = gradients {
            let dx = dx + (first * C * size_of::<E>()) as u64;
            Product::backward_input(n, C, V).narrow(cuda, storage, dx, logits, w, Onto::Zero);
            let product = Product::backward_weight(n, C, V);
            product.wide(cuda, storage, dw, logits, x, Onto::Itself, room);
        }
    }
}

/// Bytes of work space: targets, nats of a chunk's rows, and parts of a product.
pub fn workspace<E: Element>(target: Target, N: usize, C: usize, V: usize) -> [usize; 3] {
    let rows = chunk_rows(N, V);
    let last = (N - 1) % rows + 1;
    let room = |n| Product::backward_weight(n, C, V).room(target, storage::<E>());
    [N * size_of::<i32>(), rows * size_of::<f64>(), room(rows).max(room(last))]
}
