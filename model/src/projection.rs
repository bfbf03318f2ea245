//! A linear layer, listed once: where its weight and bias lie, how wide it is, how ranks share it, which
//! adapters stand beside it. The block computes with it; profiles and error messages ask it.
//!
//! ```
//! let (_, slots) = model::table(&model::Config::llama_7b());
//! for projection in slots.blocks[0].projections() {
//!     println!("{}: {} inputs, {} outputs", projection.name, projection.I, projection.O);
//! }
//! assert_eq!(slots.blocks[0].qkv.O, 3 * 4096);
//! ```

use crate::config::Config;
use crate::params;
use crate::weights::Weights;
use engine::ops::{bias, linear, lora};
use engine::{Arena, Buf, Device, Element, Error, Real, Shard, Slot, View, ViewMut};
use rayon::prelude::*;
use std::borrow::Cow;

/// y_NO = x_NI W^T, and what bias and adapters add.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// What profiles and messages call it.
    pub name: &'static str,
    /// Where W lies: O rows of I.
    pub weight: Slot,
    /// Inputs.
    pub I: usize,
    /// Outputs.
    pub O: usize,
    /// How ranks share it.
    pub split: Shard,
    /// Where b lies: O numbers.
    pub bias: Option<Slot>,
    /// At most one for each of the matrices that W consists of.
    pub adapters: Vec<Adapter>,
}

/// A low-rank adapter of one matrix: some outputs of a projection. See [`mod@lora`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// The matrix that it adapts.
    pub base: Slot,
    /// A, r rows of the projection's inputs.
    pub a: Slot,
    /// B, a row of r for each output.
    pub b: Slot,
    /// Rank.
    pub r: usize,
    /// The first of its outputs among the projection's.
    pub first: usize,
    /// Its outputs.
    pub O: usize,
    /// s.
    pub scale: f64,
}

/// What adapters need beside their arguments, shared by all layers.
pub(crate) struct Low<E> {
    /// t of one adapter.
    t: Buf<E>,
    /// u of each adapter of a projection, from dx to dA.
    u: Buf<E>,
}

/// Elements after which the u of the next adapter begins: aligned for any access.
fn apart(N: usize, r: usize) -> usize {
    (N * r).next_multiple_of(16)
}

impl<E: Element> Low<E> {
    /// Room for forward over `N` tokens and backward over `G`.
    pub(crate) fn new(dev: &Device, config: &Config, N: usize, G: usize) -> Self {
        let [t, u] = Self::lens(config, N, G);
        Low { t: Buf::zeros(dev, t), u: Buf::zeros(dev, u) }
    }

    fn lens(config: &Config, N: usize, G: usize) -> [usize; 2] {
        let Some(lora) = &config.lora else { return [0, 0] };
        let slots = params::table(config).1;
        let most = slots.blocks[0].projections().map(|p| p.adapters.len()).into_iter().max();
        [N * lora.rank, most.unwrap_or(0) * apart(G, lora.rank)]
    }

    /// The buffers, to be filled with what has no meaning.
    pub(crate) fn bufs_mut(&mut self) -> [&mut Buf<E>; 2] {
        [&mut self.t, &mut self.u]
    }
}

impl Projection {
    /// Folds its adapters into its weight; [`Weights::refresh`] must follow.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub(crate) fn merge<E: Element>(&self, weights: &mut Weights<E>) -> Result<(), Error> {
        self.adapters.iter().try_for_each(|adapter| adapter.merge(weights, self.I))
    }

    fn place(&self, adapter: &Adapter) -> lora::Place {
        lora::Place { first: adapter.first, stride: self.O, scale: adapter.scale }
    }

    /// y_NO = x_NI W^T + b.
    pub(crate) fn forward<E: Element>(
        &self,
        dev: &Device,
        mut y_NO: ViewMut<E>,
        x_NI: View<E>,
        weights: View<E>,
        low: &mut Low<E>,
    ) {
        linear::forward(dev, y_NO.reborrow(), x_NI, at(weights, self.weight), self.I, self.name);
        self.shift(dev, y_NO.reborrow(), weights);
        self.adapt(dev, y_NO, x_NI, weights, low);
    }

    /// y_NO = r_NO + x_NI W^T + b. One call, because one rank has all inputs: where ranks share them
    /// ([`Shard::Inputs`]), `forward` comes first, then the sum over ranks, and r joins only that.
    pub(crate) fn forward_residual<E: Element>(
        &self,
        dev: &Device,
        mut y_NO: ViewMut<E>,
        r_NO: View<E>,
        x_NI: View<E>,
        weights: View<E>,
        low: &mut Low<E>,
    ) {
        let (y_to, w_OI) = (y_NO.reborrow(), at(weights, self.weight));
        linear::forward_residual(dev, y_to, r_NO, x_NI, w_OI, self.I, self.name);
        self.shift(dev, y_NO.reborrow(), weights);
        self.adapt(dev, y_NO, x_NI, weights, low);
    }

    /// Adds the bias.
    fn shift<E: Element>(&self, dev: &Device, y_acc_NO: ViewMut<E>, weights: View<E>) {
        if let Some(b_O) = self.bias {
            bias::forward(dev, y_acc_NO, at(weights, b_O));
        }
    }

    /// Adds what adapters give.
    fn adapt<E: Element>(
        &self,
        dev: &Device,
        mut y_acc_NO: ViewMut<E>,
        x_NI: View<E>,
        weights: View<E>,
        low: &mut Low<E>,
    ) {
        let N = x_NI.len() / self.I;
        for adapter in &self.adapters {
            let (y, t_Nr) = (y_acc_NO.reborrow(), low.t.rows_mut(N, adapter.r));
            let (a_rI, b_Or) = (at(weights, adapter.a), at(weights, adapter.b));
            let place = self.place(adapter);
            lora::forward(dev, y, t_Nr, x_NI, a_rI, b_Or, place, self.I, self.name);
        }
    }

    /// y_NO = x_NI W^T in the precision of sums, of a projection without bias that none adapts.
    pub(crate) fn forward_wide<E: Element>(
        &self,
        dev: &Device,
        y_NO: ViewMut<E::Acc>,
        x_NI: View<E>,
        weights: View<E>,
    ) {
        let plain = self.adapters.is_empty() && self.bias.is_none();
        assert!(plain, "model: {} has no adapters and no bias", self.name);
        linear::forward_wide(dev, y_NO, x_NI, at(weights, self.weight), self.I, self.name);
    }

    /// dx_NI = dy_NO W. With [`Shard::Outputs`], ranks sum dx while they compute dW.
    pub(crate) fn backward_input<E: Element>(
        &self,
        dev: &Device,
        mut dx_NI: ViewMut<E>,
        dy_NO: View<E>,
        weights: View<E>,
        low: &mut Low<E>,
    ) {
        let N = dy_NO.len() / self.O;
        let w_OI = at(weights, self.weight);
        linear::backward_input(dev, dx_NI.reborrow(), dy_NO, w_OI, self.I, self.name);
        for (i, adapter) in self.adapters.iter().enumerate() {
            let first = i * apart(N, adapter.r);
            let (dx, u_Nr) = (dx_NI.reborrow(), low.u.range_mut(first..first + N * adapter.r));
            let (a_rI, b_Or) = (at(weights, adapter.a), at(weights, adapter.b));
            let place = self.place(adapter);
            lora::backward_input(dev, dx, u_Nr, dy_NO, a_rI, b_Or, place, self.I, self.name);
        }
    }

    /// Adds dy_NO^T x_NI to the weight's place in `grads` and dy's sum of rows to the bias's, if they
    /// are trained, and the gradients of adapters to theirs.
    /// Adapters need what [`Projection::backward_input`] of the same gradient left in `low`.
    pub(crate) fn backward_weight<E: Element>(
        &self,
        dev: &Device,
        grads: &mut Arena<E::Acc>,
        dy_NO: View<E>,
        x_NI: View<E>,
        weights: View<E>,
        low: &mut Low<E>,
    ) {
        let (N, I, name) = (dy_NO.len() / self.O, self.I, self.name);
        if let Some(dw_acc_OI) = grads.trained_mut(self.weight) {
            linear::backward_weight(dev, dw_acc_OI, dy_NO, x_NI, I, name);
        }
        if let Some(db_acc_O) = self.bias.and_then(|b_O| grads.trained_mut(b_O)) {
            bias::backward(dev, db_acc_O, dy_NO);
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            let first = i * apart(N, adapter.r);
            let u_Nr = low.u.range(first..first + N * adapter.r);
            linear::backward_weight(dev, grads.get_mut(adapter.a), u_Nr, x_NI, I, name);
            let (db_Or, t_Nr) = (grads.get_mut(adapter.b), low.t.rows_mut(N, adapter.r));
            let (a_rI, place) = (at(weights, adapter.a), self.place(adapter));
            lora::backward_b(dev, db_Or, t_Nr, dy_NO, x_NI, a_rI, place, I, name);
        }
    }
}

impl Adapter {
    /// Adds what it gives to the matrix that it adapts, in the precision of sums, and makes B zero.
    fn merge<E: Element>(&self, weights: &mut Weights<E>, I: usize) -> Result<(), Error> {
        let [w_OI, a_rI, b_Or] =
            [self.base, self.a, self.b].map(|slot| weights.get(slot).map(Cow::into_owned));
        let (mut w_OI, a_rI, b_Or) = (w_OI?, a_rI?, b_Or?);
        let rows = w_OI.par_chunks_mut(I).zip(b_Or.par_chunks(self.r));
        rows.for_each_init(
            || vec![E::Acc::ZERO; I],
            |sum, (w, b)| {
                sum.fill(E::Acc::ZERO);
                for (&b, a) in b.iter().zip(a_rI.chunks_exact(I)) {
                    sum.iter_mut().zip(a).for_each(|(sum, &a)| *sum += b * a);
                }
                let scale = E::Acc::from_f64(self.scale);
                w.iter_mut().zip(sum).for_each(|(w, sum)| *w += scale * *sum);
            },
        );
        weights.fill_with(self.base, |w| w.copy_from_slice(&w_OI));
        weights.fill_with(self.b, |b| b.fill(E::Acc::ZERO));
        Ok(())
    }
}

fn at<'a, E: Element>(weights: View<'a, E>, slot: Slot) -> View<'a, E> {
    weights.range(slot.range())
}
