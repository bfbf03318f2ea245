//! A model directory, a run's own or any Hugging Face LLaMA: configuration, weights, tokenizer.
//!
//! ```
//! use data::tokenizer::Tokenizer;
//! use engine::Device;
//! use model::llama::Llama;
//! use model::weights::Weights;
//! use model::{Config, init};
//! use train::directory;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("model");
//! let (dev, tokenizer) = (Device::cpu(1)?, Tokenizer::bytes());
//! let config = Config::stories_260k().with_vocab(tokenizer.vocab_size());
//! let model = Llama::<f32>::new(&dev, &config, 16);
//! let mut weights = Weights::zeros(&dev, model.table());
//! init::fill(&dev, &mut weights, model.table(), 1);
//! directory::write(&dir, &model, &weights, Some(&tokenizer))?;
//!
//! let (found, _) = directory::open(&dir)?;
//! assert_eq!(found.dims, config.dims);
//! let read = directory::weights::<f32>(&dev, &dir, model.table())?;
//! assert_eq!(read.view().read()?, weights.view().read()?);
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use data::tokenizer::{Special, Tokenizer};
use engine::{Device, Element, Table};
use model::llama::Llama;
use model::weights::Weights;
use model::{Config, hf};

use crate::corpus::tell_disagreements;
use crate::error::Error;

/// What a trained model's directory says of it, and the tokenizer beside it.
///
/// # Errors
/// A `config.json` or `tokenizer.json` that is missing or unusable, or that do not match.
pub fn open(dir: &Path) -> Result<(Config, Tokenizer), Error> {
    let config = hf::load(dir)?;
    let tokenizer = Tokenizer::load(&Tokenizer::path(dir))?;
    tokenizer.check_model(config.dims.V)?;
    tell_disagreements(&tokenizer);
    Ok((config, tokenizer))
}

/// The weights in the directory `dir`, ready to compute with.
///
/// # Errors
/// As [`read_weights`].
pub fn weights<E: Element<Acc = f32>>(
    dev: &Device,
    dir: &Path,
    table: &Table,
) -> Result<Weights<E>, Error> {
    let mut weights = Weights::zeros(dev, table);
    read_weights(dir, table, &mut weights)?;
    Ok(weights)
}

/// Fills `weights` from the directory `dir`, and warns of tensors that are passed over. See
/// [`hf::read_weights`].
///
/// # Errors
/// [`Error::Weights`] naming file and tensor.
pub fn read_weights<E: Element<Acc = f32>>(
    dir: &Path,
    table: &Table,
    weights: &mut Weights<E>,
) -> Result<(), Error> {
    let passed_over = hf::read_weights(dir, table, weights).map_err(Error::Weights)?;
    if let Some(first) = passed_over.first() {
        let (dir, n) = (dir.display(), passed_over.len());
        tracing::warn!("{dir}: {n} tensors passed over, they follow from config.json: {first} ..");
    }
    Ok(weights.refresh()?)
}

/// Writes the directory that Hugging Face and `generate` load: configuration, weights, tokenizer.
///
/// # Errors
/// If a file cannot be written; each file is then old or new, never half of each.
pub fn write<E: Element<Acc = f32>>(
    out: &Path,
    model: &Llama<E>,
    weights: &Weights<E>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), Error> {
    let (config, table) = (model.config(), model.table());
    hf::write(out, config, table, weights, E::DTYPE, hf::SHARD_BYTES)?;
    match tokenizer {
        Some(tokenizer) => tokenizer.save(out)?,
        None => Special::of_ids(config.bos, &config.eos, config.pad).save_generation(out)?,
    }
    Ok(())
}
