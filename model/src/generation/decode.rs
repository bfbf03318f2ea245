//! Decoding many sequences with a key/value cache: new tokens in, logits of the last ones out. The
//! block that runs is training's.
//!
//! A long text is taken in alone, in chunks of many tokens, at the speed of matrix products. Single
//! tokens of several sequences share one pass over the weights, up to [`ROWS`] at a time. Either
//! way the bits of a sequence's logits depend on what that sequence was fed, and on nothing that
//! stands beside it.

use super::KvCache;
use crate::cache::{BlockCache, Scratch};
use crate::llama::Llama;
use engine::ops::linear::FEW;
use engine::ops::{embedding, rmsnorm};
use engine::{Buf, Device, Element, Error, Segments, View};
use std::borrow::Cow;

/// Tokens of one sequence that are taken in at a time.
pub const CHUNK: usize = 512;
/// Sequences whose single tokens are taken in together: as many rows as products take without
/// changing a row's bits.
pub const ROWS: usize = FEW;

/// The state of several sequences, each in a slot, and the buffers to continue them.
pub struct Decoder<E: Element> {
    kv: KvCache<E>,
    /// A block's input and its output, in turns.
    x_NC: [Buf<E>; 2],
    block: BlockCache<E>,
    scratch: Scratch<E>,
    /// The last row of each sequence that is fed, and its logits.
    last_RC: Buf<E>,
    logits_RV: Buf<E::Acc>,
    segments: Segments,
}

impl<E: Element> Decoder<E> {
    /// Room for `slots` sequences of `capacity` tokens, at most the model's T.
    pub fn new(dev: &Device, model: &Llama<E>, slots: usize, capacity: usize) -> Self {
        let (d, N) = (&model.config().dims, Self::rows(slots, capacity));
        Decoder {
            kv: KvCache::new(dev, d, slots, capacity),
            x_NC: [(); 2].map(|()| Buf::zeros(dev, N * d.C)),
            block: BlockCache::new(dev, d, N),
            scratch: Scratch::decoding(dev, model.config(), N),
            last_RC: Buf::zeros(dev, slots * d.C),
            logits_RV: Buf::zeros(dev, slots * d.V),
            segments: Segments::default(),
        }
    }

    /// Rows that are taken in together at most.
    fn rows(slots: usize, capacity: usize) -> usize {
        CHUNK.min(capacity).max(ROWS.min(slots))
    }

    /// The sequences.
    pub fn kv(&self) -> &KvCache<E> {
        &self.kv
    }

    /// Forgets the sequence in `slot`.
    pub fn clear(&mut self, slot: usize) {
        self.kv.clear(slot);
    }

    /// Takes in tokens of several sequences, each named by its slot. Row i of the result, of V
    /// elements, is the logits that follow the last token of `feeds[i]`.
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    ///
    /// # Panics
    /// If a sequence has no new tokens, no room for them, or is named twice: a caller bug.
    pub fn feed(
        &mut self,
        dev: &Device,
        model: &Llama<E>,
        weights: View<E>,
        feeds: &[(usize, &[u32])],
    ) -> Result<Cow<'_, [E::Acc]>, Error> {
        for (i, (slot, tokens)) in feeds.iter().enumerate() {
            let (n, room) = (tokens.len(), self.kv.room(*slot));
            assert!(n > 0 && n <= room, "decode: {n} tokens, and room for {room}");
            assert!(feeds[..i].iter().all(|(other, _)| other != slot), "decode: slot {slot} twice");
        }
        let mut done = 0;
        for run in feeds.chunk_by(|(_, a), (_, b)| a.len() == 1 && b.len() == 1) {
            for run in run.chunks(ROWS) {
                self.take_in(dev, model, weights, run, done);
                done += run.len();
            }
        }
        self.logits(dev, model, weights, feeds.len());
        self.logits_RV.rows(feeds.len(), model.config().dims.V).read()
    }

    /// Tokens of one sequence, or one of each of several; their last rows go to rows of `last_RC`
    /// from `row` on.
    fn take_in(
        &mut self,
        dev: &Device,
        model: &Llama<E>,
        weights: View<E>,
        run: &[(usize, &[u32])],
        row: usize,
    ) {
        let C = model.config().dims.C;
        let slots: Vec<usize> = run.iter().map(|(slot, _)| *slot).collect();
        let n = match run {
            [(slot, tokens)] => {
                for chunk in tokens.chunks(CHUNK) {
                    self.segments.clear();
                    self.segments.push(chunk.len(), self.kv.len(*slot));
                    self.pass(dev, model, weights, chunk, &slots);
                }
                (tokens.len() - 1) % CHUNK + 1
            }
            _ => {
                self.segments.clear();
                slots.iter().for_each(|&slot| self.segments.push(1, self.kv.len(slot)));
                let tokens: Vec<u32> = run.iter().map(|(_, tokens)| tokens[0]).collect();
                self.pass(dev, model, weights, &tokens, &slots);
                run.len()
            }
        };
        let last = self.x_NC[0].range((n - run.len()) * C..n * C);
        engine::buf::copy(dev, self.last_RC.range_mut(row * C..(row + run.len()) * C), last);
    }

    /// Runs the blocks over the rows of the segments, which continue the sequences in `slots`; the
    /// last block's output is `x_NC[0]`.
    fn pass(
        &mut self,
        dev: &Device,
        model: &Llama<E>,
        weights: View<E>,
        tokens_N: &[u32],
        slots: &[usize],
    ) {
        let (C, w) = (model.config().dims.C, weights.range(model.slots().embed.range()));
        let [x_NC, y_NC] = &mut self.x_NC;
        embedding::forward(dev, x_NC.rows_mut(tokens_N.len(), C), tokens_N, w, C);
        for layer in 0..model.config().dims.L {
            let block = model.block(dev, weights, layer, &self.segments);
            let past = Some(self.kv.past(layer, slots));
            block.forward(y_NC, x_NC, &mut self.block, &mut self.scratch, past);
            std::mem::swap(x_NC, y_NC);
        }
        for (segment, slot) in self.segments.list().iter().zip(slots) {
            self.kv.grow(*slot, segment.len);
        }
    }

    /// Logits of the first `rows` rows of `last_RC`.
    fn logits(&mut self, dev: &Device, model: &Llama<E>, weights: View<E>, rows: usize) {
        let (C, V, eps) = (model.config().dims.C, model.config().dims.V, model.config().norm_eps);
        let g_C = weights.range(model.slots().norm.range());
        let scratch = &mut self.scratch;
        for first in (0..rows).step_by(ROWS) {
            let n = ROWS.min(rows - first);
            let (norm_NC, x_NC) =
                (&mut scratch.norm_NC, self.last_RC.range(first * C..(first + n) * C));
            rmsnorm::forward(
                dev,
                norm_NC.rows_mut(n, C),
                scratch.r_N.rows_mut(n, 1),
                x_NC,
                g_C,
                eps,
            );
            let logits_NV = self.logits_RV.range_mut(first * V..(first + n) * V);
            model.slots().head.forward_wide(dev, logits_NV, norm_NC.rows(n, C), weights);
        }
    }
}
