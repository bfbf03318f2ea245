//! Linear head and softmax cross-entropy in one: logits = x W^T, and for each row the nats of its
//! target, log-sum-exp(logits) - `logits[target]`. [`Logits`] exist for a chunk of rows at a time, and
//! their gradient, rounded to storage, replaces them there, so no head product is computed twice.
//! What rows say is then reduced, [`Sum`], or read row by row.
//! Cached: nothing.
//!
//! ```
//! use engine::ops::loss::{Logits, Sum, forward};
//! use engine::{Buf, Device};
//!
//! let dev = &Device::cpu(1).unwrap();
//! // Two rows that know nothing of 4 ids: ln 4 nats each.
//! let (x_NC, w_VC, targets_N) = (Buf::<f32>::zeros(dev, 4), Buf::zeros(dev, 8), [3, 0]);
//! let (mut nats_N, mut logits, mut sum) = (Buf::zeros(dev, 2), Logits::new(dev, 2, 4), Sum::new(dev));
//! let nats = nats_N.view_mut();
//! forward(dev, nats, None, &mut logits, x_NC.view(), w_VC.view(), &targets_N, 2);
//! sum.add(dev, nats_N.view(), &targets_N, None);
//! assert!((sum.read().unwrap().mean() - 4f64.ln()).abs() < 1e-6);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
mod logits;
#[cfg(feature = "reference")]
pub mod reference;
mod sum;

pub use logits::Logits;
pub use sum::{Loss, Sum, weight};

use super::rows;
use crate::{Device, Element, View, ViewMut};

/// A target that does not count: PyTorch's ignore index.
pub const IGNORE: i32 = -100;

/// Rows of logits that live at a time in losses of `N` rows. On the CPU 32 MiB of f32, but 512 rows
/// where the vocabulary is large, so that packing the head and adding to its gradient stay cheap
/// against multiplying by it; on a GPU as many as fill it. The same for every device of a type.
pub fn chunk_rows<E: Element>(dev: &Device, N: usize, V: usize) -> usize {
    match dev {
        Device::Cpu(_) => ((1 << 23) / V).max(512).min(N),
        Device::Cuda(cuda) => cuda::chunk_rows::<E>(cuda, N, V),
    }
}

/// Where gradients go, and the factors on them.
pub(crate) struct Gradients<'a, E: Element> {
    dx_NC: ViewMut<'a, E>,
    dw_acc_VC: Option<ViewMut<'a, E::Acc>>,
    weights_N: Option<&'a [f32]>,
    scale: f64,
}

/// Writes to nats_N the nats of each row's target, and 0 where it is [`IGNORE`]. Writes to largest_N,
/// if it is asked for, the id of each row's largest logit, of equal ones the least, and [`IGNORE`]
/// where the target is. Where a logit is NaN so are the nats, and the id has no meaning. Works in
/// chunks of as many rows as `logits` has; no rows are no work.
///
/// # Panics
/// If lengths disagree with C, `logits` is for another vocabulary, or a target is neither a row of
/// w_VC nor [`IGNORE`]: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    nats_N: ViewMut<E::Acc>,
    largest_N: Option<ViewMut<i32>>,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V) = (rows("loss", x_NC.len(), C), rows("loss", w_VC.len(), C));
    let written = nats_N.bytes() + largest_N.as_ref().map_or(0, ViewMut::bytes);
    let bytes = x_NC.bytes() + w_VC.bytes() + size_of_val(targets_N) as u64 + written;
    let _op = dev.op("loss forward", format_args!("N{N} C{C} V{V}"), 2 * N * C * V, bytes);
    run(dev, nats_N, largest_N, None, logits, x_NC, w_VC, targets_N, C);
}

/// As [`forward`]; also writes dx_NC and adds to dw_acc_VC, which a frozen head has not, the gradient
/// of `scale` times the sum of nats, each row's times its weight, or 1 where no weights are given. A row of weight 0 has no
/// gradient, whatever its logits.
///
/// # Panics
/// As [`forward`], and if a weight is not finite.
pub fn forward_backward<E: Element>(
    dev: &Device,
    nats_N: ViewMut<E::Acc>,
    largest_N: Option<ViewMut<i32>>,
    dx_NC: ViewMut<E>,
    dw_acc_VC: Option<ViewMut<E::Acc>>,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    weights_N: Option<&[f32]>,
    scale: f64,
    C: usize,
) {
    let (N, V) = (rows("loss", x_NC.len(), C), rows("loss", w_VC.len(), C));
    let of_head = dw_acc_VC.as_ref().map_or(w_VC.len(), ViewMut::len);
    assert_eq!((dx_NC.len(), of_head), (x_NC.len(), w_VC.len()), "loss: gradients");
    sum::check_weights(targets_N, weights_N);
    let inputs = x_NC.bytes() + w_VC.bytes() + size_of_val(targets_N) as u64;
    let inputs = inputs + weights_N.map_or(0, size_of_val) as u64;
    let written = nats_N.bytes() + largest_N.as_ref().map_or(0, ViewMut::bytes);
    let bytes = inputs + written + dx_NC.bytes() + 2 * dw_acc_VC.as_ref().map_or(0, ViewMut::bytes);
    let products = if dw_acc_VC.is_some() { 3 } else { 2 };
    let shape = format_args!("N{N} C{C} V{V}");
    let _op = dev.op("loss forward and backward", shape, 2 * products * N * C * V, bytes);
    let gradients = Some(Gradients { dx_NC, dw_acc_VC, weights_N, scale });
    run(dev, nats_N, largest_N, gradients, logits, x_NC, w_VC, targets_N, C);
}

/// Both, with gradients or without.
fn run<E: Element>(
    dev: &Device,
    nats_N: ViewMut<E::Acc>,
    largest_N: Option<ViewMut<i32>>,
    gradients: Option<Gradients<E>>,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V) = (rows("loss", x_NC.len(), C), rows("loss", w_VC.len(), C));
    assert_eq!((nats_N.len(), targets_N.len()), (N, N), "loss: nats and targets");
    assert!(largest_N.as_ref().is_none_or(|ids| ids.len() == N), "loss: largest");
    let valid = |&t: &i32| t == IGNORE || (0..V as i64).contains(&t.into());
    assert!(targets_N.iter().all(valid), "loss: a target is beyond {V}");
    if N == 0 {
        return;
    }
    assert!(logits.rows() > 0 && logits.V() == V, "loss: room for logits of {V}");
    match dev {
        Device::Cpu(cpu) => {
            let dw = gradients.as_ref().is_some_and(|g| g.dw_acc_VC.is_some());
            let (rows, wanted) = ([N, logits.rows()], [gradients.is_some(), dw]);
            cpu.compute(cpu::space::<E>(cpu, rows, [C, V], wanted), |cpu| {
                let (nats_N, largest_N) = (nats_N.host(), largest_N.map(ViewMut::host));
                let (logits, x_NC, w_VC) = (logits.host(), x_NC.host(), w_VC.host());
                (E::cpu().loss)(cpu, nats_N, largest_N, gradients, logits, x_NC, w_VC, targets_N, C)
            })
        }
        Device::Cuda(cuda) => {
            cuda::run(cuda, nats_N, largest_N, gradients, logits, x_NC, w_VC, targets_N, C)
        }
    }
}
