//! The sum of a loss: of rows' nats, each times its weight, in f64 and in one order, whatever chunks
//! or threads the rows came from.

use super::{IGNORE, cuda};
use crate::cpu::Space;
use crate::{Buf, Device, Error, Real, View};

/// A sum of losses, and of what its targets weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Nats, each row's times its weight.
    pub nats: f64,
    /// What the targets that count weigh, see [`weight`]: without weights, how many they are.
    pub weight: f64,
}

impl Loss {
    /// Nats per token; NaN if no target counts.
    pub fn mean(&self) -> f64 {
        self.nats / self.weight
    }
}

/// What targets weigh: the sum of the weights of those that count, each 1 where no weights are given.
/// A gradient of the mean has one over it as scale.
///
/// ```
/// use engine::ops::loss::{IGNORE, weight};
///
/// assert_eq!(weight(&[5, IGNORE, 7], None), 2.0);
/// assert_eq!(weight(&[5, IGNORE, 7], Some(&[0.5, 9.0, 3.0])), 3.5);
/// ```
///
/// # Panics
/// If there are not as many weights as targets, or one is not finite: a caller bug.
pub fn weight(targets_N: &[i32], weights_N: Option<&[f32]>) -> f64 {
    check_weights(targets_N, weights_N);
    let counts = |target: &i32| *target != IGNORE;
    match weights_N {
        None => targets_N.iter().filter(|t| counts(t)).count() as f64,
        Some(weights_N) => {
            let pairs = targets_N.iter().zip(weights_N).filter(|(t, _)| counts(t));
            pairs.fold(0.0, |sum, (_, &weight)| sum + f64::from(weight))
        }
    }
}

pub(super) fn check_weights(targets_N: &[i32], weights_N: Option<&[f32]>) {
    if let Some(weights_N) = weights_N {
        assert_eq!(weights_N.len(), targets_N.len(), "loss: weights");
        assert!(weights_N.iter().all(|w| w.is_finite()), "loss: a weight is not finite");
    }
}

/// A sum of losses that grows where the losses arise: on a GPU nobody waits for it until it is
/// read.
pub struct Sum {
    nats: Buf<f64>,
    weight: f64,
}

impl Sum {
    /// Nothing yet.
    pub fn new(dev: &Device) -> Self {
        Sum { nats: Buf::zeros(dev, 1), weight: 0.0 }
    }

    /// Forgets what was added.
    pub fn clear(&mut self, dev: &Device) {
        self.nats.fill_zero(dev);
        self.weight = 0.0;
    }

    /// What the targets weigh that were added so far; nobody waits for it.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// What was added so far.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn read(&self) -> Result<Loss, Error> {
        Ok(Loss { nats: self.nats.view().read()?[0], weight: self.weight })
    }

    /// Adds the rows of one loss: `nats_N` as [`super::forward`] has written it for `targets_N`, and
    /// the weights, if any. A row of weight 0 adds nothing, whatever its nats.
    ///
    /// # Panics
    /// If lengths disagree, or a weight is not finite: a caller bug.
    pub fn add<R: Real>(
        &mut self,
        dev: &Device,
        nats_N: View<R>,
        targets_N: &[i32],
        weights_N: Option<&[f32]>,
    ) {
        let N = nats_N.len();
        assert_eq!(N, targets_N.len(), "loss: targets");
        self.weight += weight(targets_N, weights_N);
        if N == 0 {
            return;
        }
        let bytes = nats_N.bytes() + weights_N.map_or(0, size_of_val) as u64;
        let _op = dev.op("sum of nats", format_args!("N{N}"), N, bytes);
        match dev {
            Device::Cpu(cpu) => cpu.compute(Space::NONE, |_| {
                self.nats.view_mut().host()[0] += sum(nats_N.host(), weights_N);
            }),
            Device::Cuda(cuda) => cuda::sum(cuda, self.nats.view_mut(), nats_N, weights_N),
        }
    }
}

/// Row after row. It is one pass over a number a row, too short to divide.
fn sum<R: Real>(nats_N: &[R], weights_N: Option<&[f32]>) -> f64 {
    let nats = nats_N.iter().map(|nats| nats.to_f64());
    match weights_N {
        None => nats.sum(),
        Some(weights_N) => {
            let pairs = nats.zip(weights_N).filter(|(_, weight)| **weight != 0.0);
            pairs.map(|(nats, &weight)| f64::from(weight) * nats).sum()
        }
    }
}
