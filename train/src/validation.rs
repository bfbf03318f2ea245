//! The loss on text that is held out.

use data::loader::EvalWindows;
use engine::ops::loss::IGNORE;
use engine::{Element, Segments};
use model::llama::Batch;

use crate::error::Error;
use crate::trainer::Trainer;

impl<E: Element> Trainer<E> {
    /// Nats per token over the first windows of `windows` that hold `tokens` tokens, computed in batches
    /// of the recipe's size. Changes nothing.
    ///
    /// ```
    /// use data::loader::EvalWindows;
    /// use data::shard::TokenSource;
    /// use train::trainer::{Recipe, Trainer};
    ///
    /// # fn main() -> Result<(), train::Error> {
    /// let held_out = TokenSource::from_ids((0..200).map(|i| i * i % 50).collect());
    /// let windows = EvalWindows::new(held_out.into(), 0..200, 16)?;
    ///
    /// let config = model::Config::stories_260k().with_vocab(50);
    /// let mut trainer =
    ///     Trainer::<f32>::new(&engine::Device::cpu(1)?, &config, Recipe::new(4, 16));
    /// trainer.init(1)?;
    /// // Nothing is learnt yet: about ln 50.
    /// assert!((trainer.validation_loss(&windows, 1000)? - 50f64.ln()).abs() < 0.5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Engine`] with what went wrong on a GPU.
    pub fn validation_loss(&mut self, windows: &EvalWindows, tokens: u64) -> Result<f64, Error> {
        let (rows, T) = (self.recipe().batch_size, self.recipe().seq_len);
        let count = windows.count().min(tokens.div_ceil(T as u64));
        let (mut tokens_N, mut targets_N) = (vec![0; rows * T], vec![0; rows * T]);
        let Trainer { dev, model, weights, cache, scratch, evaluated: loss, .. } = self;
        let (w, segments) = (weights.view(), &Segments::equal(rows, T));
        loss.clear(dev);
        for first in (0..count).step_by(rows) {
            let pairs = tokens_N.chunks_exact_mut(T).zip(targets_N.chunks_exact_mut(T));
            for (index, (tokens, targets)) in (first..).zip(pairs) {
                windows.window(index, tokens, targets, IGNORE);
                if index >= count {
                    targets.fill(IGNORE);
                }
            }
            let batch = Batch::new(&tokens_N, &targets_N, segments);
            dev.install(|| {
                model.forward(dev, w, batch, cache, scratch);
                model.loss(dev, loss, w, batch, cache, scratch);
            });
        }
        Ok(loss.read()?.mean())
    }
}
