//! The state of a run that checkpoints hold: weights, moments, and where in the data it stands.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use data::text::find_files;
use data::tokenizer::Tokenizer;
use engine::{Arena, Cuda, Device, Element, Table};
use model::weights::Weights;
use model::{Config, hf};
use optim::AdamW;
use safetensors::Dtype;
use tracing::info;
use xxhash_rust::xxh3::xxh3_64;

use crate::checkpoint::{self, Found, State, Tensor};
use crate::config::{self, Fingerprint, RunConfig};
use crate::error::Error;

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "optimizer.safetensors";

/// Saves weights and moments under `root`. See [`checkpoint::save`].
///
/// # Errors
/// [`Error::Diverged`] if a weight is not finite: the last good checkpoint stays the newest.
/// Otherwise as [`checkpoint::save`].
pub fn save<E: Element<Acc = f32>>(
    root: &Path,
    state: &State,
    table: &Table,
    weights: &Weights<E>,
    optimizer: &AdamW<E>,
) -> Result<PathBuf, Error> {
    for row in table.rows() {
        let values = weights.master().get(row.slot).read()?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let what = format!("{} is {} at element {i}", row.name, values[i]);
            return Err(Error::Diverged { step: state.step, what });
        }
    }
    let (m, v) = optimizer.moments();
    let mut moments = tensors(table, m, "m.")?;
    moments.extend(tensors(table, v, "v.")?);
    let weights = tensors(table, weights.master(), "")?;
    checkpoint::save(root, state, &[(WEIGHTS, weights), (MOMENTS, moments)])
}

fn tensors<'a>(
    table: &Table,
    arena: &'a Arena<f32>,
    prefix: &str,
) -> Result<Vec<Tensor<'a>>, Error> {
    let tensor = |row: &engine::arena::Row| {
        let bytes = match arena.get(row.slot).read()? {
            Cow::Borrowed(values) => Cow::Borrowed(bytemuck::cast_slice(values)),
            Cow::Owned(values) => Cow::Owned(bytemuck::pod_collect_to_vec(&values)),
        };
        let (name, shape) = (format!("{prefix}{}", row.name), row.shape.clone());
        Ok(Tensor { name, dtype: Dtype::F32, shape, bytes })
    };
    table.rows().iter().map(tensor).collect()
}

/// Reads back what [`save`] wrote.
///
/// # Errors
/// [`Error::Checkpoint`] if it belongs to another model, [`Error::Io`] if it cannot be read.
pub fn restore<E: Element<Acc = f32>>(
    found: &mut Found,
    table: &Table,
    weights: &mut Weights<E>,
    optimizer: &mut AdamW<E>,
) -> Result<(), Error> {
    read(found, WEIGHTS, "", table, weights.master_mut())?;
    weights.refresh()?;
    let (m, v) = optimizer.restore(found.state().step);
    read(found, MOMENTS, "m.", table, m)?;
    read(found, MOMENTS, "v.", table, v)
}

fn read(
    found: &mut Found,
    file: &str,
    prefix: &str,
    table: &Table,
    arena: &mut Arena<f32>,
) -> Result<(), Error> {
    for row in table.rows() {
        let name = format!("{prefix}{}", row.name);
        arena.get_mut(row.slot).fill_with(|values| {
            let bytes = bytemuck::cast_slice_mut(values);
            found.read(file, &name, Dtype::F32, &row.shape, bytes)
        })?;
    }
    Ok(())
}

/// Reads the weights of the Hugging Face directory `dir`. See [`hf::read_weights`].
///
/// # Errors
/// [`Error::Weights`] naming file and tensor.
pub fn read_weights(dir: &Path, table: &Table, weights: &mut Arena<f32>) -> Result<(), Error> {
    hf::read_weights(dir, table, weights).map_err(Error::Weights)
}

/// What a trained model's directory says of it, and the tokenizer beside it.
///
/// # Errors
/// A `config.json` or `tokenizer.json` that is missing or unusable, or that do not match.
pub fn open(dir: &Path) -> Result<(Config, Tokenizer), Error> {
    let config = hf::load(dir)?;
    let tokenizer = Tokenizer::load(&dir.join("tokenizer.json"))?;
    tokenizer.check_model(config.dims.V)?;
    Ok((config, tokenizer))
}

/// The weights in a trained model's directory, ready to compute with.
///
/// # Errors
/// As [`read_weights`].
pub fn weights<E: Element<Acc = f32>>(
    dev: &Device,
    dir: &Path,
    table: &Table,
) -> Result<Weights<E>, Error> {
    let mut weights = Weights::zeros(dev, table);
    read_weights(dir, table, weights.master_mut())?;
    weights.refresh()?;
    Ok(weights)
}

/// Everything that the numbers of a run depend on: its configuration, the model's, and its tokens.
pub fn fingerprint(run: &RunConfig, model: &Config, data: &str) -> Fingerprint {
    let mut fingerprint = run.fingerprint();
    let model = xxh3_64(model.to_json(hf::Dtype::F32).as_bytes());
    fingerprint.insert("the data's hash".to_string(), data.to_string());
    fingerprint.insert("the hash of the model's config.json".to_string(), format!("{model:016x}"));
    fingerprint
}

/// Step 1 must reach every parameter: refuses gradients of which one is all zero or not finite.
///
/// # Errors
/// [`Error::Diverged`] naming the parameter.
pub fn check_first_gradients(table: &Table, grads: &Arena<f32>) -> Result<(), Error> {
    for row in table.rows() {
        let gradient = grads.get(row.slot).read()?;
        let what = if gradient.iter().any(|g| !g.is_finite()) {
            "is not finite"
        } else if gradient.iter().all(|&g| g == 0.0) {
            "is zero: nothing would train it"
        } else {
            continue;
        };
        let what = format!("the gradient of {} {what}", row.name);
        return Err(Error::Diverged { step: 1, what });
    }
    Ok(())
}

/// The device that a run asked for. `auto` takes the first GPU where there is one that can run the
/// kernels, and says in the log why it does not.
///
/// # Errors
/// For one that this machine lacks, or matrix products that it cannot have.
pub fn device(
    wanted: config::Device,
    threads: Option<usize>,
    gemm: config::Gemm,
) -> Result<Device, Error> {
    let cpu = || Device::cpu(threads.unwrap_or(0));
    let gpu = || Ok(Device::Cuda(Cuda::open(0, &mut |line| info!("{line}"))?));
    let dev = match wanted {
        config::Device::Cpu => cpu()?,
        config::Device::Cuda => named("--device cuda", gpu())?,
        config::Device::CudaEmulated => named("--device cuda-emulated", Device::cuda_emulated())?,
        config::Device::Auto => match gpu() {
            Ok(gpu) => gpu,
            Err(why) => {
                let why = why.to_string();
                let why = why.split_once("; ").map_or(&*why, |(why, _remedy)| why);
                info!("--device auto takes the CPU: {why}");
                cpu()?
            }
        },
    };
    match (gemm, dev) {
        (config::Gemm::Rust, dev) => Ok(dev),
        (config::Gemm::Cublaslt, Device::Cuda(cuda)) => {
            Ok(Device::Cuda(named("--gemm cublaslt", cuda.with_cublaslt())?))
        }
        (config::Gemm::Cublaslt, Device::Cpu(_)) => Err(Error::Config(
            "--gemm cublaslt multiplies on a GPU, and this run computes on the CPU; take --gemm rust"
                .into(),
        )),
    }
}

/// The same, with the flag in front of what went wrong.
fn named<T>(flag: &str, result: Result<T, engine::Error>) -> Result<T, Error> {
    result.map_err(|e| Error::Config(format!("{flag}: {e}")))
}

/// The model that a run trains. A named size takes the vocabulary of its tokenizer; a
/// `config.json` and a model to start from keep their own, which must cover the tokenizer's ids.
///
/// # Errors
/// [`Error::Config`] for an unknown name; whatever is wrong with a `config.json`; a tokenizer with
/// more ids than the model.
pub fn model_config(
    run: &RunConfig,
    vocab: Option<usize>,
    tokenizer: Option<&Tokenizer>,
) -> Result<Config, Error> {
    let (mut config, fixed) = match &run.model.init_from {
        Some(dir) => (hf::load(dir)?, true),
        None => match Config::named(&run.model.name) {
            Some(config) => (config, false),
            None if run.model.name.ends_with(".json") => {
                (Config::read(Path::new(&run.model.name))?, true)
            }
            None => {
                return Err(Error::Config(format!(
                    "--model {}: no such size; give one of {}, or a config.json",
                    run.model.name,
                    Config::NAMES.join(", ")
                )));
            }
        },
    };
    if !fixed {
        let V = vocab.unwrap_or(config.dims.V);
        config = config.with_vocab(V);
    }
    if let Some(tokenizer) = tokenizer {
        tokenizer.check_model(config.dims.V)?;
        if !fixed {
            (config.bos, config.eos) = (tokenizer.bos(), tokenizer.eos());
        }
    }
    config.max_seq_len = config.max_seq_len.max(run.run.seq_len);
    Ok(config)
}

/// The vocabulary that a plan counts with, where nothing is to be read or trained: that of the
/// tokenizer to be, if a tokenizer is to be made.
///
/// # Errors
/// Whatever is wrong with a tokenizer's file.
pub fn planned_vocab(run: &RunConfig) -> Result<Option<usize>, Error> {
    Ok(match &run.data.tokenizer {
        config::Tokenizer::Bpe => Some(run.data.vocab_size),
        config::Tokenizer::Bytes => Some(Tokenizer::bytes().vocab_size()),
        config::Tokenizer::File(path) => Some(Tokenizer::load(path)?.vocab_size()),
    })
}

/// Looks at everything that a run reads before it writes anything.
///
/// # Errors
/// The first input that is missing or of no known kind.
pub fn check_inputs(run: &RunConfig) -> Result<(), Error> {
    if !run.data.paths.is_empty() {
        find_files(&run.data.paths)?;
    }
    model_config(run, None, None).map(|_| ())
}
