//! The configuration of a run: one plain struct, where its values come from, and which of them a
//! resumed run must share with the run it continues.
//!
//! A field below is a key, and declares all of it: its flag, its default, what `--help` says and
//! what is allowed. Files and `--set` name a key `section.field`, and their values are read as the
//! flag's would be.
//!
//! ```
//! use train::config::{RunConfig, check_resume};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run.toml");
//! std::fs::write(&path, "[run]\nsteps = 200\nbatch_size = 4\n")?;
//! let config = RunConfig::read(&path)?;
//! assert_eq!((config.tokens_per_step(), config.warmup()), (4 * 256, 20));
//!
//! let mut other = config.clone();
//! other.run.seed = 7;
//! let refused = check_resume(&config, &other, false).unwrap_err();
//! assert!(refused.to_string().contains("run.seed was 42 and is now 7"));
//! # Ok(())
//! # }
//! ```

mod layers;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data::loader::Order;
use data::tokenizer::Ends;
use engine::Dtype;
use model::cache::Mode;
use serde::Serialize;
use toml::Table;

use crate::error::Error;
use crate::trainer::check_tokens;
use layers::{Layer, flatten};
pub use layers::{Resolved, Sources};
pub use values::{
    DeviceChoice, Gemm, LogLevel, TokenizerChoice, above_0_to_1, at_least_1, count, dtype,
    not_negative,
};

/// Everything a run is told. `run.toml` in the output folder is exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
#[group(skip)]
pub struct RunConfig {
    /// What is read.
    #[command(flatten)]
    pub data: Data,
    /// What is trained.
    #[command(flatten)]
    pub model: Model,
    /// How weights are updated.
    #[command(flatten)]
    pub optim: Optim,
    /// How long, how large, where, and what is reported.
    #[command(flatten)]
    pub run: Run,
}

/// Section `data`.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "Data")]
#[group(skip)]
pub struct Data {
    /// Text (.txt, .jsonl, .jsonl.gz, .jsonl.zst), token shards (.bin), or folders of them [default:
    /// the built-in stories]
    #[arg(long = "data", value_name = "PATH", num_args = 1.., value_parser = values::path())]
    pub paths: Vec<PathBuf>,
    /// A tokenizer.json, or `bpe` to train one on the data, or `bytes`
    #[arg(long, value_name = "FILE|bpe|bytes", default_value = "bpe")]
    pub tokenizer: TokenizerChoice,
    /// Entries of a tokenizer trained here, special tokens included
    #[arg(long, value_name = "N", default_value = "4096", value_parser = at_least_1::<usize>)]
    pub vocab_size: usize,
    /// What stands around each document
    #[arg(long, value_name = "ENDS", default_value = "both", value_parser = values::ends())]
    pub document_ends: Ends,
    /// Share of the tokens held out for validation
    #[arg(long, value_name = "X", default_value = "0.05", value_parser = values::below_1)]
    pub val_fraction: f64,
    /// Tokens held out for validation, in place of a share
    #[arg(long, value_name = "N", value_parser = at_least_1::<u64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_tokens: Option<u64>,
}

/// Section `model`.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "Model")]
#[group(skip)]
pub struct Model {
    /// A named size, or a Hugging Face config.json
    #[arg(long = "model", value_name = "NAME|FILE", default_value = "story")]
    pub name: String,
    /// A Hugging Face model directory whose weights to start from
    #[arg(long, value_name = "DIR", value_parser = values::path())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
}

/// Section `optim`.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "Optimizer")]
#[group(skip)]
pub struct Optim {
    /// Peak learning rate; larger models want less, the paper's 3e-4
    #[arg(long, value_name = "X", default_value = "3e-3", value_parser = values::positive)]
    pub lr: f64,
    /// Final learning rate as a share of the peak
    #[arg(long, value_name = "X", default_value = "0.1", value_parser = values::share)]
    pub min_lr_ratio: f64,
    /// Steps of linear warmup [default: a tenth of the steps, at most the paper's 2000]
    #[arg(long, value_name = "N", value_parser = count::<u64>)]
    pub warmup: Option<u64>,
    /// AdamW's decay of the first moment
    #[arg(long, value_name = "X", default_value = "0.9", value_parser = values::below_1)]
    pub beta1: f64,
    /// AdamW's decay of the second moment
    #[arg(long, value_name = "X", default_value = "0.95", value_parser = values::below_1)]
    pub beta2: f64,
    /// AdamW's epsilon, which joins the square root of the second moment: unit of a gradient
    #[arg(long, value_name = "X", default_value = "1e-8", value_parser = values::positive)]
    pub eps: f64,
    /// Decoupled weight decay, on matrices only
    #[arg(long, value_name = "X", default_value = "0.1", value_parser = not_negative)]
    pub weight_decay: f64,
    /// Largest global L2 norm of the gradient; 0 does not clip
    #[arg(long, value_name = "X", default_value = "1.0", value_parser = not_negative)]
    pub clip: f64,
}

/// Section `run`.
#[derive(Clone, Debug, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "Run")]
#[group(skip)]
pub struct Run {
    /// Output folder
    #[arg(long, value_name = "DIR", default_value = "out", value_parser = values::path())]
    pub out: PathBuf,
    /// Optimizer steps, all in all: a resumed run counts the steps before it
    #[arg(long, value_name = "N", default_value = "450", value_parser = at_least_1::<u64>)]
    pub steps: u64,
    /// Tokens to train on, in place of steps, which they become: 250000, 1e6, 10M
    #[arg(long, value_name = "N", value_parser = at_least_1::<u64>, conflicts_with = "steps")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Sequences of one forward pass
    #[arg(long, value_name = "B", default_value = "8", value_parser = at_least_1::<usize>)]
    pub batch_size: usize,
    /// Tokens of one sequence
    #[arg(long, value_name = "T", default_value = "256", value_parser = at_least_1::<usize>)]
    pub seq_len: usize,
    /// Forward and backward passes of one step
    #[arg(long, value_name = "K", default_value = "1", value_parser = at_least_1::<usize>)]
    pub accum: usize,
    /// Storage type of weights and activations
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = dtype())]
    #[serde(serialize_with = "values::dtype_name")]
    pub dtype: Dtype,
    /// Where to compute
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: DeviceChoice,
    /// Matrix products of a GPU
    #[arg(long, value_name = "G", default_value = "rust")]
    pub gemm: Gemm,
    /// CPU threads; the numbers do not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_1::<usize>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Seed of initial weights, data order and samples
    #[arg(long, value_name = "S", default_value = "42")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: u64,
    /// Order of the training sequences
    #[arg(long, value_name = "ORDER", default_value = "shuffled", value_parser = values::order())]
    pub order: Order,
    /// What a block keeps for its backward pass
    #[arg(long, value_name = "MODE", default_value = "linear", value_parser = values::cache())]
    pub cache: Mode,
    /// Steps between evaluations; 0 evaluates only at the end
    #[arg(long, value_name = "N", default_value = "100", value_parser = count::<u64>)]
    #[arg(help_heading = "Reports")]
    pub eval_every: u64,
    /// Tokens of one evaluation, at most
    #[arg(long, value_name = "N", default_value = "65536", value_parser = at_least_1::<u64>)]
    #[arg(help_heading = "Reports")]
    pub eval_tokens: u64,
    /// Steps between checkpoints; 0 saves only at the end and on a signal
    #[arg(long, value_name = "N", default_value = "100", value_parser = count::<u64>)]
    #[arg(help_heading = "Reports")]
    pub save_every: u64,
    /// Checkpoints kept: the newest ones
    #[arg(long, value_name = "N", default_value = "2", value_parser = at_least_1::<usize>)]
    #[arg(help_heading = "Reports")]
    pub keep: usize,
    /// What the sample at each evaluation continues [default: the beginning of a text]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    #[arg(allow_hyphen_values = true, help_heading = "Reports")]
    pub sample_prompt: String,
    /// Tokens of that sample; 0 for none
    #[arg(long, value_name = "N", default_value = "64", value_parser = count::<usize>)]
    #[arg(help_heading = "Reports")]
    pub sample_tokens: usize,
    /// What is logged; RUST_LOG wins
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Reports")]
    pub log_level: LogLevel,
}

impl Default for RunConfig {
    fn default() -> Self {
        Layer::default().finish().expect("the defaults are allowed")
    }
}

/// The keys whose values a resumed run may change, because they do not change its numbers, or have a
/// rule of their own. All others it must share.
const FREE: [&str; 18] = [
    "data.paths",
    "model.init_from",
    "run.out",
    "run.steps",
    "run.tokens",
    "run.batch_size",
    "run.accum",
    "run.device",
    "run.gemm",
    "run.threads",
    "run.eval_every",
    "run.eval_tokens",
    "run.save_every",
    "run.keep",
    "run.cache",
    "run.sample_prompt",
    "run.sample_tokens",
    "run.log_level",
];

/// What a run's numbers depend on: dotted key to value, as text. The caller adds what only it
/// knows, such as hashes of the data and of the model's configuration.
pub type Fingerprint = BTreeMap<String, String>;

impl RunConfig {
    /// Tokens of one optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        self.run.batch_size as u64 * self.run.accum as u64 * self.run.seq_len as u64
    }

    /// Steps of linear warmup.
    pub fn warmup(&self) -> u64 {
        self.optim.warmup.unwrap_or((self.run.steps / 10).min(2000))
    }

    /// The values that a resumed run must share. The split of a step into `batch_size` and
    /// `accum` is free, their product is not; `steps` has its own rule, see [`check_resume`].
    pub fn fingerprint(&self) -> Fingerprint {
        let values = flatten(&self.to_table()).into_iter();
        let mut fingerprint: Fingerprint = values
            .filter(|(key, _)| !FREE.contains(&&**key))
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        if self.data.document_ends == Ends::After {
            // Checkpoints of runs from before there was a choice do not have the key.
            fingerprint.remove("data.document_ends");
        }
        let sequences = self.run.batch_size as u64 * self.run.accum as u64;
        fingerprint.insert("run.batch_size * run.accum".to_string(), sequences.to_string());
        fingerprint
    }

    /// Reads a stored `run.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Config`] if it is not a valid configuration.
    pub fn read(path: &Path) -> Result<RunConfig, Error> {
        Layer::from_run(path)?.finish()
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

    /// What follows from several keys: tokens become steps, and steps give the warmup.
    fn settle(mut self) -> Result<RunConfig, Error> {
        check_tokens(self.run.batch_size, self.run.seq_len, self.run.accum)?;
        if let Some(tokens) = self.run.tokens.take() {
            self.run.steps = tokens.div_ceil(self.tokens_per_step());
        }
        let (warmup, steps) = (self.warmup(), self.run.steps);
        if steps.checked_mul(self.tokens_per_step()).is_none() {
            return Err(Error::Config(format!(
                "--steps (run.steps) is {steps}: more tokens than 64 bits count; give fewer"
            )));
        }
        if warmup > steps {
            return Err(Error::Config(format!(
                "--warmup (optim.warmup) is {warmup}: must be at most the {steps} steps of the run \
                 (--steps)"
            )));
        }
        self.optim.warmup = Some(warmup);
        Ok(self)
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sets(sets: &[&str]) -> Result<RunConfig, Error> {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let mut layers = Layer::default();
        layers.put(Layer::from_sets(&sets)?);
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
    fn free_keys_exist() {
        let mut full = RunConfig::default();
        full.run.tokens = Some(1);
        full.model.init_from = Some(PathBuf::from("x"));
        full.run.threads = Some(1);
        let known = flatten(&full.to_table());
        assert!(FREE.iter().all(|key| known.contains_key(*key)), "{FREE:?}");
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
            ("optim.lr=nan", ["--lr (optim.lr) is nan", "finite and above 0"]),
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
            ("run.steps=ten", ["run.steps", "is ten: expected a whole number"]),
            ("run.keep=-1", ["run.keep", "is -1: expected a whole number"]),
            ("optim.lr=fast", ["optim.lr", "is fast: expected a number"]),
            ("run.dtype=f64", ["run.dtype", "is f64: must be one of f32, bf16"]),
            ("run.device=[1, 2]", ["run.device is [1, 2]", "expected a number or a text"]),
            ("run.device={a=1}", ["run.device", "expected a number or a text"]),
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
        assert_eq!(config.optim.warmup, Some(97));
        assert_eq!(sets(&["run.steps=1e6"]).unwrap().optim.warmup, Some(2000));
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

    /// A run from before there was a choice of document ends goes on as it began; a new one does not.
    #[test]
    fn a_stored_run_without_document_ends_has_the_end_token_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        let text = RunConfig::default().to_table().to_string();
        let earlier = text.replace("document_ends = \"both\"\n", "");
        assert_ne!(earlier, text);
        fs::write(&path, earlier).unwrap();
        let stored = RunConfig::read(&path).unwrap();
        assert_eq!(stored.data.document_ends, Ends::After);
        assert!(!stored.fingerprint().contains_key("data.document_ends"));
        assert_eq!(RunConfig::default().data.document_ends, Ends::Both);
        assert!(RunConfig::default().fingerprint().contains_key("data.document_ends"));
        check_resume(&stored, &RunConfig::default(), false).unwrap_err();
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
