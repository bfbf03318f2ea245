//! `handgrad evaluate`: measures a trained model. The result is one JSON object on stdout.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data::prepare::{Measured, tokenize_to_measure};
use engine::ops::loss::{IGNORE, Sum};
use engine::{Device, Dtype, Element, Segments, bf16};
use model::cache::{Cache, Mode, Scratch};
use model::llama::{Batch, Llama};
use train::config::at_least_1;
use train::{Error, Outcome, corpus, directory, print};

use super::{Compute, Result, model_dir};

/// Measures a trained model
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Clone, Debug, Subcommand)]
enum Measure {
    Perplexity(Perplexity),
}

/// How well the model predicts a text
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Perplexity {
    /// Model directory: a run's --out, or any Hugging Face LLaMA; its name on the hub, where the
    /// program was built with the feature `hub`
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text to predict: a file or folder of what `pretrain --data` takes
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Tokens the model sees at once [default: what it was trained with]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = at_least_1::<usize>)]
    seq_len: Option<usize>,
    /// Tokens from one window to the next, at most --seq-len [default: --seq-len]
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = at_least_1::<usize>)]
    stride: Option<usize>,
    /// Windows computed at once
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    #[arg(value_parser = at_least_1::<usize>, default_value = "8")]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

const EXAMPLES: &str = "\
Examples:
  handgrad evaluate perplexity --model out --data held-out.txt
  handgrad evaluate perplexity --model out --data held-out.txt --seq-len 1024 --stride 512

The result is one JSON object on stdout.";

impl Evaluate {
    pub fn run(&self) -> Result<Outcome> {
        let Measure::Perplexity(args) = &self.measure;
        let dev = args.compute.open()?;
        match args.compute.dtype {
            Dtype::F32 => perplexity::<f32>(&dev, args),
            Dtype::Bf16 => perplexity::<bf16>(&dev, args),
            Dtype::F64 => unreachable!("no flag says f64"),
        }
    }
}

impl Perplexity {
    /// The stride in tokens for windows of `seq_len` tokens.
    fn stride_for(&self, seq_len: usize) -> Result<usize> {
        let stride = self.stride.unwrap_or(seq_len);
        if stride > seq_len {
            let text = format!(
                "--stride is {stride}: must be at most the {seq_len} tokens of --seq-len, or \
                 tokens would be left out"
            );
            return Err(Error::Config(text).into());
        }
        Ok(stride)
    }
}

/// Slides windows of `--seq-len` tokens over the text by `--stride`: each token is predicted once,
/// by the window that sees most of what came before it. The token that begins a text is given, and
/// no end token counts, as in transformers.
fn perplexity<E: Element<Acc = f32>>(dev: &Device, args: &Perplexity) -> Result<Outcome> {
    let dir = model_dir(&args.model)?;
    let (config, tokenizer) = directory::open(&dir)?;
    let T = args.seq_len.unwrap_or(config.context());
    config.check_length(T, "--seq-len")?;
    let stride = args.stride_for(T)?;
    let inputs = [args.data.clone()];
    corpus::tell_passed_over(&inputs)?;
    let Measured { ids, given, counts } = tokenize_to_measure(&inputs, &tokenizer)?;
    let mut next: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    given.iter().for_each(|&at| next[at] = IGNORE);
    if ids.len() < 2 {
        let text =
            format!("{}: one token is nothing to predict; give a longer text", args.data.display());
        return Err(Error::Config(text).into());
    }
    let T = T.min(ids.len() - 1);
    let stride = stride.min(T);

    let windows = (ids.len() - 1 - T).div_ceil(stride) + 1;
    let B = args.batch_size.min(windows);
    let model = Llama::<E>::new(dev, &config, T);
    let weights = directory::weights::<E>(dev, &dir, model.table())?;
    let mut cache = Cache::<E>::new(dev, &config.dims, B * T, Mode::Full);
    let mut scratch = Scratch::<E>::forward_only(dev, &config, B * T);

    let mut loss = Sum::new(dev);
    let (mut tokens_N, mut targets_N) = (vec![0u32; B * T], vec![IGNORE; B * T]);
    let segments = &Segments::equal(B, T);
    for first in (0..windows).step_by(B) {
        targets_N.fill(IGNORE);
        for window in first..windows.min(first + B) {
            let rows = (window - first) * T..(window - first + 1) * T;
            let (tokens, targets) = (&mut tokens_N[rows.clone()], &mut targets_N[rows]);
            fill_window(
                &ids,
                &next,
                window * stride,
                if window == 0 { 0 } else { T - stride },
                tokens,
                targets,
            );
        }
        let batch = Batch::new(&tokens_N, &targets_N, segments);
        dev.install(|| {
            model.forward(dev, weights.view(), batch, &mut cache, &mut scratch);
            model.loss(dev, &mut loss, weights.view(), batch, &cache, &mut scratch);
        });
    }
    let loss = loss.read()?;
    // A text's own bytes; shards without a count of them have no such figure.
    let bits = (counts.text_bytes > 0)
        .then(|| loss.nats / std::f64::consts::LN_2 / counts.text_bytes as f64);
    let result = serde_json::json!({
        "tokens": loss.weight as u64,
        "nll_per_token": loss.mean(),
        "perplexity": loss.mean().exp(),
        "bits_per_byte": bits,
    });
    print(&format!("{result}\n"))?;
    Ok(Outcome::Done)
}

/// Tokens from `start` on, and what of `next` follows each; the first `context` targets, which an
/// earlier window predicted, and those beyond the end do not count.
fn fill_window(
    ids: &[u32],
    next: &[i32],
    start: usize,
    context: usize,
    tokens: &mut [u32],
    targets: &mut [i32],
) {
    let end = (start + tokens.len()).min(ids.len() - 1);
    tokens.fill(0);
    tokens[..end - start].copy_from_slice(&ids[start..end]);
    for i in context..end - start {
        targets[i] = next[start + i + 1];
    }
}
