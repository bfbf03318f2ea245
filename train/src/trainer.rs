//! A model with everything that a training step needs, allocated before the first one, and the step
//! itself. The loop stays with the caller, who alone decides what is reported, evaluated and saved.
//!
//! ```
//! use std::sync::Arc;
//!
//! use data::loader::{Loader, LoaderConfig, Order};
//! use data::shard::TokenSource;
//! use engine::Device;
//! use model::Config;
//! use optim::Schedule;
//! use train::trainer::{Recipe, Trainer};
//!
//! # fn main() -> Result<(), train::Error> {
//! let tokens: Vec<u32> = (0..2000).map(|i| i * i % 50).collect();
//! let source = Arc::new(TokenSource::from_ids(tokens));
//! let order = LoaderConfig { seq_len: 16, seed: 1, order: Order::Shuffled, range: 0..2000 };
//! let loader = Loader::new(source, order)?;
//!
//! let dev = Device::cpu(0)?;
//! let config = Config::named("260k").expect("a named size").with_vocab(50);
//! let mut trainer = Trainer::<f32>::new(&dev, &config, Recipe::new(4, 16));
//! trainer.init(1)?;
//!
//! let schedule = Schedule { peak: 3e-3, min_ratio: 0.1, warmup: 2, steps: 8 };
//! let mut losses = Vec::new();
//! while trainer.steps() < schedule.steps {
//!     let taken = trainer.step(&loader, schedule.lr(trainer.steps()))?;
//!     losses.push(taken.loss);
//! }
//! assert!(losses[7] < losses[0]);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "run")]
mod files;

use data::loader::Loader;
use engine::ops::loss::{self, Loss, Sum};
use engine::{Arena, Device, Dims, Element, Real, Segments, Slot, Table};
use model::cache::{Cache, Mode, Scratch};
use model::generation::Decoder;
use model::llama::{Batch, Llama, Sums};
use model::weights::Weights;
use model::{Config, init};
use optim::adamw::Settings;
use optim::{AdamW, GlobalNorm};

use crate::error::Error;

/// How a trainer takes its steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Sequences of one forward pass.
    pub batch_size: usize,
    /// Tokens of one sequence.
    pub seq_len: usize,
    /// Forward and backward passes of one step.
    pub accum: usize,
    /// What a block keeps for its backward pass.
    pub cache: Mode,
    /// AdamW's constants.
    pub adamw: Settings,
    /// Largest global L2 norm of the gradient; infinite leaves it as it is.
    pub max_norm: f64,
    /// Tokens that a sample of text may have, its prompt included; 0 where none is wanted.
    pub context: usize,
}

impl Recipe {
    /// The paper's: one pass a step, AdamW with its constants, norms up to 1. No samples.
    pub fn new(batch_size: usize, seq_len: usize) -> Recipe {
        Recipe {
            batch_size,
            seq_len,
            accum: 1,
            cache: Mode::Linear,
            adamw: Settings::default(),
            max_norm: 1.0,
            context: 0,
        }
    }

    /// Tokens of one forward pass.
    pub fn tokens_per_batch(&self) -> usize {
        self.batch_size * self.seq_len
    }

    /// Refuses what no device could hold: with it, all arithmetic on sizes of `model` is exact.
    ///
    /// # Errors
    /// [`Error::Config`] naming the value and what is possible.
    pub fn check(&self, model: &Config) -> Result<(), Error> {
        let Recipe { batch_size: B, seq_len: T, accum, .. } = *self;
        check_tokens(B, T, accum)?;
        let Dims { L, C, H, F, V, .. } = model.dims;
        let rank = model.lora.as_ref().map_or(0, |lora| lora.rank);
        // Kernels count rows of heads and adapters in 32 bits, and elements of other rows by blocks of
        // threads. Bytes are counted in 64 bits; no token takes more than these of a block.
        let [of_heads, of_rows] = [H.max(rank), C.max(2 * F).max(model.dims.qkv())]
            .map(|columns| (B * T) as u128 * columns as u128);
        let row = 4 * (C + F + model.dims.qkv() + model.dims.attn() + 4 * H + 7 * rank + 8);
        let rows = row as u128 * (L + 2) as u128 + V as u128;
        let bytes = 8 * rows * (B * T + self.context) as u128;
        if of_heads >= 1 << 32 || of_rows >= 1 << 40 || bytes >= 1 << 62 {
            return Err(Error::Config(format!(
                "{B} sequences of {T} tokens (--batch-size, --seq-len) are too many for a model of this \
                 size in one forward pass; give a smaller --batch-size with a larger --accum"
            )));
        }
        Ok(())
    }

    /// Sequences of one step.
    pub fn sequences_per_step(&self) -> u64 {
        (self.batch_size * self.accum) as u64
    }
}

/// Tokens of one forward pass and of one step, at most.
const MOST: [usize; 2] = [1 << 22, 1 << 31];

/// Refuses steps of `accum` passes over `B` sequences of `T` tokens that no device could take.
///
/// # Errors
/// [`Error::Config`] naming the flags, the tokens, and what is possible.
pub(crate) fn check_tokens(B: usize, T: usize, accum: usize) -> Result<(), Error> {
    let of_pass = B as u128 * T as u128;
    let [pass, step] = MOST;
    if of_pass > pass as u128 {
        return Err(Error::Config(format!(
            "--batch-size (run.batch_size) is {B} and --seq-len (run.seq_len) {T}: {of_pass} tokens of \
             one forward pass, of at most {pass}; give a smaller --batch-size with a larger --accum"
        )));
    }
    let of_step = of_pass * accum as u128;
    if of_step > step as u128 {
        return Err(Error::Config(format!(
            "--accum (run.accum) is {accum}: {of_step} tokens of one step, of at most {step}; give a \
             smaller --accum"
        )));
    }
    Ok(())
}

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// Nats per token, mean over the step.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub norm: f64,
}

/// A model in training. Its parts are public: a loop may also call them itself.
pub struct Trainer<E: Element> {
    /// Where all of it lives.
    pub dev: Device,
    /// Sizes and parameter table.
    pub model: Llama<E>,
    /// What is trained.
    pub weights: Weights<E>,
    /// The moments.
    pub adamw: AdamW<E>,
    /// Gradients of the step so far.
    pub grads: Arena<E::Acc>,
    /// Loss of the step so far.
    pub loss: Sum,
    /// Loss of what was evaluated last.
    pub evaluated: Sum,
    /// Norm of the last step's gradients.
    pub norm: GlobalNorm,
    /// What forward leaves for backward.
    pub cache: Cache<E>,
    /// What layers share.
    pub scratch: Scratch<E>,
    /// What samples are written with.
    pub decoder: Decoder<E>,
    recipe: Recipe,
    /// What the targets of the step weigh.
    weight: f64,
    /// Ids and targets that [`Trainer::step`] draws.
    drawn: (Vec<u32>, Vec<i32>),
    /// Ids of the last batch.
    tokens_N: Vec<u32>,
    /// Segments of the last batch.
    segments: Segments,
}

impl<E: Element> Trainer<E> {
    /// Everything that steps by `recipe` need. All weights are zero: see [`Trainer::init`].
    pub fn new(dev: &Device, config: &Config, recipe: Recipe) -> Self {
        let (N, T) = (recipe.tokens_per_batch(), recipe.seq_len.max(recipe.context));
        let small = &dev.under("angles, losses and norm");
        let model = Llama::<E>::new(small, config, T);
        Trainer {
            dev: dev.clone(),
            weights: Weights::zeros(dev, model.table()),
            grads: Arena::zeros(&dev.under("gradients"), &model.table().trained()),
            adamw: AdamW::new(dev, model.table(), recipe.adamw),
            loss: Sum::new(small),
            evaluated: Sum::new(small),
            norm: GlobalNorm::new(small),
            cache: Cache::new(dev, &config.dims, N, recipe.cache),
            scratch: Scratch::new(dev, config, N),
            decoder: Decoder::new(&dev.under("decoder for samples"), &model, 1, recipe.context),
            model,
            recipe,
            weight: 0.0,
            drawn: Default::default(),
            tokens_N: Vec::new(),
            segments: Segments::default(),
        }
    }

    /// How it takes its steps.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Steps taken, before a resume too.
    pub fn steps(&self) -> u64 {
        self.adamw.steps()
    }

    /// The next step, on the sequences of `loader` whose turn it is: gradients, clipping, AdamW at
    /// the rate `lr`. The device is waited for at its end.
    ///
    /// # Errors
    /// As [`Trainer::end_step`].
    pub fn step(&mut self, loader: &Loader, lr: f64) -> Result<Taken, Error> {
        let Recipe { batch_size: B, seq_len: T, accum, .. } = self.recipe;
        let first = self.steps() * self.recipe.sequences_per_step();
        let (tokens, targets) = &mut self.drawn;
        tokens.resize(accum * B * T, 0);
        targets.resize(accum * B * T, 0);
        loader.fill_batch(first, accum * B, tokens, targets);
        let weight = loss::weight(targets, None);
        self.begin_step(weight)?;
        // Lent, so that batches can borrow from it.
        let (tokens, targets) = std::mem::take(&mut self.drawn);
        let segments = &Segments::equal(B, T);
        for (tokens_N, targets_N) in tokens.chunks(B * T).zip(targets.chunks(B * T)) {
            self.add_batch(Batch::new(tokens_N, targets_N, segments));
        }
        self.drawn = (tokens, targets);
        self.end_step(lr)
    }

    /// Begins a step that is to be given its batches one by one: no loss, no gradient. `weight` is
    /// what the targets of all of them weigh, [`Batch::weight`]: without weights, how many of them
    /// count. The step's loss is the mean over these targets, and its gradient that of the mean.
    ///
    /// # Errors
    /// [`Error::Config`] if there is nothing to learn from: the weight is not above 0.
    pub fn begin_step(&mut self, weight: f64) -> Result<(), Error> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::Config(format!(
                "step {}: its targets weigh {weight} in all, so there is no loss to train on; give \
                 batches of which a target counts",
                self.steps() + 1
            )));
        }
        self.weight = weight;
        self.loss.clear(&self.dev);
        self.grads.fill_zero(&self.dev);
        Ok(())
    }

    /// Forward and backward over a batch: adds its share of the step's loss and gradient.
    ///
    /// # Panics
    /// If the batch has more tokens than the recipe says, or longer sequences: a caller bug.
    pub fn add_batch(&mut self, batch: Batch) {
        // Kept, so that a step that diverges can be looked into.
        batch.tokens_N.clone_into(&mut self.tokens_N);
        batch.segments.clone_into(&mut self.segments);
        let (dev, model, w) = (&self.dev, &self.model, self.weights.view());
        let (cache, scratch) = (&mut self.cache, &mut self.scratch);
        let (loss, grads, scale) = (&mut self.loss, &mut self.grads, 1.0 / self.weight);
        let sums = Sums { loss, grads, scale };
        dev.install(|| {
            model.forward(dev, w, batch, cache, scratch);
            model.backward(dev, sums, w, batch, cache, scratch);
        });
    }

    /// Ends a step: clips the gradients, updates the weights at the rate `lr`, and waits.
    ///
    /// # Errors
    /// [`Error::Diverged`] if loss or norm are not finite, then no weight has changed; or if the
    /// first step leaves a parameter without a gradient. [`Error::Engine`] with what went wrong on
    /// a GPU.
    ///
    /// # Panics
    /// If its batches do not weigh what [`Trainer::begin_step`] was told: a caller bug.
    pub fn end_step(&mut self, lr: f64) -> Result<Taken, Error> {
        // Equal, but for the order in which weights were added.
        let (told, given) = (self.weight, self.loss.weight());
        assert!((given - told).abs() <= 1e-6 * told, "trainer: targets weigh {given}, not {told}");
        let first = self.steps() == 0;
        let idle = if first { self.model.idle(&self.weights)? } else { Vec::new() };
        self.update(lr);
        let (loss, norm) = (self.loss.read()?.mean(), self.norm.read()?);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(self.diverged(loss, norm));
        }
        if first {
            check_first_gradients(self.model.table(), &idle, &self.grads)?;
        }
        Ok(Taken { loss, norm })
    }

    /// Queues what a step does to the weights.
    pub(crate) fn update(&mut self, lr: f64) {
        self.norm.measure(&self.dev, &self.grads);
        let (weights, max_norm) = (self.weights.trained_mut(), self.recipe.max_norm);
        self.adamw.step(&self.dev, weights, &self.grads, &self.norm, lr, max_norm);
    }

    /// Names the first place where the last batch meets a number that is not finite.
    fn diverged(&mut self, loss: f64, norm: f64) -> Error {
        // Targets have no part in it.
        let batch = Batch::new(&self.tokens_N, &[], &self.segments);
        let (w, cache, scratch) = (self.weights.view(), &mut self.cache, &mut self.scratch);
        let in_forward = self.model.first_non_finite(&self.dev, w, batch, cache, scratch);
        let in_backward = || self.model.first_non_finite_gradient(&self.grads);
        let place = in_forward
            .or_else(|| in_backward().map(|name| format!("gradient of {name}")))
            .unwrap_or_else(|| "the gradient norm".to_string());
        let what = format!("loss {loss}, gradient norm {norm}, first in {place}");
        Error::Diverged { step: self.steps(), what }
    }

    /// The loss of one batch. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Engine`] with what went wrong on a GPU.
    pub fn loss_of(&mut self, batch: Batch) -> Result<Loss, Error> {
        let (dev, model, w) = (&self.dev, &self.model, self.weights.view());
        let (cache, scratch, loss) = (&mut self.cache, &mut self.scratch, &mut self.evaluated);
        loss.clear(dev);
        dev.install(|| {
            model.forward(dev, w, batch, cache, scratch);
            model.loss(dev, loss, w, batch, cache, scratch);
        });
        Ok(loss.read()?)
    }
}

impl<E: Element<Acc = f32>> Trainer<E> {
    /// Weights for a training from the start, see [`init::fill`].
    ///
    /// # Errors
    /// [`Error::Engine`] with what went wrong on a GPU.
    pub fn init(&mut self, seed: u64) -> Result<(), Error> {
        init::fill(&self.dev, &mut self.weights, self.model.table(), seed);
        Ok(self.weights.refresh()?)
    }
}

/// Step 1 must reach every trained parameter: refuses gradients of which one is not finite, or all
/// zero, unless it is `idle`; those must be zero.
fn check_first_gradients<R: Real>(
    table: &Table,
    idle: &[Slot],
    grads: &Arena<R>,
) -> Result<(), Error> {
    for row in table.rows().iter().filter(|row| row.slot.is_trained()) {
        let gradient = grads.get(row.slot).read()?;
        let finite = gradient.iter().all(|g| g.is_finite());
        let zero = gradient.iter().all(|&g| g == R::ZERO);
        let what = match (finite, zero, idle.contains(&row.slot)) {
            (false, ..) => "is not finite",
            (_, true, false) => "is zero: nothing would train it",
            (_, false, true) => "is not zero, although what it is multiplied with is",
            (_, true, true) | (_, false, false) => continue,
        };
        let what = format!("the gradient of {} {what}", row.name);
        return Err(Error::Diverged { step: 1, what });
    }
    Ok(())
}
