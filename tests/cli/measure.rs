//! `evaluate` and `generate` with a model that was trained a little.

use std::fs;

use serde_json::Value;

use super::common::{Dir, tiny_but};

/// A folder with a trained model in `model` and a text that it has not seen.
fn trained() -> Dir {
    let dir = Dir::new();
    let line = tiny_but(&[("--steps", "60"), ("--save-every", "0"), ("--batch-size", "8")]);
    let done = dir.run("pretrain", &format!("{line} --lr 1e-2 --out model"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let text: String = (0..40).map(|i| format!("Line {i} says \u{e9} to {}.\n", i * i)).collect();
    fs::write(dir.path("unseen.txt"), text).unwrap();
    dir
}

fn perplexity(dir: &Dir, line: &str) -> Value {
    let done = dir.run("evaluate", &format!("perplexity --model model {line}"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    serde_json::from_str(&done.stdout).expect(&done.stdout)
}

fn near(a: &Value, b: &Value, tolerance: f64) {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    assert!((a - b).abs() <= tolerance * b.abs(), "{a} and {b}");
}

#[test]
fn perplexity_reports_four_numbers_that_agree() {
    let dir = trained();
    let result = perplexity(&dir, "--data unseen.txt --seq-len 16");
    let keys: Vec<_> = result.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["bits_per_byte", "nll_per_token", "perplexity", "tokens"]);
    let number = |key: &str| result[key].as_f64().unwrap();
    // One token a byte; the begin token before them is given, and no end token counts.
    let bytes = fs::metadata(dir.path("unseen.txt")).unwrap().len();
    assert_eq!(result["tokens"], bytes);
    assert!(
        (number("perplexity") - number("nll_per_token").exp()).abs() < 1e-9 * number("perplexity")
    );
    let bits = number("nll_per_token") * number("tokens") / bytes as f64 / 2f64.ln();
    assert!((number("bits_per_byte") - bits).abs() < 1e-9);
    assert!(number("nll_per_token") < 259f64.ln(), "worse than knowing nothing");
}

#[test]
fn each_token_is_predicted_once_whatever_the_stride() {
    let dir = trained();
    let bytes = fs::metadata(dir.path("unseen.txt")).unwrap().len();
    let mut losses = Vec::new();
    for (length, stride) in [(16, 16), (16, 8), (16, 5), (16, 1), (64, 32), (33, 7)] {
        let line = format!("--data unseen.txt --seq-len {length} --stride {stride}");
        let result = perplexity(&dir, &line);
        assert_eq!(result["tokens"], bytes, "{line}");
        losses.push(result["nll_per_token"].as_f64().unwrap());
    }
    // Context of 15 tokens or of a few: not the same, but of one kind.
    assert!(losses.iter().all(|loss| (loss - losses[0]).abs() < 0.5), "{losses:?}");
    fs::write(dir.path("short.txt"), "short").unwrap();
    assert_eq!(perplexity(&dir, "--data short.txt --seq-len 16 --stride 8")["tokens"], 5);
}

#[test]
fn batches_threads_and_bf16_change_perplexity_by_rounding_only() {
    let dir = trained();
    let line = "--data unseen.txt --seq-len 16 --stride 8";
    let one = perplexity(&dir, &format!("{line} --batch-size 1"));
    for batch in [3, 8, 1000] {
        let other = perplexity(&dir, &format!("{line} --batch-size {batch}"));
        assert_eq!(other["tokens"], one["tokens"]);
        near(&other["nll_per_token"], &one["nll_per_token"], 1e-6);
    }
    let threads = |n: u32| perplexity(&dir, &format!("{line} --threads {n}"));
    assert_eq!(threads(1), threads(3));
    let bf16 = perplexity(&dir, &format!("{line} --dtype bf16"));
    near(&bf16["nll_per_token"], &one["nll_per_token"], 1e-2);
}

/// The validation loss of the last step is that of the model which was exported.
#[test]
fn evaluate_agrees_with_the_validation_loss_of_training() {
    let dir = Dir::new();
    let line = tiny_but(&[("--eval-tokens", "1000000")]);
    let done = dir.run("pretrain", &format!("{line} --val-tokens 500 --out model"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let metrics = super::common::metrics(&dir.path("model"));
    let last = metrics.iter().rev().find_map(|line| line["val_loss"].as_f64()).unwrap();
    // The end token is the last of the stream, so the held-out part is 499 bytes and that token. A
    // shard is taken as it is.
    let text = fs::read(dir.path("text.txt")).unwrap();
    let held = text[text.len() - 499..].iter().map(|&byte| u16::from(byte) + 3).chain([2]);
    let header = [20240520, 1, 500].into_iter().chain([0; 253]).flat_map(u32::to_le_bytes);
    let shard: Vec<u8> = header.chain(held.flat_map(u16::to_le_bytes)).collect();
    fs::write(dir.path("held.bin"), shard).unwrap();
    let result = perplexity(&dir, "--data held.bin --seq-len 16");
    assert_eq!(result["tokens"], 499);
    let loss = result["nll_per_token"].as_f64().unwrap();
    assert!((loss - last).abs() < 1e-6, "{loss} and {last}");
}

/// Of several documents each begins anew, and its begin token is given.
#[test]
fn every_document_is_given_its_beginning() {
    let dir = trained();
    fs::write(dir.path("two.jsonl"), "{\"text\":\"Child 1\"}\n{\"text\":\"Line\"}\n").unwrap();
    assert_eq!(perplexity(&dir, "--data two.jsonl --seq-len 16")["tokens"], 11);
    fs::write(dir.path("one.txt"), "Child 1").unwrap();
    let alone = perplexity(&dir, "--data one.txt");
    assert_eq!(alone["tokens"], 7);
    // A model that has no token to begin with is not asked for the first.
    let path = dir.path("model/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["post_processor"] = Value::Null;
    json["pre_tokenizer"]["trim_offsets"] = false.into();
    fs::write(path, json.to_string()).unwrap();
    assert_eq!(perplexity(&dir, "--data one.txt")["tokens"], 6);
}

fn generate(dir: &Dir, line: &str) -> String {
    let done = dir.run("generate", &format!("--model model {line}"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
    done.stdout
}

#[test]
fn the_same_seed_writes_the_same_text_and_another_does_not() {
    let dir = trained();
    let line = "--prompt Child --max-new-tokens 40";
    let text = generate(&dir, &format!("{line} --seed 1"));
    assert!(text.starts_with("Child"), "{text}");
    assert_eq!(generate(&dir, &format!("{line} --seed 1 --threads 3")), text);
    assert_ne!(generate(&dir, &format!("{line} --seed 2")), text);
}

#[test]
fn without_temperature_the_seed_does_not_matter() {
    let dir = trained();
    let line = "--prompt Child --max-new-tokens 40 --temperature 0";
    let text = generate(&dir, line);
    assert_eq!(generate(&dir, &format!("{line} --seed 9 --top-p 0.3")), text);
    // The likeliest tokens are those that top-p cannot leave out.
    let most = "--prompt Child --max-new-tokens 40 --top-p 1e-9";
    assert_eq!(generate(&dir, most), text);
}

/// Each token is chosen from what came before it, so a shorter text begins the longer one, and the
/// length is what was asked for.
#[test]
fn text_stops_where_it_was_asked_to() {
    let dir = trained();
    let line = "--prompt Child --temperature 0 --max-new-tokens";
    let long = generate(&dir, &format!("{line} 50"));
    for count in [1, 7, 20] {
        let short = generate(&dir, &format!("{line} {count}"));
        // The greedy text of this model is ASCII: a byte is a token.
        assert!(short.is_ascii(), "{short}");
        assert_eq!(short.len(), "Child".len() + count + "\n".len(), "{short}");
        assert!(long.starts_with(short.trim_end_matches('\n')), "{short}: {long}");
    }
    // Where the context of 64 is full the text ends, without an error.
    let most = generate(&dir, &format!("{line} 1000"));
    assert!(most.len() <= "Child".len() + 64, "{most}");
    assert!(most.starts_with(long.trim_end_matches('\n')));
}

/// Bytes of one character come one by one; what is shown piece by piece is what they are together.
#[test]
fn streamed_text_is_valid_and_ends_with_a_line_end() {
    let dir = trained();
    let line = "--prompt \u{fc}\u{20ac} --temperature 2 --top-p 1 --max-new-tokens 50 --seed";
    for seed in 0..5 {
        // `Dir::run` has checked that it is UTF-8.
        let text = generate(&dir, &format!("{line} {seed}"));
        assert!(text.starts_with("\u{fc}\u{20ac}") && text.ends_with('\n'), "{text:?}");
    }
}
