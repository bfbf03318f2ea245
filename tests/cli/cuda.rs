//! `--device cuda-emulated`: whole training runs on the GPU's kernels, without a GPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::common::{Bits, Dir, config, copy_until};

const EMULATED: &str = "cuda-emulated";

/// Five steps of two blocks with grouped heads, on this project's own prose, with a tokenizer that
/// is trained on it. No size is a multiple of a tile.
const LINE: &str = "--tokenizer bpe --vocab-size 311 --model gqa.json --batch-size 3 --seq-len 37 \
    --steps 5 --save-every 2 --keep 9 --eval-every 5 --eval-tokens 74 --sample-tokens 4 --warmup 2 --lr 1e-3 \
    --log-level error";

fn dir() -> Dir {
    let dir = Dir::new();
    let mut model = config(48, 88, 4, 2);
    model["vocab_size"] = json!(311);
    fs::write(dir.path("gqa.json"), model.to_string()).unwrap();
    let prose = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    fs::copy(prose, dir.path("prose.txt")).unwrap();
    dir
}

fn train(dir: &Dir, out: &str, device: &str, dtype: &str) -> Bits {
    let line = format!("--data prose.txt {LINE} --device {device} --dtype {dtype} --out {out}");
    let done = dir.run("pretrain", &line);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{device} {dtype}");
    Bits::of(&dir.path(out))
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
    for dtype in ["f32", "bf16"] {
        let more = format!("--data prose.txt --device {EMULATED} --dtype {dtype} --out {dtype}");
        let done = dir.run("pretrain", &format!("{line} {more}"));
        assert!(done.code == 0 && done.stderr.contains(" as planned, "), "{}", done.stderr);
        let told = done.stderr.split_once(" as planned, ").unwrap().1;
        let beyond: f64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!(beyond <= 0.1, "{dtype}: {beyond} MiB beyond the plan");
    }
}

#[test]
fn training_agrees_with_the_cpu_in_f32() {
    let dir = dir();
    let (cpu, cuda) = (train(&dir, "cpu", "cpu", "f32"), train(&dir, "cuda", EMULATED, "f32"));
    cuda.assert_same(&train(&dir, "again", EMULATED, "f32"), "twice the same run");
    let losses = cpu.losses();
    assert!(losses[4] < losses[0] - 0.01, "it learns: {losses:?}");
    let of_losses = losses_apart(&cpu, &cuda);
    let of_weights = apart(&dir.path("cpu"), &dir.path("cuda"));
    println!("losses {of_losses:.1e}, weights {of_weights:.1e} apart");
    // AdamW makes a step of a gradient that is nothing but rounding, so single elements move
    // further than tensors do.
    assert!(of_losses <= 1e-6 && of_weights <= 1e-5, "{of_losses:e}, {of_weights:e}");
}

/// Rounding to bf16 moves a run; on the GPU it may move it at most twice as far from the run in
/// f32 as it does on the CPU.
#[test]
fn training_agrees_with_the_cpu_in_bf16() {
    let dir = dir();
    let exact = train(&dir, "exact", "cpu", "f32");
    let (cpu, cuda) = (train(&dir, "cpu", "cpu", "bf16"), train(&dir, "cuda", EMULATED, "bf16"));
    cuda.assert_same(&train(&dir, "again", EMULATED, "bf16"), "twice the same run");
    let [cpu, cuda] = [("cpu", cpu), ("cuda", cuda)].map(|(out, run)| {
        let weights = apart(&dir.path("exact"), &dir.path(out));
        let losses = losses_apart(&exact, &run);
        println!("{out}: losses {losses:.1e}, weights {weights:.1e} from f32");
        (losses, weights)
    });
    assert!(cuda.0 <= 2.0 * cpu.0 && cuda.1 <= 2.0 * cpu.1, "{cuda:?} and {cpu:?}");
}

#[test]
fn a_resume_ends_with_the_same_bits_and_the_model_works_on_both_devices() {
    let dir = dir();
    let whole = train(&dir, "whole", EMULATED, "f32");
    copy_until(&dir.path("whole"), &dir.path("part"), 2);
    let done = dir.run("pretrain", "--resume --out part --log-level error");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    whole.assert_same(&Bits::of(&dir.path("part")), "resumed on the emulator");

    fs::write(dir.path("some.txt"), &fs::read(dir.path("prose.txt")).unwrap()[..500]).unwrap();
    let nats = |device: &str| {
        let line = "perplexity --model whole --data some.txt --seq-len 32 --device";
        let done = dir.run("evaluate", &format!("{line} {device}"));
        assert_eq!(done.code, 0, "{}", done.stderr);
        let json: Value = serde_json::from_str(&done.stdout).unwrap();
        json["nll_per_token"].as_f64().unwrap()
    };
    let [cpu, cuda] = ["cpu", EMULATED].map(nats);
    assert!((cpu - cuda).abs() <= 1e-6 * cpu, "{cpu} and {cuda}");
    let text = |device: &str| {
        let line = "--model whole --prompt The --temperature 0 --max-new-tokens 8 --device";
        let done = dir.run("generate", &format!("{line} {device}"));
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    };
    assert_eq!(text("cpu"), text(EMULATED));
}
