//! The whole model: embedding, blocks, last norm, head with its loss. Forward fills a [`Cache`],
//! backward drains it. The head belongs to backward, because its logits exist only in chunks:
//! loss and gradient leave the same pass over them.
//!
//! ```
//! use engine::ops::loss::Sum;
//! use engine::{Arena, Device, Segments};
//! use model::cache::{Cache, Mode, Scratch};
//! use model::llama::{Batch, Llama, Sums};
//! use model::weights::Weights;
//! use model::{Config, init};
//!
//! # fn main() -> Result<(), engine::Error> {
//! let (dev, config) = (Device::cpu(0)?, Config::stories_260k());
//! let model = Llama::<f32>::new(&dev, &config, 16);
//! let mut weights = Weights::zeros(&dev, model.table());
//! init::fill(&dev, &mut weights, model.table(), 1);
//! let mut cache = Cache::new(&dev, &config.dims, 16, Mode::Linear);
//! let mut scratch = Scratch::new(&dev, &config, 16);
//! let (mut loss, mut grads) = (Sum::new(&dev), Arena::zeros(&dev, &model.table().trained()));
//!
//! let (tokens, targets): (Vec<u32>, Vec<i32>) = (0..16).map(|i| (i * 7, (i as i32 + 1) * 7)).unzip();
//! let segments = Segments::equal(1, 16);
//! let batch = Batch::new(&tokens, &targets, &segments);
//! model.forward(&dev, weights.view(), batch, &mut cache, &mut scratch);
//! let sums = Sums { loss: &mut loss, grads: &mut grads, scale: 1.0 / batch.weight() };
//! model.backward(&dev, sums, weights.view(), batch, &mut cache, &mut scratch);
//! assert!((loss.read()?.mean() - 512f64.ln()).abs() < 0.5);
//! # Ok(())
//! # }
//! ```

use crate::block::Block;
use crate::cache::{Cache, Mode, Scratch};
use crate::config::Config;
use crate::params::{self, Slots};
use crate::projection::Projection;
use crate::weights::Weights;
use engine::ops::loss::{self, Sum};
use engine::ops::{embedding, rmsnorm, rope};
use engine::{Arena, Buf, Device, Element, Error, Real, Segments, Slot, Table, View};

/// A LLaMA without its weights: sizes, the parameter table, and the angles of RoPE.
pub struct Llama<E: Element> {
    config: Config,
    table: Table,
    slots: Slots,
    rope_TD: Buf<E::Acc>,
}

/// A batch of sequences: ids and, for each, the id that follows it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Ids, sequence after sequence.
    pub tokens_N: &'a [u32],
    /// What should come next; [`loss::IGNORE`] does not count.
    pub targets_N: &'a [i32],
    /// How much each target counts; without weights, each once. A weight of 0 is no target.
    pub weights_N: Option<&'a [f32]>,
    /// Which rows are a sequence, and where in it they stand.
    pub segments: &'a Segments,
}

impl<'a> Batch<'a> {
    /// A batch without weights.
    pub fn new(tokens_N: &'a [u32], targets_N: &'a [i32], segments: &'a Segments) -> Self {
        Batch { tokens_N, targets_N, weights_N: None, segments }
    }

    /// What its targets weigh, see [`loss::weight`].
    pub fn weight(&self) -> f64 {
        loss::weight(self.targets_N, self.weights_N)
    }
}

/// What backward adds to.
pub struct Sums<'a, R: Real> {
    /// The loss.
    pub loss: &'a mut Sum,
    /// Gradients of trained parameters.
    pub grads: &'a mut Arena<R>,
    /// The factor on each gradient: of a mean, one over what its targets weigh.
    pub scale: f64,
}

impl<E: Element> Llama<E> {
    /// A model for sequences of up to `T` tokens.
    pub fn new(dev: &Device, config: &Config, T: usize) -> Self {
        let (table, slots) = params::table(config);
        let (D, longest) = (config.dims.D, config.max_seq_len);
        let (frequencies, scale) = config.rope.frequencies(D, config.rope_theta, T, longest);
        let rope_TD = rope::table(dev, T, &frequencies, scale);
        Llama { config: config.clone(), table, slots, rope_TD }
    }

    /// Its sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its parameters.
    pub fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn block<'a>(
        &'a self,
        dev: &'a Device,
        weights: View<'a, E>,
        layer: usize,
        segments: &'a Segments,
    ) -> Block<'a, E> {
        let (dims, eps) = (&self.config.dims, self.config.norm_eps);
        let (slots, rope_TD) = (&self.slots.blocks[layer], self.rope_TD.view());
        Block { dev, dims, eps, slots, weights, rope_TD, segments }
    }

    /// Runs all blocks. `weights` covers the whole table.
    ///
    /// # Panics
    /// If the batch does not fit the cache, or a position is beyond the model's: a caller bug.
    pub fn forward(
        &self,
        dev: &Device,
        weights: View<E>,
        batch: Batch,
        cache: &mut Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (N, C) = (batch.tokens_N.len(), self.config.dims.C);
        assert!(N <= cache.N, "model: {N} tokens in a cache for {}", cache.N);
        assert_eq!(batch.segments.rows(), N, "model: segments");
        scratch.poison();
        let embed_VC = weights.range(self.slots.embed.range());
        embedding::forward(dev, cache.x_NC[0].rows_mut(N, C), batch.tokens_N, embed_VC, C);
        for layer in 0..self.config.dims.L {
            let (before, after) = cache.x_NC.split_at_mut(layer + 1);
            let kept = cache.mode.kept(layer);
            let block = self.block(dev, weights, layer, batch.segments);
            let cache = &mut cache.blocks[kept];
            block.forward(&mut after[0], &before[layer], cache, scratch, None);
        }
    }

    /// Adds to `sum` the loss of the batch that [`Llama::forward`] has run.
    pub fn loss(
        &self,
        dev: &Device,
        sum: &mut Sum,
        weights: View<E>,
        batch: Batch,
        cache: &Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        self.nats(dev, false, weights, batch.targets_N, cache, scratch);
        let nats_N = scratch.nats_N.rows(batch.targets_N.len(), 1);
        sum.add(dev, nats_N, batch.targets_N, batch.weights_N);
    }

    /// Writes each row's nats, and with `largest` the id of its largest logit, to `scratch`.
    pub(crate) fn nats(
        &self,
        dev: &Device,
        largest: bool,
        weights: View<E>,
        targets_N: &[i32],
        cache: &Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (N, C) = (targets_N.len(), self.config.dims.C);
        self.last_norm(dev, weights, N, cache, scratch);
        loss::forward(
            dev,
            scratch.nats_N.rows_mut(N, 1),
            largest.then(|| scratch.largest_N.rows_mut(N, 1)),
            &mut scratch.logits,
            scratch.norm_NC.rows(N, C),
            weights.range(self.slots.head.weight.range()),
            targets_N,
            C,
        );
    }

    /// Writes the logits of every token of the batch that [`Llama::forward`] has run: N rows of V.
    /// For comparisons; training never holds them all.
    ///
    /// # Panics
    /// If `logits_NV` has another length: a caller bug.
    pub fn logits(
        &self,
        dev: &Device,
        logits_NV: &mut Buf<E::Acc>,
        weights: View<E>,
        cache: &Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let (N, C) = (logits_NV.len() / self.config.dims.V, self.config.dims.C);
        self.last_norm(dev, weights, N, cache, scratch);
        let norm_NC = scratch.norm_NC.rows(N, C);
        self.slots.head.forward_wide(dev, logits_NV.view_mut(), norm_NC, weights);
    }

    /// Adds the loss of the batch that [`Llama::forward`] has run, and the gradients of a factor times it.
    /// Uses up the cache.
    pub fn backward(
        &self,
        dev: &Device,
        sums: Sums<E::Acc>,
        weights: View<E>,
        batch: Batch,
        cache: &mut Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let Sums { loss: sum, grads, scale } = sums;
        let (N, C, L) = (batch.tokens_N.len(), self.config.dims.C, self.config.dims.L);
        let w = |slot: Slot| weights.range(slot.range());
        self.last_norm(dev, weights, N, cache, scratch);
        let s = &mut scratch.grads;
        loss::forward_backward(
            dev,
            scratch.nats_N.rows_mut(N, 1),
            None,
            s.dnorm_NC.rows_mut(N, C),
            grads.trained_mut(self.slots.head.weight),
            &mut scratch.logits,
            scratch.norm_NC.rows(N, C),
            w(self.slots.head.weight),
            batch.targets_N,
            batch.weights_N,
            scale,
            C,
        );
        sum.add(dev, scratch.nats_N.rows(N, 1), batch.targets_N, batch.weights_N);
        s.dx_NC.fill_zero(dev);
        rmsnorm::backward(
            dev,
            s.dx_NC.rows_mut(N, C),
            grads.trained_mut(self.slots.norm),
            s.dnorm_NC.rows(N, C),
            cache.x_NC[L].rows(N, C),
            w(self.slots.norm),
            scratch.r_N.rows(N, 1),
        );
        for layer in (0..L).rev() {
            let block = self.block(dev, weights, layer, batch.segments);
            let x_NC = &cache.x_NC[layer];
            let kept = cache.mode.kept(layer);
            let cache_block = &mut cache.blocks[kept];
            if cache.mode == Mode::Full {
                block.fill(x_NC, cache_block, scratch, None);
            }
            block.backward(grads, x_NC, cache_block, scratch);
        }
        if let Some(dw_acc_VC) = grads.trained_mut(self.slots.embed) {
            let dx_NC = scratch.grads.dx_NC.rows(N, C);
            embedding::backward(dev, dw_acc_VC, dx_NC, batch.tokens_N, C);
        }
    }

    fn last_norm(
        &self,
        dev: &Device,
        weights: View<E>,
        N: usize,
        cache: &Cache<E>,
        scratch: &mut Scratch<E>,
    ) {
        let C = self.config.dims.C;
        let (norm_NC, r_N) = (scratch.norm_NC.rows_mut(N, C), scratch.r_N.rows_mut(N, 1));
        let x_NC = cache.x_NC.last().expect("L + 1 of them").rows(N, C);
        let w_C = weights.range(self.slots.norm.range());
        rmsnorm::forward(dev, norm_NC, r_N, x_NC, w_C, self.config.norm_eps);
    }

    /// Folds all adapters into the weights that they adapt: the model computes the same without them.
    /// They stay, with B zero.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn merge(&self, dev: &Device, weights: &mut Weights<E>) -> Result<(), Error> {
        dev.install(|| {
            let mut projections = self.slots.blocks.iter().flat_map(|block| block.projections());
            projections.try_for_each(|projection| projection.merge(weights))
        })?;
        weights.refresh()
    }

    /// Trained parameters whose gradient is zero as long as these weights stay: A where B is zero.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    pub fn idle(&self, weights: &Weights<E>) -> Result<Vec<Slot>, Error> {
        let projections = self.slots.blocks.iter().flat_map(|block| block.projections());
        let mut idle = Vec::new();
        for adapter in projections.flat_map(|projection| &projection.adapters) {
            if weights.get(adapter.b)?.iter().all(|&b| b == E::Acc::ZERO) {
                idle.push(adapter.a);
            }
        }
        Ok(idle)
    }

    /// Names the first place where this batch meets a NaN or an infinity: a parameter, or an op
    /// of a block in the order of forward. For error messages, not for speed.
    pub fn first_non_finite(
        &self,
        dev: &Device,
        weights: View<E>,
        batch: Batch,
        cache: &mut Cache<E>,
        scratch: &mut Scratch<E>,
    ) -> Option<String> {
        for row in self.table.rows() {
            if !all_finite(weights.range(row.slot.range())) {
                return Some(format!("parameter {}", row.name));
            }
        }
        self.forward(dev, weights, batch, cache, scratch);
        let N = batch.tokens_N.len();
        for layer in 0..self.config.dims.L {
            let x_NC = &cache.x_NC[layer];
            let kept = cache.mode.kept(layer);
            let c = &mut cache.blocks[kept];
            self.block(dev, weights, layer, batch.segments).fill(x_NC, c, scratch, None);
            let (d, w) = (&self.config.dims, &self.slots.blocks[layer]);
            let of = |p: &Projection, y_NO| (p.name, Buf::rows(y_NO, N, p.O));
            let ops = [
                ("input", x_NC.rows(N, d.C)),
                of(&w.qkv, &c.qkv),
                ("attention", c.o.rows(N, d.attn())),
                of(&w.wo, &c.mid_NC),
                of(&w.gate_up, &c.gate_up),
                of(&w.down, &cache.x_NC[layer + 1]),
            ];
            if let Some((op, _)) = ops.into_iter().find(|(_, values)| !all_finite(*values)) {
                return Some(format!("block {layer}, {op}"));
            }
        }
        None
    }

    /// Names the first parameter, from the head backwards, whose gradient is NaN or infinite.
    pub fn first_non_finite_gradient(&self, grads: &Arena<E::Acc>) -> Option<&str> {
        let bad = |slot| !all_finite(grads.get(slot));
        let mut trained = self.table.rows().iter().rev().filter(|row| row.slot.is_trained());
        trained.find(|row| bad(row.slot)).map(|row| row.name.as_str())
    }
}

fn all_finite<E: Element>(view: View<E>) -> bool {
    view.read().is_ok_and(|values| values.iter().all(|x| x.to_acc().is_finite()))
}
