//! The configuration of a run: one plain struct, where its values come from, and which of them a
//! resumed run must share with the run it continues.
//!
//! Values are gathered in layers, later ones winning: defaults, then (on `--resume`) the stored
//! `run.toml`, then the `--config` file, then `--set key=value`, then flags. A layer is a flat
//! map from dotted key to TOML value, so that every key is known by one name everywhere: in the
//! file, in `--set`, in errors, and in the fingerprint.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use data::loader::Order;
use engine::Dtype;
use model::cache::Mode;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, join_lines};

/// Everything a run is told. `run.toml` in the output folder is exactly this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// What is read.
    pub data: Data,
    /// What is trained.
    pub model: Model,
    /// How weights are updated.
    pub optim: Optim,
    /// How long, how large, where, and what is reported.
    pub run: Run,
}

/// Section `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// Text files, folders and token shards; empty means the built-in corpus.
    pub paths: Vec<PathBuf>,
    /// How text becomes tokens.
    pub tokenizer: TokenizerChoice,
    /// Entries of a tokenizer trained for this run, special tokens included.
    #[serde(deserialize_with = "count_usize")]
    pub vocab_size: usize,
    /// Share of the tokens held out for validation, unless `val_tokens` says how many; 0 for none.
    pub val_fraction: f64,
    /// Tokens held out for validation.
    #[serde(deserialize_with = "count_some", skip_serializing_if = "Option::is_none")]
    pub val_tokens: Option<u64>,
}

/// Section `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// A named size, or the path of a Hugging Face `config.json`.
    pub name: String,
    /// A Hugging Face directory whose weights to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
}

/// Section `optim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Optim {
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end of the cosine, as a share of the peak.
    pub min_lr_ratio: f64,
    /// Steps of linear warmup. Unless given: a tenth of the steps, at most the paper's 2000.
    #[serde(deserialize_with = "count")]
    pub warmup: u64,
    /// Decay of AdamW's first moment.
    pub beta1: f64,
    /// Decay of AdamW's second moment.
    pub beta2: f64,
    /// Joins the square root of the second moment: unit of a gradient.
    pub eps: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Largest global L2 norm of the gradient; 0 does not clip.
    pub clip: f64,
}

/// Section `run`. The key `tokens` is read too, in place of `steps`, and stored as steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Output folder.
    pub out: PathBuf,
    /// Optimizer steps, all in all: a resumed run counts the steps before it.
    #[serde(deserialize_with = "count")]
    pub steps: u64,
    /// Sequences of one forward pass.
    #[serde(deserialize_with = "count_usize")]
    pub batch_size: usize,
    /// Tokens of one sequence.
    #[serde(deserialize_with = "count_usize")]
    pub seq_len: usize,
    /// Forward and backward passes of one step.
    #[serde(deserialize_with = "count_usize")]
    pub accum: usize,
    /// Storage type of weights and activations.
    #[serde(serialize_with = "dtype_name", deserialize_with = "dtype_named")]
    pub dtype: Dtype,
    /// Where it runs.
    pub device: DeviceChoice,
    /// Matrix products of a GPU.
    pub gemm: Gemm,
    /// CPU threads; all cores unless given.
    #[serde(deserialize_with = "count_some_usize", skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Seed of initial weights, data order and samples.
    pub seed: u64,
    /// Order of the training sequences.
    pub order: Order,
    /// Steps between evaluations; 0 evaluates only at the end.
    #[serde(deserialize_with = "count")]
    pub eval_every: u64,
    /// Tokens of one evaluation, at most.
    #[serde(deserialize_with = "count")]
    pub eval_tokens: u64,
    /// Steps between checkpoints; 0 saves only at the end and on a signal.
    #[serde(deserialize_with = "count")]
    pub save_every: u64,
    /// Checkpoints kept: the newest ones.
    #[serde(deserialize_with = "count_usize")]
    pub keep: usize,
    /// What a block keeps for its backward pass.
    pub cache: Mode,
    /// What a sample of text continues; empty starts from the beginning-of-text token.
    pub sample_prompt: String,
    /// Tokens of the sample at each evaluation; 0 for none.
    #[serde(deserialize_with = "count_usize")]
    pub sample_tokens: usize,
    /// What is logged when `RUST_LOG` is not set.
    pub log_level: LogLevel,
}

impl Default for Data {
    fn default() -> Self {
        Data {
            paths: Vec::new(),
            tokenizer: TokenizerChoice::Bpe,
            vocab_size: 4096,
            val_fraction: 0.05,
            val_tokens: None,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model { name: "story".to_string(), init_from: None }
    }
}

impl Default for Optim {
    fn default() -> Self {
        Optim {
            lr: 3e-3,
            min_lr_ratio: 0.1,
            warmup: default_warmup(Run::default().steps),
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Run {
            out: PathBuf::from("out"),
            steps: 450,
            batch_size: 8,
            seq_len: 256,
            accum: 1,
            dtype: Dtype::F32,
            device: DeviceChoice::Auto,
            gemm: Gemm::Rust,
            threads: None,
            seed: 42,
            order: Order::Shuffled,
            eval_every: 100,
            eval_tokens: 65_536,
            save_every: 100,
            keep: 2,
            cache: Mode::Linear,
            sample_prompt: String::new(),
            sample_tokens: 64,
            log_level: LogLevel::Info,
        }
    }
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TokenizerChoice {
    /// Byte-pair encoding trained on the run's own text.
    Bpe,
    /// One token a byte.
    Bytes,
    /// A `tokenizer.json`.
    File(PathBuf),
}

impl From<String> for TokenizerChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "bpe" => TokenizerChoice::Bpe,
            "bytes" => TokenizerChoice::Bytes,
            _ => TokenizerChoice::File(PathBuf::from(text)),
        }
    }
}

impl From<TokenizerChoice> for String {
    fn from(choice: TokenizerChoice) -> String {
        match choice {
            TokenizerChoice::Bpe => "bpe".to_string(),
            TokenizerChoice::Bytes => "bytes".to_string(),
            TokenizerChoice::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Where a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// CUDA where there is a GPU, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// The GPU kernels, executed on the CPU: slow, for checks.
    CudaEmulated,
}

/// What multiplies matrices on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Gemm {
    /// Handgrad's kernels.
    Rust,
    /// NVIDIA's cuBLASLt, where its library is found: for comparison.
    Cublaslt,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And progress.
    Info,
    /// And details.
    Debug,
    /// And everything.
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        })
    }
}

/// One configuration key.
struct Key {
    /// Dotted, as in the file and in `--set`.
    name: &'static str,
    /// The flag that sets it.
    flag: &'static str,
    /// Whether a resumed run must agree, because another value gives other numbers.
    pinned: bool,
}

/// Every key: what is not here does not exist.
const KEYS: &[Key] = &[
    free("data.paths", "--data"),
    pinned("data.tokenizer", "--tokenizer"),
    pinned("data.vocab_size", "--vocab-size"),
    pinned("data.val_fraction", "--val-fraction"),
    pinned("data.val_tokens", "--val-tokens"),
    pinned("model.name", "--model"),
    free("model.init_from", "--init-from"),
    pinned("optim.lr", "--lr"),
    pinned("optim.min_lr_ratio", "--min-lr-ratio"),
    pinned("optim.warmup", "--warmup"),
    pinned("optim.beta1", "--beta1"),
    pinned("optim.beta2", "--beta2"),
    pinned("optim.eps", "--eps"),
    pinned("optim.weight_decay", "--weight-decay"),
    pinned("optim.clip", "--clip"),
    free("run.out", "--out"),
    free("run.steps", "--steps"),
    free("run.tokens", "--tokens"),
    free("run.batch_size", "--batch-size"),
    pinned("run.seq_len", "--seq-len"),
    free("run.accum", "--accum"),
    pinned("run.dtype", "--dtype"),
    free("run.device", "--device"),
    free("run.gemm", "--gemm"),
    free("run.threads", "--threads"),
    pinned("run.seed", "--seed"),
    pinned("run.order", "--order"),
    free("run.eval_every", "--eval-every"),
    free("run.eval_tokens", "--eval-tokens"),
    free("run.save_every", "--save-every"),
    free("run.keep", "--keep"),
    free("run.cache", "--cache"),
    free("run.sample_prompt", "--sample-prompt"),
    free("run.sample_tokens", "--sample-tokens"),
    free("run.log_level", "--log-level"),
];

const fn pinned(name: &'static str, flag: &'static str) -> Key {
    Key { name, flag, pinned: true }
}

const fn free(name: &'static str, flag: &'static str) -> Key {
    Key { name, flag, pinned: false }
}

/// What a run's numbers depend on: dotted key to value, as text. The caller adds what only it
/// knows, such as hashes of the data and of the model's configuration.
pub type Fingerprint = BTreeMap<String, String>;

impl RunConfig {
    /// Tokens of one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        self.run.batch_size as u64 * self.run.accum as u64 * self.run.seq_len as u64
    }

    /// The values that a resumed run must share. The split of a step into `batch_size` and
    /// `accum` is free, their product is not; `steps` has its own rule, see [`check_resume`].
    pub fn fingerprint(&self) -> Fingerprint {
        let values = flatten(&self.to_table());
        let pinned = KEYS.iter().filter(|key| key.pinned);
        let mut fingerprint: Fingerprint = pinned
            .filter_map(|key| Some((key.name.to_string(), values.get(key.name)?.to_string())))
            .collect();
        let sequences = self.run.batch_size as u64 * self.run.accum as u64;
        fingerprint.insert("run.batch_size * run.accum".to_string(), sequences.to_string());
        fingerprint
    }

    /// Reads a stored `run.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Config`] if it is not a valid configuration.
    pub fn read(path: &Path) -> Result<RunConfig, Error> {
        Layer::from_file(path)?.finish()
    }

    /// Writes `path`, replacing it as a whole.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written; the old file is then untouched.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = self.to_table().to_string();
        store::write(path, text.as_bytes())
            .map_err(Error::io("cannot write the configuration", path))
    }

    fn to_table(&self) -> Table {
        Table::try_from(self).expect("plain numbers, texts and lists always fit TOML")
    }

    /// Refuses values that cannot work, naming flag, key, value and what is allowed.
    fn validate(&self) -> Result<(), Error> {
        let (data, optim, run) = (&self.data, &self.optim, &self.run);
        let decay = "must be at least 0 and below 1";
        let one = "must be at least 1";
        let below = |x: f64, limit: f64| (0.0..limit).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();

        check("data.vocab_size", data.vocab_size, data.vocab_size >= 1, one)?;
        check("data.val_fraction", data.val_fraction, below(data.val_fraction, 1.0), decay)?;
        check("data.val_tokens", data.val_tokens.unwrap_or(1), data.val_tokens != Some(0), one)?;
        check("optim.lr", optim.lr, positive(optim.lr), "must be finite and above 0")?;
        let ratio = optim.min_lr_ratio;
        check("optim.min_lr_ratio", ratio, (0.0..=1.0).contains(&ratio), "must be from 0 to 1")?;
        let warmup = optim.warmup;
        let steps = format!("must be at most the {} steps of the run (--steps)", run.steps);
        check("optim.warmup", warmup, warmup <= run.steps, &steps)?;
        check("optim.beta1", optim.beta1, below(optim.beta1, 1.0), decay)?;
        check("optim.beta2", optim.beta2, below(optim.beta2, 1.0), decay)?;
        check("optim.eps", optim.eps, positive(optim.eps), "must be finite and above 0")?;
        let weight_decay = optim.weight_decay;
        let at_least_zero = "must be finite and at least 0";
        check(
            "optim.weight_decay",
            weight_decay,
            below(weight_decay, f64::INFINITY),
            at_least_zero,
        )?;
        let clip = optim.clip;
        check("optim.clip", clip, below(clip, f64::INFINITY), at_least_zero)?;
        check("run.steps", run.steps, run.steps >= 1, one)?;
        check("run.batch_size", run.batch_size, run.batch_size >= 1, one)?;
        check("run.seq_len", run.seq_len, run.seq_len >= 1, one)?;
        check("run.accum", run.accum, run.accum >= 1, one)?;
        check("run.threads", run.threads.unwrap_or(1), run.threads != Some(0), one)?;
        check("run.eval_tokens", run.eval_tokens, run.eval_tokens >= 1, one)?;
        check("run.keep", run.keep, run.keep >= 1, one)
    }
}

/// An error unless `ok`.
fn check(key: &str, value: impl fmt::Display, ok: bool, allowed: &str) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(bad_value(key, &value.to_string(), allowed)) }
}

fn bad_value(key: &str, value: &str, allowed: &str) -> Error {
    let flag = KEYS.iter().find(|known| known.name == key).map_or(key, |known| known.flag);
    Error::Config(format!("{flag} ({key}) is {value}: {allowed}"))
}

/// Refuses to continue the run `stored` as `wanted` where that would give other numbers.
/// `steps_set` tells that `run.steps` was given by `--set`, which allows another number of
/// steps. Returns what is allowed but worth a warning.
///
/// # Errors
/// [`Error::Config`] naming the first differing key, both values and the remedy.
pub fn check_resume(
    stored: &RunConfig,
    wanted: &RunConfig,
    steps_set: bool,
) -> Result<Vec<String>, Error> {
    compare(&stored.fingerprint(), &wanted.fingerprint())?;
    let mut warnings = Vec::new();
    let (before, now) = (stored.run.steps, wanted.run.steps);
    if before != now && !steps_set {
        return Err(Error::Config(format!(
            "run.steps was {before} and is now {now}, which changes the learning rate of every \
             step to come: give {before}, or insist with --set run.steps={now}"
        )));
    }
    if before != now {
        warnings.push(format!(
            "run.steps changes from {before} to {now}: the cosine is now computed for {now} steps"
        ));
    }
    if stored.run.accum != wanted.run.accum {
        warnings.push(format!(
            "run.accum changes from {} to {}: same data, but sums are rounded in another order",
            stored.run.accum, wanted.run.accum
        ));
    }
    Ok(warnings)
}

/// Refuses fingerprints that differ.
///
/// # Errors
/// [`Error::Config`] naming the first differing key, both values and the remedy.
pub fn compare(stored: &Fingerprint, wanted: &Fingerprint) -> Result<(), Error> {
    let none = "not set".to_string();
    for key in stored.keys().chain(wanted.keys()) {
        let before = stored.get(key).unwrap_or(&none);
        let now = wanted.get(key).unwrap_or(&none);
        if before != now {
            return Err(Error::Config(format!(
                "--resume: {key} was {before} and is now {now}, which would be another run: use \
                 the stored value, or start anew with another --out"
            )));
        }
    }
    Ok(())
}

/// One source of values: dotted key to TOML value, keys checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Value>);

impl Layer {
    /// The values of a TOML file.
    pub(crate) fn from_file(path: &Path) -> Result<Layer, Error> {
        let text =
            fs::read_to_string(path).map_err(Error::io("cannot read the configuration", path))?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            Error::Config(format!("{} is not TOML: {}", path.display(), toml_problem(&text, &e)))
        })?;
        let layer = Layer(flatten(&table));
        layer.check(&path.display().to_string())?;
        Ok(layer)
    }

    /// The values of `key=value` texts. A value is TOML; what is not TOML is taken as text, so
    /// that `--set model.name=15M` needs no quotes.
    pub(crate) fn from_sets(sets: &[String]) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        for set in sets {
            let (key, text) = set.split_once('=').ok_or_else(|| {
                Error::Config(format!("--set {set}: expected key=value, as in optim.lr=3e-4"))
            })?;
            let parsed: Result<Table, _> = format!("value = {text}").parse();
            let value = parsed.ok().and_then(|mut table| table.remove("value"));
            let value = value.unwrap_or_else(|| Value::String(text.to_string()));
            layer.0.insert(key.trim().to_string(), value);
        }
        layer.check("--set")?;
        Ok(layer)
    }

    /// Sets one key that is known to exist.
    pub(crate) fn insert(&mut self, key: &'static str, value: impl Into<Value>) {
        debug_assert!(KEYS.iter().any(|known| known.name == key), "unknown key {key}");
        self.0.insert(key.to_string(), value.into());
    }

    /// Whether this layer sets `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The text at `key`, if this layer sets one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// Puts `above` over this layer. `steps` and `tokens` are two names of one thing, so either
    /// of them above replaces both below; together in one layer they are an error.
    pub(crate) fn put(&mut self, above: Layer) -> Result<(), Error> {
        match (above.has("run.steps"), above.has("run.tokens")) {
            (true, true) => {
                let text = "run.steps and run.tokens are both given: choose one";
                return Err(Error::Config(text.to_string()));
            }
            (false, false) => {}
            _ => {
                self.0.remove("run.steps");
                self.0.remove("run.tokens");
            }
        }
        self.0.extend(above.0);
        Ok(())
    }

    /// The configuration: defaults where this layer is silent, all values checked.
    pub(crate) fn finish(mut self) -> Result<RunConfig, Error> {
        let warmup_given = self.has("optim.warmup");
        let tokens = match self.0.remove("run.tokens") {
            Some(value) => Some(count_of(&value).map_err(|e| {
                bad_value("run.tokens", &value.to_string(), &format!("expected {e}"))
            })?),
            None => None,
        };
        let mut config: RunConfig = unflatten(self.0)
            .try_into()
            .map_err(|e: toml::de::Error| Error::Config(join_lines(&e.to_string())))?;
        if let Some(tokens) = tokens {
            // A zero factor is reported by `validate`, under its own name.
            config.run.steps = tokens.div_ceil(config.tokens_per_step().max(1));
            check("run.tokens", tokens, tokens >= 1, "must be at least 1")?;
        }
        if !warmup_given {
            config.optim.warmup = default_warmup(config.run.steps);
        }
        config.validate()?;
        Ok(config)
    }

    /// Refuses unknown keys and values of a wrong type, naming where they stand.
    fn check(&self, source: &str) -> Result<(), Error> {
        self.check_keys(source)?;
        let mut layer = self.clone();
        // Not a key of the struct: `finish` turns it into steps.
        layer.0.remove("run.tokens");
        let typed: Result<RunConfig, toml::de::Error> = unflatten(layer.0).try_into();
        typed.map(|_| ()).map_err(|e| {
            let problem = join_lines(&e.to_string()).replace("expected f64", "expected a number");
            Error::Config(format!("{source}: {problem}"))
        })
    }

    /// Refuses keys that do not exist, naming the nearest that does.
    fn check_keys(&self, source: &str) -> Result<(), Error> {
        for key in self.0.keys() {
            if KEYS.iter().any(|known| known.name == key) {
                continue;
            }
            let distance = |known: &&Key| strsim::damerau_levenshtein(key, known.name);
            let bare = KEYS.iter().find(|known| known.name.ends_with(&format!(".{key}")));
            let near = KEYS.iter().min_by_key(distance).filter(|known| distance(known) <= 3);
            let hint = match bare.or(near) {
                Some(known) => format!("did you mean `{}`?", known.name),
                None => "the keys are those of a run.toml, as every run writes it".to_string(),
            };
            return Err(Error::Config(format!("{source}: unknown key `{key}`, {hint}")));
        }
        Ok(())
    }
}

/// A tenth of the steps, at most the paper's 2000.
fn default_warmup(steps: u64) -> u64 {
    (steps / 10).min(2000)
}

/// The parser's message and the line it points to.
fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = join_lines(error.message());
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Two levels of tables to dotted keys; deeper tables stay values and fail as such.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (section, value) in table {
        match value {
            Value::Table(inner) => {
                flat.extend(inner.iter().map(|(k, v)| (format!("{section}.{k}"), v.clone())));
            }
            other => {
                flat.insert(section.clone(), other.clone());
            }
        }
    }
    flat
}

/// The inverse of [`flatten`], for keys that have passed the check.
fn unflatten(flat: BTreeMap<String, Value>) -> Table {
    let mut table = Table::new();
    for (key, value) in flat {
        let (section, name) = key.split_once('.').expect("every known key has a section");
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        inner.as_table_mut().expect("sections are tables").insert(name.to_string(), value);
    }
    table
}

/// Parses a count: `250`, `10_000`, `1e6`, `2k`, `10M`, `1.5B`.
///
/// # Errors
/// What is allowed, as text, if it is not a whole number that fits.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let allowed = || "a whole number such as 250, 1e6, 2k, 10M or 1.5B".to_string();
    let plain: String = text.trim().chars().filter(|c| *c != '_').collect();
    let (digits, unit) = match plain.chars().last() {
        Some('k' | 'K') => (&plain[..plain.len() - 1], 1e3),
        Some('m' | 'M') => (&plain[..plain.len() - 1], 1e6),
        Some('b' | 'B' | 'g' | 'G') => (&plain[..plain.len() - 1], 1e9),
        _ => (plain.as_str(), 1.0),
    };
    if unit == 1.0
        && let Ok(n) = digits.parse::<u64>()
    {
        return if n <= i64::MAX as u64 { Ok(n) } else { Err(allowed()) };
    }
    digits.parse().ok().and_then(|x: f64| whole(x * unit)).ok_or_else(allowed)
}

/// `x` as a count if it is whole and exact: at most 2^53.
fn whole(x: f64) -> Option<u64> {
    let x = if (x - x.round()).abs() < 1e-6 { x.round() } else { x };
    (x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&x)).then_some(x as u64)
}

/// A TOML integer, whole float, or text with a suffix.
fn count_of(value: &Value) -> Result<u64, String> {
    let allowed = || "a whole number, at least 0".to_string();
    match value {
        Value::Integer(n) => u64::try_from(*n).map_err(|_| allowed()),
        Value::Float(x) => whole(*x).ok_or_else(allowed),
        Value::String(text) => parse_count(text),
        _ => Err(allowed()),
    }
}

fn count<'de, D: serde::Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(input)?;
    count_of(&value)
        .map_err(|allowed| serde::de::Error::custom(format!("{value} is not {allowed}")))
}

fn dtype_name<S: serde::Serializer>(dtype: &Dtype, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_str(dtype.name())
}

/// One of the storage types that train: f64 only proves gradients.
fn dtype_named<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Dtype, D::Error> {
    let name = String::deserialize(input)?;
    let known = [Dtype::F32, Dtype::Bf16].into_iter().find(|dtype| dtype.name() == name);
    known.ok_or_else(|| serde::de::Error::unknown_variant(&name, &["f32", "bf16"]))
}

fn count_usize<'de, D: serde::Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    usize::try_from(count(input)?).map_err(serde::de::Error::custom)
}

fn count_some<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    count(input).map(Some)
}

fn count_some_usize<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<usize>, D::Error> {
    count_usize(input).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(sets: &[&str]) -> Result<RunConfig, Error> {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let mut layers = Layer::default();
        layers.put(Layer::from_sets(&sets)?)?;
        layers.finish()
    }

    fn message(sets_: &[&str]) -> String {
        let error = sets(sets_).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn the_key_table_lists_every_field_once() {
        let mut full = RunConfig::default();
        full.data.val_tokens = Some(1);
        full.model.init_from = Some(PathBuf::from("x"));
        full.run.threads = Some(1);
        let mut fields: Vec<String> = flatten(&full.to_table()).into_keys().collect();
        fields.push("run.tokens".to_string()); // read in place of run.steps, never stored
        fields.sort();
        let mut keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        keys.sort();
        assert_eq!(keys, fields);
    }

    #[test]
    fn run_toml_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        let config = sets(&[
            "data.paths=[\"a b.txt\", 'c']",
            "data.tokenizer=dir/tokenizer.json",
            "run.threads=3",
            "optim.lr=0.30000000000000004",
            "run.device=cuda-emulated",
            "run.sample_prompt=Once upon = a time",
        ])
        .unwrap();
        config.write(&path).unwrap();
        assert_eq!(RunConfig::read(&path).unwrap(), config);
        assert_eq!(config.data.tokenizer, TokenizerChoice::File("dir/tokenizer.json".into()));
        assert_eq!(config.run.sample_prompt, "Once upon = a time");
    }

    #[test]
    fn the_defaults_are_valid_and_complete() {
        assert_eq!(Layer::default().finish().unwrap(), RunConfig::default());
    }

    #[test]
    fn counts_take_suffixes_and_exponents() {
        for (text, n) in [
            ("250", 250),
            ("10_000", 10_000),
            ("1e6", 1_000_000),
            ("2k", 2_000),
            ("10M", 10_000_000),
            ("1.5B", 1_500_000_000),
            ("1.1B", 1_100_000_000),
            ("0.26M", 260_000),
        ] {
            assert_eq!(parse_count(text), Ok(n), "{text}");
        }
        for text in
            ["", "k", "-1", "1.5", "1e30", "nan", "inf", "ten", "1kk", "99999999999999999999"]
        {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        let text = message(&["optim.learning=1"]);
        assert!(text.starts_with("--set: unknown key `optim.learning`, the keys are those of"));
        assert!(message(&["lr=1"]).ends_with("did you mean `optim.lr`?"));
        assert!(message(&["run.sead=1"]).ends_with("did you mean `run.seed`?"));
        assert!(message(&["run.seed.x=1"]).contains("did you mean `run.seed`?"));
    }

    #[test]
    fn bad_values_name_flag_key_value_and_what_is_allowed() {
        for (set, parts) in [
            ("run.steps=0", ["--steps (run.steps) is 0", "at least 1"]),
            ("run.tokens=0", ["--tokens (run.tokens) is 0", "at least 1"]),
            ("run.tokens=-4", ["--tokens (run.tokens) is -4", "whole number"]),
            ("run.batch_size=0", ["--batch-size (run.batch_size) is 0", "at least 1"]),
            ("run.seq_len=0", ["--seq-len (run.seq_len) is 0", "at least 1"]),
            ("run.accum=0", ["--accum (run.accum) is 0", "at least 1"]),
            ("run.threads=0", ["--threads (run.threads) is 0", "at least 1"]),
            ("run.keep=0", ["--keep (run.keep) is 0", "at least 1"]),
            ("run.eval_tokens=0", ["--eval-tokens (run.eval_tokens) is 0", "at least 1"]),
            ("optim.lr=nan", ["--lr (optim.lr) is NaN", "finite and above 0"]),
            ("optim.lr=-1e-3", ["--lr (optim.lr) is -0.001", "finite and above 0"]),
            ("optim.lr=inf", ["--lr (optim.lr) is inf", "finite and above 0"]),
            ("optim.min_lr_ratio=1.5", ["--min-lr-ratio (optim.min_lr_ratio) is 1.5", "0 to 1"]),
            ("optim.warmup=451", ["--warmup (optim.warmup) is 451", "450 steps"]),
            ("optim.beta1=1", ["--beta1 (optim.beta1) is 1", "below 1"]),
            ("optim.beta2=-0.1", ["--beta2 (optim.beta2) is -0.1", "below 1"]),
            ("optim.eps=0", ["--eps (optim.eps) is 0", "above 0"]),
            ("optim.weight_decay=-1", ["--weight-decay (optim.weight_decay) is -1", "at least 0"]),
            ("optim.clip=-1", ["--clip (optim.clip) is -1", "at least 0"]),
            ("data.val_fraction=1", ["--val-fraction (data.val_fraction) is 1", "below 1"]),
            ("data.val_tokens=0", ["--val-tokens (data.val_tokens) is 0", "at least 1"]),
            ("data.vocab_size=0", ["--vocab-size (data.vocab_size) is 0", "at least 1"]),
        ] {
            let text = message(&[set]);
            assert!(parts.iter().all(|part| text.contains(part)), "{set}: {text}");
        }
    }

    #[test]
    fn wrong_types_name_the_key() {
        for (set, parts) in [
            ("run.steps=ten", ["run.steps", "\"ten\" is not a whole number"]),
            ("run.keep=-1", ["run.keep", "-1 is not a whole number"]),
            ("optim.lr=fast", ["optim.lr", "string \"fast\""]),
            ("run.dtype=f64", ["run.dtype", "`f32`"]),
            ("run.seed=-1", ["run.seed", "-1"]),
        ] {
            let text = message(&[set]);
            assert!(parts.iter().all(|part| text.contains(part)), "{set}: {text}");
        }
        assert!(message(&["no-equals-sign"]).contains("expected key=value"));
    }

    #[test]
    fn tokens_become_steps_and_warmup_follows_them() {
        let config = sets(&["run.tokens=1M", "run.batch_size=8", "run.seq_len=128"]).unwrap();
        assert_eq!(config.run.steps, 977); // 1e6 / 1024, rounded up
        assert_eq!(config.optim.warmup, 97);
        assert_eq!(sets(&["run.steps=1e6"]).unwrap().optim.warmup, 2000);
        assert!(message(&["run.tokens=1", "run.steps=1"]).contains("choose one"));
    }

    #[test]
    fn resume_pins_what_changes_the_numbers_and_nothing_else() {
        let stored = sets(&["run.batch_size=8", "run.accum=2"]).unwrap();
        let free = ["run.threads=7", "run.keep=9", "run.save_every=3", "run.cache=full"];
        let split = ["run.batch_size=4", "run.accum=4"];
        let moved = sets(&[&free[..], &split[..]].concat()).unwrap();
        let warnings = check_resume(&stored, &moved, false).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("run.accum"), "{warnings:?}");

        for set in ["run.seed=1", "optim.lr=0.5", "run.seq_len=64", "model.name=15M"] {
            let wanted = sets(&["run.batch_size=8", "run.accum=2", set]).unwrap();
            let text = check_resume(&stored, &wanted, true).unwrap_err().to_string();
            let (key, value) = set.split_once('=').unwrap();
            assert!(text.contains(key) && text.contains(value), "{text}");
            assert!(text.contains("--out"), "{text}");
        }
        let product = sets(&["run.batch_size=8", "run.accum=3"]).unwrap();
        let text = check_resume(&stored, &product, true).unwrap_err().to_string();
        assert!(text.contains("was 16 and is now 24"), "{text}");
    }

    #[test]
    fn steps_change_only_on_insistence() {
        let stored = RunConfig::default();
        let mut wanted = stored.clone();
        wanted.run.steps = 2000;
        let text = check_resume(&stored, &wanted, false).unwrap_err().to_string();
        assert!(text.contains("--set run.steps=2000"), "{text}");
        assert_eq!(check_resume(&stored, &wanted, true).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_not_toml_names_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.toml");
        fs::write(&path, "[run]\nsteps = 1\nkeep = = 2\n").unwrap();
        let text = RunConfig::read(&path).unwrap_err().to_string();
        assert!(text.contains("bad.toml is not TOML: line 3"), "{text}");
        fs::write(&path, "steps = 3\n").unwrap();
        let text = RunConfig::read(&path).unwrap_err().to_string();
        assert!(text.contains("unknown key `steps`, did you mean `run.steps`?"), "{text}");
        let text = RunConfig::read(&dir.path().join("none.toml")).unwrap_err().to_string();
        assert!(text.contains("cannot read the configuration") && text.contains("none.toml"));
    }
}
