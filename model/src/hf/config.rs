//! Hugging Face's `config.json`: what it must say for the engine to compute the model, and what is
//! written.

use super::torch_name;
use crate::config::{Config, bad};
use crate::params::INIT_STD;
use engine::{Dims, Dtype, Error};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// Reads the `config.json` of a Hugging Face LLaMA, as transformers 4 or 5 writes it. Absent
/// keys take the values that transformers gives them; the sizes must be there.
///
/// # Errors
/// If the file cannot be read, is not a LLaMA, asks for what the engine does not compute
/// (biases, scaled rotary frequencies, another activation), or holds an unusable value.
pub fn read_config(path: &Path) -> Result<Config, Error> {
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
pub fn config_json(config: &Config, dtype: Dtype) -> String {
    let dims = config.dims;
    let file = File {
        architectures: ["LlamaForCausalLM"],
        attention_bias: false,
        attention_dropout: 0.0,
        bos_token_id: config.bos,
        dtype: torch_name(dtype),
        eos_token_id: &config.eos,
        head_dim: dims.D,
        hidden_act: "silu",
        hidden_size: dims.C,
        initializer_range: INIT_STD,
        intermediate_size: dims.F,
        max_position_embeddings: config.max_seq_len,
        mlp_bias: false,
        model_type: "llama",
        num_attention_heads: dims.H,
        num_hidden_layers: dims.L,
        num_key_value_heads: dims.G,
        pad_token_id: config.pad,
        rms_norm_eps: config.norm_eps,
        rope_parameters: Rope { rope_theta: config.rope_theta, rope_type: "default" },
        rope_theta: config.rope_theta,
        tie_word_embeddings: config.tied,
        torch_dtype: torch_name(dtype),
        use_cache: true,
        vocab_size: dims.V,
    };
    serde_json::to_string_pretty(&file).expect("plain numbers and strings") + "\n"
}

/// What is written, in this order.
#[derive(Serialize)]
struct File<'a> {
    architectures: [&'static str; 1],
    attention_bias: bool,
    attention_dropout: f64,
    bos_token_id: Option<u32>,
    dtype: &'static str,
    #[serde(serialize_with = "one_or_list")]
    eos_token_id: &'a [u32],
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_token_id: Option<u32>,
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

/// As transformers writes ids: none as null, one by itself.
fn one_or_list<S: Serializer>(ids: &&[u32], to: S) -> Result<S::Ok, S::Error> {
    match ids {
        [] => to.serialize_none(),
        [id] => to.serialize_u32(*id),
        _ => ids.serialize(to),
    }
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
            bos: self.tokens("bos_token_id", 1, dims.V)?.first().copied(),
            eos: self.tokens("eos_token_id", 2, dims.V)?,
            // LLaMA 1's files say -1 where there is none.
            pad: self.get("pad_token_id").and_then(Value::as_u64).and_then(|id| id.try_into().ok()),
            lora: None,
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

    /// Token ids: a number, a list, or null for none. Where the key is absent, transformers takes
    /// `default`; a vocabulary without that id has no such token.
    fn tokens(&self, key: &str, default: u32, V: usize) -> Result<Vec<u32>, Error> {
        let ids = match self.map.get(key) {
            None => return Ok(Vec::from_iter(Some(default).filter(|&id| (id as usize) < V))),
            Some(Value::Null) => &[],
            Some(Value::Array(ids)) => ids.as_slice(),
            Some(id) => std::slice::from_ref(id),
        };
        let id = |value: &Value| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(id),
            None => Err(self.bad(key, value, "must be a token id, a list of them, or null")),
        };
        ids.iter().map(id).collect()
    }
}
