//! AdamW with decoupled decay, one pass over flat arenas:
//!   g' = clip * g     m = b1*m + (1-b1)*g'     v = b2*v + (1-b2)*g'^2
//!   w = w*(1 - lr*decay) - lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
//! Source: Loshchilov and Hutter 2019, arXiv:1711.05101. Moments and master weights have the
//! precision of sums; a narrower copy for the forward pass is written in the same pass.

mod cpu;
pub mod reference;

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
    /// Factor on every gradient, 1 where nothing is clipped.
    pub clip: f64,
    /// t, counted from 1.
    pub t: u64,
}

/// Updates master weights `w` and moments `m`, `v` from gradients `g`; writes `copy` = `w`
/// rounded, where there is one. `decays` gives each parameter's decay rate; elements outside of
/// all of them (gaps) stay as they are. Slots must ascend.
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
    decays: &[(Slot, f64)],
    step: Step,
) {
    assert!([m.len(), v.len(), g.len()].iter().all(|&len| len == w.len()), "adamw: lengths");
    assert!(copy.as_ref().is_none_or(|copy| copy.len() == w.len()), "adamw: copy");
    assert!(decays.iter().all(|(slot, _)| slot.range().end <= w.len()), "adamw: slots");
    let read_and_written = w.bytes() + m.bytes() + v.bytes();
    let bytes = 2 * read_and_written + g.bytes() + copy.as_ref().map_or(0, ViewMut::bytes);
    let _op = dev.op("adamw", format_args!("{} elements", w.len()), 16 * w.len(), bytes);
    match dev {
        Device::Cpu(cpu) => cpu::step(
            cpu,
            w.host(),
            copy.map(ViewMut::host),
            m.host(),
            v.host(),
            g.host(),
            decays,
            step,
        ),
    }
}
