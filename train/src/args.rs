//! The command lines of `pretrain`, `generate` and `evaluate`.
//!
//! A mistake on a command line is one line on stderr and exit code 2, like every other bad value.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use data::loader::Order;
use engine::Dtype;
use model::cache::Mode;
use toml::Value;

use crate::config::{self, DeviceChoice, Gemm, Layer, LogLevel, RunConfig, parse_count};
use crate::error::Error;

/// Trains a LLaMA.
#[derive(Clone, Debug, Parser)]
#[command(name = "pretrain", version, after_help = PRETRAIN_EXAMPLES)]
#[command(long_about = "Trains a LLaMA and leaves a Hugging Face model directory.\n\n\
    Without arguments it trains a small model on a built-in corpus of little stories. Values come \
    from, later ones winning: defaults, --config, --set, flags. All of them end up in \
    OUT/run.toml, which --config reads.")]
pub struct PretrainArgs {
    /// Text (.txt, .jsonl, .jsonl.gz, .jsonl.zst), token shards (.bin), or folders of them
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Data")]
    pub data: Vec<PathBuf>,
    /// A tokenizer.json, or `bpe` to train one on the data, or `bytes` [default: bpe]
    #[arg(long, value_name = "FILE|bpe|bytes", help_heading = "Data")]
    pub tokenizer: Option<String>,
    /// Entries of a tokenizer trained here [default: 4096]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Data")]
    pub vocab_size: Option<u64>,
    /// Share of the tokens held out for validation [default: 0.05]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Data")]
    pub val_fraction: Option<f64>,
    /// Tokens held out for validation, in place of a share
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Data")]
    pub val_tokens: Option<u64>,

    /// A named size, or a Hugging Face config.json [default: story]
    #[arg(long, value_name = "NAME|FILE", help_heading = "Model")]
    pub model: Option<String>,
    /// A Hugging Face model directory whose weights to start from
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub init_from: Option<PathBuf>,

    /// Peak learning rate; larger models want less, the paper's 3e-4 [default: 3e-3]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub lr: Option<f64>,
    /// Final learning rate as a share of the peak [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub min_lr_ratio: Option<f64>,
    /// Steps of linear warmup [default: a tenth of the steps, at most 2000]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Optimizer")]
    pub warmup: Option<u64>,
    /// AdamW's decay of the first moment [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub beta1: Option<f64>,
    /// AdamW's decay of the second moment [default: 0.95]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub beta2: Option<f64>,
    /// AdamW's epsilon [default: 1e-8]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub eps: Option<f64>,
    /// Decoupled weight decay, on matrices only [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub weight_decay: Option<f64>,
    /// Largest global norm of the gradient; 0 does not clip [default: 1.0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Optimizer")]
    pub clip: Option<f64>,

    /// Output folder [default: out]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Continue the run in the output folder from its newest valid checkpoint
    #[arg(long, conflicts_with = "overwrite", help_heading = "Run")]
    pub resume: bool,
    /// Delete the run in the output folder, then start
    #[arg(long, help_heading = "Run")]
    pub overwrite: bool,
    /// Optimizer steps [default: 450]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    #[arg(conflicts_with = "tokens")]
    pub steps: Option<u64>,
    /// Tokens to train on, in place of steps: 250000, 1e6, 10M
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    pub tokens: Option<u64>,
    /// Sequences of one forward pass [default: 8]
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    pub batch_size: Option<u64>,
    /// Tokens of one sequence [default: 256]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    pub seq_len: Option<u64>,
    /// Forward and backward passes of one step [default: 1]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    pub accum: Option<u64>,
    /// Storage type of weights and activations [default: f32]
    #[arg(long, value_name = "TYPE", value_parser = one_of(DTYPES), help_heading = "Run")]
    pub dtype: Option<Dtype>,
    /// Where to compute [default: auto]
    #[arg(long, value_name = "D", help_heading = "Run")]
    pub device: Option<DeviceChoice>,
    /// Matrix products of a GPU [default: rust]
    #[arg(long, value_name = "G", help_heading = "Run")]
    pub gemm: Option<Gemm>,
    /// CPU threads; the numbers do not depend on it [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Run")]
    pub threads: Option<u64>,
    /// Seed of initial weights, data order and samples [default: 42]
    #[arg(long, value_name = "S", help_heading = "Run")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Order of the training sequences [default: shuffled]
    #[arg(long, value_name = "ORDER", value_parser = one_of(ORDERS), help_heading = "Run")]
    pub order: Option<Order>,
    /// What a block keeps for its backward pass [default: linear]
    #[arg(long, value_name = "MODE", value_parser = one_of(CACHES), help_heading = "Run")]
    pub cache: Option<Mode>,
    /// Print the memory plan and exit; nothing is written
    #[arg(long, help_heading = "Run")]
    pub plan: bool,
    /// Time every op of a few steps, print the share of the attainable that each reaches, write
    /// OUT/profile.json and OUT/trace.json, and exit; nothing else is written
    #[arg(long, conflicts_with_all = ["plan", "resume", "overwrite"], help_heading = "Run")]
    pub profile: bool,

    /// Steps between evaluations; 0 evaluates only at the end [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Reports")]
    pub eval_every: Option<u64>,
    /// Tokens of one evaluation, at most [default: 65536]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Reports")]
    pub eval_tokens: Option<u64>,
    /// Steps between checkpoints; 0 saves only at the end and on a signal [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Reports")]
    pub save_every: Option<u64>,
    /// Checkpoints kept [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Reports")]
    pub keep: Option<u64>,
    /// What the sample at each evaluation continues
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Reports")]
    pub sample_prompt: Option<String>,
    /// Tokens of that sample; 0 for none [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, help_heading = "Reports")]
    pub sample_tokens: Option<u64>,
    /// What is logged; RUST_LOG wins [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Reports")]
    pub log_level: Option<LogLevel>,

    /// Read values from a TOML file, such as another run's run.toml
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Set one value by its name in run.toml; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    pub set: Vec<String>,
}

const PRETRAIN_EXAMPLES: &str = "\
Examples:
  pretrain
      a small model on the built-in stories
  pretrain --data books/ more.jsonl.zst --model 15M --tokens 100M --out runs/books
      your own text, with a tokenizer trained on it
  pretrain --data shakespeare.txt --tokenizer bytes --steps 2k --lr 1e-3 --out runs/bytes
      byte by byte
  pretrain --resume --out runs/books
      go on after a stop or a crash; the stored run.toml supplies every value
  pretrain --config runs/books/run.toml --set optim.lr=3e-4 --out runs/books-lr
      the same run with one value changed
  pretrain --model 1.1B --plan
      how much memory it would take
  pretrain --model 15M --dtype bf16 --profile
      where the time of a step goes; trace.json opens in Perfetto

Exit codes: 0 done, 1 error, 2 usage, 3 diverged, 130 or 143 stopped by a signal after saving.";

/// A resolved command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The run to do.
    pub config: RunConfig,
    /// Allowed but worth telling the user, one line each.
    pub warnings: Vec<String>,
}

impl PretrainArgs {
    /// All layers of values as one checked configuration. With `--resume`, the stored `run.toml`
    /// of the output folder is the lowest layer, and the result must agree with it where another
    /// value would give other numbers. Reads files, writes none.
    ///
    /// # Errors
    /// [`Error::Config`] for a bad key or value, [`Error::Io`] for an unreadable file.
    pub fn resolve(&self) -> Result<Resolved, Error> {
        let mut given = Layer::default();
        if let Some(path) = &self.config {
            given.put(Layer::from_file(path)?)?;
        }
        let sets = Layer::from_sets(&self.set)?;
        let steps_set = sets.has("run.steps");
        given.put(sets)?;
        given.put(self.flags()?)?;
        if !self.resume {
            let config = given.finish()?;
            self.check_overwrite(&config)?;
            return Ok(Resolved { config, warnings: Vec::new() });
        }
        let default_out = RunConfig::default().run.out;
        let out = given.text("run.out").map_or(default_out, PathBuf::from);
        self.resolve_resume(&out, given, steps_set)
    }

    /// Refuses to delete the weights that the run is to start from.
    fn check_overwrite(&self, config: &RunConfig) -> Result<(), Error> {
        let real = |path: &Path| path.canonicalize().ok();
        let from = config.model.init_from.as_deref().and_then(real);
        if self.overwrite && from.is_some() && from == real(&config.run.out) {
            return Err(Error::Config(format!(
                "--overwrite would delete the weights of --init-from {}: choose another --out",
                config.run.out.display()
            )));
        }
        Ok(())
    }

    fn resolve_resume(&self, out: &Path, given: Layer, steps_set: bool) -> Result<Resolved, Error> {
        let path = out.join("run.toml");
        if !path.exists() {
            return Err(Error::Config(format!(
                "--resume: {} does not exist, so there is nothing to resume: leave --resume out, \
                 or give the --out of the run to continue",
                path.display()
            )));
        }
        let mut layers = Layer::from_file(&path)?;
        let stored = layers.clone().finish()?;
        layers.put(given)?;
        // A run that was moved lives where it is found, not where it began.
        layers.insert("run.out", path_value(out)?);
        let config = layers.finish()?;
        let warnings = config::check_resume(&stored, &config, steps_set)?;
        Ok(Resolved { config, warnings })
    }

    /// The flags that were given, as a layer.
    fn flags(&self) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        let counts = [
            ("data.vocab_size", self.vocab_size),
            ("data.val_tokens", self.val_tokens),
            ("optim.warmup", self.warmup),
            ("run.steps", self.steps),
            ("run.tokens", self.tokens),
            ("run.batch_size", self.batch_size),
            ("run.seq_len", self.seq_len),
            ("run.accum", self.accum),
            ("run.threads", self.threads),
            ("run.seed", self.seed),
            ("run.eval_every", self.eval_every),
            ("run.eval_tokens", self.eval_tokens),
            ("run.save_every", self.save_every),
            ("run.keep", self.keep),
            ("run.sample_tokens", self.sample_tokens),
        ];
        for (key, value) in counts {
            if let Some(n) = value {
                // Both parsers above refuse what does not fit.
                layer.insert(key, i64::try_from(n).expect("counts fit i64"));
            }
        }
        let numbers = [
            ("data.val_fraction", self.val_fraction),
            ("optim.lr", self.lr),
            ("optim.min_lr_ratio", self.min_lr_ratio),
            ("optim.beta1", self.beta1),
            ("optim.beta2", self.beta2),
            ("optim.eps", self.eps),
            ("optim.weight_decay", self.weight_decay),
            ("optim.clip", self.clip),
        ];
        for (key, value) in numbers {
            if let Some(x) = value {
                layer.insert(key, x);
            }
        }
        let texts = [
            ("data.tokenizer", self.tokenizer.clone()),
            ("model.name", self.model.clone()),
            ("run.dtype", self.dtype.map(|dtype| name_in(DTYPES, dtype))),
            ("run.device", self.device.map(name_of)),
            ("run.gemm", self.gemm.map(name_of)),
            ("run.order", self.order.map(|order| name_in(ORDERS, order))),
            ("run.cache", self.cache.map(|cache| name_in(CACHES, cache))),
            ("run.log_level", self.log_level.map(name_of)),
            ("run.sample_prompt", self.sample_prompt.clone()),
        ];
        for (key, value) in texts {
            if let Some(text) = value {
                layer.insert(key, text);
            }
        }
        if let Some(path) = &self.init_from {
            layer.insert("model.init_from", path_value(path)?);
        }
        if let Some(path) = &self.out {
            layer.insert("run.out", path_value(path)?);
        }
        if !self.data.is_empty() {
            let paths: Result<Vec<Value>, Error> =
                self.data.iter().map(|p| path_value(p)).collect();
            layer.insert("data.paths", paths?);
        }
        Ok(layer)
    }
}

/// The values of a flag whose type another crate owns, each with its name and what `--help` says.
type Choices<T> = &'static [(T, &'static str, &'static str)];

/// The storage types that train.
const DTYPES: Choices<Dtype> =
    &[(Dtype::F32, "f32", "32-bit floats"), (Dtype::Bf16, "bf16", "bfloat16")];

const ORDERS: Choices<Order> = &[
    (Order::Shuffled, "shuffled", "A permutation that depends on the seed alone"),
    (
        Order::Sequential,
        "sequential",
        "As stored: row b of step s reads tokens `[(s*B+b)*T, +T]`, wrapping at the end",
    ),
];

const CACHES: Choices<Mode> = &[
    (
        Mode::Linear,
        "linear",
        "The outputs of its linear layers: no matrix product is computed twice",
    ),
    (Mode::Full, "full", "Its input only: least memory, one more forward pass"),
];

/// Reads the name of one of `choices`.
fn one_of<T: Copy + Send + Sync>(choices: Choices<T>) -> impl TypedValueParser<Value = T> {
    let possible = choices.iter().map(|&(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(possible).map(|text| {
        let (value, ..) = choices.iter().find(|(_, name, _)| *name == text).expect("it was listed");
        *value
    })
}

fn name_in<T: PartialEq>(choices: Choices<T>, value: T) -> String {
    let (_, name, _) = choices.iter().find(|(known, ..)| *known == value).expect("all are listed");
    name.to_string()
}

/// The name of a value as flags and TOML spell it.
fn name_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("no value is hidden");
    value.get_name().to_string()
}

fn path_value(path: &Path) -> Result<Value, Error> {
    let text = path.to_str().ok_or_else(|| {
        Error::Config(format!("{} is not UTF-8, which run.toml needs: rename it", path.display()))
    })?;
    Ok(Value::String(text.to_string()))
}

/// Continues a prompt with a trained model.
#[derive(Clone, Debug, Parser)]
#[command(name = "generate", version, after_help = GENERATE_EXAMPLES)]
pub struct GenerateArgs {
    /// Model directory: a run's --out, or any Hugging Face LLaMA
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: String,
    /// Tokens to add, at most
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_positive, default_value = "256")]
    pub max_new_tokens: usize,
    /// Spread of the choice; 0 always takes the likeliest token
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(value_parser = parse_temperature, default_value = "0.8")]
    pub temperature: f64,
    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(value_parser = parse_top_p, default_value = "0.95")]
    pub top_p: f64,
    /// Seed of the choice
    #[arg(long, value_name = "S", allow_negative_numbers = true, default_value = "42")]
    pub seed: u64,
    /// Where and how it computes
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const GENERATE_EXAMPLES: &str = "\
Examples:
  generate --model out --prompt 'Once upon a time'
  generate --model out --prompt 'Anna counted' --temperature 0 --max-new-tokens 40

The text goes to stdout, everything else to stderr.";

/// Measures a trained model.
#[derive(Clone, Debug, Parser)]
#[command(name = "evaluate", version, after_help = EVALUATE_EXAMPLES)]
pub struct EvaluateArgs {
    /// What to measure
    #[command(subcommand)]
    pub measure: Measure,
}

/// What `evaluate` measures.
#[derive(Clone, Debug, Subcommand)]
pub enum Measure {
    /// How well the model predicts a text
    #[command(after_help = EVALUATE_EXAMPLES)]
    Perplexity(PerplexityArgs),
}

/// `evaluate perplexity`.
#[derive(Clone, Debug, Args)]
pub struct PerplexityArgs {
    /// Model directory: a run's --out, or any Hugging Face LLaMA
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text file to predict
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Tokens the model sees at once [default: what it was trained with]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = parse_positive)]
    pub seq_len: Option<usize>,
    /// Tokens from one window to the next, at most --seq-len [default: --seq-len]
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = parse_positive)]
    pub stride: Option<usize>,
    /// Windows computed at once
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = parse_positive, default_value = "8")]
    pub batch_size: usize,
    /// Where and how it computes
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const EVALUATE_EXAMPLES: &str = "\
Examples:
  evaluate perplexity --model out --data held-out.txt
  evaluate perplexity --model out --data held-out.txt --seq-len 1024 --stride 512

The result is one JSON object on stdout.";

/// Where and how a trained model computes.
#[derive(Clone, Debug, Args)]
pub struct ComputeArgs {
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", value_parser = one_of(DTYPES), default_value = "f32")]
    pub dtype: Dtype,
    /// Where to compute
    #[arg(long, value_name = "D", value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Matrix products of a GPU
    #[arg(long, value_name = "G", value_enum, default_value_t = Gemm::Rust)]
    pub gemm: Gemm,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_positive)]
    pub threads: Option<usize>,
}

impl PerplexityArgs {
    /// The stride in tokens for windows of `seq_len` tokens.
    ///
    /// # Errors
    /// [`Error::Config`] if it would leave tokens out between windows.
    pub fn stride_for(&self, seq_len: usize) -> Result<usize, Error> {
        let stride = self.stride.unwrap_or(seq_len);
        if stride > seq_len {
            return Err(Error::Config(format!(
                "--stride is {stride}: must be at most the {seq_len} tokens of --seq-len, or \
                 tokens would be left out"
            )));
        }
        Ok(stride)
    }
}

fn count(text: &str) -> Result<u64, String> {
    parse_count(text).map_err(|allowed| format!("expected {allowed}"))
}

fn parse_positive(text: &str) -> Result<usize, String> {
    let n = count(text)?;
    if n == 0 { Err("must be at least 1".to_string()) } else { Ok(n as usize) }
}

fn parse_temperature(text: &str) -> Result<f64, String> {
    let x: f64 = text.parse().map_err(|_| "expected a number".to_string())?;
    if x.is_finite() && x >= 0.0 { Ok(x) } else { Err("must be finite and at least 0".into()) }
}

fn parse_top_p(text: &str) -> Result<f64, String> {
    let x: f64 = text.parse().map_err(|_| "expected a number".to_string())?;
    if x > 0.0 && x <= 1.0 { Ok(x) } else { Err("must be above 0 and at most 1".into()) }
}

/// Parses the process's arguments. Help and version go to stdout and end the process with 0; a
/// mistake is one line on stderr and ends it with 2.
pub fn parse<A: Parser>() -> A {
    A::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        eprintln!("{}", one_line(&error));
        std::process::exit(2)
    })
}

/// The mistake and the tip of a command-line error, without the usage text below them.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines.take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more"));
    let line = told.collect::<Vec<_>>().join(" ");
    format!("{line} (see --help)")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory;

    use super::*;

    fn pretrain(line: &str) -> Result<Resolved, Error> {
        let words = std::iter::once("pretrain").chain(line.split_whitespace());
        PretrainArgs::try_parse_from(words).expect(line).resolve()
    }

    fn mistake(line: &str) -> String {
        let words = std::iter::once("pretrain").chain(line.split_whitespace());
        let text = one_line(&PretrainArgs::try_parse_from(words).expect_err(line));
        assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
        text
    }

    #[test]
    fn the_command_lines_are_consistent() {
        PretrainArgs::command().debug_assert();
        GenerateArgs::command().debug_assert();
        EvaluateArgs::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let line = "--data a.txt b --tokenizer bytes --vocab-size 300 --val-fraction 0.2 \
            --val-tokens 1k --model 15M --init-from hf --lr 0.5 --min-lr-ratio 0.2 --warmup 3 \
            --beta1 0.8 --beta2 0.7 --eps 1e-6 --weight-decay 0.3 --clip 2 --out o --steps 2k \
            --batch-size 3 --seq-len 9 --accum 4 --dtype bf16 --device cuda-emulated --gemm cublaslt --threads 2 \
            --seed 7 --order sequential --cache full --eval-every 11 --eval-tokens 12 \
            --save-every 13 --keep 14 --sample-prompt hi --sample-tokens 15 --log-level debug";
        let mut want = RunConfig::default();
        want.data.paths = vec!["a.txt".into(), "b".into()];
        want.data.tokenizer = config::TokenizerChoice::Bytes;
        want.data.vocab_size = 300;
        want.data.val_fraction = 0.2;
        want.data.val_tokens = Some(1000);
        want.model = config::Model { name: "15M".into(), init_from: Some("hf".into()) };
        want.optim = config::Optim {
            lr: 0.5,
            min_lr_ratio: 0.2,
            warmup: 3,
            beta1: 0.8,
            beta2: 0.7,
            eps: 1e-6,
            weight_decay: 0.3,
            clip: 2.0,
        };
        want.run = config::Run {
            out: "o".into(),
            steps: 2000,
            batch_size: 3,
            seq_len: 9,
            accum: 4,
            dtype: Dtype::Bf16,
            device: DeviceChoice::CudaEmulated,
            gemm: Gemm::Cublaslt,
            threads: Some(2),
            seed: 7,
            order: Order::Sequential,
            eval_every: 11,
            eval_tokens: 12,
            save_every: 13,
            keep: 14,
            cache: Mode::Full,
            sample_prompt: "hi".into(),
            sample_tokens: 15,
            log_level: LogLevel::Debug,
        };
        assert_eq!(pretrain(line).unwrap().config, want);
        // The stored form of all of them must read back as the same run.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        want.write(&path).unwrap();
        assert_eq!(pretrain(&format!("--config {}", path.display())).unwrap().config, want);
    }

    #[test]
    fn the_defaults_in_the_help_are_the_defaults() {
        let line = "--tokenizer bpe --vocab-size 4096 --val-fraction 0.05 --model story --lr 3e-3 \
            --min-lr-ratio 0.1 --beta1 0.9 --beta2 0.95 --eps 1e-8 --weight-decay 0.1 --clip 1.0 \
            --out out --steps 450 --batch-size 8 --seq-len 256 --accum 1 --dtype f32 \
            --device auto --gemm rust --seed 42 --order shuffled --cache linear --eval-every 100 \
            --eval-tokens 65536 --save-every 100 --keep 2 --sample-tokens 64 --log-level info";
        assert_eq!(pretrain(line).unwrap().config, RunConfig::default());
        let words: Vec<&str> = line.split_whitespace().collect();
        let command = PretrainArgs::command();
        for pair in words.chunks(2) {
            let arg = command.get_arguments().find(|a| a.get_long() == Some(&pair[0][2..]));
            let help = arg.unwrap().get_help().unwrap().to_string();
            assert!(help.contains(&format!("[default: {}]", pair[1])), "{} {help}", pair[0]);
        }
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        fs::write(&path, "[optim]\nlr = 1.0\nbeta1 = 0.1\nbeta2 = 0.1\n[run]\ntokens = \"1M\"\n")
            .unwrap();
        let file = format!("--config {}", path.display());
        let config = pretrain(&format!("{file} --set optim.lr=2.0 --set optim.beta1=0.2 --lr 3"));
        let config = config.unwrap().config;
        assert_eq!((config.optim.lr, config.optim.beta1, config.optim.beta2), (3.0, 0.2, 0.1));
        assert_eq!(config.run.steps, 489);
        // Steps above replace tokens below.
        assert_eq!(pretrain(&format!("{file} --steps 5")).unwrap().config.run.steps, 5);
    }

    #[test]
    fn mistakes_are_one_line_with_the_flag_and_what_is_allowed() {
        assert!(
            mistake("--steps ten").contains("'ten' for '--steps <N>': expected a whole number")
        );
        assert!(mistake("--dtype f64").contains("[possible values: f32, bf16]"));
        assert!(mistake("--step-s 3").contains("--steps"));
        assert!(mistake("--steps 3 --tokens 4").contains("cannot be used with"));
        assert!(mistake("--resume --overwrite").contains("cannot be used with"));
        assert!(mistake("--seed -1").contains("'-1' for '--seed <S>'"));
        assert!(mistake("--steps -1").contains("'-1' for '--steps <N>'"));
        let text = pretrain("--lr -1").unwrap_err().to_string();
        assert_eq!(text, "--lr (optim.lr) is -1: must be finite and above 0");
        assert!(pretrain("--lr nan").is_err());
    }

    #[test]
    fn the_weights_to_start_from_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let text = pretrain(&format!("--overwrite --out {out}/. --init-from {out}")).unwrap_err();
        assert!(text.to_string().contains("--overwrite would delete"), "{text}");
        pretrain(&format!("--out {out}/. --init-from {out}")).unwrap();
        pretrain(&format!("--overwrite --out {out}/new --init-from {out}")).unwrap();
    }

    #[test]
    fn resume_takes_the_stored_values_and_refuses_others() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let text = pretrain(&format!("--resume --out {out}")).unwrap_err();
        assert_eq!(text.exit_code(), 2);
        assert!(text.to_string().contains("nothing to resume"), "{text}");

        let begun = pretrain(&format!("--out {out} --steps 70 --seed 9 --lr 0.25")).unwrap();
        begun.config.write(&dir.path().join("run.toml")).unwrap();
        let resumed = pretrain(&format!("--resume --out {out} --threads 2")).unwrap();
        let mut want = begun.config.clone();
        want.run.threads = Some(2);
        assert_eq!(resumed, Resolved { config: want, warnings: Vec::new() });

        let text = pretrain(&format!("--resume --out {out} --seed 8")).unwrap_err().to_string();
        assert!(text.contains("run.seed was 9 and is now 8"), "{text}");
        assert!(pretrain(&format!("--resume --out {out} --steps 80")).is_err());
        let longer = pretrain(&format!("--resume --out {out} --set run.steps=80")).unwrap();
        assert_eq!((longer.config.run.steps, longer.config.optim.warmup), (80, 7));
        assert_eq!(longer.warnings.len(), 1);
    }

    #[test]
    fn generate_and_evaluate_check_their_values() {
        let generate = |line: &str| {
            let words = "generate --model m --prompt p".split(' ').chain(line.split_whitespace());
            GenerateArgs::try_parse_from(words)
        };
        assert_eq!(generate("--max-new-tokens 1k").unwrap().max_new_tokens, 1000);
        for bad in ["--temperature -1", "--temperature nan", "--top-p 0", "--top-p 1.1"] {
            let (flag, _) = bad.split_once(' ').unwrap();
            assert!(one_line(&generate(bad).unwrap_err()).contains(flag), "{bad}");
        }
        assert!(generate("--max-new-tokens 0").is_err() && generate("--threads 0").is_err());

        let words = "evaluate perplexity --model m --data d --stride 9 --dtype bf16".split(' ');
        let Measure::Perplexity(args) = EvaluateArgs::try_parse_from(words).unwrap().measure;
        assert_eq!((args.compute.dtype, args.stride_for(9).unwrap()), (Dtype::Bf16, 9));
        assert!(args.stride_for(8).unwrap_err().to_string().contains("at most the 8 tokens"));
    }
}
