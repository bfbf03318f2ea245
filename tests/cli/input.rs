//! What users get wrong, one test each: one line that names file, value and remedy, the right exit
//! code, and every file as it was.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::{
    Bits, Dir, TINY, assert_one_line, checkpoints, config, copy_until, finish, text, tiny_but,
};

/// Data that cannot be used.
fn bad_data(name: &str, content: &[u8], code: i32, parts: &[&str]) {
    let dir = Dir::new();
    fs::write(dir.path(name), content).unwrap();
    let parts = [&[name], parts].concat();
    dir.refused("pretrain", &data(name), code, &parts);
}

/// A run over other data.
fn data(name: &str) -> String {
    format!("{} --out out", tiny_but(&[("--data", name)]))
}

#[test]
fn missing_file() {
    let dir = Dir::new();
    let parts = ["none.txt", "No such file", "check the path"];
    dir.refused("pretrain", &data("none.txt"), 1, &parts);
}

#[test]
fn unreadable_file() {
    let dir = Dir::new();
    // Permissions would not stop every user, a path through a file does.
    let parts = ["text.txt/more.txt", "Not a directory", "check the path"];
    dir.refused("pretrain", &data("text.txt/more.txt"), 1, &parts);
    fs::create_dir(dir.path("folder.txt")).unwrap();
    dir.refused("pretrain", &data("folder.txt"), 1, &["folder.txt", ".jsonl", "check the path"]);
}

#[test]
fn unknown_kind_of_file() {
    bad_data("text.pdf", b"text", 1, &[".txt", ".jsonl.zst"]);
}

#[test]
fn empty_data() {
    bad_data("empty.txt", b"", 1, &["no text", "not empty"]);
    bad_data("empty.jsonl", b"\n\n", 1, &["no text", "not empty"]);
}

#[test]
fn data_shorter_than_a_sequence() {
    bad_data("short.txt", b"four", 1, &["6 tokens", "17", "--seq-len"]);
    bad_data("short.txt", b"twenty bytes of text", 1, &["held out", "--seq-len"]);
}

#[test]
fn invalid_utf8() {
    bad_data("bad.txt", b"abc\xff\xfe", 1, &["UTF-8", "byte 3", "convert"]);
    let lines = b"{\"text\":\"fine\"}\n{\"text\":\"\xff\"}\n";
    bad_data("bad.jsonl", lines, 1, &["UTF-8", "line 2, byte 9", "convert"]);
}

#[test]
fn jsonl_without_text() {
    bad_data("no.jsonl", b"{\"text\":\"a\"}\n{\"words\":\"b\"}\n", 1, &["line 2", "`text`"]);
    bad_data("no.jsonl", b"{\"text\":7}\n", 1, &["line 1", "7", "string"]);
    bad_data("no.jsonl", b"{\"text\":\"a\"", 1, &["line 1", "JSON object"]);
}

fn jsonl() -> Vec<u8> {
    let line = |i: u64| format!("{}\n", serde_json::json!({"text": text(i % 7 + 1), "id": i * i}));
    (0..300).map(line).collect::<String>().into_bytes()
}

#[test]
fn truncated_gzip() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&jsonl()).unwrap();
    let packed = packer.finish().unwrap();
    bad_data("cut.jsonl.gz", &packed[..packed.len() / 2], 1, &["gzip", "after line", "again"]);
}

#[test]
fn truncated_zstd() {
    let packed = zstd::encode_all(jsonl().as_slice(), 1).unwrap();
    bad_data("cut.jsonl.zst", &packed[..packed.len() / 2], 1, &["zstd", "after line", "again"]);
}

/// A token shard with a header and 16-bit ids.
fn shard(ids: &[u16]) -> Vec<u8> {
    let mut words = vec![20240520, 1, ids.len() as u32];
    words.resize(256, 0);
    let header = words.iter().flat_map(|word: &u32| word.to_le_bytes());
    header.chain(ids.iter().flat_map(|id| id.to_le_bytes())).collect()
}

#[test]
fn good_shard() {
    let dir = Dir::new();
    fs::write(dir.path("ids.bin"), shard(&[7; 1000])).unwrap();
    let done = dir.run("pretrain", &data("ids.bin"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn truncated_or_corrupt_shard() {
    let whole = shard(&[7; 1000]);
    bad_data("cut.bin", &whole[..2000], 1, &["truncated", "1000 ids", "again"]);
    bad_data("cut.bin", &whole[..100], 1, &["100 bytes", "header", "again"]);
    bad_data("magic.bin", &[b"X".as_slice(), &whole[1..]].concat(), 1, &["magic", "20240520"]);
}

#[test]
fn shard_beyond_the_vocabulary() {
    let mut ids = vec![7; 1000];
    ids[500] = 259;
    let parts = ["token 259", "position 500", "vocabulary of 259", "tokenizer"];
    bad_data("large.bin", &shard(&ids), 1, &parts);
}

/// A folder with a model in `model` and what `spoil` does to it, refused as a model to start from
/// and as one to continue a prompt with.
fn bad_model(parts: &[&str], spoil: impl Fn(&Path)) {
    let dir = Dir::new();
    dir.train("model", "");
    spoil(&dir.path("model"));
    dir.refused("pretrain", &format!("{TINY} --init-from model --out out"), 1, parts);
    dir.refused("generate", "--model model --prompt Child", 1, parts);
    dir.refused("evaluate", "perplexity --model model --data text.txt", 1, parts);
}

/// Sets a key of a model's `config.json`.
fn reconfigure(model: &Path, key: &str, value: Value) {
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn weights_of_a_wrong_shape() {
    let parts = ["model/model.safetensors", "[16, 24]", "[16, 40]", "config.json"];
    bad_model(&parts, |model| reconfigure(model, "intermediate_size", 40.into()));
}

#[test]
fn a_missing_tensor() {
    let parts = ["model/model.safetensors", "model.layers.2.", "is missing", "again"];
    bad_model(&parts, |model| reconfigure(model, "num_hidden_layers", 3.into()));
}

#[test]
fn weights_that_are_not_finite() {
    bad_model(&["model/model.safetensors", "NaN at element", "finite"], |model| {
        let path = model.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 400..end - 396].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn truncated_weights() {
    bad_model(&["model/model.safetensors", "truncated", "20000 bytes", "again"], |model| {
        let path = model.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..20000]).unwrap();
    });
}

#[test]
fn no_weights() {
    bad_model(&["model/model.safetensors", "No such file", "directory with"], |model| {
        fs::remove_file(model.join("model.safetensors")).unwrap();
    });
}

#[test]
fn tokenizer_and_model_that_do_not_match() {
    let dir = Dir::new();
    dir.train("model", "");
    fs::write(dir.path("small.json"), {
        let mut small = config(16, 24, 2, 1);
        small["vocab_size"] = 200.into();
        small.to_string()
    })
    .unwrap();
    let line = tiny_but(&[("--model", "small.json")]);
    dir.refused("pretrain", &format!("{line} --out out"), 1, &["259", "vocab_size is 200"]);
    // A tokenizer of more entries beside the weights.
    let line = tiny_but(&[("--model", "260k"), ("--tokenizer", "bpe"), ("--steps", "1")]);
    let done = dir.run("pretrain", &format!("{line} --vocab-size 300 --out more"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    fs::copy(dir.path("more/tokenizer.json"), dir.path("model/tokenizer.json")).unwrap();
    let parts = ["model/tokenizer.json", "vocab_size is 259", "own tokenizer"];
    dir.refused("generate", "--model model --prompt Child", 1, &parts);
    dir.refused("evaluate", "perplexity --model model --data text.txt", 1, &parts);
}

#[test]
fn bad_values_on_the_command_line() {
    let dir = Dir::new();
    let cases: [(&str, &[&str]); 14] = [
        ("--lr 0", &["'0'", "--lr", "above 0"]),
        ("--lr nan", &["'nan'", "--lr", "finite"]),
        ("--beta1 1", &["'1'", "--beta1", "below 1"]),
        ("--accum 0", &["'0'", "--accum", "at least 1"]),
        ("--warmup 13", &["--warmup", "is 13", "12 steps"]),
        ("--val-fraction 1.5", &["'1.5'", "--val-fraction", "below 1"]),
        ("--val-tokens 1G", &["1000000000", "leaves no training data"]),
        ("--order backwards", &["'backwards'", "--order", "sequential"]),
        ("--dtype f64", &["'f64'", "--dtype", "bf16"]),
        ("--seed x", &["'x'", "--seed"]),
        ("--set optim.lr=fast", &["--set", "optim.lr", "fast", "a number"]),
        ("--set optim.lrr=1", &["--set", "`optim.lrr`", "did you mean `optim.lr`?"]),
        ("--set optim.lr", &["--set optim.lr", "key=value"]),
        ("--stepz 7", &["--stepz", "--steps", "--help"]),
    ];
    for (line, parts) in cases {
        dir.refused("pretrain", &format!("{TINY} --out out {line}"), 2, parts);
    }
    let line = tiny_but(&[("--steps", "ten")]);
    dir.refused("pretrain", &line, 2, &["'ten'", "--steps", "expected a whole number"]);
    dir.refused("generate", "--model m --prompt a --top-p 0", 2, &["'0'", "--top-p", "above 0"]);
    dir.refused("generate", "--model m", 2, &["--prompt", "--help"]);
    dir.refused(
        "evaluate",
        "perplexity --model m --data d --stride 0",
        2,
        &["--stride", "least 1"],
    );
}

#[test]
fn bad_values_in_a_file() {
    let dir = Dir::new();
    let cases: [(&str, &[&str]); 5] = [
        ("[optim]\nlr = -2.0\n", &["optim.lr", "-2", "above 0"]),
        ("[optim]\nlr = \"fast\"\n", &["bad.toml", "optim.lr", "fast", "a number"]),
        ("[optim]\nlearning = 1\n", &["bad.toml", "`optim.learning`", "run.toml"]),
        ("[run]\nsead = 1\n", &["bad.toml", "`run.sead`", "did you mean `run.seed`?"]),
        ("[optim\nlr = 1\n", &["bad.toml", "not TOML", "line 1"]),
    ];
    for (text, parts) in cases {
        fs::write(dir.path("bad.toml"), text).unwrap();
        dir.refused("pretrain", &format!("{TINY} --config bad.toml --out out"), 2, parts);
    }
    let parts = ["none.toml", "No such file", "check the path"];
    dir.refused("pretrain", &format!("{TINY} --config none.toml --out out"), 1, &parts);
}

#[test]
fn bad_values_in_a_models_configuration() {
    let dir = Dir::new();
    let cases: [(&str, Value, &[&str]); 5] = [
        ("hidden_size", 15.into(), &["num_attention_heads = 2", "hidden_size = 15"]),
        ("hidden_size", "16".into(), &["hidden_size = \"16\"", "whole number"]),
        ("num_key_value_heads", 3.into(), &["num_key_value_heads = 3", "must divide"]),
        ("model_type", "gpt2".into(), &["model_type = \"gpt2\"", "llama"]),
        ("rms_norm_eps", (-1).into(), &["rms_norm_eps = -1", "between 0 and 1"]),
    ];
    for (key, value, parts) in cases {
        let mut bad = config(16, 24, 2, 1);
        bad[key] = value;
        fs::write(dir.path("bad.json"), bad.to_string()).unwrap();
        let parts = [&["bad.json"], parts].concat();
        let line = tiny_but(&[("--model", "bad.json")]);
        dir.refused("pretrain", &format!("{line} --out out"), 2, &parts);
        fs::create_dir_all(dir.path("model")).unwrap();
        fs::rename(dir.path("bad.json"), dir.path("model/config.json")).unwrap();
        let parts = [&["model/config.json"], &parts[1..]].concat();
        dir.refused("generate", "--model model --prompt Child", 2, &parts);
    }
    fs::write(dir.path("bad.json"), "{").unwrap();
    let line = tiny_but(&[("--model", "bad.json")]);
    dir.refused("pretrain", &line, 2, &["bad.json", "not a JSON object", "Hugging Face"]);
    let line = tiny_but(&[("--model", "none.json")]);
    dir.refused("pretrain", &line, 1, &["none.json", "No such file", "give"]);
}

#[test]
fn unknown_model() {
    let line = tiny_but(&[("--model", "99b")]);
    Dir::new().refused("pretrain", &line, 2, &["--model 99b", "110m", "config.json"]);
}

/// Beyond what sizes are counted in: nothing wraps, and nothing is allocated first.
#[test]
fn batches_that_no_device_could_take() {
    let of_pass = "tokens of one forward pass, of at most 4194304";
    for (line, parts) in [
        ("--batch-size 4000000000", ["--batch-size (run.batch_size) is 4000000000", of_pass]),
        ("--seq-len 9000000000000000", ["--seq-len (run.seq_len) 9000000000000000", of_pass]),
        ("--batch-size 9e15 --seq-len 9e15 --accum 9e15", ["is 9000000000000000", of_pass]),
        ("--accum 4000000000", ["--accum (run.accum) is 4000000000", "of at most 2147483648"]),
        ("--steps 9e15 --warmup 0 --accum 1000000", ["--steps (run.steps) is 9000", "64 bits"]),
    ] {
        for subcommand in ["plan", "pretrain"] {
            Dir::new().refused(subcommand, &format!("--model 260k {line}"), 2, &parts);
        }
    }
}

#[test]
fn device_that_is_not_there() {
    let line = format!("{TINY} --device cuda");
    Dir::new().refused("pretrain", &line, 2, &["--device cuda: ", "CUDA", "--device cpu"]);
    let line = format!("{TINY} --device cpu --gemm cublaslt");
    Dir::new().refused("pretrain", &line, 2, &["--gemm cublaslt", "--gemm rust"]);
    let line = format!("{TINY} --device cuda-emulated --gemm cublaslt");
    Dir::new().refused("pretrain", &line, 2, &["--gemm cublaslt", "--gemm rust"]);
}

#[test]
fn folder_that_holds_another_run() {
    let dir = Dir::new();
    dir.train("out", "");
    let parts = ["out", "already holds a run", "--resume", "--overwrite", "--out"];
    dir.refused("pretrain", &format!("{TINY} --out out"), 2, &parts);
    dir.refused("pretrain", &format!("{TINY} --out text.txt"), 2, &["text.txt", "is a file"]);
}

/// An overwrite deletes nothing before everything that the new run needs has been read.
#[test]
fn overwriting_with_bad_data_keeps_the_earlier_run() {
    let dir = Dir::new();
    let first = dir.train("out", "");
    fs::write(dir.path("bad.txt"), b"\xff").unwrap();
    fs::write(dir.path("short.txt"), b"four").unwrap();
    for name in ["bad.txt", "short.txt"] {
        dir.refused("pretrain", &format!("{} --overwrite", data(name)), 1, &[name]);
    }
    let parts = ["none/config.json", "No such file"];
    dir.refused("pretrain", &format!("{TINY} --out out --overwrite --init-from none"), 1, &parts);
    let again = dir.train("out", "--overwrite");
    first.assert_same(&again, "overwritten with the same values");
}

#[test]
fn nothing_to_resume() {
    let dir = Dir::new();
    let parts = ["out/run.toml does not exist", "leave --resume out", "--out"];
    dir.refused("pretrain", "--resume --out out", 2, &parts);
    dir.train("out", "");
    fs::remove_dir_all(dir.path("out/checkpoints")).unwrap();
    dir.refused("pretrain", "--resume --out out", 2, &["out has no checkpoint", "--overwrite"]);
}

#[test]
fn resume_as_another_run() {
    let dir = Dir::new();
    dir.train("out", "");
    fs::write(dir.path("other.txt"), text(210)).unwrap();
    fs::write(dir.path("other.json"), config(16, 24, 2, 2).to_string()).unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("--seed 43", &["run.seed was 42 and is now 43", "--out"]),
        ("--lr 0.5", &["optim.lr was 0.003 and is now 0.5", "--out"]),
        ("--model other.json", &["model.name was \"tiny.json\"", "\"other.json\"", "--out"]),
        ("--data other.txt", &["the data's hash was", "--out"]),
        ("--batch-size 5", &["run.batch_size * run.accum was 4 and is now 5"]),
        ("--steps 13", &["run.steps was 12 and is now 13", "--set run.steps=13"]),
    ];
    for (line, parts) in cases {
        let line = format!("--resume --out out --log-level error {line}");
        dir.refused("pretrain", &line, 2, parts);
    }
    // The same name, and shapes that fit, but other numbers.
    let mut changed = config(16, 24, 2, 1);
    changed["rope_theta"] = 5000.into();
    fs::write(dir.path("tiny.json"), changed.to_string()).unwrap();
    let line = "--resume --out out --log-level error";
    dir.refused("pretrain", line, 2, &["the model's config.json was", "--out"]);
}

#[test]
fn damaged_checkpoints() {
    let dir = Dir::new();
    let whole = dir.train("whole", "");
    copy_until(&dir.path("whole"), &dir.path("out"), 8);
    let weights =
        |step: u64| dir.path(&format!("out/checkpoints/step-{step:06}/weights.safetensors"));
    let mut bytes = fs::read(weights(8)).unwrap();
    bytes[5000] ^= 1;
    fs::write(weights(8), &bytes).unwrap();
    fs::write(weights(7), &bytes[..5000]).unwrap();
    let done = dir.run("pretrain", "--resume --out out --log-level warn");
    assert_eq!(done.code, 0, "{}", done.stderr);
    for name in ["step-000008", "step-000007"] {
        assert!(done.stderr.contains(&format!("passed over out/checkpoints/{name}")), "{name}");
    }
    whole.assert_same(&Bits::of(&dir.path("out")), "from the checkpoint before the damage");
    for step in checkpoints(&dir.path("out")) {
        fs::write(weights(step), "").unwrap();
    }
    let parts = ["no valid checkpoint", "step-000012", "--overwrite"];
    dir.refused("pretrain", "--resume --out out --log-level error", 1, &parts);
}

#[test]
fn prompt_too_long() {
    let dir = Dir::new();
    dir.train("model", "");
    let prompt = "x".repeat(64);
    let parts = ["--prompt has 65 tokens", "at most 63", "shorten"];
    dir.refused("generate", &format!("--model model --prompt {prompt}"), 2, &parts);
}

#[test]
fn nothing_to_evaluate() {
    let dir = Dir::new();
    dir.train("model", "");
    fs::write(dir.path("empty.txt"), "").unwrap();
    let line = "perplexity --model model --data empty.txt";
    dir.refused("evaluate", line, 1, &["empty.txt", "no text"]);
    let line = "perplexity --model model --data none.txt";
    dir.refused("evaluate", line, 1, &["none.txt", "check the path"]);
    let line = "perplexity --model model --data text.txt --seq-len 8 --stride 9";
    dir.refused("evaluate", line, 2, &["--stride is 9", "--seq-len"]);
}

/// With a huge learning rate the first update is useless but finite, and step 2 notices.
#[test]
fn divergence() {
    let dir = Dir::new();
    let done = dir.pretrain("--lr 1e30 --out out");
    assert_one_line(&done, 3, &["diverged at step 2", "layers.1.", "lower --lr"]);
    assert_eq!(checkpoints(&dir.path("out")), [0, 1]);
    let again = dir.run("pretrain", "--resume --out out --log-level error");
    assert_eq!((again.code, again.stderr), (3, done.stderr));
    assert!(!dir.path("out/model.safetensors").exists());
}

/// Weights that are not finite are never saved: the newest checkpoint is a good one.
#[test]
fn divergence_in_the_weights() {
    let dir = Dir::new();
    let done = dir.pretrain("--lr 1e300 --out out");
    assert_one_line(&done, 3, &["diverged at step 1", "model.", "lower --lr"]);
    assert_eq!(checkpoints(&dir.path("out")), [0]);
}

/// A disk that fills up while training; with room again the run goes on as if nothing had been.
#[cfg(unix)]
#[test]
fn full_disk() {
    let dir = Dir::new();
    let whole = dir.train("whole", "");
    fs::create_dir(dir.path("disk")).unwrap();
    let Some(disk) = Disk::mount(&dir.path("disk")) else {
        println!("cannot mount a small disk here; limits on file sizes are tested elsewhere");
        return;
    };
    let done = dir.pretrain("--out disk/out");
    assert_one_line(&done, 1, &["disk/out/", "No space left", "free"]);
    let saved = checkpoints(&dir.path("disk/out"));
    assert!(!saved.is_empty() && saved.len() < 13, "{saved:?}");
    disk.grow();
    let done = dir.run("pretrain", "--resume --out disk/out --log-level error");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    whole.assert_same(&Bits::of(&dir.path("disk/out")), "after the disk was full");
}

/// A small file system in memory, unmounted at the end.
#[cfg(unix)]
struct Disk(std::path::PathBuf);

#[cfg(unix)]
impl Disk {
    /// `None` where this is not allowed.
    fn mount(path: &Path) -> Option<Disk> {
        let options = ["-t", "tmpfs", "-o", "size=1000k", "tmpfs"];
        let mount = Command::new("mount").args(options).arg(path).stderr(Stdio::null()).status();
        mount.is_ok_and(|status| status.success()).then(|| Disk(path.to_path_buf()))
    }

    fn grow(&self) {
        let options = ["-o", "remount,size=100m"];
        assert!(Command::new("mount").args(options).arg(&self.0).status().unwrap().success());
    }
}

#[cfg(unix)]
impl Drop for Disk {
    fn drop(&mut self) {
        // A leftover mount is empty memory; a failed test says more than this could.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A limit on the size of files stops the first checkpoint, or already the tokens.
#[cfg(unix)]
#[test]
fn file_size_limit() {
    let dir = Dir::new();
    let limited = |blocks: u32| {
        let program = dir.command("pretrain", "").get_program().to_owned();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -f {blocks}; exec \"$0\" pretrain {TINY} --out out"));
        shell.arg(program).current_dir(dir.path(".")).env_remove("RUST_LOG");
        finish(&mut shell)
    };
    let before = dir.snapshot();
    assert_one_line(&limited(8), 1, &["out/tokens/", "File too large", "space"]);
    assert!(dir.snapshot() == before, "something was left behind");
    let parts = ["checkpoints/step-000000", "File too large", "bytes are needed", "limit"];
    assert_one_line(&limited(120), 1, &parts);
    assert!(checkpoints(&dir.path("out")).is_empty());
    dir.train("out", "--overwrite");
}

/// `generate | head -c 0`, and a stdout that takes nothing.
#[cfg(unix)]
#[test]
fn stdout_that_is_closed_or_full() {
    let dir = Dir::new();
    dir.train("model", "");
    let lines = [
        ("generate", "--model model --prompt Child"),
        ("evaluate", "perplexity --model model --data text.txt"),
        ("pretrain", "--plan --model 260k --log-level error"),
    ];
    for (program, line) in lines {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = finish(dir.command(program, line).stdout(writer).stderr(Stdio::piped()));
        assert_eq!((done.code, done.stderr.as_str()), (141, ""), "{program}");
        if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
            let done = finish(dir.command(program, line).stdout(full).stderr(Stdio::piped()));
            assert_one_line(&done, 1, &["stdout", "No space left"]);
        }
    }
}
