//! What a model is: its sizes and constants, the named sizes, and what of them is allowed.
//!
//! ```
//! use model::Config;
//!
//! let config = Config::llama_7b().with_context(4096);
//! assert_eq!((config.dims.L, config.dims.C), (32, 4096));
//! assert_eq!(Config::named("7b").unwrap().dims, config.dims);
//! ```

use crate::lora::Lora;
use crate::rope::Scaling;
use engine::{Dims, Error};
use std::fmt::Display;
use std::path::Path;

/// Largest value of any one size. With [`MAX_PARAMETERS`] it keeps all arithmetic on sizes exact.
const MAX_SIZE: usize = 1 << 20;
/// Largest context in tokens.
const MAX_CONTEXT: usize = 1 << 30;
/// Largest model.
const MAX_PARAMETERS: u128 = 1 << 40;

/// Models that are LLaMA but for their names, and what those bring along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// LLaMA 1 to 3, TinyLlama and all that are called so.
    #[default]
    Llama,
    /// Mistral: tokens may see a window only.
    Mistral,
    /// Qwen 2: queries, keys and values have biases.
    Qwen2,
}

/// Which linear layers have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bias {
    /// None.
    #[default]
    None,
    /// Queries, keys and values.
    Qkv,
    /// Those, and attention's output.
    Attention,
}

/// One LLaMA, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What files call it.
    pub family: Family,
    /// Sizes.
    pub dims: Dims,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched to longer texts.
    pub rope: Scaling,
    /// Joins the mean square in every RMSNorm: unit of x squared.
    pub norm_eps: f32,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Which linear layers have biases.
    pub bias: Bias,
    /// Longest sequence in tokens.
    pub max_seq_len: usize,
    /// Tokens that a token sees, itself included, where that is limited. Attention here is over
    /// all, which is the same in sequences no longer than this, see [`Config::context`].
    pub window: Option<usize>,
    /// Token that starts a text; named sizes leave it to the run's tokenizer, as the next two.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Token that fills batches.
    pub pad: Option<u32>,
    /// Adapters beside its matrices; a `config.json` has none.
    pub lora: Option<Lora>,
}

/// Hidden width of the feed-forward for width `C`: two thirds of 4C, rounded up to `multiple`.
pub fn hidden(C: usize, multiple: usize) -> usize {
    (8 * C / 3).next_multiple_of(multiple)
}

impl Config {
    /// What [`Config::named`] knows, smallest first.
    pub const NAMES: [&str; 10] =
        ["260k", "story", "15m", "42m", "110m", "1.1b", "7b", "13b", "33b", "65b"];

    /// A model of these sizes with the paper's constants: RoPE's base 10000, epsilon 1e-5, a head of its own,
    /// sequences of up to 2048 tokens. What else a field may say is said by the methods `with_..`, or by
    /// the field itself.
    ///
    /// ```
    /// use engine::Dims;
    /// use model::Config;
    ///
    /// let dims = Dims { L: 4, C: 256, H: 8, G: 2, D: 32, F: 704, V: 4096 };
    /// let config = Config::new(dims).with_tied_head().with_context(512);
    /// assert!(config.validate("no file".as_ref()).is_ok());
    /// assert_eq!(model::params::count(&config), 3_868_928);
    /// ```
    pub fn new(dims: Dims) -> Config {
        Config {
            family: Family::Llama,
            dims,
            rope_theta: 10_000.0,
            rope: Scaling::None,
            norm_eps: 1e-5,
            tied: false,
            bias: Bias::None,
            max_seq_len: 2048,
            window: None,
            bos: None,
            eos: Vec::new(),
            pad: None,
            lora: None,
        }
    }

    /// LLaMA of 6.7 billion parameters: the paper's table 2.
    pub fn llama_7b() -> Config {
        Self::of("7b")
    }

    /// LLaMA of 13.0 billion parameters: the paper's table 2.
    pub fn llama_13b() -> Config {
        Self::of("13b")
    }

    /// LLaMA of 32.5 billion parameters: the paper's table 2.
    pub fn llama_33b() -> Config {
        Self::of("33b")
    }

    /// LLaMA of 65.2 billion parameters: the paper's table 2.
    pub fn llama_65b() -> Config {
        Self::of("65b")
    }

    /// A model of 260 thousand parameters, llama2.c's smallest.
    pub fn stories_260k() -> Config {
        Self::of("260k")
    }

    /// A size that [`Config::named`] knows.
    fn of(name: &str) -> Config {
        Self::named(name).expect("it is one of Config::NAMES")
    }

    /// A model by its size. `7b` to `65b` are the paper's table 2; `1.1b` has TinyLlama's sizes;
    /// `260k` to `110m` have those of llama2.c's story models, whose head is the embedding;
    /// `story` is what a run without arguments trains.
    pub fn named(name: &str) -> Option<Config> {
        // L, C, H, G, F, V, longest sequence, tied
        let (L, C, H, G, F, V, max_seq_len, tied) = match name {
            "260k" => (5, 64, 8, 4, hidden(64, 4), 512, 512, true),
            "story" => (4, 192, 6, 6, hidden(192, 32), 2048, 256, false),
            "15m" => (6, 288, 6, 6, hidden(288, 32), 32000, 256, true),
            "42m" => (8, 512, 8, 8, hidden(512, 32), 32000, 1024, true),
            "110m" => (12, 768, 12, 12, hidden(768, 32), 32000, 1024, true),
            "1.1b" => (22, 2048, 32, 4, hidden(2048, 256), 32000, 2048, false),
            "7b" => (32, 4096, 32, 32, hidden(4096, 256), 32000, 2048, false),
            "13b" => (40, 5120, 40, 40, hidden(5120, 256), 32000, 2048, false),
            "33b" => (60, 6656, 52, 52, hidden(6656, 256), 32000, 2048, false),
            "65b" => (80, 8192, 64, 64, hidden(8192, 256), 32000, 2048, false),
            _ => return None,
        };
        let dims = Dims { L, C, H, G, D: C / H, F, V };
        Some(Config { tied, max_seq_len, ..Config::new(dims) })
    }

    /// Longest sequence in tokens that is computed as the model means it.
    pub fn context(&self) -> usize {
        self.window.map_or(self.max_seq_len, |window| window.min(self.max_seq_len))
    }

    /// Refuses sequences of `T` tokens where the model would mean them otherwise. `flag` is named in
    /// the error.
    ///
    /// # Errors
    /// What about the model forbids it, and the longest that is allowed.
    pub fn check_length(&self, T: usize, flag: &str) -> Result<(), Error> {
        let longest = self.max_seq_len;
        if let Some(window) = self.window.filter(|&window| T > window) {
            return Err(Error::Config(format!(
                "{flag} is {T}: this model's sliding_window is {window}, and attention over windows is \
                 not computed here; use at most {window}"
            )));
        }
        if matches!(self.rope, Scaling::Dynamic { .. }) && T > longest {
            return Err(Error::Config(format!(
                "{flag} is {T}: this model's rotary frequencies are dynamic, they change beyond its \
                 {longest} tokens; use at most {longest}"
            )));
        }
        Ok(())
    }

    /// The same model over a vocabulary of `V` tokens.
    pub fn with_vocab(mut self, V: usize) -> Config {
        self.dims.V = V;
        self
    }

    /// The same model with the embedding as its head.
    pub fn with_tied_head(self) -> Config {
        Config { tied: true, ..self }
    }

    /// The same model for sequences of up to `T` tokens.
    pub fn with_context(self, T: usize) -> Config {
        Config { max_seq_len: T, ..self }
    }

    /// The same model with adapters beside its matrices.
    pub fn with_lora(self, lora: Lora) -> Config {
        Config { lora: Some(lora), ..self }
    }

    /// Multiplications and additions of one training step, forward and backward, per token of
    /// sequences of `T`. Each element of a matrix costs 2 forward and 4 backward; the head counts
    /// even if it is tied, the embedding lookup and the gains do not. Attention is 12 L T H D for
    /// full sequences, half of it below the diagonal.
    /// Source of the count: PaLM, arXiv:2204.02311, appendix B, with the causal half.
    pub fn flop_per_token(&self, T: usize) -> u64 {
        let Dims { L, C, F, V, .. } = self.dims;
        let block = C * self.dims.qkv() + self.dims.attn() * C + 3 * C * F;
        (6 * (L * block + V * C) + 6 * L * T * self.dims.attn()) as u64
    }

    /// Bytes that all blocks keep of one token for the backward pass, with activations of
    /// `bytes_per_element`: x, x after attention, q, O, k, v, gate and up, and in f32 one
    /// log-sum-exp a head and the inverse rms of both norms.
    pub fn activation_bytes_per_token(&self, bytes_per_element: usize) -> u64 {
        let Dims { L, C, H, G, D, F, .. } = self.dims;
        let elements = 2 * C + 2 * H * D + 2 * G * D + 2 * F;
        (L * (bytes_per_element * elements + 4 * H + 8)) as u64
    }

    /// Checks every value; [`crate::hf::read_config`] has done so already. `path` is named in the error.
    ///
    /// # Errors
    /// `PATH: key = value: what is allowed` for the first unusable value, with `config.json`'s key.
    pub fn validate(&self, path: &Path) -> Result<(), Error> {
        let Dims { L, C, H, G, D, F, V } = self.dims;
        let sizes = [
            ("hidden_size", C),
            ("intermediate_size", F),
            ("num_hidden_layers", L),
            ("num_attention_heads", H),
            ("num_key_value_heads", G),
            ("head_dim", D),
            ("vocab_size", V),
        ];
        for (key, size) in sizes {
            if !(1..=MAX_SIZE).contains(&size) {
                return Err(bad(path, key, size, format!("allowed is 1 to {MAX_SIZE}")));
            }
        }
        if !(1..=MAX_CONTEXT).contains(&self.max_seq_len) {
            let allowed = format!("allowed is 1 to {MAX_CONTEXT}");
            return Err(bad(path, "max_position_embeddings", self.max_seq_len, allowed));
        }
        if C % H != 0 {
            // The engine could do without, but transformers refuses such a model.
            let allowed = format!("must divide hidden_size = {C}");
            return Err(bad(path, "num_attention_heads", H, allowed));
        }
        if H % G != 0 {
            let allowed = format!("must divide num_attention_heads = {H}");
            return Err(bad(path, "num_key_value_heads", G, allowed));
        }
        if D % 2 != 0 {
            return Err(bad(path, "head_dim", D, "must be even for rotary positions"));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(bad(path, "rms_norm_eps", self.norm_eps, "must lie between 0 and 1"));
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return Err(bad(path, "rope_theta", self.rope_theta, "must be a positive number"));
        }
        self.rope.validate(path, D)?;
        if self.window == Some(0) {
            return Err(bad(path, "sliding_window", 0, "must be a positive whole number, or null"));
        }
        let bos = self.bos.iter().map(|&id| ("bos_token_id", id));
        for (key, id) in bos.chain(self.eos.iter().map(|&id| ("eos_token_id", id))) {
            if id as usize >= V {
                return Err(bad(path, key, id, format!("must be below vocab_size = {V}, or null")));
            }
        }
        self.lora.as_ref().map_or(Ok(()), Lora::validate)?;
        let [L, C, F, V] = [L, C, F, V].map(|n| n as u128);
        let attn = ((2 * H + 2 * G) as u128) * D as u128;
        let parameters = L * C * (attn + 3 * F + 2) + C + V * C * (2 - self.tied as u128);
        if parameters > MAX_PARAMETERS {
            let allowed = format!("at most {MAX_PARAMETERS}; reduce the sizes");
            return Err(bad(path, "number of parameters", parameters, allowed));
        }
        Ok(())
    }
}

/// The one form of an error about a `config.json`.
pub(crate) fn bad(path: &Path, key: &str, value: impl Display, allowed: impl Display) -> Error {
    Error::Config(format!("{}: {key} = {value}: {allowed}", path.display()))
}
