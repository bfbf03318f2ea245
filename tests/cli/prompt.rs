//! What a text begins with. A model is made by hand that writes what its sequence began with: the
//! token before a document, the token after one, or neither.

use std::fs;

use handgrad::data::tokenizer::Tokenizer;
use handgrad::engine::{Device, Dtype};
use handgrad::model::hf::{SHARD_BYTES, read_config, write};
use handgrad::model::params;
use handgrad::model::weights::Weights;
use serde_json::Value;

use super::common::{Dir, config};

/// Ids of the byte tokenizer's `<s>` and `</s>`; a byte's id is 3 more than the byte.
const BOS: usize = 1;
const EOS: usize = 2;

/// Writes a model of one block into `model`. Each token is one of three directions: begin, end, or
/// any byte. Attention weighs all tokens alike and copies them; the head answers B to begin, E to end,
/// and `?` to what is neither.
fn write_model(dir: &Dir) {
    let (C, V) = (16, 259);
    let mut json = config(C, 24, 1, 1);
    json["num_hidden_layers"] = 1.into();
    let path = dir.path("one.json");
    fs::write(&path, json.to_string()).unwrap();
    let config = read_config(&path).unwrap();
    let (table, _) = params::table(&config);
    let dev = Device::cpu(1).unwrap();
    let mut weights = Weights::<f32>::zeros(&dev, &table);
    for row in table.rows() {
        weights.fill_with(row.slot, |w| {
            let mut set = |at: &[(usize, usize)]| at.iter().for_each(|&(r, c)| w[r * C + c] = 1.0);
            let unit: Vec<_> = (0..C).map(|i| (i, i)).collect();
            let name = row.name.as_str();
            if name.ends_with("norm.weight") {
                w.fill(1.0);
            } else if name.ends_with("embed_tokens.weight") {
                let direction = |id| {
                    if id == BOS {
                        0
                    } else if id == EOS {
                        1
                    } else {
                        2
                    }
                };
                set(&(0..V).map(|id| (id, direction(id))).collect::<Vec<_>>());
            } else if name.ends_with("v_proj.weight") || name.ends_with("o_proj.weight") {
                set(&unit);
            } else if name.ends_with("lm_head.weight") {
                set(&[(3 + usize::from(b'B'), 0), (3 + usize::from(b'E'), 1)]);
                // Less than what one token in twenty gives the others.
                w[(3 + usize::from(b'?')) * C + 2] = 1e-3;
            }
        });
    }
    write(&dir.path("model"), &config, &table, &weights, Dtype::F32, SHARD_BYTES).unwrap();
}

/// What a tokenizer's file says of the beginning of a text.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Its post-processor puts `<s>` first.
    Template,
    /// It was made here before there was a post-processor.
    Earlier,
    /// It has none, and is not ours.
    Foreign,
}

/// Gives the model a tokenizer of this kind, which knows the ends of documents by these names.
fn write_tokenizer(dir: &Dir, kind: Kind, bos: &str, eos: &str) {
    let mut json: Value = serde_json::from_str(Tokenizer::bytes().json()).unwrap();
    match kind {
        Kind::Template => {}
        Kind::Earlier => json["post_processor"] = Value::Null,
        Kind::Foreign => {
            json["post_processor"] = Value::Null;
            json["pre_tokenizer"]["trim_offsets"] = false.into();
        }
    }
    let json = json.to_string().replace("\"<s>\"", &format!("\"{bos}\""));
    let json = json.replace("\"</s>\"", &format!("\"{eos}\""));
    fs::write(dir.path("model/tokenizer.json"), json).unwrap();
}

/// Takes the ids of special tokens out of the model's `config.json`, or puts some there.
fn set_ids(dir: &Dir, bos: Value, eos: Value) {
    let path = dir.path("model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (config["bos_token_id"], config["eos_token_id"]) = (bos, eos);
    fs::write(path, config.to_string()).unwrap();
}

/// What follows `prompt`: the likeliest token.
fn next(dir: &Dir, prompt: &str) -> String {
    let line = "--model model --temperature 0 --max-new-tokens 1 --threads 1 --prompt";
    let done = super::common::finish(dir.command("generate", line).arg(prompt));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{prompt:?}");
    done.stdout.strip_prefix(prompt).unwrap().trim_end().to_string()
}

/// A prompt begins as transformers' does, with what the post-processor puts first. A model of before
/// there was one has seen the end token before every text. A special token that is written is one.
#[test]
fn a_prompt_begins_as_the_tokenizer_says() {
    let dir = Dir::new();
    write_model(&dir);
    for (kind, expected, nothing) in
        [(Kind::Template, "B", "B"), (Kind::Earlier, "E", "E"), (Kind::Foreign, "?", "B")]
    {
        for (bos, eos) in [("<s>", "</s>"), ("<bos>", "<|endoftext|>"), ("<x>", "<y>")] {
            write_tokenizer(&dir, kind, bos, eos);
            for prompt in ["a", "two words"] {
                assert_eq!(next(&dir, prompt), expected, "{kind:?} {bos} {eos} {prompt:?}");
            }
            assert_eq!(next(&dir, ""), nothing, "{kind:?} {bos} {eos}, nothing");
        }
    }
    write_tokenizer(&dir, Kind::Foreign, "<s>", "</s>");
    for (prompt, expected) in [("<s>", "B"), ("</s>", "E"), ("<s>a", "B"), ("</s>a b", "E")] {
        assert_eq!(next(&dir, prompt), expected, "{prompt:?}");
    }
}

#[test]
fn an_empty_prompt_needs_a_token_to_begin_with() {
    let dir = Dir::new();
    write_model(&dir);
    write_tokenizer(&dir, Kind::Foreign, "<x>", "<y>");
    set_ids(&dir, Value::Null, Value::Null);
    let line = "--model model --max-new-tokens 1";
    let done = super::common::finish(dir.command("generate", line).args(["--prompt", ""]));
    super::common::assert_one_line(&done, 2, &["--prompt is empty", "no begin token"]);
    write_tokenizer(&dir, Kind::Foreign, "<x>", "</s>");
    assert_eq!(next(&dir, ""), "E");
}

/// The prompt's tokens and no others: one more, and it is longer than the context.
#[test]
fn a_prompt_takes_as_many_tokens_as_it_says() {
    let dir = Dir::new();
    write_model(&dir);
    let most = 64 - 1;
    for (kind, more) in [(Kind::Template, 1), (Kind::Earlier, 1), (Kind::Foreign, 0)] {
        write_tokenizer(&dir, kind, "<s>", "</s>");
        next(&dir, &"a".repeat(most - more));
        let line = format!("--model model --prompt {}", "a".repeat(most - more + 1));
        dir.refused("generate", &line, 2, &["--prompt has 64 tokens", "at most 63"]);
    }
}

/// Text stops at each token that the model's files name, and a disagreement is told in one line.
#[test]
fn text_stops_at_every_end_token_and_disagreements_are_told() {
    let dir = Dir::new();
    write_model(&dir);
    write_tokenizer(&dir, Kind::Template, "<s>", "</s>");
    let answer = 3 + u32::from(b'B');
    let line = "--model model --temperature 0 --max-new-tokens 3 --threads 1 --prompt a";
    let generated = || dir.run("generate", line);
    let told = |done: super::common::Done, text: &str, lines: usize| {
        assert_eq!((done.code, done.stdout.as_str()), (0, text), "{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), lines, "{}", done.stderr);
        done.stderr
    };
    told(generated(), "aBBB\n", 0);
    set_ids(&dir, 1.into(), serde_json::json!([2, answer]));
    told(generated(), "a\n", 0);
    // What is said of generating is stronger than the configuration.
    let generation = serde_json::json!({"eos_token_id": [7, answer], "temperature": 0.5});
    set_ids(&dir, 1.into(), 2.into());
    fs::write(dir.path("model/generation_config.json"), generation.to_string()).unwrap();
    let stderr = told(generated(), "a\n", 1);
    for part in ["the end token is 2 in config.json, 7 and 69 in", "text stops at 7 and 69"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}
