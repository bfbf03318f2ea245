//! One transformer block: x + attention(norm(x)), then the same with the feed-forward. Backward
//! is the list of forward's calls in reverse order. Training, prompts and decoding run the same
//! forward: only where attention's keys lie differs.

use crate::cache::{BlockCache, Scratch};
use crate::generation::Past;
use crate::params::BlockSlots;
use engine::ops::attention::{self, Heads};
use engine::ops::{rmsnorm, rope, swiglu};
use engine::{Arena, Buf, Device, Dims, Element, Segments, Slot, View};

/// What a block computes with: the same for forward and backward.
pub struct Block<'a, E: Element> {
    pub(crate) dev: &'a Device,
    pub(crate) dims: &'a Dims,
    pub(crate) eps: f32,
    pub(crate) slots: &'a BlockSlots,
    pub(crate) weights: View<'a, E>,
    pub(crate) rope_TD: View<'a, E::Acc>,
    pub(crate) segments: &'a Segments,
}

impl<'a, E: Element> Block<'a, E> {
    fn w(&self, slot: Slot) -> View<'a, E> {
        self.weights.range(slot.range())
    }

    fn heads(&self) -> Heads {
        Heads { H: self.dims.H, G: self.dims.G, D: self.dims.D }
    }

    /// Writes y_NC and fills the cache. With a past, segments continue its sequences, and their keys
    /// and values join it; without, each stands alone.
    pub(crate) fn forward(
        &self,
        y_NC: &mut Buf<E>,
        x_NC: &Buf<E>,
        cache: &mut BlockCache<E>,
        scratch: &mut Scratch<E>,
        past: Option<Past<E>>,
    ) {
        self.fill(x_NC, cache, scratch, past);
        let (dev, d, c, N) = (self.dev, self.dims, cache, self.segments.rows());
        let act_NF = &mut scratch.act_NF;
        swiglu::forward(dev, act_NF.rows_mut(N, d.F), c.gate_up.rows(N, 2 * d.F), d.F);
        let (y_NC, mid_NC) = (y_NC.rows_mut(N, d.C), c.mid_NC.rows(N, d.C));
        self.slots.down.forward_residual(
            dev,
            y_NC,
            mid_NC,
            act_NF.rows(N, d.F),
            self.weights,
            &mut scratch.low,
        );
    }

    /// Fills the cache: everything but the block's output.
    pub(crate) fn fill(
        &self,
        x_NC: &Buf<E>,
        c: &mut BlockCache<E>,
        scratch: &mut Scratch<E>,
        past: Option<Past<E>>,
    ) {
        let (dev, d, w, N, S) =
            (self.dev, self.dims, self.slots, self.segments.rows(), self.dims.qkv());
        let (norm_NC, low, rope_TD) = (&mut scratch.norm_NC, &mut scratch.low, self.rope_TD);
        let (x_NC, g1_C, g2_C) = (x_NC.rows(N, d.C), self.w(w.norm1), self.w(w.norm2));
        let (norm_to, r1_N) = (norm_NC.rows_mut(N, d.C), c.r1_N.rows_mut(N, 1));
        rmsnorm::forward(dev, norm_to, r1_N, x_NC, g1_C, self.eps);
        w.qkv.forward(dev, c.qkv.rows_mut(N, S), norm_NC.rows(N, d.C), self.weights, low);
        let (qkv, turned) = (c.qkv.rows_mut(N, S), d.H + d.G);
        rope::forward_inplace(dev, qkv, rope_TD, self.segments, S, turned, d.D);
        self.attend(c, past);
        let (mid_NC, o) = (c.mid_NC.rows_mut(N, d.C), c.o.rows(N, d.attn()));
        w.wo.forward_residual(dev, mid_NC, x_NC, o, self.weights, low);
        let (mid_NC, norm_to, r2_N) =
            (c.mid_NC.rows(N, d.C), norm_NC.rows_mut(N, d.C), c.r2_N.rows_mut(N, 1));
        rmsnorm::forward(dev, norm_to, r2_N, mid_NC, g2_C, self.eps);
        let (gate_up, norm_NC) = (c.gate_up.rows_mut(N, 2 * d.F), norm_NC.rows(N, d.C));
        w.gate_up.forward(dev, gate_up, norm_NC, self.weights, low);
    }

    /// Attention's output, from the rows of queries, keys and values.
    fn attend(&self, c: &mut BlockCache<E>, past: Option<Past<E>>) {
        let (d, segments, heads, N) =
            (self.dims, self.segments, self.heads(), self.segments.rows());
        let (o, qkv) = (c.o.rows_mut(N, d.attn()), c.qkv.rows(N, d.qkv()));
        match past {
            None => {
                let lse_NH = c.lse_NH.rows_mut(N, d.H);
                attention::forward(self.dev, o, lse_NH, qkv, segments, heads);
            }
            Some(Past { kept, slots, capacity }) => {
                attention::decode(self.dev, o, kept, qkv, segments, slots, heads, capacity);
            }
        }
    }

    /// Turns the gradient of the block's output, in scratch, into that of its input; adds to the
    /// gradients of trained parameters. The cache is used up: gate and up become their gradients.
    pub(crate) fn backward(
        &self,
        grads: &mut Arena<E::Acc>,
        x_NC: &Buf<E>,
        c: &mut BlockCache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (dev, d, w, N, S) =
            (self.dev, self.dims, self.slots, self.segments.rows(), self.dims.qkv());
        let (norm_NC, act_NF) = (&mut scratch.norm_NC, &mut scratch.act_NF);
        let (low, s) = (&mut scratch.low, &mut scratch.grads);

        swiglu::forward(dev, act_NF.rows_mut(N, d.F), c.gate_up.rows(N, 2 * d.F), d.F);
        w.down.backward_input(
            dev,
            s.dact_NF.rows_mut(N, d.F),
            s.dx_NC.rows(N, d.C),
            self.weights,
            low,
        );
        w.down.backward_weight(
            dev,
            grads,
            s.dx_NC.rows(N, d.C),
            act_NF.rows(N, d.F),
            self.weights,
            low,
        );
        let (gate_up, dact_NF) = (c.gate_up.rows_mut(N, 2 * d.F), s.dact_NF.rows(N, d.F));
        swiglu::backward_inplace(dev, gate_up, dact_NF, d.F);
        let (mid_NC, g2_C, r2_N) = (c.mid_NC.rows(N, d.C), self.w(w.norm2), c.r2_N.rows(N, 1));
        rmsnorm::apply(dev, norm_NC.rows_mut(N, d.C), mid_NC, g2_C, r2_N);
        w.gate_up.backward_input(
            dev,
            s.dnorm_NC.rows_mut(N, d.C),
            c.gate_up.rows(N, 2 * d.F),
            self.weights,
            low,
        );
        w.gate_up.backward_weight(
            dev,
            grads,
            c.gate_up.rows(N, 2 * d.F),
            norm_NC.rows(N, d.C),
            self.weights,
            low,
        );
        let (dx_NC, dg2_C) = (s.dx_NC.rows_mut(N, d.C), grads.trained_mut(w.norm2));
        rmsnorm::backward(dev, dx_NC, dg2_C, s.dnorm_NC.rows(N, d.C), mid_NC, g2_C, r2_N);

        w.wo.backward_input(
            dev,
            s.d_o.rows_mut(N, d.attn()),
            s.dx_NC.rows(N, d.C),
            self.weights,
            low,
        );
        w.wo.backward_weight(
            dev,
            grads,
            s.dx_NC.rows(N, d.C),
            c.o.rows(N, d.attn()),
            self.weights,
            low,
        );
        attention::backward(
            dev,
            s.dqkv.rows_mut(N, S),
            s.d_o.rows(N, d.attn()),
            c.qkv.rows(N, S),
            c.o.rows(N, d.attn()),
            c.lse_NH.rows(N, d.H),
            self.segments,
            self.heads(),
        );
        let (dqkv, turned) = (s.dqkv.rows_mut(N, S), d.H + d.G);
        rope::backward_inplace(dev, dqkv, self.rope_TD, self.segments, S, turned, d.D);
        let (x_NC, g1_C, r1_N) = (x_NC.rows(N, d.C), self.w(w.norm1), c.r1_N.rows(N, 1));
        rmsnorm::apply(dev, norm_NC.rows_mut(N, d.C), x_NC, g1_C, r1_N);
        w.qkv.backward_input(
            dev,
            s.dnorm_NC.rows_mut(N, d.C),
            s.dqkv.rows(N, S),
            self.weights,
            low,
        );
        w.qkv.backward_weight(
            dev,
            grads,
            s.dqkv.rows(N, S),
            norm_NC.rows(N, d.C),
            self.weights,
            low,
        );
        let (dx_NC, dg1_C) = (s.dx_NC.rows_mut(N, d.C), grads.trained_mut(w.norm1));
        rmsnorm::backward(dev, dx_NC, dg1_C, s.dnorm_NC.rows(N, d.C), x_NC, g1_C, r1_N);
    }
}
