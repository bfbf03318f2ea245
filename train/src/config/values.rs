//! How the text of a value is read, the same on a command line, in a file and in `--set`, and what
//! is allowed.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use data::loader::Order;
use data::tokenizer::Ends;
use engine::Dtype;
use model::cache::Mode;
use serde::{Serialize, Serializer};

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceChoice {
    /// CUDA where there is a GPU, otherwise the CPU
    Auto,
    /// The CPU
    Cpu,
    /// An NVIDIA GPU
    Cuda,
    /// The GPU kernels, executed on the CPU: slow, for checks
    CudaEmulated,
}

/// What multiplies matrices on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Gemm {
    /// Handgrad's kernels
    Rust,
    /// NVIDIA's cuBLASLt, where its library is found: for comparison
    Cublaslt,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors
    Error,
    /// And warnings
    Warn,
    /// And progress
    Info,
    /// And details
    Debug,
    /// And everything
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no level is hidden").get_name())
    }
}

/// The values of a key whose type another crate owns, each with its name and what `--help` says.
type Choices<T> = &'static [(T, &'static str, &'static str)];

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

const ENDS: Choices<Ends> = &[
    (
        Ends::Both,
        "both",
        "What a text begins with, and the end token, as far as the tokenizer has them",
    ),
    (Ends::After, "after", "The end token alone, as in runs from before there was a choice"),
];

const CACHES: Choices<Mode> = &[
    (
        Mode::Linear,
        "linear",
        "The outputs of its linear layers: no matrix product is computed twice",
    ),
    (Mode::Full, "full", "Its input only: least memory, one more forward pass"),
];

/// The storage types that train and generate: f64 only proves gradients.
pub fn dtype() -> impl TypedValueParser<Value = Dtype> {
    one_of(DTYPES)
}

pub(super) fn order() -> impl TypedValueParser<Value = Order> {
    one_of(ORDERS)
}

pub(super) fn ends() -> impl TypedValueParser<Value = Ends> {
    one_of(ENDS)
}

pub(super) fn cache() -> impl TypedValueParser<Value = Mode> {
    one_of(CACHES)
}

pub(super) fn dtype_name<S: Serializer>(dtype: &Dtype, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(dtype.name())
}

/// Reads the name of one of `choices`.
fn one_of<T: Copy + Send + Sync>(choices: Choices<T>) -> impl TypedValueParser<Value = T> {
    let possible = choices.iter().map(|&(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(possible).map(|text| {
        let (value, ..) = choices.iter().find(|(_, name, _)| *name == text).expect("it was listed");
        *value
    })
}

/// A path that TOML can hold.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text: OsString| match text.into_string() {
        Ok(text) => Ok(PathBuf::from(text)),
        Err(_) => Err("not UTF-8, which run.toml needs: rename it"),
    })
}

/// Parses a count: `250`, `10_000`, `1e6`, `2k`, `10M`, `1.5B`.
///
/// # Errors
/// What is allowed, as text, if it is not a whole number that fits.
pub fn count<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    whole_number(text)
        .and_then(|n| N::try_from(n).ok())
        .ok_or_else(|| "expected a whole number such as 250, 1e6, 2k, 10M or 1.5B".to_string())
}

/// As [`count`], and not 0.
///
/// # Errors
/// What is allowed.
pub fn at_least_1<N: TryFrom<u64> + PartialEq + From<u8>>(text: &str) -> Result<N, String> {
    let n = count(text)?;
    if n == N::from(0) { Err("must be at least 1".to_string()) } else { Ok(n) }
}

fn whole_number(text: &str) -> Option<u64> {
    let plain: String = text.trim().chars().filter(|c| *c != '_').collect();
    let (digits, unit) = match plain.chars().last()? {
        'k' | 'K' => (&plain[..plain.len() - 1], 1e3),
        'm' | 'M' => (&plain[..plain.len() - 1], 1e6),
        'b' | 'B' | 'g' | 'G' => (&plain[..plain.len() - 1], 1e9),
        _ => (plain.as_str(), 1.0),
    };
    if unit == 1.0
        && let Ok(n) = digits.parse::<u64>()
    {
        return (n <= i64::MAX as u64).then_some(n);
    }
    let x = digits.parse::<f64>().ok()? * unit;
    let x = if (x - x.round()).abs() < 1e-6 { x.round() } else { x };
    // Whole and exact: at most 2^53.
    (x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&x)).then_some(x as u64)
}

/// A number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x.is_finite(), "must be finite and above 0")
}

/// A number from 0 on.
///
/// # Errors
/// What is allowed.
pub fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..f64::INFINITY).contains(&x), "must be finite and at least 0")
}

/// A share of a whole.
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "must be from 0 to 1")
}

/// A share that leaves something.
pub(super) fn below_1(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..1.0).contains(&x), "must be at least 0 and below 1")
}

/// A probability that something is left of.
///
/// # Errors
/// What is allowed.
pub fn above_0_to_1(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0 && x <= 1.0, "must be above 0 and at most 1")
}

fn number(text: &str, ok: impl Fn(f64) -> bool, allowed: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if ok(x) => Ok(x),
        Ok(_) => Err(allowed.to_string()),
        Err(_) => Err(format!("expected a number: {allowed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(count(text), Ok(n), "{text}");
        }
        for text in
            ["", "k", "-1", "1.5", "1e30", "nan", "inf", "ten", "1kk", "99999999999999999999"]
        {
            assert!(count::<u64>(text).is_err(), "{text}");
        }
        assert!(count::<u8>("256").is_err() && at_least_1::<u64>("0").is_err());
    }
}
