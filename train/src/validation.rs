//! The loss on text that is held out.

use data::loader::EvalWindows;
use engine::ops::loss::{IGNORE, Sum};
use engine::{Device, Element, Segments, View};
use model::cache::{Cache, Scratch};
use model::llama::{Batch, Llama};

use crate::error::Error;

/// Nats per token over the first windows of `windows` that hold `tokens` tokens, computed in
/// batches that fill `cache`.
///
/// # Errors
/// [`Error::Engine`] with what went wrong on a GPU.
pub fn loss<E: Element>(
    dev: &Device,
    model: &Llama<E>,
    weights: View<E>,
    windows: &EvalWindows,
    tokens: u64,
    T: usize,
    cache: &mut Cache<E>,
    scratch: &mut Scratch<E>,
) -> Result<f64, Error> {
    let rows = cache.tokens() / T;
    let count = windows.count().min(tokens.div_ceil(T as u64));
    let (mut tokens_N, mut targets_N) = (vec![0; rows * T], vec![0; rows * T]);
    let (mut loss, segments) = (Sum::new(dev), &Segments::equal(rows, T));
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
            model.forward(dev, weights, batch, cache, scratch);
            model.loss(dev, &mut loss, weights, batch, cache, scratch);
        });
    }
    Ok(loss.read()?.mean())
}
