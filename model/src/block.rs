//! One transformer block: x + attention(norm(x)), then the same with the feed-forward. Backward
//! is the list of forward's calls in reverse order.

use crate::cache::{BlockCache, Scratch};
use crate::params::BlockSlots;
use engine::ops::attention::{self, Heads};
use engine::ops::{linear, rmsnorm, rope, swiglu};
use engine::{Arena, Buf, Device, Dims, Element, Slot, View};

/// What a block computes with: the same for forward and backward.
pub struct Block<'a, E: Element> {
    pub(crate) dev: &'a Device,
    pub(crate) dims: &'a Dims,
    pub(crate) eps: f32,
    pub(crate) slots: &'a BlockSlots,
    pub(crate) weights: View<'a, E>,
    pub(crate) rope_TD: View<'a, E::Acc>,
}

impl<'a, E: Element> Block<'a, E> {
    fn w(&self, slot: Slot) -> View<'a, E> {
        self.weights.range(slot.range())
    }

    fn heads(&self) -> Heads {
        Heads { H: self.dims.H, G: self.dims.G, D: self.dims.D }
    }

    fn T(&self) -> usize {
        self.rope_TD.len() / self.dims.D
    }

    /// Writes y_NC and fills the cache.
    pub(crate) fn forward(
        &self,
        y_NC: &mut Buf<E>,
        x_NC: &Buf<E>,
        cache: &mut BlockCache<E>,
        scratch: &mut Scratch<E>,
    ) {
        self.fill(x_NC, cache, scratch);
        let (dev, d, c) = (self.dev, self.dims, cache);
        let act_NF = &mut scratch.act_NF;
        swiglu::forward(dev, act_NF.view_mut(), c.gate_up.view(), d.F);
        let (mid_NC, w_down) = (c.mid_NC.view(), self.w(self.slots.down));
        linear::forward_residual(dev, y_NC.view_mut(), mid_NC, act_NF.view(), w_down, d.F);
    }

    /// Fills the cache: everything but the block's output.
    pub(crate) fn fill(&self, x_NC: &Buf<E>, c: &mut BlockCache<E>, scratch: &mut Scratch<E>) {
        let (dev, d, w) = (self.dev, self.dims, self.slots);
        let norm_NC = &mut scratch.norm_NC;
        let (x_NC, g1_C, g2_C) = (x_NC.view(), self.w(w.norm1), self.w(w.norm2));
        rmsnorm::forward(dev, norm_NC.view_mut(), c.r1_N.view_mut(), x_NC, g1_C, self.eps);
        linear::forward(dev, c.qkv.view_mut(), norm_NC.view(), self.w(w.qkv), d.C);
        rope::forward_inplace(dev, c.qkv.view_mut(), self.rope_TD, d.qkv(), d.H + d.G, d.D);
        let (o, lse_NH) = (c.o.view_mut(), c.lse_NH.view_mut());
        attention::forward(dev, o, lse_NH, c.qkv.view(), self.heads(), self.T());
        let (mid_NC, w_o) = (c.mid_NC.view_mut(), self.w(w.wo));
        linear::forward_residual(dev, mid_NC, x_NC, c.o.view(), w_o, d.attn());
        let mid_NC = c.mid_NC.view();
        rmsnorm::forward(dev, norm_NC.view_mut(), c.r2_N.view_mut(), mid_NC, g2_C, self.eps);
        linear::forward(dev, c.gate_up.view_mut(), norm_NC.view(), self.w(w.gate_up), d.C);
    }

    /// Turns the gradient of the block's output, in scratch, into that of its input; adds to the
    /// gradients of the parameters. The cache is used up: gate and up become their gradients.
    pub(crate) fn backward(
        &self,
        grads: &mut Arena<E::Acc>,
        x_NC: &Buf<E>,
        c: &mut BlockCache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (dev, d, w) = (self.dev, self.dims, self.slots);
        let (norm_NC, act_NF, s) = (&mut scratch.norm_NC, &mut scratch.act_NF, &mut scratch.grads);

        swiglu::forward(dev, act_NF.view_mut(), c.gate_up.view(), d.F);
        linear::backward(
            dev,
            s.dact_NF.view_mut(),
            grads.get_mut(w.down),
            s.dx_NC.view(),
            act_NF.view(),
            self.w(w.down),
            d.F,
        );
        swiglu::backward_inplace(dev, c.gate_up.view_mut(), s.dact_NF.view(), d.F);
        let (mid_NC, g2_C) = (c.mid_NC.view(), self.w(w.norm2));
        rmsnorm::apply(dev, norm_NC.view_mut(), mid_NC, g2_C, c.r2_N.view());
        linear::backward(
            dev,
            s.dnorm_NC.view_mut(),
            grads.get_mut(w.gate_up),
            c.gate_up.view(),
            norm_NC.view(),
            self.w(w.gate_up),
            d.C,
        );
        let (dx_NC, dg2_C) = (s.dx_NC.view_mut(), grads.get_mut(w.norm2));
        rmsnorm::backward(dev, dx_NC, dg2_C, s.dnorm_NC.view(), mid_NC, g2_C, c.r2_N.view());

        linear::backward(
            dev,
            s.d_o.view_mut(),
            grads.get_mut(w.wo),
            s.dx_NC.view(),
            c.o.view(),
            self.w(w.wo),
            d.attn(),
        );
        attention::backward(
            dev,
            s.dqkv.view_mut(),
            s.d_o.view(),
            c.qkv.view(),
            c.o.view(),
            c.lse_NH.view(),
            self.heads(),
            self.T(),
        );
        rope::backward_inplace(dev, s.dqkv.view_mut(), self.rope_TD, d.qkv(), d.H + d.G, d.D);
        let (x_NC, g1_C) = (x_NC.view(), self.w(w.norm1));
        rmsnorm::apply(dev, norm_NC.view_mut(), x_NC, g1_C, c.r1_N.view());
        linear::backward(
            dev,
            s.dnorm_NC.view_mut(),
            grads.get_mut(w.qkv),
            s.dqkv.view(),
            norm_NC.view(),
            self.w(w.qkv),
            d.C,
        );
        let (dx_NC, dg1_C) = (s.dx_NC.view_mut(), grads.get_mut(w.norm1));
        rmsnorm::backward(dev, dx_NC, dg1_C, s.dnorm_NC.view(), x_NC, g1_C, c.r1_N.view());
    }
}
