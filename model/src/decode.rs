//! Decoding with a key/value cache: new tokens in, logits of the last one out. A prompt is taken
//! in chunks of many tokens, so it runs at the speed of matrix products.

use crate::config::Config;
use crate::llama::Llama;
use engine::ops::attention::{self, Heads};
use engine::ops::{embedding, linear, rmsnorm, rope, swiglu};
use engine::{Buf, Device, Element, Error, Slot, View};
use std::borrow::Cow;

/// Tokens of a prompt that are taken in at a time.
pub(crate) const CHUNK: usize = 512;

/// One sequence's state.
pub struct Decoder<E: Element> {
    /// For each layer, rows of G key heads and G value heads.
    kv: Vec<Buf<E>>,
    past: usize,
    capacity: usize,
    x_NC: Buf<E>,
    mid_NC: Buf<E>,
    norm_NC: Buf<E>,
    r_N: Buf<E::Acc>,
    qkv: Buf<E>,
    o: Buf<E>,
    gate_up: Buf<E>,
    act_NF: Buf<E>,
    logits_V: Buf<E::Acc>,
}

impl<E: Element> Decoder<E> {
    /// Room for a sequence of `capacity` tokens, at most the model's T.
    pub fn new(dev: &Device, model: &Llama<E>, capacity: usize) -> Self {
        let d = model.config().dims;
        let n = CHUNK.min(capacity);
        Decoder {
            kv: (0..d.L).map(|_| Buf::zeros(dev, capacity * 2 * d.G * d.D)).collect(),
            past: 0,
            capacity,
            x_NC: Buf::zeros(dev, n * d.C),
            mid_NC: Buf::zeros(dev, n * d.C),
            norm_NC: Buf::zeros(dev, n * d.C),
            r_N: Buf::zeros(dev, n),
            qkv: Buf::zeros(dev, n * d.qkv()),
            o: Buf::zeros(dev, n * d.attn()),
            gate_up: Buf::zeros(dev, n * 2 * d.F),
            act_NF: Buf::zeros(dev, n * d.F),
            logits_V: Buf::zeros(dev, d.V),
        }
    }

    /// Bytes of a decoder with room for `capacity` tokens.
    pub fn bytes(config: &Config, capacity: usize) -> u64 {
        let d = &config.dims;
        let rows = 3 * d.C + d.qkv() + d.attn() + 3 * d.F;
        let n = CHUNK.min(capacity);
        let elements = d.L * capacity * 2 * d.G * d.D + n * rows;
        (elements * size_of::<E>() + (n + d.V) * size_of::<E::Acc>()) as u64
    }

    /// Tokens taken in so far.
    pub fn len(&self) -> usize {
        self.past
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.past == 0
    }

    /// Tokens that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.past
    }

    /// Forgets the sequence.
    pub fn clear(&mut self) {
        self.past = 0;
    }

    /// Takes in `tokens` and returns the logits that follow the last of them.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    ///
    /// # Panics
    /// If there are no tokens, or no room for them: a caller bug.
    pub fn feed(
        &mut self,
        dev: &Device,
        model: &Llama<E>,
        weights: View<E>,
        tokens: &[u32],
    ) -> Result<Cow<'_, [E::Acc]>, Error> {
        assert!(!tokens.is_empty() && tokens.len() <= self.room(), "decode: {}", tokens.len());
        for chunk in tokens.chunks(CHUNK) {
            self.take_in(dev, model, weights, chunk);
        }
        let d = model.config().dims;
        let w = |slot: Slot| weights.range(slot.range());
        let last = (tokens.len() - 1) % CHUNK;
        let (x_C, norm_C) =
            (self.x_NC.range(last * d.C..(last + 1) * d.C), self.norm_NC.range_mut(0..d.C));
        let eps = model.config().norm_eps;
        rmsnorm::forward(dev, norm_C, self.r_N.range_mut(0..1), x_C, w(model.slots().norm), eps);
        let (logits_V, norm_C) = (self.logits_V.view_mut(), self.norm_NC.range(0..d.C));
        linear::forward_wide(dev, logits_V, norm_C, w(model.slots().head), d.C);
        self.logits_V.view().read()
    }

    /// Runs the blocks over one chunk.
    fn take_in(&mut self, dev: &Device, model: &Llama<E>, weights: View<E>, tokens: &[u32]) {
        let (n, past) = (tokens.len(), self.past);
        let d = model.config().dims;
        let (eps, heads) = (model.config().norm_eps, Heads { H: d.H, G: d.G, D: d.D });
        let (C, S, KV) = (n * d.C, n * d.qkv(), 2 * d.G * d.D);
        let w = |slot: Slot| weights.range(slot.range());
        embedding::forward(dev, self.x_NC.range_mut(0..C), tokens, w(model.slots().embed), d.C);
        for (slots, kv) in model.slots().blocks.iter().zip(&mut self.kv) {
            let (x_NC, norm_NC) = (self.x_NC.range(0..C), self.norm_NC.range_mut(0..C));
            rmsnorm::forward(dev, norm_NC, self.r_N.range_mut(0..n), x_NC, w(slots.norm1), eps);
            let norm_NC = self.norm_NC.range(0..C);
            linear::forward(dev, self.qkv.range_mut(0..S), norm_NC, w(slots.qkv), d.C);
            let rope_TD = model.rope(past, n);
            rope::forward_inplace(dev, self.qkv.range_mut(0..S), rope_TD, d.qkv(), d.H + d.G, d.D);
            let q = self.qkv.range(0..S);
            let rows = kv.range_mut(past * KV..(past + n) * KV);
            engine::buf::copy_columns(dev, rows, q, KV, d.qkv(), d.attn());
            let o = self.o.range_mut(0..n * d.attn());
            attention::decode(dev, o, q, kv.view(), heads, d.qkv(), past);
            let (mid_NC, o) = (self.mid_NC.range_mut(0..C), self.o.range(0..n * d.attn()));
            linear::forward_residual(dev, mid_NC, x_NC, o, w(slots.wo), d.attn());
            let (mid_NC, norm_NC) = (self.mid_NC.range(0..C), self.norm_NC.range_mut(0..C));
            rmsnorm::forward(dev, norm_NC, self.r_N.range_mut(0..n), mid_NC, w(slots.norm2), eps);
            let (gate_up, norm_NC) =
                (self.gate_up.range_mut(0..n * 2 * d.F), self.norm_NC.range(0..C));
            linear::forward(dev, gate_up, norm_NC, w(slots.gate_up), d.C);
            let gate_up = self.gate_up.range(0..n * 2 * d.F);
            swiglu::forward(dev, self.act_NF.range_mut(0..n * d.F), gate_up, d.F);
            let (x_NC, act_NF) = (self.x_NC.range_mut(0..C), self.act_NF.range(0..n * d.F));
            linear::forward_residual(dev, x_NC, mid_NC, act_NF, w(slots.down), d.F);
        }
        self.past += n;
    }
}
