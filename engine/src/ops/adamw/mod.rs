//! AdamW with decoupled decay, one pass over flat arenas:
//!   clip = min(1, max_norm / (norm of all g + 1e-6))
//!   g' = clip * g     m = b1*m + (1-b1)*g'     v = b2*v + (1-b2)*g'^2
//!   w = w*(1 - lr*decay) - lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
//! The small term in clip is PyTorch's, so that runs compare. Clipping costs no pass of its own.
//! Source: Loshchilov and Hutter 2019, arXiv:1711.05101. Moments and master weights have the
//! precision of sums; a narrower copy for the forward pass is written in the same pass.
//!
//! ```
//! use engine::ops::adamw::{Step, step};
//! use engine::{Arena, Buf, Device, Init, Table};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (table, slot) = Table::list(|table| table.push("w", &[4], Init::Zeros));
//! let [mut w, mut m, mut v, mut g] = [(); 4].map(|()| Arena::<f32>::zeros(dev, &table));
//! g.view_mut().fill(0.5);
//! let sum = Buf::of(dev, &[4.0 * 0.25f64]);
//! let (lr, beta1, beta2, eps) = (0.1, 0.9, 0.95, 1e-8);
//! let of_first = Step { lr, beta1, beta2, eps, max_norm: f64::INFINITY, t: 1 };
//! let (to, m, v) = (w.view_mut(), m.view_mut(), v.view_mut());
//! step::<f32>(dev, to, None, m, v, g.view(), sum.view(), &[(slot, 0.0)], of_first);
//! assert!((w.view().read().unwrap()[0] + 0.1).abs() < 1e-6);
//! ```

pub(crate) mod cpu;
pub(crate) mod cuda;
#[cfg(feature = "reference")]
pub mod reference;

use crate::cpu::Space;
use crate::{Device, Element, Slot, View, ViewMut};

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Joins the root of the second moment.
    pub eps: f64,
    /// Largest norm of all gradients together; infinite where nothing is clipped.
    pub max_norm: f64,
    /// t, counted from 1.
    pub t: u64,
}

impl Step {
    /// The clipping factor for gradients of this norm.
    pub(crate) fn clip(&self, norm: f64) -> f64 {
        if self.max_norm.is_finite() { (self.max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
    }

    /// lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t).
    pub(crate) fn corrections(&self) -> (f64, f64) {
        let missing = |beta: f64| 1.0 - beta.powf(self.t as f64);
        (self.lr / missing(self.beta1), 1.0 / missing(self.beta2).sqrt())
    }
}

/// Updates master weights `w` and moments `m`, `v` from gradients `g`; writes `copy` = `w`
/// rounded, where there is one. `decays` gives each parameter's decay rate, in ascending slots.
/// Gaps between them are zero in every arena and stay so; what lies beyond the last stays as it is.
/// `sum_1` is the sum of squares of all gradients, see [`super::norm`]; if it is not finite, nothing
/// is written.
///
/// # Panics
/// If lengths disagree: a caller bug.
pub fn step<E: Element>(
    dev: &Device,
    w: ViewMut<E::Acc>,
    copy: Option<ViewMut<E>>,
    m: ViewMut<E::Acc>,
    v: ViewMut<E::Acc>,
    g: View<E::Acc>,
    sum_1: View<f64>,
    decays: &[(Slot, f64)],
    step: Step,
) {
    assert!([m.len(), v.len(), g.len()].iter().all(|&len| len == w.len()), "adamw: lengths");
    assert!(copy.as_ref().is_none_or(|copy| copy.len() == w.len()), "adamw: copy");
    assert_eq!(sum_1.len(), 1, "adamw: one sum of squares");
    assert!(decays.iter().all(|(slot, _)| slot.range().end <= w.len()), "adamw: slots");
    let read_and_written = w.bytes() + m.bytes() + v.bytes();
    let bytes = 2 * read_and_written + g.bytes() + copy.as_ref().map_or(0, ViewMut::bytes);
    let _op = dev.op("adamw", format_args!("{} elements", w.len()), 16 * w.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu.compute(Space::NONE, |cpu| {
            let (w, copy) = (w.host(), copy.map(ViewMut::host));
            let (m, v, g, sum) = (m.host(), v.host(), g.host(), sum_1.host()[0]);
            (E::cpu().adamw_step)(cpu, w, copy, m, v, g, sum, decays, step)
        }),
        Device::Cuda(cuda) => cuda::step(cuda, w, copy, m, v, g, sum_1, decays, step),
    }
}
