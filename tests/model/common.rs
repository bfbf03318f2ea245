//! A model of any storage type with everything that a step needs, filled from a formula.

use engine::ops::loss::Loss;
use engine::{Cpu, Device, Dims, Element, Isa, Real, Segments};
use handgrad::{engine, model, train};
use model::cache::Mode;
use model::config::Config;
use model::llama::Batch;
use train::trainer::{Recipe, Trainer};

/// Query heads share key/value heads, no size is a multiple of a vector, attention is wider than
/// the model.
pub const GQA: Dims = Dims { L: 2, C: 10, H: 4, G: 2, D: 6, F: 14, V: 23 };
/// One key/value head for each query head.
pub const MHA: Dims = Dims { L: 2, C: 12, H: 3, G: 3, D: 4, F: 20, V: 19 };

pub fn config(dims: Dims, tied: bool) -> Config {
    let base = Config::named("260k").unwrap();
    Config { dims, tied, max_seq_len: 64, ..base }
}

/// The CPU with a given instruction set.
pub fn cpu(isa: Isa, threads: usize) -> Device {
    Device::Cpu(Cpu::with_isa(threads, isa).unwrap())
}

/// A trainer and one batch.
pub struct Bench<E: Element> {
    pub trainer: Trainer<E>,
    pub tokens: Vec<u32>,
    pub targets: Vec<i32>,
    pub segments: Segments,
}

impl<E: Element> Bench<E> {
    /// `B` sequences of `T` on the best instruction set.
    pub fn new(config: &Config, B: usize, T: usize, mode: Mode, threads: usize) -> Self {
        Self::on(Device::cpu(threads).unwrap(), config, B, T, mode)
    }

    /// The same on `dev`.
    pub fn on(dev: Device, config: &Config, B: usize, T: usize, mode: Mode) -> Self {
        Self::by(dev, config, Recipe { cache: mode, ..Recipe::new(B, T) })
    }

    /// Any segments, in a trainer that may hold one sequence as long as all.
    pub fn of_segments(dev: Device, config: &Config, segments: Segments, mode: Mode) -> Self {
        Bench { segments: segments.clone(), ..Self::on(dev, config, 1, segments.rows(), mode) }
    }

    /// The same by any recipe. Weights are of order one where that keeps attention sharp.
    pub fn by(dev: Device, config: &Config, recipe: Recipe) -> Self {
        let mut trainer = Trainer::<E>::new(&dev, config, recipe);
        for (r, row) in trainer.model.table().rows().iter().enumerate() {
            trainer.weights.fill_with(row.slot, |values| {
                for (i, w) in values.iter_mut().enumerate() {
                    let u = unit(r as u64 * 1_000_003 + i as u64);
                    let w64 = if row.shape.len() == 1 { 1.0 + 0.3 * u } else { 0.6 * u };
                    *w = E::Acc::from_f64(w64);
                }
            });
        }
        trainer.weights.refresh().unwrap();
        let (N, V) = (recipe.tokens_per_batch(), config.dims.V as u64);
        let segments = Segments::equal(recipe.batch_size, recipe.seq_len);
        let id = |i: usize| (hash(77 + i as u64) % V) as u32;
        let mut targets: Vec<i32> = (1..=N).map(|i| id(i) as i32).collect();
        targets[N / 2] = engine::ops::loss::IGNORE;
        Bench { trainer, tokens: (0..N).map(id).collect(), targets, segments }
    }

    pub fn forward(&mut self) {
        let batch = Batch::new(&self.tokens, &self.targets, &self.segments);
        let Trainer { dev, model, weights, cache, scratch, .. } = &mut self.trainer;
        model.forward(dev, weights.view(), batch, cache, scratch);
    }

    /// Loss of the current weights, forward only.
    pub fn loss(&mut self) -> Loss {
        let batch = Batch::new(&self.tokens, &self.targets, &self.segments);
        self.trainer.loss_of(batch).unwrap()
    }

    /// Loss and the gradient of its mean, without an update.
    pub fn gradients(&mut self) -> Loss {
        let batch = Batch::new(&self.tokens, &self.targets, &self.segments);
        self.trainer.begin_step(batch.weight()).unwrap();
        self.trainer.add_batch(batch);
        self.trainer.loss.read().unwrap()
    }

    /// A whole step.
    pub fn step(&mut self, lr: f64) {
        self.gradients();
        self.trainer.end_step(lr).unwrap();
    }
}

pub fn hash(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In [-1, 1).
fn unit(i: u64) -> f64 {
    (hash(i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}
