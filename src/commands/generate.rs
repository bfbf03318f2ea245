//! `handgrad generate`: continues a prompt with a trained model, token by token as they are chosen.

use std::path::PathBuf;

use clap::Args;
use engine::{Device, Dtype, Element, bf16};
use model::generation::{self, Decoder, Request, Sampler};
use model::llama::Llama;
use train::config::{above_0_to_1, at_least_1, not_negative};
use train::{Error, Outcome, directory, print, sample};

use super::{Compute, Result, model_dir};

/// Continues a prompt with a trained model
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// Model directory: a run's --out, or any Hugging Face LLaMA; its name on the hub, where the
    /// program was built with the feature `hub`
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to add, at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = at_least_1::<usize>, default_value = "256")]
    max_new_tokens: usize,
    /// Spread of the choice; 0 always takes the likeliest token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(value_parser = not_negative, default_value = "0.8")]
    temperature: f64,
    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(value_parser = above_0_to_1, default_value = "0.95")]
    top_p: f64,
    /// Seed of the choice
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value = "42")]
    seed: u64,
    #[command(flatten)]
    compute: Compute,
}

const EXAMPLES: &str = "\
Examples:
  handgrad generate --model out --prompt 'Once upon a time'
  handgrad generate --model out --prompt 'Anna counted' --temperature 0 --max-new-tokens 40

The text goes to stdout, everything else to stderr.";

impl Generate {
    pub fn run(&self) -> Result<Outcome> {
        let dev = self.compute.open()?;
        match self.compute.dtype {
            Dtype::F32 => generate::<f32>(&dev, self),
            Dtype::Bf16 => generate::<bf16>(&dev, self),
            Dtype::F64 => unreachable!("no flag says f64"),
        }
    }
}

fn generate<E: Element<Acc = f32>>(dev: &Device, args: &Generate) -> Result<Outcome> {
    let dir = model_dir(&args.model)?;
    let (config, tokenizer) = directory::open(&dir)?;
    let prompt = sample::prompt_ids(&tokenizer, &args.prompt)?;
    let context = config.context();
    if prompt.len() >= context {
        let (n, most) = (prompt.len(), context - 1);
        let text = format!("--prompt has {n} tokens: the model takes at most {most}; shorten it");
        return Err(Error::Config(text).into());
    }
    let capacity = context.min(prompt.len() + args.max_new_tokens);
    let model = Llama::<E>::new(dev, &config, capacity);
    let weights = directory::weights::<E>(dev, &dir, model.table())?;

    let sampler = Sampler { temperature: args.temperature, top_p: args.top_p };
    let mut decoder = Decoder::<E>::new(dev, &model, 1, capacity);
    let mut text = tokenizer.decode_after(&prompt);
    print(&args.prompt)?;
    let (count, stop) = (args.max_new_tokens, &tokenizer.special().stop[..]);
    let request = Request { prompt: &prompt, count, sampler, stop };
    let (w, random) = (weights.view(), sample::uniform(args.seed));
    generation::generate(dev, &model, w, &mut decoder, &request, random, |id| {
        print(&text.push(id)?)
    })?;
    print(&text.finish()?)?;
    print("\n")?;
    Ok(Outcome::Done)
}
