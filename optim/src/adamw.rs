//! AdamW over flat arenas: moments beside the weights, decay on matrices only.
//!
//! ```
//! use engine::{Arena, Device, Init, Table};
//! use optim::{AdamW, GlobalNorm, adamw::Settings};
//!
//! let dev = &Device::cpu(1).unwrap();
//! let (table, _) = Table::list(|table| table.push("w", &[4], Init::Zeros));
//! let [mut w, mut grads] = [(); 2].map(|()| Arena::<f32>::zeros(dev, &table));
//! grads.view_mut().fill(3.0);
//! let (mut adamw, mut norm) = (AdamW::<f32>::new(dev, &table, Settings::default()), GlobalNorm::new(dev));
//! norm.measure(dev, &grads);
//! adamw.step(dev, (w.view_mut(), None), &grads, &norm, 0.01, 1.0);
//! assert!((w.view().read().unwrap()[0] + 0.01).abs() < 1e-6);
//! ```

use crate::clip::GlobalNorm;
use engine::ops::adamw::{self, Step};
use engine::{Arena, Device, Element, Slot, Table, ViewMut};

/// Settings of the paper by default: betas 0.9 and 0.95, eps 1e-8, decay 0.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Joins the root of the second moment.
    pub eps: f64,
    /// Decay of matrices, as a share of the learning rate.
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// The optimizer's state: two moments and a count of steps.
pub struct AdamW<E: Element> {
    settings: Settings,
    decays: Vec<(Slot, f64)>,
    m: Arena<E::Acc>,
    v: Arena<E::Acc>,
    t: u64,
}

impl<E: Element> AdamW<E> {
    /// Before the first step, for the trained rows of `table`.
    pub fn new(dev: &Device, table: &Table, settings: Settings) -> Self {
        let decay = |decays| if decays { settings.weight_decay } else { 0.0 };
        let (trained, dev) = (table.trained(), &dev.under("AdamW's moments"));
        AdamW {
            settings,
            decays: trained.rows().iter().map(|row| (row.slot, decay(row.decay))).collect(),
            m: Arena::zeros(dev, &trained),
            v: Arena::zeros(dev, &trained),
            t: 0,
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.t
    }

    /// The moments, first and second.
    pub fn moments(&self) -> (&Arena<E::Acc>, &Arena<E::Acc>) {
        (&self.m, &self.v)
    }

    /// The moments to fill from a checkpoint that was written after `steps` steps.
    pub fn restore(&mut self, steps: u64) -> (&mut Arena<E::Acc>, &mut Arena<E::Acc>) {
        self.t = steps;
        (&mut self.m, &mut self.v)
    }

    /// One step on trained master weights and their copy, with gradients clipped to `max_norm` (infinite: as
    /// they are). Changes nothing if their `norm` is not finite.
    pub fn step(
        &mut self,
        dev: &Device,
        weights: (ViewMut<E::Acc>, Option<ViewMut<E>>),
        grads: &Arena<E::Acc>,
        norm: &GlobalNorm,
        lr: f64,
        max_norm: f64,
    ) {
        self.t += 1;
        let Settings { beta1, beta2, eps, .. } = self.settings;
        let step = Step { lr, beta1, beta2, eps, max_norm, t: self.t };
        let (m, v) = (self.m.view_mut(), self.v.view_mut());
        let (g, sum_1) = (grads.view(), norm.sum_of_squares());
        adamw::step(dev, weights.0, weights.1, m, v, g, sum_1, &self.decays, step);
    }
}
