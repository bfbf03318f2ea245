//! Rotary frequencies, and how models stretch them to texts longer than they were trained on. Each
//! formula is that of transformers' `modeling_rope_utils`, in f64.

use std::f64::consts::TAU;

use std::path::Path;

use engine::Error;
use engine::ops::rope;

use crate::config::bad;

/// How the frequencies of a model differ from theta^(-2i/D).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Scaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided: positions lie closer.
    Linear {
        /// By how much.
        factor: f64,
    },
    /// Where a text is longer than the model's longest, theta grows with it.
    Dynamic {
        /// How much longer texts may be.
        factor: f64,
    },
    /// Low frequencies are divided, high ones stay, and cosines and sines grow a little (Peng et al.
    /// 2023, arXiv:2309.00071).
    Yarn(Yarn),
    /// Low frequencies are divided, high ones stay: Llama 3.1.
    Llama3 {
        /// Divides low frequencies.
        factor: f64,
        /// A frequency is low if it turns less than this often in `original` tokens.
        low: f64,
        /// A frequency is high if it turns more than this often in `original` tokens.
        high: f64,
        /// Tokens of the texts that the model was first trained on.
        original: usize,
    },
}

/// The numbers of [`Scaling::Yarn`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Divides low frequencies.
    pub factor: f64,
    /// Factor of cosines and sines; what follows from the others where it is not given.
    pub attention_factor: Option<f64>,
    /// A frequency is high if it turns more than this often in `original` tokens.
    pub beta_fast: f64,
    /// A frequency is low if it turns less than this often in `original` tokens.
    pub beta_slow: f64,
    /// Weights of the logarithm in the attention factor: above and below the line.
    pub mscale: Option<(f64, f64)>,
    /// Tokens of the texts that the model was first trained on.
    pub original: usize,
    /// Whether the limits between high and low are whole numbers.
    pub truncate: bool,
}

impl Scaling {
    /// The frequencies of heads of width `D` and the factor of cosines and sines, for texts of up to
    /// `T` tokens of a model whose longest have `longest`.
    pub fn frequencies(&self, D: usize, theta: f64, T: usize, longest: usize) -> (Vec<f64>, f64) {
        let plain = rope::frequencies(D, theta);
        match *self {
            Scaling::None => (plain, 1.0),
            Scaling::Linear { factor } => (plain.iter().map(|f| f / factor).collect(), 1.0),
            Scaling::Dynamic { factor } => {
                let (T, longest, D_) = (T.max(longest) as f64, longest as f64, D as f64);
                let growth = factor * T / longest - (factor - 1.0);
                (rope::frequencies(D, theta * growth.powf(D_ / (D_ - 2.0))), 1.0)
            }
            Scaling::Yarn(yarn) => (yarn.frequencies(&plain, theta), yarn.attention_factor()),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = plain.iter().map(|&f| {
                    let turns = original as f64 * f / TAU;
                    let high_share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - high_share) * f / factor + high_share * f
                });
                (scaled.collect(), 1.0)
            }
        }
    }
}

impl Scaling {
    /// What `config.json` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Scaling::None => "default",
            Scaling::Linear { .. } => "linear",
            Scaling::Dynamic { .. } => "dynamic",
            Scaling::Yarn(_) => "yarn",
            Scaling::Llama3 { .. } => "llama3",
        }
    }

    /// Refuses numbers that no formula takes. `path` is named in the error.
    pub(crate) fn validate(&self, path: &Path, D: usize) -> Result<(), Error> {
        let (factor, original) = match *self {
            Scaling::None => (1.0, 1),
            Scaling::Linear { factor } | Scaling::Dynamic { factor } => (factor, 1),
            Scaling::Yarn(Yarn { factor, original, .. }) => (factor, original),
            Scaling::Llama3 { factor, original, .. } => (factor, original),
        };
        let refuse = |key: &str, value: &dyn std::fmt::Display, allowed| {
            Err(bad(path, &format!("rope_parameters.{key}"), value, allowed))
        };
        if !(1.0..=1e6).contains(&factor) {
            return refuse("factor", &factor, "must be a number from 1 to 1000000");
        }
        if original == 0 {
            return refuse("original_max_position_embeddings", &original, "must be at least 1");
        }
        match *self {
            Scaling::Dynamic { .. } if D < 4 => {
                refuse("rope_type", &self.name(), "needs heads of a width of at least 4")
            }
            Scaling::Llama3 { low, high, .. } if !(low > 0.0 && high > low && high.is_finite()) => {
                refuse("high_freq_factor", &high, "must be above low_freq_factor, which is above 0")
            }
            Scaling::Yarn(Yarn { beta_fast, beta_slow, .. })
                if !(beta_slow > 0.0 && beta_fast >= beta_slow && beta_fast.is_finite()) =>
            {
                refuse("beta_fast", &beta_fast, "must be at least beta_slow, which is above 0")
            }
            _ => Ok(()),
        }
    }
}

impl Yarn {
    fn frequencies(&self, plain: &[f64], theta: f64) -> Vec<f64> {
        let D = 2.0 * plain.len() as f64;
        // The index whose frequency turns so often in the original texts.
        let index =
            |turns: f64| D * (self.original as f64 / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (low, high) = (index(self.beta_fast), index(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, mut high) = (low.max(0.0), high.min(D - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(i, &f): (usize, &f64)| {
            let low_share = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / self.factor * low_share + f * (1.0 - low_share)
        };
        plain.iter().enumerate().map(blend).collect()
    }

    fn attention_factor(&self) -> f64 {
        let grown = |weight: f64| match self.factor <= 1.0 {
            true => 1.0,
            false => 0.1 * weight * self.factor.ln() + 1.0,
        };
        let inferred = match self.mscale {
            Some((above, below)) => grown(above) / grown(below),
            None => grown(1.0),
        };
        self.attention_factor.unwrap_or(inferred)
    }
}
