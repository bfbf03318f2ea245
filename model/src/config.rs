//! What a model is: its sizes and constants, the named sizes, and Hugging Face's `config.json`.

use crate::hf::Dtype;
use crate::params;
use engine::{Dims, Error};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// Largest value of any one size. With [`MAX_PARAMETERS`] it keeps all arithmetic on sizes exact.
const MAX_SIZE: usize = 1 << 20;
/// Largest context in tokens.
const MAX_CONTEXT: usize = 1 << 30;
/// Largest model.
const MAX_PARAMETERS: u128 = 1 << 40;

/// One LLaMA, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sizes.
    pub dims: Dims,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Joins the mean square in every RMSNorm: unit of x squared.
    pub norm_eps: f32,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Longest sequence in tokens.
    pub max_seq_len: usize,
    /// Token that starts a text; named sizes leave it to the run's tokenizer.
    pub bos: Option<u32>,
    /// Token that ends a text; named sizes leave it to the run's tokenizer.
    pub eos: Option<u32>,
}

/// Hidden width of the feed-forward for width `C`: two thirds of 4C, rounded up to `multiple`.
pub fn hidden(C: usize, multiple: usize) -> usize {
    (8 * C / 3).next_multiple_of(multiple)
}

impl Config {
    /// What [`Config::named`] knows, smallest first.
    pub const NAMES: [&str; 10] =
        ["260k", "story", "15m", "42m", "110m", "1.1b", "7b", "13b", "33b", "65b"];

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
        let (rope_theta, norm_eps) = (10_000.0, 1e-5);
        Some(Config { dims, rope_theta, norm_eps, tied, max_seq_len, bos: None, eos: None })
    }

    /// The same model over a vocabulary of `V` tokens.
    pub fn with_vocab(mut self, V: usize) -> Config {
        self.dims.V = V;
        self
    }

    /// Elements of all parameters; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        params::table(self).0.parameters() as u64
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

    /// Reads the `config.json` of a Hugging Face LLaMA, as transformers 4 or 5 writes it. Absent
    /// keys take the values that transformers gives them; the sizes must be there. Of several
    /// end tokens the first is taken.
    ///
    /// # Errors
    /// If the file cannot be read, is not a LLaMA, asks for what the engine does not compute
    /// (biases, scaled rotary frequencies, another activation), or holds an unusable value.
    pub fn read(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::io(path, e, "give the config.json of a Hugging Face LLaMA, readable and UTF-8")
        })?;
        let map: Map<String, Value> = serde_json::from_str(&text).map_err(|e| {
            Error::Config(format!(
                "{}: not a JSON object: {e}; give the config.json of a Hugging Face LLaMA",
                path.display()
            ))
        })?;
        Fields { path, prefix: "", map: &map }.config()
    }

    /// The content of a `config.json` that transformers 4 and 5 load; `dtype` is the weights'.
    pub fn to_json(&self, dtype: Dtype) -> String {
        let dims = self.dims;
        let file = File {
            architectures: ["LlamaForCausalLM"],
            attention_bias: false,
            attention_dropout: 0.0,
            bos_token_id: self.bos,
            dtype: dtype.torch_name(),
            eos_token_id: self.eos,
            head_dim: dims.D,
            hidden_act: "silu",
            hidden_size: dims.C,
            initializer_range: params::INIT_STD,
            intermediate_size: dims.F,
            max_position_embeddings: self.max_seq_len,
            mlp_bias: false,
            model_type: "llama",
            num_attention_heads: dims.H,
            num_hidden_layers: dims.L,
            num_key_value_heads: dims.G,
            rms_norm_eps: self.norm_eps,
            rope_parameters: Rope { rope_theta: self.rope_theta, rope_type: "default" },
            rope_theta: self.rope_theta,
            tie_word_embeddings: self.tied,
            torch_dtype: dtype.torch_name(),
            use_cache: true,
            vocab_size: dims.V,
        };
        serde_json::to_string_pretty(&file).expect("plain numbers and strings") + "\n"
    }

    /// Checks every value; [`Config::read`] has done so already. `path` is named in the error.
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
        for (key, id) in [("bos_token_id", self.bos), ("eos_token_id", self.eos)] {
            if let Some(id) = id.filter(|&id| id as usize >= V) {
                return Err(bad(path, key, id, format!("must be below vocab_size = {V}, or null")));
            }
        }
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

fn bad(path: &Path, key: &str, value: impl Display, allowed: impl Display) -> Error {
    Error::Config(format!("{}: {key} = {value}: {allowed}", path.display()))
}

/// What is written, in this order.
#[derive(Serialize)]
struct File {
    architectures: [&'static str; 1],
    attention_bias: bool,
    attention_dropout: f64,
    bos_token_id: Option<u32>,
    dtype: &'static str,
    eos_token_id: Option<u32>,
    head_dim: usize,
    hidden_act: &'static str,
    hidden_size: usize,
    initializer_range: f32,
    intermediate_size: usize,
    max_position_embeddings: usize,
    mlp_bias: bool,
    model_type: &'static str,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    rms_norm_eps: f32,
    rope_parameters: Rope,
    rope_theta: f64,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    use_cache: bool,
    vocab_size: usize,
}

#[derive(Serialize)]
struct Rope {
    rope_theta: f64,
    rope_type: &'static str,
}

/// The values of one JSON object. Null counts as absent, except for token ids.
struct Fields<'a> {
    path: &'a Path,
    /// Where the object lies in the file: empty, or a key and a dot.
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn config(&self) -> Result<Config, Error> {
        self.require_llama()?;
        let C = self.required_size("hidden_size")?;
        let H = self.required_size("num_attention_heads")?;
        let dims = Dims {
            L: self.required_size("num_hidden_layers")?,
            C,
            H,
            G: self.size("num_key_value_heads")?.unwrap_or(H),
            // Where H does not divide C, `validate` says so.
            D: self.size("head_dim")?.unwrap_or((C / H.max(1)).max(1)),
            F: self.required_size("intermediate_size")?,
            V: self.required_size("vocab_size")?,
        };
        let config = Config {
            dims,
            rope_theta: self.rope_theta()?,
            norm_eps: self.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            tied: self.flag("tie_word_embeddings")?,
            max_seq_len: self.size("max_position_embeddings")?.unwrap_or(2048),
            bos: self.token("bos_token_id", 1, dims.V)?,
            eos: self.token("eos_token_id", 2, dims.V)?,
        };
        config.validate(self.path)?;
        Ok(config)
    }

    /// Refuses what is not a LLaMA, or one that needs what the engine does not compute.
    fn require_llama(&self) -> Result<(), Error> {
        self.require("model_type", &["llama"])?;
        self.require("hidden_act", &["silu", "swish"])?;
        if let Some(list) = self.get("architectures") {
            let names = list.as_array().map_or(&[][..], Vec::as_slice);
            let llama = |name: &Value| {
                name.as_str().is_some_and(|n| n.eq_ignore_ascii_case("LlamaForCausalLM"))
            };
            if !names.iter().any(llama) {
                return Err(self.bad("architectures", list, "must be [\"LlamaForCausalLM\"]"));
            }
        }
        for key in ["attention_bias", "mlp_bias"] {
            if self.flag(key)? {
                return Err(self.bad(key, true, "must be false, linears have no bias here"));
            }
        }
        Ok(())
    }

    /// The base of the rotary frequencies: top level (transformers 4) or inside `rope_parameters`
    /// (transformers 5, which also takes the old name `rope_scaling`). Every one given must agree.
    fn rope_theta(&self) -> Result<f64, Error> {
        let mut theta = self.number("rope_theta")?;
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(key) else { continue };
            let Some(map) = value.as_object() else {
                return Err(self.bad(key, value, "must be an object or null"));
            };
            let rope = Fields { path: self.path, prefix: &format!("{key}."), map };
            for key in ["rope_type", "type"] {
                rope.require(key, &["default"])?;
            }
            if let Some(inner) = rope.number("rope_theta")? {
                if theta.is_some_and(|outer| outer != inner) {
                    let allowed = "must equal the other rope_theta in the file";
                    return Err(rope.bad("rope_theta", inner, allowed));
                }
                theta = Some(inner);
            }
        }
        Ok(theta.unwrap_or(10_000.0))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn bad(&self, key: &str, value: impl Display, allowed: impl Display) -> Error {
        bad(self.path, &format!("{}{key}", self.prefix), value, allowed)
    }

    /// Refuses a value that is there but not one of `allowed`.
    fn require(&self, key: &str, allowed: &[&str]) -> Result<(), Error> {
        match self.get(key) {
            Some(value) if !allowed.iter().any(|a| value.as_str() == Some(a)) => {
                Err(self.bad(key, value, format!("must be \"{}\"", allowed[0])))
            }
            _ => Ok(()),
        }
    }

    fn required_size(&self, key: &str) -> Result<usize, Error> {
        let missing = || self.bad(key, "(missing)", "must be given, a positive whole number");
        self.size(key)?.ok_or_else(missing)
    }

    fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(key, value, "must be a positive whole number")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(x) => Ok(Some(x)),
            None => Err(self.bad(key, value, "must be a number")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, Error> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.bad(key, value, "must be true or false"))
    }

    /// A token id: a number, the first of a list, or null for none. Where the key is absent,
    /// transformers takes `default`; a vocabulary without that id has no such token.
    fn token(&self, key: &str, default: u32, V: usize) -> Result<Option<u32>, Error> {
        let value = match self.map.get(key) {
            None => return Ok(Some(default).filter(|&id| (id as usize) < V)),
            Some(Value::Array(ids)) => ids.first().unwrap_or(&Value::Null),
            Some(value) => value,
        };
        if value.is_null() {
            return Ok(None);
        }
        match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id)),
            None => Err(self.bad(key, value, "must be a token id, a list of them, or null")),
        }
    }
}
