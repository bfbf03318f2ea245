//! Files of other projects and of earlier versions: what they say is kept, and what is missing is
//! told, not replaced.

use std::fs;

use serde_json::{Value, json};

use super::common::{Bits, Dir, TINY, copy_until, tiny_but};

fn json_of(dir: &Dir, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.path(name)).unwrap()).unwrap()
}

#[test]
fn weights_without_their_tokenizer_are_refused() {
    let dir = Dir::new();
    dir.train("model", "");
    fs::remove_file(dir.path("model/tokenizer.json")).unwrap();
    let line = tiny_but(&[("--tokenizer", "bpe")]);
    let parts = ["--init-from model", "tokenizer.json", "--tokenizer"];
    dir.refused("pretrain", &format!("{line} --init-from model --out out"), 2, &parts);
    // One that is named is the user's own choice.
    dir.train("out", "--init-from model");
}

#[test]
fn a_resume_without_its_tokenizer_is_refused() {
    let dir = Dir::new();
    let line = tiny_but(&[("--tokenizer", "bpe"), ("--model", "260k"), ("--steps", "2")]);
    let done = dir.run("pretrain", &format!("{line} --vocab-size 300 --out out"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    fs::remove_file(dir.path("out/tokenizer.json")).unwrap();
    let line = "--resume --out out --log-level error";
    dir.refused("pretrain", line, 2, &["out/tokenizer.json is missing", "copy it back"]);
}

#[test]
fn lost_metrics_are_told() {
    let dir = Dir::new();
    let whole = dir.train("whole", "");
    copy_until(&dir.path("whole"), &dir.path("out"), 7);
    fs::remove_file(dir.path("out/metrics.jsonl")).unwrap();
    let done = dir.run("pretrain", "--resume --out out --log-level warn");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("out/metrics.jsonl is missing: the losses of steps 1 to 7"));
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert_eq!(Bits::of(&dir.path("out")).losses(), whole.losses()[7..]);
}

#[test]
fn files_of_a_folder_that_are_not_read_are_told() {
    let dir = Dir::new();
    fs::create_dir_all(dir.path("data/more")).unwrap();
    fs::copy(dir.path("text.txt"), dir.path("data/text.txt")).unwrap();
    let line = tiny_but(&[("--data", "data"), ("--log-level", "warn"), ("--steps", "1")]);
    let quiet = dir.run("pretrain", &format!("{line} --out quiet"));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    for name in ["a.txt.gz", "b.jsonl.xz", "more/c.json", "more/d.parquet", ".hidden", "x.bin.json"]
    {
        fs::write(dir.path("data").join(name), "{}").unwrap();
    }
    let done = dir.run("pretrain", &format!("{line} --out out"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    for part in
        ["5 files are passed over", "data/a.txt.gz", "data/b.jsonl.xz", ".parquet", ".jsonl.zst"]
    {
        // The last of them are not named one by one.
        let expected = part != ".parquet";
        assert_eq!(done.stderr.contains(part), expected, "{part}: {}", done.stderr);
    }
}

/// What came with a model leaves with it, also over a resume: end tokens, padding, sampling values,
/// chat template.
#[test]
fn an_export_keeps_what_was_imported() {
    let dir = Dir::new();
    dir.train("model", "");
    let mut config = json_of(&dir, "model/config.json");
    (config["eos_token_id"], config["pad_token_id"]) = (json!([2, 70]), json!(0));
    fs::write(dir.path("model/config.json"), config.to_string()).unwrap();
    let generation = json!({"bos_token_id": 1, "eos_token_id": [2, 70, 71], "pad_token_id": 0,
        "temperature": 0.6, "top_p": 0.9, "do_sample": true});
    fs::write(dir.path("model/generation_config.json"), generation.to_string()).unwrap();
    let mut names = json_of(&dir, "model/tokenizer_config.json");
    names["chat_template"] = "{{ messages }}".into();
    fs::write(dir.path("model/tokenizer_config.json"), names.to_string()).unwrap();
    fs::write(dir.path("model/chat_template.jinja"), "{% for message in messages %}").unwrap();

    let line = "--data text.txt --init-from model --batch-size 4 --seq-len 16 --log-level warn \
        --save-every 1 --eval-every 4 --eval-tokens 256 --sample-tokens 8 --threads 1 --keep 100";
    let run = |rest: &str| {
        let done = dir.run("pretrain", &format!("{line} {rest}"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{rest}");
    };
    run("--steps 4 --out out");
    let kept = |out: &str| {
        let of = |name: &str| json_of(&dir, &format!("{out}/{name}"));
        assert_eq!(of("generation_config.json"), generation);
        assert_eq!(of("tokenizer_config.json"), names);
        assert_eq!(of("config.json")["eos_token_id"], json!([2, 70]));
        assert_eq!(of("config.json")["pad_token_id"], 0);
        let template = fs::read_to_string(dir.path(out).join("chat_template.jinja")).unwrap();
        assert_eq!(template, "{% for message in messages %}");
    };
    kept("out");
    // Before the first export there is only what the beginning has written.
    fs::create_dir(dir.path("again")).unwrap();
    fs::copy(dir.path("out/chat_template.jinja"), dir.path("again/chat_template.jinja")).unwrap();
    copy_until(&dir.path("out"), &dir.path("again"), 2);
    run("--resume --out again");
    kept("again");
    Bits::of(&dir.path("out")).assert_same(&Bits::of(&dir.path("again")), "resumed");
}

/// A `run.toml` from before document ends were a choice has the end token alone, and goes on so.
#[test]
fn a_run_of_an_earlier_version_resumes_to_the_bit() {
    let dir = Dir::new();
    let whole = dir.train("whole", "--document-ends after");
    copy_until(&dir.path("whole"), &dir.path("out"), 5);
    let run = fs::read_to_string(dir.path("out/run.toml")).unwrap();
    let earlier = run.replace("document_ends = \"after\"\n", "");
    assert_ne!(earlier, run);
    fs::write(dir.path("out/run.toml"), earlier).unwrap();
    // Its tokenizer has no post-processor.
    let mut tokenizer = json_of(&dir, "out/tokenizer.json");
    tokenizer["post_processor"] = Value::Null;
    fs::write(dir.path("out/tokenizer.json"), format!("{tokenizer:#}")).unwrap();
    let done = dir.run("pretrain", "--resume --out out --log-level error");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    whole.assert_same(&Bits::of(&dir.path("out")), "resumed without the key");
    let both = dir.train("both", "--document-ends both");
    assert_ne!(both.losses(), whole.losses());
    assert!(!TINY.contains("--document-ends"));
    assert_eq!(dir.train("default", "").losses(), both.losses());
}
