//! Agreement with PyTorch, on every instruction set of the machine: from one Hugging Face directory
//! and one token file to logits, gradients and twenty steps of AdamW. Golden numbers, the formula
//! behind weights and tokens, and the script that made them are in `tests/golden`.

use std::path::Path;
use std::sync::Arc;

use crate::bench::{cpu, hash as splitmix64};
use data::loader::{Loader, LoaderConfig, Order};
use data::shard::{ShardWriter, TokenSource};
use engine::{Buf, Isa, Segments};
use handgrad::{data, engine, model, optim, train};
use model::hf;
use model::llama::Batch;
use optim::Schedule;
use optim::adamw::Settings;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use train::trainer::{Recipe, Taken, Trainer};

const TOKENS: usize = 701;

fn fnv1a64(key: &str) -> u64 {
    let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    key.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

fn hash(key: &str, i: usize) -> u64 {
    splitmix64(fnv1a64(key).wrapping_add(i as u64))
}

/// Uniform on [-scale, scale); exact in f32 because scale is a power of two.
fn value(key: &str, i: usize, scale: f32) -> f32 {
    ((hash(key, i) >> 40) as i32 - (1 << 23)) as f32 * (scale / (1u32 << 23) as f32)
}

fn weight(model: &str, name: &str, i: usize) -> f32 {
    let key = format!("{model}/{name}");
    match name.rsplit('.').nth(1).unwrap() {
        "embed_tokens" => value(&key, i, 0.125),
        "q_proj" => value(&key, i, 0.5),
        part if part.ends_with("norm") => 1.0 + value(&key, i, 0.25),
        _ => value(&key, i, 0.25),
    }
}

fn tokens(model: &str, V: u32) -> Vec<u32> {
    let key = format!("{model}/tokens");
    let mut t = 0;
    let next = |i| {
        let h = hash(&key, i);
        t = if h >> 62 == 0 { h as u32 % V } else { (3 * t + 1) % V };
        t
    };
    (0..TOKENS).map(next).collect()
}

/// The golden numbers of one model.
struct Golden {
    name: &'static str,
    json: Value,
    tensors: Vec<u8>,
}

impl Golden {
    fn read(name: &'static str) -> Golden {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let json = std::fs::read(dir.join(format!("{name}.json"))).unwrap();
        let tensors = std::fs::read(dir.join(format!("{name}.safetensors"))).unwrap();
        Golden { name, json: serde_json::from_slice(&json).unwrap(), tensors }
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.json[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn integers(&self, key: &str) -> Vec<i32> {
        let rows = self.json[key].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|x| x.as_i64().unwrap() as i32).collect()
    }

    /// Writes what a user would have: a Hugging Face directory and a token file.
    fn write_inputs(&self, dir: &Path) {
        std::fs::write(dir.join("config.json"), self.json["config"].to_string()).unwrap();
        let mut tensors = Vec::new();
        for (name, about) in self.json["parameters"].as_object().unwrap() {
            let dims = about["shape"].as_array().unwrap().iter();
            let shape: Vec<usize> = dims.map(|d| d.as_u64().unwrap() as usize).collect();
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|i| weight(self.name, name, i)).collect();
            let sum: f64 = values.iter().map(|&w| w as f64).sum();
            assert_eq!(sum, about["sum"].as_f64().unwrap(), "{name}: the formula differs");
            let bytes: Vec<u8> = values.iter().flat_map(|w| w.to_le_bytes()).collect();
            tensors.push((name.clone(), shape, bytes));
        }
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
        let V = self.json["config"]["vocab_size"].as_u64().unwrap();
        let path = dir.join("tokens.bin");
        let mut shard = ShardWriter::create(&path, V as usize, String::new()).unwrap();
        shard.push(&tokens(self.name, V as u32)).unwrap();
        shard.finish().unwrap();
    }
}

/// A trainer with the weights of the files, and the loader over their tokens.
struct Run {
    trainer: Trainer<f32>,
    loader: Loader,
}

impl Run {
    fn new(isa: Isa, golden: &Golden, dir: &Path) -> Self {
        let size = |key: &str| golden.json[key].as_u64().unwrap() as usize;
        let number = |key: &str| golden.json["optimizer"][key].as_f64().unwrap();
        let recipe = Recipe {
            adamw: Settings {
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
                weight_decay: number("weight_decay"),
            },
            max_norm: number("max_norm"),
            ..Recipe::new(size("batch"), size("seq_len"))
        };
        assert_eq!((recipe.batch_size, recipe.seq_len), (3, 17));
        let mut trainer = Trainer::new(&cpu(isa, 2), &hf::load(dir).unwrap(), recipe);
        trainer.init_from(dir).unwrap();
        let source = Arc::new(TokenSource::open(&[dir.join("tokens.bin")]).unwrap());
        let (seq_len, range) = (recipe.seq_len, 0..TOKENS as u64);
        let order = LoaderConfig { seq_len, seed: 0, order: Order::Sequential, range };
        Run { trainer, loader: Loader::new(source, order).unwrap() }
    }

    /// Ids and targets of the first step.
    fn batch(&self) -> (Vec<u32>, Vec<i32>) {
        let Recipe { batch_size: B, .. } = *self.trainer.recipe();
        let N = self.trainer.recipe().tokens_per_batch();
        let (mut tokens_N, mut targets_N) = (vec![0; N], vec![0; N]);
        self.loader.fill_batch(0, B, &mut tokens_N, &mut targets_N);
        (tokens_N, targets_N)
    }

    /// Mean loss, and its gradients.
    fn gradients(&mut self, tokens_N: &[u32], targets_N: &[i32]) -> f64 {
        let Recipe { batch_size, seq_len, .. } = *self.trainer.recipe();
        let segments = &Segments::equal(batch_size, seq_len);
        let batch = Batch::new(tokens_N, targets_N, segments);
        self.trainer.begin_step(batch.weight()).unwrap();
        self.trainer.add_batch(batch);
        self.trainer.loss.read().unwrap().mean()
    }

    fn check_gradients(&self, golden: &Golden, prefix: &str) {
        for row in self.trainer.model.table().rows() {
            let expected = golden.tensor(&format!("{prefix}.{}", row.name));
            let error = error(self.trainer.grads.get(row.slot).host(), &expected);
            assert!(error <= 1e-4, "{}: {prefix}.{}: {error:e}", golden.name, row.name);
        }
    }
}

/// Largest difference, relative to the largest expected value.
fn error(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, |a: f64, b| a.max(b.abs()));
    let pairs = &mut got.iter().zip(expected).map(|(a, b)| *a as f64 - *b as f64);
    largest(pairs) / largest(&mut expected.iter().map(|&b| b as f64))
}

fn check(name: &'static str) {
    let golden = Golden::read(name);
    let dir = tempfile::tempdir().unwrap();
    golden.write_inputs(dir.path());
    for isa in Isa::all_available() {
        println!("{isa:?}");
        check_on(isa, &golden, dir.path());
    }
}

/// Loss, gradients, logits, and twenty steps.
fn check_on(isa: Isa, golden: &Golden, dir: &Path) {
    let mut run = Run::new(isa, golden, dir);
    let (tokens_N, targets_N) = run.batch();
    assert_eq!(targets_N, golden.integers("targets"));

    let loss = run.gradients(&tokens_N, &targets_N);
    assert!((loss / golden.json["loss"].as_f64().unwrap() - 1.0).abs() <= 1e-6);
    run.check_gradients(golden, "grad");
    let Trainer { dev, model, weights, cache, scratch, .. } = &mut run.trainer;
    let mut logits_NV = Buf::zeros(dev, tokens_N.len() * model.config().dims.V);
    model.logits(dev, &mut logits_NV, weights.view(), cache, scratch);
    let error = error(logits_NV.view().host(), &golden.tensor("logits"));
    assert!(error <= 1e-4, "{}: logits {error:e}", golden.name);

    if golden.json.get("targets_ignore").is_some() {
        let targets_N = golden.integers("targets_ignore");
        let loss = run.gradients(&tokens_N, &targets_N);
        assert!((loss / golden.json["loss_ignore"].as_f64().unwrap() - 1.0).abs() <= 1e-6);
        run.check_gradients(golden, "grad_ignore");
    }
    check_steps(golden, &mut run);
}

/// Twenty steps of AdamW with clipping and the schedule, in the file's order.
fn check_steps(golden: &Golden, run: &mut Run) {
    let number = |key: &str| golden.json["optimizer"][key].as_f64().unwrap();
    let (warmup, steps) = (number("warmup") as u64, number("steps") as u64);
    let (peak, min_ratio) = (number("peak_lr"), number("min_lr_ratio"));
    let schedule = Schedule { peak, min_ratio, warmup, steps };
    let (losses, norms) = (golden.numbers("losses"), golden.numbers("grad_norms"));
    let mut worst = 0.0f64;
    for s in 0..steps as usize {
        let Taken { loss, norm } = run.trainer.step(&run.loader, schedule.lr(s as u64)).unwrap();
        worst = worst.max((loss - losses[s]).abs());
        // A planted slip in the optimizer shows from 1.8e-4 on, see the evidence in the golden file.
        assert!((loss - losses[s]).abs() <= 1e-4, "step {s}: loss {loss} and {}", losses[s]);
        assert!((norm / norms[s] - 1.0).abs() <= 2e-4, "step {s}: norm {norm} and {}", norms[s]);
    }
    assert!(losses[19] < losses[0] - 0.4, "the run learns");
    println!("{}: losses of 20 steps within {worst:.1e}", golden.name);
}

#[test]
fn untied() {
    check("untied");
}

#[test]
fn tied() {
    check("tied");
}

#[test]
fn grouped_heads_and_ignored_targets() {
    check("gqa");
}
