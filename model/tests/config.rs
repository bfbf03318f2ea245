//! Named sizes, counts, and `config.json`: read, written, refused.

use engine::{Dims, Dtype};
use model::config::{Bias, Config, Family, hidden};
use model::rope::Scaling;
use model::{hf, params};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn named(name: &str) -> Config {
    Config::named(name).unwrap()
}

#[test]
fn named_sizes_have_the_published_parameter_counts() {
    let published = [
        ("260k", 260_032),
        ("15m", 15_191_712),
        ("42m", 41_689_600),
        ("110m", 109_529_856),
        ("1.1b", 1_100_048_384),
        ("7b", 6_738_415_616),
        ("13b", 13_015_864_320),
        ("33b", 32_528_943_616),
        ("65b", 65_285_660_672),
    ];
    for (name, parameters) in published {
        assert_eq!(params::count(&named(name)), parameters, "{name}");
    }
    for name in Config::NAMES {
        named(name).validate(name.as_ref()).unwrap();
    }
    assert_eq!(Config::named("8b"), None);
}

#[test]
fn hidden_width_follows_the_published_rule() {
    let widths = [4096, 5120, 6656, 8192].map(|C| hidden(C, 256));
    assert_eq!(widths, [11008, 13824, 17920, 22016]);
    assert_eq!([288, 512, 768].map(|C| hidden(C, 32)), [768, 1376, 2048]);
}

#[test]
fn a_vocabulary_changes_embedding_and_head_only() {
    let config = named("7b").with_vocab(1000);
    assert_eq!(config.dims.V, 1000);
    assert_eq!(params::count(&config), 6_738_415_616 - 2 * 31_000 * 4096);
}

#[test]
fn flop_count_is_six_per_matrix_element_and_causal_attention() {
    let config = named("7b");
    let gains = 65 * 4096;
    let matrices = 6_738_415_616 - 32_000 * 4096 - gains;
    let attention = 6 * 32 * 2048 * 4096;
    assert_eq!(config.flop_per_token(2048), 6 * matrices + attention);
    // A tied head is computed all the same.
    let tied = Config { tied: true, ..config.clone() };
    assert_eq!(tied.flop_per_token(2048), config.flop_per_token(2048));
}

#[test]
fn activations_are_the_design_formula_where_attention_is_as_wide_as_the_stream() {
    let config = named("1.1b");
    let Dims { L, C, H, G, D, F, .. } = config.dims;
    let per_layer = 8 * C + 4 * G * D + 4 * F + 4 * H + 8;
    assert_eq!(config.activation_bytes_per_token(2), (L * per_layer) as u64);
    let wide = Config { dims: Dims { D: 2 * D, ..config.dims }, ..config };
    let per_layer = 4 * (2 * C + 4 * H * D + 4 * G * D + 2 * F) + 4 * H + 8;
    assert_eq!(wide.activation_bytes_per_token(4), (L * per_layer) as u64);
}

/// A valid `config.json` as transformers 4 writes it.
fn sample() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 131,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": null,
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true,
        "max_position_embeddings": 64, "bos_token_id": 7, "eos_token_id": [5, 6],
        "torch_dtype": "float32"
    })
}

/// Reads `sample` with `changes` on top; `Value::Null` under "-key" removes the key.
fn read(changes: Value) -> Result<Config, String> {
    let mut value = sample();
    for (key, change) in changes.as_object().unwrap() {
        match key.strip_prefix('-') {
            Some(key) => value.as_object_mut().unwrap().remove(key),
            None => value.as_object_mut().unwrap().insert(key.clone(), change.clone()),
        };
    }
    read_text(&value.to_string())
}

/// Reads `text` as a `config.json`; an error must be one line that names the file.
fn read_text(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    hf::read_config(&path).map_err(|error| {
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        let prefix = format!("{}: ", path.display());
        line.strip_prefix(&prefix).unwrap_or_else(|| panic!("no file name: {line}")).to_string()
    })
}

#[test]
fn a_config_of_transformers_4_is_read() {
    let want = Config {
        family: Family::Llama,
        dims: Dims { L: 3, C: 64, H: 8, G: 2, D: 12, F: 100, V: 131 },
        rope_theta: 500_000.0,
        rope: Scaling::None,
        norm_eps: 1e-5,
        tied: true,
        bias: Bias::None,
        max_seq_len: 64,
        window: None,
        bos: Some(7),
        eos: vec![5, 6],
        pad: None,
        lora: None,
    };
    assert_eq!(read(json!({})), Ok(want));
}

#[test]
fn rope_theta_is_read_wherever_it_stands() {
    let rope = json!({"rope_type": "default", "rope_theta": 20000.0});
    let theta = |changes| read(changes).map(|config| config.rope_theta);
    assert_eq!(theta(json!({"-rope_theta": null, "rope_parameters": rope})), Ok(20000.0));
    assert_eq!(theta(json!({"rope_theta": 20000, "rope_parameters": rope})), Ok(20000.0));
    assert_eq!(theta(json!({"-rope_theta": null, "rope_scaling": rope})), Ok(20000.0));
    assert_eq!(theta(json!({"-rope_theta": null})), Ok(10000.0));
    let line = theta(json!({"rope_parameters": rope})).unwrap_err();
    let want = "rope_parameters.rope_theta = 20000: must equal the other rope_theta in the file";
    assert_eq!(line, want);
}

#[test]
fn absent_and_null_keys_take_what_transformers_takes() {
    let config = read(json!({"num_key_value_heads": null, "head_dim": null})).unwrap();
    assert_eq!((config.dims.G, config.dims.D), (8, 8));
    let config = read(json!({"-rms_norm_eps": 0, "-max_position_embeddings": 0,
        "-tie_word_embeddings": 0, "-architectures": 0, "-model_type": 0, "-hidden_act": 0,
        "-bos_token_id": 0, "eos_token_id": null}))
    .unwrap();
    assert_eq!((config.norm_eps, config.max_seq_len, config.tied), (1e-6, 2048, false));
    assert_eq!((config.bos, config.eos, config.pad), (Some(1), vec![], None));
}

/// A window that is as long as the context does not bind; longer sequences are refused by its name.
#[test]
fn windows_bind_beyond_their_length() {
    let mistral = |window: Value| {
        read(json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"],
            "max_position_embeddings": 128, "sliding_window": window}))
        .unwrap()
    };
    for (window, context) in [(json!(null), 128), (json!(64), 64), (json!(4096), 128)] {
        let config = mistral(window);
        assert_eq!((config.family, config.context()), (Family::Mistral, context));
        config.check_length(context, "--seq-len").unwrap();
    }
    let line = mistral(json!(64)).check_length(65, "--seq-len").unwrap_err().to_string();
    assert!(line.starts_with("--seq-len is 65: this model's sliding_window is 64,"), "{line}");
    assert!(line.ends_with("use at most 64"), "{line}");
    // A LLaMA has none, whatever its file says.
    let llama = read(json!({"sliding_window": 8})).unwrap();
    assert_eq!((llama.window, llama.context()), (None, 64));
    llama.check_length(100, "--seq-len").unwrap();
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}});
    let line = read(dynamic).unwrap().check_length(65, "--seq-len").unwrap_err().to_string();
    assert!(line.contains("dynamic") && line.ends_with("use at most 64"), "{line}");
}

/// Qwen 2 says nothing of its biases, a LLaMA does; a window that is not used is none.
#[test]
fn biases_follow_from_family_and_file() {
    assert_eq!(read(json!({"attention_bias": true})).unwrap().bias, Bias::Attention);
    let qwen = json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
        "sliding_window": 16, "use_sliding_window": false, "-head_dim": 0});
    let qwen = read(qwen).unwrap();
    assert_eq!((qwen.family, qwen.bias, qwen.window), (Family::Qwen2, Bias::Qkv, None));
    let windows = json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
        "sliding_window": 16, "use_sliding_window": true});
    assert_eq!(read(windows).unwrap().context(), 16);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for config in [qwen, read(json!({"attention_bias": true})).unwrap()] {
        std::fs::write(&path, hf::config_json(&config, Dtype::F32)).unwrap();
        assert_eq!(hf::read_config(&path).unwrap(), config);
    }
}

/// The numbers are those of transformers 5.24's `ROPE_INIT_FUNCTIONS`, which computes in f32.
#[test]
fn stretched_frequencies_are_those_of_transformers() {
    let llama3 = json!({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let linear = json!({"type": "linear", "rope_theta": 10000.0, "factor": 4.0});
    let dynamic = json!({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0});
    let yarn = json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 4096});
    let mut short = yarn.clone();
    short["attention_factor"] = 0.9.into();
    let sharp = json!({"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 40.0,
        "original_max_position_embeddings": 512, "beta_fast": 16.0, "beta_slow": 2.0,
        "mscale": 1.0, "mscale_all_dim": 0.8, "truncate": false});
    let yarn_frequencies = [
        1.0,
        0.31622776,
        0.1,
        0.025693506,
        0.0062499996,
        0.0013834966,
        0.00025000001,
        7.9056947e-05,
    ];
    let plain =
        [1.0, 0.31622776, 0.1, 0.031622779, 0.0099999998, 0.0031622779, 0.001, 0.00031622779];
    // What the file says, the longest text, the model's longest; frequencies and scale.
    let cases = [
        (
            llama3,
            64,
            131072,
            [
                1.0,
                0.19392276,
                0.037606031,
                0.0072926651,
                0.00052484602,
                3.4281024e-05,
                6.6478697e-06,
                1.2891732e-06,
            ],
            1.0,
        ),
        (
            linear,
            64,
            4096,
            [
                0.25,
                0.079056941,
                0.025,
                0.0079056947,
                0.0024999999,
                0.00079056947,
                0.00025000001,
                7.9056947e-05,
            ],
            1.0,
        ),
        (
            dynamic.clone(),
            3000,
            1024,
            [
                1.0,
                0.2522999,
                0.063655242,
                0.016060211,
                0.0040519894,
                0.0010223166,
                0.00025793037,
                6.5075808e-05,
            ],
            1.0,
        ),
        (dynamic, 1000, 1024, plain, 1.0),
        (yarn, 64, 16384, yarn_frequencies, 1.138629436111989),
        (short, 64, 16384, yarn_frequencies, 0.9),
        (
            sharp,
            64,
            20480,
            [
                1.0,
                0.16956672,
                0.0045481105,
                0.00014058533,
                2.4999999e-05,
                4.4456983e-06,
                7.905694e-07,
                1.4058533e-07,
            ],
            1.0569662567531275,
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (rope, T, longest, want, scale) in cases {
        for key in ["rope_parameters", "rope_scaling"] {
            let config = read(json!({"-rope_theta": 0, key: rope,
                "max_position_embeddings": longest}))
            .unwrap();
            let theta = config.rope_theta;
            let (frequencies, got) = config.rope.frequencies(16, theta, T, longest);
            assert!((got - scale).abs() < 1e-9, "{rope}: {got}");
            for (got, want) in frequencies.iter().zip(want) {
                assert!((got / want - 1.0).abs() < 2e-6, "{rope}: {frequencies:?}");
            }
            let path = dir.path().join("config.json");
            std::fs::write(&path, hf::config_json(&config, Dtype::F32)).unwrap();
            assert_eq!(hf::read_config(&path).unwrap(), config, "{rope}");
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let gqa = read(json!({})).unwrap();
    for config in Config::NAMES.map(named).into_iter().chain([gqa]) {
        for (dtype, torch) in [(Dtype::F32, "float32"), (Dtype::Bf16, "bfloat16")] {
            let text = hf::config_json(&config, dtype);
            assert_eq!(text, hf::config_json(&config, dtype));
            std::fs::write(&path, &text).unwrap();
            assert_eq!(hf::read_config(&path).unwrap(), config);
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&value["dtype"], &value["torch_dtype"]), (&json!(torch), &json!(torch)));
            assert_eq!(value["rope_parameters"]["rope_theta"], value["rope_theta"]);
        }
    }
}

#[test]
fn every_bad_value_is_one_line() {
    let cases = [
        (
            json!({"-hidden_size": 0}),
            "hidden_size = (missing): must be given, a positive whole number",
        ),
        (json!({"hidden_size": "64"}), "hidden_size = \"64\": must be a positive whole number"),
        (json!({"hidden_size": -64}), "hidden_size = -64: must be a positive whole number"),
        (json!({"intermediate_size": 0}), "intermediate_size = 0: allowed is 1 to 1048576"),
        (
            json!({"num_hidden_layers": 1u64 << 40}),
            "num_hidden_layers = 1099511627776: allowed is 1 to 1048576",
        ),
        (json!({"num_attention_heads": 0}), "num_attention_heads = 0: allowed is 1 to 1048576"),
        (
            json!({"num_attention_heads": 6, "-head_dim": 0}),
            "num_attention_heads = 6: must divide hidden_size = 64",
        ),
        (
            json!({"num_key_value_heads": 3}),
            "num_key_value_heads = 3: must divide num_attention_heads = 8",
        ),
        (json!({"num_key_value_heads": 0}), "num_key_value_heads = 0: allowed is 1 to 1048576"),
        (json!({"head_dim": 11}), "head_dim = 11: must be even for rotary positions"),
        (json!({"vocab_size": 0}), "vocab_size = 0: allowed is 1 to 1048576"),
        (
            json!({"max_position_embeddings": 0}),
            "max_position_embeddings = 0: allowed is 1 to 1073741824",
        ),
        (json!({"rms_norm_eps": 0.0}), "rms_norm_eps = 0: must lie between 0 and 1"),
        (json!({"rms_norm_eps": "1e-5"}), "rms_norm_eps = \"1e-5\": must be a number"),
        (json!({"rope_theta": -1.0}), "rope_theta = -1: must be a positive number"),
        (
            json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}),
            "rope_scaling.type = \"longrope\": must be \"default\" or \"linear\" or \"dynamic\" or \
             \"yarn\" or \"llama3\"",
        ),
        (
            json!({"rope_scaling": {"type": "linear"}}),
            "rope_scaling.factor = (missing): must be given, a number",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 0.5}}),
            "rope_parameters.factor = 0.5: must be a number from 1 to 1000000",
        ),
        (
            json!({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                "high_freq_factor": 1.0, "original_max_position_embeddings": 64}}),
            "rope_parameters.high_freq_factor = 1: must be above low_freq_factor, which is above 0",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            "rope_parameters.partial_rotary_factor = 0.5: must be 1: heads are turned as a whole here",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default"},
                "rope_scaling": {"type": "linear", "factor": 2.0}}),
            "rope_scaling = {\"factor\":2.0,\"type\":\"linear\"}: must say what rope_parameters says",
        ),
        (json!({"rope_parameters": 3}), "rope_parameters = 3: must be an object or null"),
        (
            json!({"mlp_bias": true}),
            "mlp_bias = true: must be false, the feed-forward has no bias here",
        ),
        (json!({"mlp_bias": 0}), "mlp_bias = 0: must be true or false"),
        (json!({"hidden_act": "gelu"}), "hidden_act = \"gelu\": must be \"silu\" or \"swish\""),
        (
            json!({"model_type": "gemma"}),
            "model_type = \"gemma\": must be \"llama\" or \"mistral\" or \"qwen2\"",
        ),
        (
            json!({"model_type": "mistral"}),
            "architectures = [\"LlamaForCausalLM\"]: must be [\"MistralForCausalLM\"]",
        ),
        (
            json!({"architectures": ["GPT2LMHeadModel"]}),
            "architectures = [\"GPT2LMHeadModel\"]: must be [\"LlamaForCausalLM\"]",
        ),
        (
            json!({"bos_token_id": -1}),
            "bos_token_id = -1: must be a token id, a list of them, or null",
        ),
        (
            json!({"eos_token_id": [131]}),
            "eos_token_id = 131: must be below vocab_size = 131, or null",
        ),
        (
            json!({"num_hidden_layers": 1 << 20, "intermediate_size": 1 << 20}),
            "number of parameters = 211122472886528: at most 1099511627776; reduce the sizes",
        ),
    ];
    for (changes, want) in cases {
        assert_eq!(read(changes.clone()), Err(want.to_string()), "{changes}");
    }
    let broken = read_text("{\"hidden_size\": ").unwrap_err();
    assert!(broken.starts_with("not a JSON object: "), "{broken}");
    let list = read_text("[1]").unwrap_err();
    assert!(list.starts_with("not a JSON object: "), "{list}");
    let absent = hf::read_config("no/such/config.json".as_ref()).unwrap_err().to_string();
    assert!(absent.starts_with("no/such/config.json: No such file"), "{absent}");
}

#[test]
fn adapters_that_cannot_be_are_refused_in_one_line() {
    use model::{Lora, Target};
    let refused = |lora: Lora, parts: &[&str]| {
        let config = Config { lora: Some(lora), ..Config::named("260k").unwrap() };
        let error = config.validate(Path::new("config.json")).unwrap_err().to_string();
        assert!(!error.contains('\n') && parts.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(Lora { rank: 0, ..Lora::new(8) }, &["rank = 0", "1 to 4096"]);
    refused(Lora::new(5000), &["rank = 5000"]);
    refused(Lora { alpha: f64::NAN, ..Lora::new(8) }, &["alpha = NaN", "positive"]);
    refused(Lora { alpha: -1.0, ..Lora::new(8) }, &["alpha = -1"]);
    refused(Lora { targets: vec![], ..Lora::new(8) }, &["no targets", "q_proj"]);
    let twice = vec![Target::Up, Target::Query, Target::Up];
    refused(Lora { targets: twice, ..Lora::new(8) }, &["mlp.up_proj", "twice"]);
    let all = Lora { targets: Target::ALL.to_vec(), ..Lora::new(8) };
    let config = Config { lora: Some(all), ..Config::named("260k").unwrap() };
    config.validate(Path::new("config.json")).unwrap();
}
