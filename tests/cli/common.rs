//! A folder with a tiny model and a text, the program run in it, and what they leave compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use handgrad::engine::Isa;
use serde_json::{Value, json};

/// A temporary folder to work in. It holds `tiny.json`, a model of 2 layers, and `text.txt`.
pub struct Dir(tempfile::TempDir);

/// What a finished process left.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Dir {
    /// In memory where the system has such a folder: these tests write thousands of files.
    pub fn new() -> Dir {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = Dir(tempfile::tempdir_in(folder).unwrap());
        fs::write(dir.path("tiny.json"), config(16, 24, 2, 1).to_string()).unwrap();
        fs::write(dir.path("text.txt"), text(200)).unwrap();
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program with `subcommand`, to be run here; words of `line` are its arguments.
    pub fn command(&self, subcommand: &str, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handgrad"));
        command.current_dir(self.0.path()).arg(subcommand).args(line.split_whitespace());
        // A machine's GPU stays out of tests that do not ask for one.
        command
            .env("CUDA_VISIBLE_DEVICES", "")
            .env_remove("RUST_LOG")
            .env_remove("HANDGRAD_ISA")
            .env_remove("HANDGRAD_EMULATOR")
            .stdin(Stdio::null());
        command
    }

    /// As [`Dir::run`], on the instruction set `isa`.
    pub fn run_on(&self, isa: Isa, subcommand: &str, line: &str) -> Done {
        finish(self.command(subcommand, line).env("HANDGRAD_ISA", isa.name()))
    }

    pub fn run(&self, subcommand: &str, line: &str) -> Done {
        finish(&mut self.command(subcommand, line))
    }

    /// Trains quietly; `line` comes after [`TINY`] and must not repeat what that sets.
    pub fn pretrain(&self, line: &str) -> Done {
        self.run("pretrain", &format!("{TINY} {line}"))
    }

    /// As [`Dir::pretrain`], into `out`, and nothing may go wrong.
    pub fn train(&self, out: &str, line: &str) -> Bits {
        let done = self.pretrain(&format!("--out {out} {line}"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
        Bits::of(&self.path(out))
    }

    /// Everything below the folder: path to content; folders have none.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, None);
                } else {
                    let content = fs::read(&path).unwrap();
                    found.insert(path, Some(content));
                }
            }
        }
        found
    }

    /// The command must be refused with `code` and one line on stderr that contains all of
    /// `parts`, print nothing else, and leave every file as it was. Returns the line.
    pub fn refused(&self, subcommand: &str, line: &str, code: i32, parts: &[&str]) -> String {
        let before = self.snapshot();
        let done = self.run(subcommand, line);
        assert_one_line(&done, code, parts);
        assert!(self.snapshot() == before, "{subcommand} {line} has changed files");
        done.stderr
    }
}

/// Asserts how a failed process has ended.
pub fn assert_one_line(done: &Done, code: i32, parts: &[&str]) {
    let line = &done.stderr;
    assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    assert!(line.ends_with('\n'), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

/// What most runs here have in common: 12 steps, each saved.
pub const TINY: &str = "--data text.txt --tokenizer bytes --model tiny.json --batch-size 4 \
    --seq-len 16 --save-every 1 --eval-every 4 --eval-tokens 256 --sample-tokens 8 \
    --log-level error --threads 1 --steps 12 --keep 100";

/// [`TINY`] with other flags in place of its own: `("--steps", "30")`.
pub fn tiny_but(changes: &[(&str, &str)]) -> String {
    let mut words: Vec<&str> = TINY.split_whitespace().collect();
    for (flag, value) in changes {
        let at = words.iter().position(|word| word == flag).expect("a flag of TINY");
        words[at + 1] = value;
    }
    words.join(" ")
}

pub fn finish(command: &mut Command) -> Done {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("programs print UTF-8");
    Done {
        code: output.status.code().expect("the program ends by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A `config.json` for byte-level tokens: width, hidden width, query heads, key heads.
pub fn config(C: usize, F: usize, H: usize, G: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": C, "intermediate_size": F, "num_hidden_layers": 2,
        "num_attention_heads": H, "num_key_value_heads": G, "vocab_size": 259,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
    })
}

/// Lines that differ, so that the order of samples shows in the losses.
pub fn text(lines: u64) -> String {
    let things = ["stones", "apples", "boats", "letters", "birds", "drums", "coins"];
    let line = |i: u64| {
        let thing = things[(i * i % 7) as usize];
        format!("Child {i} counted {} {thing} and went home by way {}.\n", i * 37 % 101, i % 9)
    };
    (0..lines).map(line).collect()
}

/// What must not differ between runs of the same numbers.
pub struct Bits {
    /// By path in the output folder: the exported weights, and the tensors of all checkpoints.
    tensors: BTreeMap<String, Vec<u8>>,
    /// Lines of the metrics without speeds.
    metrics: Vec<Value>,
}

impl Bits {
    pub fn of(out: &Path) -> Bits {
        let mut tensors = BTreeMap::new();
        let mut add = |name: String| {
            let bytes = fs::read(out.join(&name)).expect(&name);
            tensors.insert(name, bytes);
        };
        add("model.safetensors".to_string());
        for step in checkpoints(out) {
            add(format!("checkpoints/step-{step:06}/weights.safetensors"));
            add(format!("checkpoints/step-{step:06}/optimizer.safetensors"));
        }
        Bits { tensors, metrics: metrics(out) }
    }

    /// Asserts equality, naming what differs first.
    pub fn assert_same(&self, other: &Bits, what: &str) {
        assert_eq!(self.metrics.len(), other.metrics.len(), "{what}: lines of metrics");
        for (a, b) in self.metrics.iter().zip(&other.metrics) {
            assert_eq!(a, b, "{what}: metrics");
        }
        let names = |bits: &Bits| bits.tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(other), "{what}: files");
        for (name, bytes) in &self.tensors {
            assert!(*bytes == other.tensors[name], "{what}: {name} differs");
        }
    }

    /// The losses of all steps, in nats per token.
    pub fn losses(&self) -> Vec<f64> {
        self.metrics.iter().filter_map(|line| line["loss"].as_f64()).collect()
    }
}

/// Lines of the metrics without what the clock decides. A torn last line is left out.
pub fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect(line);
        let object = value.as_object_mut().expect("a line is an object");
        object.remove("tokens_per_second");
        object.remove("mfu");
        value
    };
    whole.lines().map(parse).collect()
}

/// Steps of the published checkpoints, in order.
pub fn checkpoints(out: &Path) -> Vec<u64> {
    let entries = fs::read_dir(out.join("checkpoints")).into_iter().flatten().flatten();
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.sort();
    steps
}

/// A copy of a run as it was after `step` steps, before anything later was written.
pub fn copy_until(from: &Path, to: &Path, step: u64) {
    fs::create_dir_all(to.join("checkpoints")).unwrap();
    let tokenizer = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];
    for name in ["run.toml", "metrics.jsonl"].into_iter().chain(tokenizer) {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for step in checkpoints(from).into_iter().filter(|&s| s <= step) {
        let name = format!("checkpoints/step-{step:06}");
        fs::create_dir(to.join(&name)).unwrap();
        for entry in fs::read_dir(from.join(&name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(&name).join(path.file_name().unwrap())).unwrap();
        }
    }
}
