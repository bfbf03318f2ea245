//! Several sources in fixed shares, in an order that is a pure function of the seed and the global
//! sample index, as a [`Loader`]'s is: a resumed run, or another number of ranks, sees the same
//! stream.
//!
//! Samples come in blocks of 1024. With cumulative shares `c_s`, the first `b` blocks hold
//! `floor(1024 b c_s) - floor(1024 b c_(s-1))` samples of source `s`: after any block each source is
//! within one sample of its share. Inside a block a permutation of the seed and the block's number
//! says which sample is of which source, and which of that source's samples in this block. So each
//! source goes through its own loader's epochs one after the other, whatever the others do.

use crate::Error;
use crate::loader::{Loader, Permutation};
use crate::rng::Philox;

/// Samples of a block.
const BLOCK: u64 = 1 << 10;

const MIXTURE_STREAM: u32 = 0x317E_0000;

/// One source of a [`Mixture`].
#[derive(Clone)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its share, before all shares are scaled to sum to one.
    pub weight: f64,
    /// Its samples.
    pub loader: Loader,
}

/// Serves samples of several sources, see the module.
#[derive(Clone)]
pub struct Mixture {
    parts: Vec<Part>,
    /// Where each part's share ends, in 2^-53ths of the whole.
    ends: Vec<u64>,
    seed: u64,
}

/// The whole of all shares: a fraction of it times a number of samples fits into 128 bits, exactly.
const WHOLE: u64 = 1 << 53;

impl Mixture {
    /// A mixture of `parts`, whose order of sources depends on `seed` alone.
    ///
    /// # Errors
    /// No part at all; a weight that is not finite and above 0; two parts of one name.
    pub fn new(parts: Vec<Part>, seed: u64) -> Result<Mixture, Error> {
        let bad = |reason: String| Err(Error::Mixture { reason });
        if parts.is_empty() {
            return bad("it has no source".to_string());
        }
        for (i, part) in parts.iter().enumerate() {
            if !(part.weight.is_finite() && part.weight > 0.0) {
                return bad(format!(
                    "{} has weight {}: must be finite and above 0",
                    part.name, part.weight
                ));
            }
            if parts[..i].iter().any(|other| other.name == part.name) {
                return bad(format!("{} is there twice", part.name));
            }
        }
        let total: f64 = parts.iter().map(|part| part.weight).sum();
        let mut sum = 0.0;
        let mut ends: Vec<u64> = Vec::new();
        for part in &parts {
            sum += part.weight;
            ends.push((sum / total * WHOLE as f64) as u64);
        }
        *ends.last_mut().expect("not empty") = WHOLE;
        Ok(Mixture { parts, ends, seed })
    }

    /// The sources, in their order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Samples of `source` among the first `blocks` blocks.
    fn before(&self, source: usize, blocks: u64) -> u64 {
        let up_to = |share: u64| {
            (u128::from(blocks) * u128::from(BLOCK) * u128::from(share) / u128::from(WHOLE)) as u64
        };
        let start = if source == 0 { 0 } else { self.ends[source - 1] };
        up_to(self.ends[source]) - up_to(start)
    }

    /// Which source sample `index` is of, and its number among that source's samples.
    pub fn place(&self, index: u64) -> (usize, u64) {
        let (block, at) = (index / BLOCK, index % BLOCK);
        let mut rng = Philox::new(self.seed, MIXTURE_STREAM, block);
        let mut rank = Permutation::new(BLOCK, &mut rng).apply(at);
        for source in 0..self.parts.len() {
            let before = self.before(source, block);
            let here = self.before(source, block + 1) - before;
            if rank < here {
                return (source, before + rank);
            }
            rank -= here;
        }
        unreachable!("the sources share all of a block")
    }

    /// Writes sample `index`: inputs, and as targets the token after each.
    ///
    /// # Panics
    /// If the slices are not as long as the loaders' sequences.
    pub fn sample(&self, index: u64, inputs: &mut [u32], targets: &mut [i32]) {
        let (source, index) = self.place(index);
        self.parts[source].loader.sample(index, inputs, targets);
    }

    /// How often each source has been gone through after `samples` samples.
    pub fn epochs(&self, samples: u64) -> Vec<f64> {
        let blocks = samples / BLOCK;
        let mut counts: Vec<u64> = (0..self.parts.len()).map(|s| self.before(s, blocks)).collect();
        for index in blocks * BLOCK..samples {
            counts[self.place(index).0] += 1;
        }
        let epochs = counts.iter().zip(&self.parts);
        epochs.map(|(&n, part)| n as f64 / part.loader.windows_per_epoch() as f64).collect()
    }
}
