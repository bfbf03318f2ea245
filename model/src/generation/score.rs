//! How well a model predicts given tokens, row by row: what evaluation, perplexity and log-likelihoods of
//! continuations are made of.

use crate::cache::{Cache, Scratch};
use crate::llama::{Batch, Llama};
use engine::ops::loss::IGNORE;
use engine::{Device, Element, Error, Real, Segments, View};

/// What a model makes of one row's target. A row whose target does not count has 0 nats and counts as
/// greedy, so that sums and `all` over the rows of a sequence are over its targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Nats of the target: minus the logarithm of its probability.
    pub nats: f64,
    /// Whether greedy decoding would give it: no logit is larger, and no equal one has a lesser id.
    pub greedy: bool,
}

/// The token that follows each one in its segment. The last of a segment is followed by
/// [`IGNORE`], which does not count.
pub fn next_tokens(tokens_N: &[u32], segments: &Segments) -> Vec<i32> {
    let mut targets_N: Vec<i32> =
        tokens_N.iter().skip(1).map(|&id| id as i32).chain([IGNORE]).take(tokens_N.len()).collect();
    segments.list().iter().for_each(|segment| targets_N[segment.end() - 1] = IGNORE);
    targets_N
}

impl<E: Element> Llama<E> {
    /// Runs the model over a batch and scores the target of each row; weights have no part in it.
    /// The device is waited for.
    ///
    /// Here two continuations of one prompt, packed. Targets of the prompt itself do not count.
    ///
    /// ```
    /// use engine::ops::loss::IGNORE;
    /// use engine::{Device, Segments};
    /// use model::cache::{Cache, Mode, Scratch};
    /// use model::llama::{Batch, Llama};
    /// use model::weights::Weights;
    /// use model::{Config, init, score};
    ///
    /// # fn main() -> Result<(), engine::Error> {
    /// let dev = Device::cpu(0)?;
    /// let config = Config::named("260k").expect("a named size");
    /// let model = Llama::<f32>::new(&dev, &config, 16);
    /// let mut weights = Weights::<f32>::zeros(&dev, model.table());
    /// init::fill(&dev, &mut weights, model.table(), 1);
    ///
    /// let (prompt, continuations) = ([1, 70, 71], [vec![72, 73], vec![300, 301, 302]]);
    /// let packed: Vec<Vec<u32>> =
    ///     continuations.iter().map(|tokens| [&prompt[..], tokens].concat()).collect();
    /// let segments = Segments::of_lengths(packed.iter().map(Vec::len));
    /// let tokens = packed.concat();
    /// let mut targets = score::next_tokens(&tokens, &segments);
    /// for segment in segments.list() {
    ///     targets[segment.offset..][..prompt.len() - 1].fill(IGNORE);
    /// }
    ///
    /// let mut cache = Cache::new(&dev, &config.dims, tokens.len(), Mode::Full);
    /// let mut scratch = Scratch::forward_only(&dev, &config, tokens.len());
    /// let batch = Batch::new(&tokens, &targets, &segments);
    /// let scores = model.score(&dev, weights.view(), batch, &mut cache, &mut scratch)?;
    ///
    /// for (segment, continuation) in segments.list().iter().zip(&continuations) {
    ///     let of_segment = &scores[segment.offset..segment.end()];
    ///     let nats: f64 = of_segment.iter().map(|score| score.nats).sum();
    ///     let greedy = of_segment.iter().all(|score| score.greedy);
    ///     println!("{continuation:?}: log-likelihood {:.2}, greedy: {greedy}", -nats);
    ///     // The model knows nothing yet: each token costs about ln V.
    ///     let guess = (config.dims.V as f64).ln() * continuation.len() as f64;
    ///     assert!((nats - guess).abs() < 1.0);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`] with what went wrong on a GPU, here or before.
    ///
    /// # Panics
    /// As [`Llama::forward`].
    pub fn score(
        &self,
        dev: &Device,
        weights: View<E>,
        batch: Batch,
        cache: &mut Cache<E>,
        scratch: &mut Scratch<E>,
    ) -> Result<Vec<Score>, Error> {
        let (N, targets_N) = (batch.targets_N.len(), batch.targets_N);
        dev.install(|| {
            self.forward(dev, weights, batch, cache, scratch);
            self.nats(dev, true, weights, targets_N, cache, scratch);
        });
        let (nats_N, largest_N) =
            (scratch.nats_N.rows(N, 1).read()?, scratch.largest_N.rows(N, 1).read()?);
        let rows = nats_N.iter().zip(largest_N.iter().zip(targets_N));
        let score = |(nats, (largest, target)): (&E::Acc, (&i32, &i32))| Score {
            nats: nats.to_f64(),
            greedy: largest == target,
        };
        Ok(rows.map(score).collect())
    }
}
