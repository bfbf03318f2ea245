//! Windows of tokens in an order that is a pure function of the seed and the global sample index.
//!
//! Sample `i` is the same whoever asks for it, so a resumed run, another split of the batch, or
//! another number of ranks sees the same stream: step `s` with `B` rows takes samples
//! `s*B .. (s+1)*B`, and rank `r` of `R` takes its share of those.
//!
//! Shuffled: an epoch cuts the tokens into windows of `seq_len` that do not overlap, from an offset
//! drawn anew for each epoch, and visits each once, in the order of a pseudo-random permutation. The
//! permutation is a Feistel network on the next larger power of four, walked along its cycle until
//! it lands on a window (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002):
//! no table, so a trillion tokens need no memory. An epoch leaves out fewer than two windows' worth
//! of tokens at the ends, others each time.
//!
//! Sequential: sample `i` starts at token `i * seq_len`, and the stream wraps at its end.
//!
//! ```
//! use std::sync::Arc;
//!
//! use data::loader::{Loader, LoaderConfig, Order};
//! use data::shard::TokenSource;
//!
//! let source = Arc::new(TokenSource::from_ids((0..100).collect()));
//! let config = LoaderConfig { seq_len: 4, seed: 1, order: Order::Shuffled, range: 0..100 };
//! let loader = Loader::new(source, config)?;
//! let (mut inputs, mut targets) = ([0; 8], [0; 8]);
//! loader.fill_batch(6, 2, &mut inputs, &mut targets);
//! assert_eq!(targets[..3], [1, 2, 3].map(|i| inputs[i] as i32));
//!
//! let (mut alone, mut next) = ([0; 4], [0; 4]);
//! loader.sample(7, &mut alone, &mut next);
//! assert_eq!(alone, inputs[4..]);
//! # Ok::<(), data::Error>(())
//! ```

use std::ops::Range;
use std::sync::Arc;

use rand_core::Rng;

use crate::Error;
use crate::rng::{Philox, mix64};
use crate::shard::TokenSource;

const EPOCH_STREAM: u32 = 0x0E90_C400;
const ROUNDS: usize = 6;

/// In what order windows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "lowercase"))]
pub enum Order {
    /// Each epoch a new permutation of new windows, that depends on the seed alone.
    Shuffled,
    /// As the tokens stand, wrapping at the end.
    Sequential,
}

/// What a loader serves.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Tokens in a window.
    pub seq_len: usize,
    /// Decides the shuffled order.
    pub seed: u64,
    /// Shuffled or sequential.
    pub order: Order,
    /// Positions of the token stream to serve; no input and no target comes from outside.
    pub range: Range<u64>,
}

/// Serves training windows, see the module.
#[derive(Clone)]
pub struct Loader {
    source: Arc<TokenSource>,
    config: LoaderConfig,
    windows: u64,
}

impl Loader {
    /// Prepares to serve `config.range` of `source`.
    ///
    /// # Errors
    /// A range that holds less than one window and its last target.
    ///
    /// # Panics
    /// If `seq_len` is 0 or the range ends after the source does.
    pub fn new(source: Arc<TokenSource>, config: LoaderConfig) -> Result<Loader, Error> {
        check_range(&source, &config.range, config.seq_len);
        let (tokens, T) = (config.range.end - config.range.start, config.seq_len as u64);
        if tokens < T + 1 {
            let origin = "training data".to_string();
            return Err(Error::TooShort { origin, tokens, needed: T + 1 });
        }
        let windows = match config.order {
            // One window fewer than fit, so that the offset has room.
            Order::Shuffled => ((tokens - T) / T).max(1),
            Order::Sequential => (tokens - 1) / T,
        };
        Ok(Loader { source, config, windows })
    }

    /// Windows in one epoch: samples after which all tokens were served once, up to the ends.
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows
    }

    /// Writes sample `index`: `seq_len` inputs, and as targets the token after each.
    ///
    /// # Panics
    /// If the slices are not `seq_len` long.
    pub fn sample(&self, index: u64, inputs: &mut [u32], targets: &mut [i32]) {
        let T = self.config.seq_len;
        assert_eq!((inputs.len(), targets.len()), (T, T), "loader: sample lengths");
        match self.config.order {
            Order::Shuffled => {
                let start = self.shuffled_start(index);
                let mut last = [0];
                self.source.copy(start, inputs);
                self.source.copy(start + T as u64, &mut last);
                shift(inputs, last[0], targets);
            }
            Order::Sequential => {
                let tokens = self.config.range.end - self.config.range.start;
                let start = (index % tokens) * (T as u64) % tokens;
                let mut last = [0];
                self.copy_wrapping(start, inputs);
                self.copy_wrapping((start + T as u64) % tokens, &mut last);
                shift(inputs, last[0], targets);
            }
        }
    }

    /// Writes samples `first_index .. first_index + rows`, one row each.
    ///
    /// # Panics
    /// If the slices are not `rows * seq_len` long.
    pub fn fill_batch(
        &self,
        first_index: u64,
        rows: usize,
        inputs: &mut [u32],
        targets: &mut [i32],
    ) {
        let T = self.config.seq_len;
        assert_eq!((inputs.len(), targets.len()), (rows * T, rows * T), "loader: batch lengths");
        let pairs = inputs.chunks_exact_mut(T).zip(targets.chunks_exact_mut(T));
        for (row, (inputs, targets)) in pairs.enumerate() {
            self.sample(first_index + row as u64, inputs, targets);
        }
    }

    /// Where in the source the window of shuffled sample `index` begins.
    fn shuffled_start(&self, index: u64) -> u64 {
        let T = self.config.seq_len as u64;
        let (epoch, place) = (index / self.windows, index % self.windows);
        let mut rng = Philox::new(self.config.seed, EPOCH_STREAM, epoch);
        let slack = self.config.range.end - self.config.range.start - 1 - self.windows * T;
        let offset = rng.below(T.min(slack + 1));
        let window = Permutation::new(self.windows, &mut rng).apply(place);
        self.config.range.start + offset + window * T
    }

    /// Copies from `start`, counted from the start of the range, going around at its end.
    fn copy_wrapping(&self, start: u64, out: &mut [u32]) {
        let Range { start: begin, end } = self.config.range;
        let (mut at, mut out) = (begin + start, out);
        while !out.is_empty() {
            let count = out.len().min((end - at) as usize);
            let (now, rest) = out.split_at_mut(count);
            self.source.copy(at, now);
            (at, out) = (begin, rest);
        }
    }
}

fn check_range(source: &TokenSource, range: &Range<u64>, seq_len: usize) {
    assert!(seq_len > 0, "loader: sequence length 0");
    assert!(
        range.start <= range.end && range.end <= source.len(),
        "loader: range {range:?} of {} tokens",
        source.len()
    );
}

/// targets[i] = inputs[i + 1]; the last one is `last`.
fn shift(inputs: &[u32], last: u32, targets: &mut [i32]) {
    let next = inputs[1..].iter().chain(std::iter::once(&last));
    for (target, &id) in targets.iter_mut().zip(next) {
        *target = id as i32;
    }
}

/// A pseudo-random permutation of `0..n` that keeps only its keys.
pub struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// Draws a permutation of `0..n`.
    ///
    /// # Panics
    /// If `n` is 0 or above 2^62.
    pub fn new(n: u64, rng: &mut Philox) -> Permutation {
        assert!(n > 0 && n <= 1 << 62, "permutation of {n} items");
        let bits = u64::BITS - (n - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Permutation { n, half_bits, keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// Where item `i` goes. The network permutes up to 4n items, so a walk takes few steps.
    ///
    /// # Panics
    /// If `i` is not below n.
    pub fn apply(&self, i: u64) -> u64 {
        assert!(i < self.n, "permutation: item {i} of {}", self.n);
        let mut x = i;
        loop {
            x = self.network(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix64(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// How much of the data is kept for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Held {
    /// This fraction, from 0 up to, not including, 1.
    Fraction(f64),
    /// This many tokens.
    Tokens(u64),
}

/// Splits a stream of `tokens` into a range to train on and a range to validate on: its tail.
/// The ranges share no token, neither as input nor as target.
///
/// # Errors
/// A share that is no share or leaves nothing to train on.
pub fn split(tokens: u64, held: Held) -> Result<(Range<u64>, Range<u64>), Error> {
    let (kept, share) = match held {
        Held::Fraction(f) if (0.0..1.0).contains(&f) => {
            ((tokens as f64 * f).round() as u64, f.to_string())
        }
        Held::Fraction(f) => (tokens, f.to_string()),
        Held::Tokens(n) => (n, n.to_string()),
    };
    if kept >= tokens {
        return Err(Error::Split { share, tokens });
    }
    let cut = tokens - kept;
    Ok((0..cut, cut..tokens))
}

/// Windows for evaluation: in order, without overlap, every token of the range but the first being
/// a target exactly once. The last window is padded.
#[derive(Clone)]
pub struct EvalWindows {
    source: Arc<TokenSource>,
    range: Range<u64>,
    seq_len: usize,
}

impl EvalWindows {
    /// Prepares to serve `range` of `source`.
    ///
    /// # Errors
    /// A range of fewer than two tokens: an input and its target.
    ///
    /// # Panics
    /// If `seq_len` is 0 or the range ends after the source does.
    pub fn new(
        source: Arc<TokenSource>,
        range: Range<u64>,
        seq_len: usize,
    ) -> Result<EvalWindows, Error> {
        check_range(&source, &range, seq_len);
        let (tokens, needed) = (range.end - range.start, 2);
        if tokens < needed {
            return Err(Error::TooShort { origin: "validation data".to_string(), tokens, needed });
        }
        Ok(EvalWindows { source, range, seq_len })
    }

    /// Number of windows.
    pub fn count(&self) -> u64 {
        self.targets().div_ceil(self.seq_len as u64)
    }

    /// Targets in all windows together, padding not counted.
    pub fn targets(&self) -> u64 {
        self.range.end - self.range.start - 1
    }

    /// Writes window `index` and returns how many of its targets count; the others are `ignore`.
    /// Past the last window everything is padding, so a batch may be larger than what is left.
    ///
    /// # Panics
    /// If the slices are not `seq_len` long.
    pub fn window(
        &self,
        index: u64,
        inputs: &mut [u32],
        targets: &mut [i32],
        ignore: i32,
    ) -> usize {
        let T = self.seq_len;
        assert_eq!((inputs.len(), targets.len()), (T, T), "loader: window lengths");
        inputs.fill(0);
        targets.fill(ignore);
        let begin = index * T as u64;
        let real = self.targets().saturating_sub(begin).min(T as u64) as usize;
        if real > 0 {
            let start = self.range.start + begin;
            let mut last = [0];
            self.source.copy(start, &mut inputs[..real]);
            self.source.copy(start + real as u64, &mut last);
            shift(&inputs[..real], last[0], &mut targets[..real]);
        }
        real
    }
}

/// Entropy of the distribution of single tokens, in nats a token: the loss of a model that knows
/// how often each token comes and nothing else.
///
/// # Panics
/// If a token is not below `vocab_size`.
pub fn unigram_entropy(tokens: &[u32], vocab_size: usize) -> f64 {
    let mut counts = vec![0u64; vocab_size];
    for &token in tokens {
        counts[token as usize] += 1;
    }
    let total = tokens.len() as f64;
    let share = counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 / total);
    share.map(|p| -p * p.ln()).sum()
}
