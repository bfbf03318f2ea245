//! What a text begins with. A model is made by hand that writes what its sequence began with: the
//! token before a document, the token after one, or neither.

use std::fs;

use handgrad::data::tokenizer::Tokenizer;
use handgrad::engine::{Device, Dtype};
use handgrad::model::hf::{SHARD_BYTES, read_config, write};
use handgrad::model::params;
use handgrad::model::weights::Weights;

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

/// Gives the model a tokenizer that knows the ends of documents by these names.
fn write_tokenizer(dir: &Dir, bos: &str, eos: &str) {
    let json = Tokenizer::bytes().json().replace("\"<s>\"", &format!("\"{bos}\""));
    let json = json.replace("\"</s>\"", &format!("\"{eos}\""));
    fs::write(dir.path("model/tokenizer.json"), json).unwrap();
}

/// What follows `prompt`: the likeliest token.
fn next(dir: &Dir, prompt: &str) -> String {
    let line = "--model model --temperature 0 --max-new-tokens 1 --threads 1 --prompt";
    let done = super::common::finish(dir.command("generate", line).arg(prompt));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{prompt:?}");
    done.stdout.strip_prefix(prompt).unwrap().trim_end().to_string()
}

/// The end token closes every document in training, so it is what a new one follows, where there is
/// one; the begin token stands in where there is no other.
#[test]
fn a_prompt_follows_the_end_token_or_the_begin_token() {
    let dir = Dir::new();
    write_model(&dir);
    for (bos, eos, expected) in [
        ("<s>", "</s>", "E"),
        ("<x>", "</s>", "E"),
        ("<x>", "<|endoftext|>", "E"),
        ("<s>", "<y>", "B"),
        ("<bos>", "<y>", "B"),
        ("<x>", "<y>", "?"),
    ] {
        write_tokenizer(&dir, bos, eos);
        for prompt in ["a", "two words", "</s>", "<s>"] {
            assert_eq!(next(&dir, prompt), expected, "{bos} {eos} {prompt:?}");
        }
        if expected != "?" {
            assert_eq!(next(&dir, ""), expected, "{bos} {eos}, nothing");
        }
    }
}

#[test]
fn an_empty_prompt_needs_a_token_to_begin_with() {
    let dir = Dir::new();
    write_model(&dir);
    write_tokenizer(&dir, "<x>", "<y>");
    let line = "--model model --max-new-tokens 1";
    let done = super::common::finish(dir.command("generate", line).args(["--prompt", ""]));
    super::common::assert_one_line(&done, 2, &["--prompt is empty", "no begin token"]);
}

/// The prompt's tokens and no others: one more, and it is longer than the context.
#[test]
fn a_prompt_takes_one_token_more_than_its_text() {
    let dir = Dir::new();
    write_model(&dir);
    let most = 64 - 1;
    for (bos, eos, more) in [("<s>", "</s>", 1), ("<s>", "<y>", 1), ("<x>", "<y>", 0)] {
        write_tokenizer(&dir, bos, eos);
        next(&dir, &"a".repeat(most - more));
        let line = format!("--model model --prompt {}", "a".repeat(most - more + 1));
        dir.refused("generate", &line, 2, &["--prompt has 64 tokens", "at most 63"]);
    }
}
