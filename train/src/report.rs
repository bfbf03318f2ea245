//! What a run says about itself besides its numbers: validation loss, text, and memory.

use data::loader::EvalWindows;
use data::rng::Rng;
use data::tokenizer::Tokenizer;
use engine::ops::loss::{IGNORE, Sum};
use engine::{Arena, Device, Element, Plan, Segments, View};
use model::cache::{self, Cache, Mode, Scratch};
use model::config::Config;
use model::decode::Decoder;
use model::hf::{self, Dtype};
use model::llama::{Batch, Llama};
use model::sample::Sampler;
use model::weights::Weights;

use crate::config::{self, RunConfig};
use crate::error::Error;

/// Stream of random numbers that samples draw from.
const SAMPLES: u32 = 0x05A3_13E5;

/// What a run's code, threads and tokenizer take, in bytes: 16 to 37 MiB were measured on x86-64
/// Linux. A plan that is made before they are loaded counts with 28.
const PROGRAM: u64 = 28 << 20;

/// Nats per token over the first windows of `windows` that hold `tokens` tokens, computed in
/// batches that fill `cache`.
///
/// # Errors
/// [`Error::Engine`] with what went wrong on a GPU.
pub fn validation_loss<E: Element>(
    dev: &Device,
    model: &Llama<E>,
    weights: View<E>,
    windows: &EvalWindows,
    tokens: u64,
    T: usize,
    cache: &mut Cache<E>,
    scratch: &mut Scratch<E>,
) -> Result<f64, Error> {
    let rows = cache.tokens() / T;
    let count = windows.count().min(tokens.div_ceil(T as u64));
    let (mut tokens_N, mut targets_N) = (vec![0; rows * T], vec![0; rows * T]);
    let segments = &Segments::equal(rows, T);
    let mut loss = Sum::new(dev);
    for first in (0..count).step_by(rows) {
        let pairs = tokens_N.chunks_exact_mut(T).zip(targets_N.chunks_exact_mut(T));
        for (index, (tokens, targets)) in (first..).zip(pairs) {
            windows.window(index, tokens, targets);
            if index >= count {
                targets.fill(IGNORE);
            }
        }
        let batch = Batch { tokens_N: &tokens_N, targets_N: &targets_N, segments };
        dev.install(|| {
            model.forward(dev, weights, batch, cache, scratch);
            model.loss(dev, &mut loss, weights, batch, cache, scratch);
        });
    }
    Ok(loss.read()?.mean())
}

/// Continues `prompt` (token ids, at least one) by up to `count` tokens, each handed to `emit`
/// as soon as it is chosen, in slot 0 of `decoder`; stops after the end token, or where the model's context is full.
///
/// # Errors
/// Whatever `emit` returns.
pub fn generate<E: Element<Acc = f32>>(
    dev: &Device,
    model: &Llama<E>,
    weights: View<E>,
    decoder: &mut Decoder<E>,
    prompt: &[u32],
    count: usize,
    sampler: Sampler,
    seed: u64,
    eos: Option<u32>,
    mut emit: impl FnMut(u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rng = Rng::new(seed, SAMPLES, 0);
    let mut next = prompt.to_vec();
    for _ in 0..count {
        if next.len() > decoder.kv().room(0) {
            break;
        }
        let logits_V = dev.install(|| decoder.feed(dev, model, weights, &[(0, &next)]))?;
        let u = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let id = sampler.choose(&logits_V, u);
        if Some(id) == eos {
            break;
        }
        emit(id)?;
        next = vec![id];
    }
    Ok(())
}

/// The ids that a text continues from: the begin or end token, where there is one, then the text.
/// The end token closes every document in training, so after it a new one begins.
///
/// # Errors
/// [`Error::Config`] for an empty prompt that no token can stand in for.
pub fn prompt_ids(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, Error> {
    let mut ids: Vec<u32> = tokenizer.eos().or(tokenizer.bos()).into_iter().collect();
    ids.extend(tokenizer.encode(prompt)?);
    if ids.is_empty() {
        return Err(Error::Config("--prompt is empty and the tokenizer has no begin token".into()));
    }
    Ok(ids)
}

/// A plan's row of what ops need while they run.
const WORKSPACE: &str = "work space of ops";

/// Bytes of everything that a training run holds on its device, by category. `tokens` are bytes of
/// the corpus, which like the program count where the device is the CPU.
pub fn plan<E: Element>(dev: &Device, model: &Config, run: &RunConfig, tokens: u64) -> Plan {
    let (table, _) = model::params::table(model);
    let (e, acc) = (size_of::<E>() as u64, size_of::<E::Acc>() as u64);
    let elements = table.len() as u64;
    let N = run.run.batch_size * run.run.seq_len;
    let mode = mode(run.run.cache);
    let mut plan = Plan::default();
    plan.add("weights", elements * acc);
    if e != acc {
        plan.add(format!("weights, {} copy", E::NAME), elements * e);
    }
    plan.add("gradients", elements * acc);
    plan.add("AdamW's moments", 2 * elements * acc);
    cache::plan::<E>(&mut plan, model, N, mode);
    plan.add("decoder for samples", Decoder::<E>::bytes(model, 1, run.run.seq_len));
    let workspace = model::plan::workspace::<E>(dev, &model.dims, &table, N, run.run.seq_len);
    plan.add(WORKSPACE, workspace);
    if let Device::Cpu(_) = dev {
        plan.add("tokens", tokens);
        plan.add("program", resident_bytes().max(PROGRAM));
    }
    plan
}

/// Allocates on a GPU what `plan` says, at once; the CPU's memory comes as it is written.
///
/// # Errors
/// [`Error::Engine`] with what is needed and what there is.
pub fn reserve(dev: &Device, plan: &Plan) -> Result<(), Error> {
    let Device::Cuda(cuda) = dev else { return Ok(()) };
    let workspace = plan.rows().iter().find(|(name, _)| name == WORKSPACE).map_or(0, |row| row.1);
    Ok(cuda.reserve(plan.total() - workspace, workspace)?)
}

/// One line for people: the memory that the run took.
pub fn memory(dev: &Device) -> String {
    let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    let host = format!("peak memory {:.1} MiB", mib(peak_bytes()));
    match dev {
        Device::Cpu(_) => host,
        Device::Cuda(cuda) => {
            let (reserved, more) = cuda.held_bytes();
            let (reserved, more) = (mib(reserved), mib(more));
            format!("{host}; device memory {reserved:.1} MiB as planned, {more:.1} MiB beyond")
        }
    }
}

/// The mode that a configuration names.
pub fn mode(cache: config::Cache) -> Mode {
    match cache {
        config::Cache::Linear => Mode::Linear,
        config::Cache::Full => Mode::Full,
    }
}

/// Memory that this process holds in RAM now, in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    process_status("VmRSS:")
}

/// Peak of the memory that this process held in RAM, in bytes; 0 where the system does not tell.
pub fn peak_bytes() -> u64 {
    process_status("VmHWM:")
}

/// A figure that Linux keeps of this process, in bytes.
fn process_status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Writes the directory that Hugging Face and `generate` load: configuration, weights, tokenizer.
///
/// # Errors
/// If a file cannot be written; each file is then old or new, never half of each.
pub fn export<E: Element<Acc = f32>>(
    out: &std::path::Path,
    model: &Llama<E>,
    weights: &Weights<E>,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), Error> {
    let master: &Arena<f32> = weights.master();
    let dtype = if E::NAME == "bf16" { Dtype::Bf16 } else { Dtype::F32 };
    hf::write(out, model.config(), model.table(), master, dtype, hf::SHARD_BYTES)?;
    if let Some(tokenizer) = tokenizer {
        tokenizer.save(out)?;
    }
    Ok(())
}
