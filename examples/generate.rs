//! Continues a prompt with a trained model, token by token as they are chosen.

use std::process::ExitCode;

use handgrad::engine::{Device, Dtype, Element, bf16};
use handgrad::model::decode::Decoder;
use handgrad::model::generate;
use handgrad::model::llama::Llama;
use handgrad::model::sample::Sampler;
use handgrad::train::args::{GenerateArgs, parse};
use handgrad::train::config::LogLevel;
use handgrad::train::progress::init_logging;
use handgrad::train::{Error, Outcome, device, directory, main_exit, print, sample};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    main_exit(start())
}

fn start() -> Result<Outcome> {
    let args: GenerateArgs = parse();
    init_logging(LogLevel::Warn)?;
    let dev = device::open(args.compute.device, args.compute.threads, args.compute.gemm)?;
    match args.compute.dtype {
        Dtype::F32 => generate::<f32>(&dev, &args),
        Dtype::Bf16 => generate::<bf16>(&dev, &args),
        Dtype::F64 => unreachable!("no flag says f64"),
    }
}

fn generate<E: Element<Acc = f32>>(dev: &Device, args: &GenerateArgs) -> Result<Outcome> {
    let (config, tokenizer) = directory::open(&args.model)?;
    let prompt = sample::prompt_ids(&tokenizer, &args.prompt)?;
    let context = config.max_seq_len;
    if prompt.len() >= context {
        let (n, most) = (prompt.len(), context - 1);
        let text = format!("--prompt has {n} tokens: the model takes at most {most}; shorten it");
        return Err(Error::Config(text).into());
    }
    let capacity = context.min(prompt.len() + args.max_new_tokens);
    let model = Llama::<E>::new(dev, &config, capacity);
    let weights = directory::weights::<E>(dev, &args.model, model.table())?;

    let sampler = Sampler { temperature: args.temperature, top_p: args.top_p };
    let mut decoder = Decoder::<E>::new(dev, &model, 1, capacity);
    let mut text = tokenizer.decode_stream();
    print(&args.prompt)?;
    let (w, count, eos) = (weights.view(), args.max_new_tokens, tokenizer.eos());
    let random = sample::uniform(args.seed);
    generate::generate(dev, &model, w, &mut decoder, &prompt, count, sampler, random, eos, |id| {
        print(&text.push(id)?)
    })?;
    print(&text.finish()?)?;
    print("\n")?;
    Ok(Outcome::Done)
}
