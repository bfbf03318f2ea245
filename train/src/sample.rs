//! Text that a model writes: from a prompt to ids, from ids to text, and the random numbers between.
//!
//! ```
//! use data::tokenizer::Tokenizer;
//! use engine::Device;
//! use model::Config;
//! use train::Trainer;
//! use train::sample::prompt_ids;
//! use train::trainer::Recipe;
//!
//! # fn main() -> Result<(), train::Error> {
//! let tokenizer = Tokenizer::bytes();
//! // What a text begins with, then each byte.
//! assert_eq!(prompt_ids(&tokenizer, "Hi")?, [1, 75, 108]);
//!
//! let config = Config::stories_260k().with_vocab(tokenizer.vocab_size());
//! let recipe = Recipe { context: 16, ..Recipe::new(1, 16) };
//! let mut trainer = Trainer::<f32>::new(&Device::cpu(1)?, &config, recipe);
//! trainer.init(1)?;
//! let text = trainer.sample(&tokenizer, "Hi", 8, 1)?;
//! assert!(text.starts_with("Hi"));
//! assert_eq!(trainer.sample(&tokenizer, "Hi", 8, 1)?, text);
//! # Ok(())
//! # }
//! ```

use data::rng::Philox;
use data::tokenizer::Tokenizer;
use engine::Element;
use model::generation::{Request, Sampler, generate};
use rand::RngExt;

use crate::error::Error;
use crate::trainer::Trainer;

/// Stream of random numbers that samples draw from.
const SAMPLES: u32 = 0x05A3_13E5;

/// How a run's samples choose their tokens.
const SAMPLER: Sampler = Sampler { temperature: 0.8, top_p: 0.95 };

/// Random numbers in [0, 1) to choose tokens by: the same for the same seed.
pub fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut rng = Philox::new(seed, SAMPLES, 0);
    move || rng.random()
}

/// The ids that a text continues from: what a text begins with, as in transformers, then the text.
/// Where nothing is left, the begin token or the end token stands in.
///
/// # Errors
/// [`Error::Config`] for an empty prompt that no token can stand in for.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, Error> {
    let (mut ids, special) = (tokenizer.prompt(prompt)?, tokenizer.special());
    if ids.is_empty() {
        ids.extend(special.bos.or(special.eos));
    }
    if ids.is_empty() {
        return Err(Error::Config("--prompt is empty and the tokenizer has no begin token".into()));
    }
    Ok(ids)
}

impl<E: Element<Acc = f32>> Trainer<E> {
    /// The text that the model writes now: `prompt`, and up to `count` tokens after it.
    ///
    /// # Errors
    /// As [`prompt_ids`]; ids that are no text; what went wrong on a GPU.
    pub fn sample(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: &str,
        count: usize,
        seed: u64,
    ) -> Result<String, Error> {
        let (start, stop) = (prompt_ids(tokenizer, prompt)?, &tokenizer.special().stop[..]);
        let request = Request { prompt: &start, count, sampler: SAMPLER, stop };
        let Trainer { dev, model, weights, decoder, .. } = self;
        let (mut text, mut decoded) = (prompt.to_string(), tokenizer.decode_after(&start));
        decoder.clear(0);
        generate(dev, model, weights.view(), decoder, &request, uniform(seed), |id| {
            text += &decoded.push(id)?;
            Ok::<(), Error>(())
        })?;
        Ok(text + &decoded.finish()?)
    }
}
