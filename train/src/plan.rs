//! The memory of a run, known before anything is allocated: the trainer itself, on a device that
//! counts.
//!
//! ```
//! use engine::{Cuda, Device, bf16};
//! use model::Config;
//! use train::plan::plan;
//! use train::trainer::Recipe;
//!
//! # fn main() -> Result<(), train::Error> {
//! // An H100, wherever this runs.
//! let dev = Device::Cuda(Cuda::imagined(engine::cuda::Target::of(90), 80 << 30));
//! let config = Config::named("7b").expect("a named size");
//! let plan = plan::<bf16>(&dev, &config, &Recipe::new(1, 2048), 0)?;
//! assert!(plan.total() > 80 << 30, "weights, gradients and moments alone take 118 GB");
//! println!("{plan}");
//! # Ok(())
//! # }
//! ```

use engine::{Device, Dims, Element, Plan, Segments};
use model::config::Config;
use model::generation::{CHUNK, Decoder};
use model::llama::{Batch, Llama};
use model::weights::Weights;

use crate::error::Error;
use crate::memory::resident_bytes;
use crate::trainer::{Recipe, Trainer};

/// What a run's code, threads and tokenizer take, in bytes: 16 to 37 MiB were measured on x86-64
/// Linux. A plan that is made before they are loaded counts with 28.
const PROGRAM: u64 = 28 << 20;

/// Bytes of everything that a training run holds on its device, by category. `tokens` are bytes of
/// the corpus, which like the program count where the device is the CPU.
///
/// # Errors
/// [`Error::Config`] if a batch is larger than any device could take, see [`Recipe::check`].
pub fn plan<E: Element>(
    dev: &Device,
    model: &Config,
    recipe: &Recipe,
    tokens: u64,
) -> Result<Plan, Error> {
    recipe.check(model)?;
    let counted = |run: &dyn Fn(&Device) -> Result<(), Error>| {
        let dev = dev.counting();
        run(&dev)?;
        Ok::<_, Error>(dev.counted().expect("it counts"))
    };
    let mut plan = counted(&|dev| take_step::<E>(dev, model, recipe))?;
    plan.share_workspace(&counted(&|dev| take_prompts::<E>(dev, model, recipe.context))?);
    if let Device::Cpu(_) = dev {
        plan.add("tokens", tokens);
        plan.add("program", resident_bytes().max(PROGRAM));
    }
    Ok(plan)
}

/// All that a run does between its first buffer and its last step: a step, and an evaluation.
fn take_step<E: Element>(dev: &Device, model: &Config, recipe: &Recipe) -> Result<(), Error> {
    let mut trainer = Trainer::<E>::new(dev, model, *recipe);
    let N = recipe.tokens_per_batch();
    let (tokens_N, targets_N) = (vec![0; N], vec![0; N]);
    let segments = Segments::equal(recipe.batch_size, recipe.seq_len);
    let batch = Batch::new(&tokens_N, &targets_N, &segments);
    trainer.begin_step(batch.weight())?;
    trainer.add_batch(batch);
    trainer.update(0.0);
    trainer.loss_of(batch)?;
    Ok(())
}

/// Prompts of every length that a sample may have, as far as they are taken in at a time, and the
/// token after: the work space of products is no larger for more rows, but often larger for fewer. All
/// blocks need the same, so one shows it.
fn take_prompts<E: Element>(dev: &Device, model: &Config, context: usize) -> Result<(), Error> {
    let one = Config { dims: Dims { L: 1, ..model.dims }, ..model.clone() };
    let model = Llama::<E>::new(dev, &one, context);
    let weights = Weights::<E>::zeros(dev, model.table());
    let mut decoder = Decoder::<E>::new(dev, &model, 1, context);
    let tokens = vec![0; CHUNK.min(context)];
    for n in 1..=tokens.len() {
        decoder.clear(0);
        decoder.feed(dev, &model, weights.view(), &[(0, &tokens[..n])])?;
    }
    Ok(())
}
