//! Measures a trained model. The result is one JSON object on stdout.

use std::process::ExitCode;

use handgrad::data::prepare::tokenize_to_source;
use handgrad::engine::ops::loss::{IGNORE, Sum};
use handgrad::engine::{Device, Dtype, Element, Segments, bf16};
use handgrad::model::cache::{Cache, Mode, Scratch};
use handgrad::model::llama::{Batch, Llama};
use handgrad::train::args::{EvaluateArgs, Measure, PerplexityArgs, parse};
use handgrad::train::config::LogLevel;
use handgrad::train::progress::init_logging;
use handgrad::train::{Error, Outcome, device, directory, main_exit, print};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    main_exit(start())
}

fn start() -> Result<Outcome> {
    let args: EvaluateArgs = parse();
    init_logging(LogLevel::Warn)?;
    let Measure::Perplexity(args) = args.measure;
    let dev = device::open(args.compute.device, args.compute.threads, args.compute.gemm)?;
    match args.compute.dtype {
        Dtype::F32 => perplexity::<f32>(&dev, &args),
        Dtype::Bf16 => perplexity::<bf16>(&dev, &args),
        Dtype::F64 => unreachable!("no flag says f64"),
    }
}

/// Slides windows of `--seq-len` tokens over the text by `--stride`: each token is predicted once,
/// by the window that sees most of what came before it.
fn perplexity<E: Element<Acc = f32>>(dev: &Device, args: &PerplexityArgs) -> Result<Outcome> {
    let (config, tokenizer) = directory::open(&args.model)?;
    let T = args.seq_len.unwrap_or(config.max_seq_len);
    let stride = args.stride_for(T)?;
    let inputs = [args.data.clone()];
    let (source, counts) = tokenize_to_source(&inputs, &tokenizer, None, &mut |_, _| {})?;
    let ids = source.to_vec(0..source.len());
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
    let weights = directory::weights::<E>(dev, &args.model, model.table())?;
    let mut cache = Cache::<E>::new(dev, &config.dims, B * T, Mode::Full);
    let mut scratch = Scratch::<E>::forward_only(dev, &config.dims, B * T);

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

/// Tokens from `start` on; the first `context` targets, which an earlier window predicted, and
/// those beyond the end do not count.
fn fill_window(ids: &[u32], start: usize, context: usize, tokens: &mut [u32], targets: &mut [i32]) {
    let end = (start + tokens.len()).min(ids.len() - 1);
    tokens.fill(0);
    tokens[..end - start].copy_from_slice(&ids[start..end]);
    for i in context..end - start {
        targets[i] = ids[start + i + 1] as i32;
    }
}
