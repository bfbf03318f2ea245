//! From a run's configuration to what it trains, how, and by what a later run knows it again.
//!
//! ```
//! use train::config::RunConfig;
//! use train::inputs;
//!
//! # fn main() -> Result<(), train::Error> {
//! let mut config = RunConfig::default();
//! config.model.name = "260k".into();
//! config.run.accum = 4;
//!
//! let model = inputs::model_config(&config, Some(300), None)?;
//! assert_eq!(model.dims.V, 300);
//! assert_eq!(inputs::recipe(&config).sequences_per_step(), 8 * 4);
//! let schedule = inputs::schedule(&config);
//! assert!(schedule.lr(0) < schedule.lr(schedule.warmup));
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use data::text::find_files;
use data::tokenizer::Tokenizer;
use engine::Dtype;
use model::{Config, hf};
use optim::Schedule;
use optim::adamw::Settings;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Fingerprint, RunConfig, TokenizerChoice};
use crate::corpus::tell_passed_over;
use crate::error::Error;
use crate::trainer::Recipe;

/// How a run takes its steps. Its samples are as long as its sequences.
pub fn recipe(config: &RunConfig) -> Recipe {
    let (run, optim) = (&config.run, &config.optim);
    Recipe {
        batch_size: run.batch_size,
        seq_len: run.seq_len,
        accum: run.accum,
        cache: run.cache,
        adamw: Settings {
            beta1: optim.beta1,
            beta2: optim.beta2,
            eps: optim.eps,
            weight_decay: optim.weight_decay,
        },
        max_norm: if optim.clip == 0.0 { f64::INFINITY } else { optim.clip },
        context: run.seq_len,
    }
}

/// The learning rate of each of a run's steps.
pub fn schedule(config: &RunConfig) -> Schedule {
    Schedule {
        peak: config.optim.lr,
        min_ratio: config.optim.min_lr_ratio,
        warmup: config.warmup(),
        steps: config.run.steps,
    }
}

/// Everything that the numbers of a run depend on: its configuration, the model's, and its tokens.
pub fn fingerprint(config: &RunConfig, model: &Config, data: &str) -> Fingerprint {
    let mut fingerprint = config.fingerprint();
    // Numbers do not depend on the ids beyond these, and earlier checkpoints do not have them.
    let eos = model.eos.first().copied().into_iter().collect();
    let model = Config { eos, pad: None, ..model.clone() };
    let model = xxh3_64(hf::config_json(&model, Dtype::F32).as_bytes());
    fingerprint.insert("the data's hash".to_string(), data.to_string());
    fingerprint.insert("the hash of the model's config.json".to_string(), format!("{model:016x}"));
    fingerprint
}

/// The model that a run trains. A named size takes the vocabulary of its tokenizer; a
/// `config.json` and a model to start from keep their own, which must cover the tokenizer's ids.
///
/// # Errors
/// [`Error::Config`] for an unknown name; whatever is wrong with a `config.json`; a tokenizer with
/// more ids than the model.
pub fn model_config(
    config: &RunConfig,
    vocab: Option<usize>,
    tokenizer: Option<&Tokenizer>,
) -> Result<Config, Error> {
    let (mut model, fixed) = match &config.model.init_from {
        Some(dir) => (hf::load(dir)?, true),
        None => match Config::named(&config.model.name) {
            Some(model) => (model, false),
            None if config.model.name.ends_with(".json") => {
                (hf::read_config(Path::new(&config.model.name))?, true)
            }
            None => {
                return Err(Error::Config(format!(
                    "--model {}: no such size; give one of {}, or a config.json",
                    config.model.name,
                    Config::NAMES.join(", ")
                )));
            }
        },
    };
    if !fixed {
        let V = vocab.unwrap_or(model.dims.V);
        model = model.with_vocab(V);
    }
    if let Some(tokenizer) = tokenizer {
        tokenizer.check_model(model.dims.V)?;
        if !fixed {
            let special = tokenizer.special();
            (model.bos, model.pad) = (special.bos, special.pad);
            model.eos = special.eos.into_iter().collect();
        }
    }
    model.check_length(config.run.seq_len, "--seq-len")?;
    model.max_seq_len = model.max_seq_len.max(config.run.seq_len);
    Ok(model)
}

/// The vocabulary that a plan counts with, where nothing is to be read or trained: that of the
/// tokenizer to be, if a tokenizer is to be made.
///
/// # Errors
/// Whatever is wrong with a tokenizer's file.
pub fn planned_vocab(config: &RunConfig) -> Result<Option<usize>, Error> {
    Ok(match &config.data.tokenizer {
        TokenizerChoice::Bpe => Some(config.data.vocab_size),
        TokenizerChoice::Bytes => Some(Tokenizer::bytes().vocab_size()),
        TokenizerChoice::File(path) => Some(Tokenizer::load(path)?.vocab_size()),
    })
}

/// Looks at everything that a run reads before it writes anything.
///
/// # Errors
/// The first input that is missing or of no known kind.
pub fn check(config: &RunConfig) -> Result<(), Error> {
    if !config.data.paths.is_empty() {
        find_files(&config.data.paths)?;
        tell_passed_over(&config.data.paths)?;
    }
    model_config(config, None, None).map(|_| ())
}
