//! `--device cuda-emulated`: whole training runs on the GPU's kernels, without a GPU, on each of the
//! emulated devices that tests run on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::common::{Bits, Dir, Done, assert_one_line, config, copy_until, finish};

const EMULATED: &str = "cuda-emulated";

/// What `HANDGRAD_EMULATOR` shall name: the devices of `HANDGRAD_TEST_TARGETS`, summing as
/// `HANDGRAD_TEST_SUMS` says.
fn emulators() -> Vec<String> {
    let set = |name: &str, otherwise: &str| std::env::var(name).unwrap_or(otherwise.to_string());
    let sums = set("HANDGRAD_TEST_SUMS", "truncate");
    let targets = set("HANDGRAD_TEST_TARGETS", "80,90");
    targets.split(',').map(|target| format!("{target}-{sums}")).collect()
}

/// Runs a program; where its device is emulated, `emulator` is.
fn run(dir: &Dir, program: &str, line: &str, emulator: &str) -> Done {
    finish(dir.command(program, line).env("HANDGRAD_EMULATOR", emulator))
}

/// Five steps of two blocks with grouped heads, on prose that does not change, with a tokenizer that
/// is trained on it. No size is a multiple of a tile.
const LINE: &str = "--tokenizer bpe --vocab-size 311 --model gqa.json --batch-size 3 --seq-len 37 \
    --steps 5 --save-every 2 --keep 9 --eval-every 5 --eval-tokens 74 --sample-tokens 4 --warmup 2 --lr 1e-3 \
    --log-level error";

fn dir() -> Dir {
    let dir = Dir::new();
    let mut model = config(48, 88, 4, 2);
    model["vocab_size"] = json!(311);
    fs::write(dir.path("gqa.json"), model.to_string()).unwrap();
    fs::write(dir.path("prose.txt"), include_str!("prose.txt")).unwrap();
    dir
}

fn train(dir: &Dir, out: &str, device: &str, dtype: &str, emulator: &str) -> Bits {
    let line = format!("--data prose.txt {LINE} --device {device} --dtype {dtype} --out {out}");
    let done = run(dir, "pretrain", &line, emulator);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{device} {emulator} {dtype}");
    Bits::of(&dir.path(out))
}

fn train_on_cpu(dir: &Dir, out: &str, dtype: &str) -> Bits {
    train(dir, out, "cpu", dtype, "")
}

/// By tensor, the master weights of a run's last checkpoint.
fn weights(out: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = fs::read(out.join("checkpoints/step-000005/weights.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let bytes = file.tensor(name).unwrap().data().chunks_exact(4);
        bytes.map(|x| f32::from_le_bytes(x.try_into().unwrap()).into()).collect()
    };
    file.names().into_iter().map(|name| (name.to_string(), values(name))).collect()
}

/// Largest over the tensors of |a - b| / |a|, in the Euclidean norm.
fn apart(a: &Path, b: &Path) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let of_tensor = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut a.iter().copied())
    };
    let (a, b) = (weights(a), weights(b));
    a.values().zip(b.values()).map(of_tensor).fold(0.0, f64::max)
}

/// Largest difference of two runs' losses.
fn losses_apart(a: &Bits, b: &Bits) -> f64 {
    a.losses().iter().zip(b.losses()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Buffers and work space are allocated before the first step, as the plan says.
#[test]
fn device_memory_is_as_planned() {
    let (dir, line) = (dir(), LINE.replace("--log-level error", "--log-level info"));
    for (at, emulator) in emulators().iter().enumerate() {
        for dtype in ["f32", "bf16"] {
            let more = format!("--device {EMULATED} --dtype {dtype} --out {dtype}-{at}");
            let line = format!("--data prose.txt {line} {more}");
            let done = run(&dir, "pretrain", &line, emulator);
            assert!(done.code == 0 && done.stderr.contains(" as planned, "), "{}", done.stderr);
            let told = done.stderr.split_once(" as planned, ").unwrap().1;
            let beyond: f64 = told.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(beyond, 0.0, "{emulator} {dtype}: MiB beyond the plan");
        }
    }
}

/// In f32 no tensor core takes part; what differs from the CPU is the order of sums and the last two
/// bits of powers. A loss errs by these as a share of a logit: 1e-6 is eight last bits of 1.
#[test]
fn training_agrees_with_the_cpu_in_f32() {
    let dir = dir();
    let cpu = train_on_cpu(&dir, "cpu", "f32");
    let losses = cpu.losses();
    assert!(losses[4] < losses[0] - 0.01, "it learns: {losses:?}");
    for (at, emulator) in emulators().iter().enumerate() {
        let out = format!("cuda-{at}");
        let cuda = train(&dir, &out, EMULATED, "f32", emulator);
        let of_losses = losses_apart(&cpu, &cuda);
        let of_weights = apart(&dir.path("cpu"), &dir.path(&out));
        println!("{emulator}: losses {of_losses:.1e}, weights {of_weights:.1e} apart");
        // AdamW makes a step of a gradient that is nothing but rounding, so single elements move
        // further than tensors do.
        assert!(
            of_losses <= 1e-6 && of_weights <= 1e-5,
            "{emulator}: {of_losses:e}, {of_weights:e}"
        );
    }
}

/// Rounding to bf16 moves a run; on the GPU it may move it at most twice as far from the run in
/// f32 as it does on the CPU. What truncated sums add is far below: the longest sum here has 311
/// products, 39 blocks on an A100, 39 * 5.5 last bits of f32 at most, 2.6e-5, where bf16 rounds by
/// up to 3.9e-3.
#[test]
fn training_agrees_with_the_cpu_in_bf16() {
    let dir = dir();
    let exact = train_on_cpu(&dir, "exact", "f32");
    let from_exact = |out: &str, run: &Bits| {
        let weights = apart(&dir.path("exact"), &dir.path(out));
        let losses = losses_apart(&exact, run);
        println!("{out}: losses {losses:.1e}, weights {weights:.1e} from f32");
        (losses, weights)
    };
    let cpu = from_exact("cpu", &train_on_cpu(&dir, "cpu", "bf16"));
    for emulator in emulators() {
        let cuda = from_exact(&emulator, &train(&dir, &emulator, EMULATED, "bf16", &emulator));
        assert!(cuda.0 <= 2.0 * cpu.0 && cuda.1 <= 2.0 * cpu.1, "{emulator}: {cuda:?} and {cpu:?}");
    }
}

#[test]
fn the_same_run_twice_has_the_same_bits() {
    let (dir, emulator) = (dir(), &emulators()[0]);
    for dtype in ["f32", "bf16"] {
        let [once, again] = ["once", "again"]
            .map(|out| train(&dir, &format!("{out}-{dtype}"), EMULATED, dtype, emulator));
        once.assert_same(&again, "twice the same run");
    }
}

#[test]
fn a_resume_ends_with_the_same_bits_and_the_model_works_on_both_devices() {
    let (dir, emulator) = (dir(), &emulators()[0]);
    let whole = train(&dir, "whole", EMULATED, "f32", emulator);
    copy_until(&dir.path("whole"), &dir.path("part"), 2);
    let done = run(&dir, "pretrain", "--resume --out part --log-level error", emulator);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    whole.assert_same(&Bits::of(&dir.path("part")), "resumed on the emulator");

    fs::write(dir.path("some.txt"), &fs::read(dir.path("prose.txt")).unwrap()[..500]).unwrap();
    let nats = |device: &str| {
        let line = "perplexity --model whole --data some.txt --seq-len 32 --device";
        let done = run(&dir, "evaluate", &format!("{line} {device}"), emulator);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let json: Value = serde_json::from_str(&done.stdout).unwrap();
        json["nll_per_token"].as_f64().unwrap()
    };
    let [cpu, cuda] = ["cpu", EMULATED].map(nats);
    assert!((cpu - cuda).abs() <= 1e-6 * cpu, "{cpu} and {cuda}");
    let text = |device: &str| {
        let line = "--model whole --prompt The --temperature 0 --max-new-tokens 8 --device";
        let done = run(&dir, "generate", &format!("{line} {device}"), emulator);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    };
    assert_eq!(text("cpu"), text(EMULATED));
}

#[test]
fn an_emulator_that_there_is_not_is_refused() {
    let dir = dir();
    let line = format!("--data prose.txt {LINE} --device {EMULATED} --out none");
    for (named, words) in [
        ("75", "no emulator of compute capability `75`; take 80, 86, 89, 90, 100, 120"),
        ("80-up", "sums `up`; give truncate or round"),
    ] {
        let done = run(&dir, "pretrain", &line, named);
        assert_one_line(&done, 2, &["HANDGRAD_EMULATOR", words]);
    }
}
