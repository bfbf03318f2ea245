//! Hugging Face's `config.json`: what it must say for the engine to compute the model, and what is
//! written.

use super::torch_name;
use crate::config::{Bias, Config, Family, bad};
use crate::params::INIT_STD;
use crate::rope::{Scaling, Yarn};
use engine::{Dims, Dtype, Error};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::Path;

/// What a family is called: `model_type`, and in `architectures`.
fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Mistral => ("mistral", "MistralForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
    }
}

/// Reads the `config.json` of a Hugging Face LLaMA or of what computes like one, as transformers 4 or 5 writes it. Absent
/// keys take the values that transformers gives them; the sizes must be there.
///
/// # Errors
/// If the file cannot be read, is not a LLaMA, asks for what the engine does not compute
/// (biases of the feed-forward, another activation), or holds an unusable value.
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
    let (model_type, architecture) = names(config.family);
    let rope = Rope::of(config);
    let file = File {
        architectures: [architecture],
        attention_bias: config.bias == Bias::Attention,
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
        model_type,
        num_attention_heads: dims.H,
        num_hidden_layers: dims.L,
        num_key_value_heads: dims.G,
        pad_token_id: config.pad,
        rms_norm_eps: config.norm_eps,
        rope_parameters: rope.clone(),
        // What transformers 4 reads.
        rope_scaling: (config.rope != Scaling::None).then_some(rope),
        rope_theta: config.rope_theta,
        sliding_window: config.window,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<Rope>,
    rope_theta: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sliding_window: Option<usize>,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    use_cache: bool,
    vocab_size: usize,
}

/// What there is of it depends on the type.
#[derive(Clone, Default, Serialize)]
struct Rope {
    rope_theta: f64,
    rope_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_fast: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_slow: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mscale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mscale_all_dim: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
}

impl Rope {
    fn of(config: &Config) -> Rope {
        let (rope_theta, rope_type) = (config.rope_theta, config.rope.name());
        let plain = Rope { rope_theta, rope_type, ..Rope::default() };
        match config.rope {
            Scaling::None => plain,
            Scaling::Linear { factor } | Scaling::Dynamic { factor } => {
                Rope { factor: Some(factor), ..plain }
            }
            Scaling::Llama3 { factor, low, high, original } => Rope {
                factor: Some(factor),
                low_freq_factor: Some(low),
                high_freq_factor: Some(high),
                original_max_position_embeddings: Some(original),
                ..plain
            },
            Scaling::Yarn(yarn) => Rope {
                factor: Some(yarn.factor),
                original_max_position_embeddings: Some(yarn.original),
                attention_factor: yarn.attention_factor,
                beta_fast: Some(yarn.beta_fast),
                beta_slow: Some(yarn.beta_slow),
                mscale: yarn.mscale.map(|(above, _)| above),
                mscale_all_dim: yarn.mscale.map(|(_, below)| below),
                truncate: (!yarn.truncate).then_some(false),
                ..plain
            },
        }
    }
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
        let family = self.family()?;
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
        let max_seq_len = self.size("max_position_embeddings")?;
        let (rope_theta, rope) = self.rope(max_seq_len)?;
        let config = Config {
            family,
            dims,
            rope_theta,
            rope,
            norm_eps: self.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            tied: self.flag("tie_word_embeddings")?,
            bias: self.bias(family)?,
            max_seq_len: max_seq_len.unwrap_or(2048),
            window: self.window(family)?,
            bos: self.tokens("bos_token_id", 1, dims.V)?.first().copied(),
            eos: self.tokens("eos_token_id", 2, dims.V)?,
            // LLaMA 1's files say -1 where there is none.
            pad: self.get("pad_token_id").and_then(Value::as_u64).and_then(|id| id.try_into().ok()),
            lora: None,
        };
        config.validate(self.path)?;
        Ok(config)
    }

    /// Refuses what does not compute as a LLaMA does.
    fn family(&self) -> Result<Family, Error> {
        const FAMILIES: [Family; 3] = [Family::Llama, Family::Mistral, Family::Qwen2];
        let types = FAMILIES.map(|family| names(family).0);
        self.require("model_type", &types)?;
        let of_type = |family: &Family| self.get("model_type") == Some(&names(*family).0.into());
        let family = FAMILIES.into_iter().find(of_type).unwrap_or_default();
        self.require("hidden_act", &["silu", "swish"])?;
        if let Some(list) = self.get("architectures") {
            let given = list.as_array().map_or(&[][..], Vec::as_slice);
            let wanted = names(family).1;
            let right =
                |name: &Value| name.as_str().is_some_and(|n| n.eq_ignore_ascii_case(wanted));
            if !given.iter().any(right) {
                return Err(self.bad("architectures", list, format!("must be [\"{wanted}\"]")));
            }
        }
        if self.flag("mlp_bias")? {
            let allowed = "must be false, the feed-forward has no bias here";
            return Err(self.bad("mlp_bias", true, allowed));
        }
        Ok(family)
    }

    /// Qwen 2 has biases whatever its file says, Mistral has none.
    fn bias(&self, family: Family) -> Result<Bias, Error> {
        Ok(match (family, self.flag("attention_bias")?) {
            (Family::Qwen2, _) => Bias::Qkv,
            (Family::Llama, true) => Bias::Attention,
            (Family::Llama, false) | (Family::Mistral, _) => Bias::None,
        })
    }

    /// The window of attention, if there is one. Where a Mistral's key is absent, transformers takes
    /// 4096.
    fn window(&self, family: Family) -> Result<Option<usize>, Error> {
        match (family, self.map.get("sliding_window")) {
            (Family::Mistral, None) => Ok(Some(4096)),
            (Family::Mistral, _) => self.size("sliding_window"),
            (Family::Qwen2, _) if self.flag("use_sliding_window")? => self.size("sliding_window"),
            (Family::Llama | Family::Qwen2, _) => Ok(None),
        }
    }

    /// Rotary frequencies: their base, at top level (transformers 4) or inside `rope_parameters`
    /// (transformers 5, which also takes the old name `rope_scaling`), and how they are stretched.
    /// Every one given must agree.
    fn rope(&self, max_seq_len: Option<usize>) -> Result<(f64, Scaling), Error> {
        let (mut theta, mut scaling) = (self.number("rope_theta")?, None);
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(key) else { continue };
            let Some(map) = value.as_object() else {
                return Err(self.bad(key, value, "must be an object or null"));
            };
            let rope = Fields { path: self.path, prefix: &format!("{key}."), map };
            let inner = rope.scaling(max_seq_len)?;
            if scaling.is_some_and(|other| other != inner) {
                let allowed = "must say what rope_parameters says";
                return Err(self.bad(key, value, allowed));
            }
            scaling = Some(inner);
            if let Some(inner) = rope.number("rope_theta")? {
                if theta.is_some_and(|outer| outer != inner) {
                    let allowed = "must equal the other rope_theta in the file";
                    return Err(rope.bad("rope_theta", inner, allowed));
                }
                theta = Some(inner);
            }
        }
        Ok((theta.unwrap_or(10_000.0), scaling.unwrap_or_default()))
    }

    /// What `rope_parameters` says.
    fn scaling(&self, max_seq_len: Option<usize>) -> Result<Scaling, Error> {
        const TYPES: [&str; 5] = ["default", "linear", "dynamic", "yarn", "llama3"];
        self.require("rope_type", &TYPES)?;
        self.require("type", &TYPES)?;
        let partial = self.number("partial_rotary_factor")?;
        if let Some(partial) = partial.filter(|&partial| partial != 1.0) {
            let allowed = "must be 1: heads are turned as a whole here";
            return Err(self.bad("partial_rotary_factor", partial, allowed));
        }
        let factor = || self.required_number("factor");
        let original = || match self.size("original_max_position_embeddings")?.or(max_seq_len) {
            Some(original) => Ok(original),
            None => self.required_size("original_max_position_embeddings"),
        };
        let name = self.get("rope_type").or(self.get("type")).and_then(Value::as_str);
        Ok(match name.unwrap_or("default") {
            "linear" => Scaling::Linear { factor: factor()? },
            "dynamic" => Scaling::Dynamic { factor: factor()? },
            "llama3" => Scaling::Llama3 {
                factor: factor()?,
                low: self.required_number("low_freq_factor")?,
                high: self.required_number("high_freq_factor")?,
                original: original()?,
            },
            "yarn" => Scaling::Yarn(Yarn {
                factor: factor()?,
                attention_factor: self.number("attention_factor")?,
                // Zero counts as absent, as it does there.
                beta_fast: self.number("beta_fast")?.filter(|&beta| beta != 0.0).unwrap_or(32.0),
                beta_slow: self.number("beta_slow")?.filter(|&beta| beta != 0.0).unwrap_or(1.0),
                mscale: self
                    .number("mscale")?
                    .zip(self.number("mscale_all_dim")?)
                    .filter(|&(above, below)| above != 0.0 && below != 0.0),
                original: original()?,
                truncate: self.get("truncate").is_none() || self.flag("truncate")?,
            }),
            _ => Scaling::None,
        })
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
                let allowed = allowed.iter().map(|name| format!("{name:?}"));
                let allowed = allowed.collect::<Vec<_>>().join(" or ");
                Err(self.bad(key, value, format!("must be {allowed}")))
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

    fn required_number(&self, key: &str) -> Result<f64, Error> {
        let missing = || self.bad(key, "(missing)", "must be given, a number");
        self.number(key)?.ok_or_else(missing)
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
