//! Linear head and softmax cross-entropy in one: logits = x W^T, loss = sum over rows of
//! log-sum-exp(logits) - `logits[target]`, in nats. [`Logits`] exist for a chunk of rows at a time, and
//! their gradient, rounded to storage, replaces them there, so no head product is computed twice.
//! Cached: nothing.

pub(crate) mod cpu;
pub(crate) mod cuda;
mod logits;
pub mod reference;

pub use logits::Logits;

use super::rows;
use crate::{Buf, Device, Element, Error, View, ViewMut};

/// A target that does not count: PyTorch's ignore index.
pub const IGNORE: i32 = -100;

/// A sum of losses, and of how many targets it is the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Nats, summed over targets.
    pub nats: f64,
    /// Targets that count.
    pub targets: usize,
}

impl Loss {
    /// Nats per token; NaN if no target counts.
    pub fn mean(&self) -> f64 {
        self.nats / self.targets as f64
    }
}

/// A sum of losses that grows where the losses arise: on a GPU nobody waits for it until it is
/// read.
pub struct Sum {
    nats: Buf<f64>,
    targets: usize,
}

impl Sum {
    /// Nothing yet.
    pub fn new(dev: &Device) -> Self {
        Sum { nats: Buf::zeros(dev, 1), targets: 0 }
    }

    /// Forgets what was added.
    pub fn clear(&mut self, dev: &Device) {
        self.nats.fill_zero(dev);
        self.targets = 0;
    }

    /// What was added so far.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn read(&self) -> Result<Loss, Error> {
        Ok(Loss { nats: self.nats.view().read()?[0], targets: self.targets })
    }

    fn count(&mut self, targets: &[i32]) {
        self.targets += targets.iter().filter(|&&t| t != IGNORE).count();
    }
}

/// Rows of logits that live at a time in losses of `N` rows. On the CPU 32 MiB of f32, but 512 rows
/// where the vocabulary is large, so that packing the head and adding to its gradient stay cheap
/// against multiplying by it; on a GPU as many as fill it. The same for every device of a type.
pub fn chunk_rows<E: Element>(dev: &Device, N: usize, V: usize) -> usize {
    match dev {
        Device::Cpu(_) => ((1 << 23) / V).max(512).min(N),
        Device::Cuda(cuda) => cuda::chunk_rows::<E>(cuda, N, V),
    }
}

/// Adds the loss to `sum`, in chunks of as many rows as `logits` has.
///
/// # Panics
/// If lengths disagree with C, `logits` is for another vocabulary, or a target is neither a row of
/// w_VC nor [`IGNORE`]: a caller bug.
pub fn forward<E: Element>(
    dev: &Device,
    sum: &mut Sum,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    C: usize,
) {
    let (N, V) = check(logits, x_NC.len(), w_VC.len(), targets_N, C);
    let bytes = x_NC.bytes() + w_VC.bytes() + size_of_val(targets_N) as u64;
    let _op = dev.op("loss forward", format_args!("N{N} C{C} V{V}"), 2 * N * C * V, bytes);
    sum.count(targets_N);
    match dev {
        Device::Cpu(cpu) => {
            sum.nats.view_mut().host()[0] +=
                (E::cpu().loss_forward)(cpu, logits, x_NC.host(), w_VC.host(), targets_N, C)
        }
        Device::Cuda(cuda) => cuda::run(cuda, sum, None, logits, x_NC, w_VC, targets_N, C),
    }
}

/// Adds the loss to `sum`; writes dx_NC and adds to dw_acc_VC, which a frozen head has not, the
/// gradient of `scale` times it.
///
/// # Panics
/// As [`forward`].
pub fn forward_backward<E: Element>(
    dev: &Device,
    sum: &mut Sum,
    dx_NC: ViewMut<E>,
    dw_acc_VC: Option<ViewMut<E::Acc>>,
    logits: &mut Logits<E>,
    x_NC: View<E>,
    w_VC: View<E>,
    targets_N: &[i32],
    scale: f64,
    C: usize,
) {
    let (N, V) = check(logits, x_NC.len(), w_VC.len(), targets_N, C);
    let of_head = dw_acc_VC.as_ref().map_or(w_VC.len(), ViewMut::len);
    assert_eq!((dx_NC.len(), of_head), (x_NC.len(), w_VC.len()), "loss: gradients");
    let inputs = x_NC.bytes() + w_VC.bytes() + size_of_val(targets_N) as u64;
    let bytes = inputs + dx_NC.bytes() + 2 * dw_acc_VC.as_ref().map_or(0, ViewMut::bytes);
    let products = if dw_acc_VC.is_some() { 3 } else { 2 };
    let shape = format_args!("N{N} C{C} V{V}");
    let _op = dev.op("loss forward and backward", shape, 2 * products * N * C * V, bytes);
    sum.count(targets_N);
    match dev {
        Device::Cpu(cpu) => {
            sum.nats.view_mut().host()[0] += (E::cpu().loss_forward_backward)(
                cpu,
                dx_NC.host(),
                dw_acc_VC.map(ViewMut::host),
                logits,
                x_NC.host(),
                w_VC.host(),
                targets_N,
                scale,
                C,
            )
        }
        Device::Cuda(cuda) => {
            let gradients = Some(cuda::Gradients { dx_NC, dw_acc_VC, scale });
            cuda::run(cuda, sum, gradients, logits, x_NC, w_VC, targets_N, C)
        }
    }
}

/// N and V.
fn check<E: Element>(
    logits: &Logits<E>,
    x: usize,
    w: usize,
    targets: &[i32],
    C: usize,
) -> (usize, usize) {
    let (N, V) = (rows("loss", x, C), rows("loss", w, C));
    assert_eq!(N, targets.len(), "loss: targets");
    assert!(logits.rows() > 0 && logits.V() == V, "loss: room for logits of {V}");
    let valid = |&t: &i32| t == IGNORE || (0..V as i64).contains(&t.into());
    assert!(targets.iter().all(valid), "loss: a target is beyond {V}");
    (N, V)
}
