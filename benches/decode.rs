//! Decoding: tokens one by one at the end of contexts of two lengths, tokens of several sequences at
//! once, then a prompt. A token reads every matrix once, so its ceiling is the bandwidth of memory that
//! is only read; several share that; a prompt is held against the peak of products. `cargo bench --bench decode -- 110m bf16` prints those rows.

use engine::cpu::ceiling::{product_flops, read_bandwidth};
use engine::{Device, Element, View, bf16};
use handgrad::engine;
use handgrad::model::config::Config;
use handgrad::model::generation::Decoder;
use handgrad::model::llama::Llama;
use handgrad::model::{init, weights::Weights};
use std::time::Instant;

const MODELS: [&str; 3] = ["15m", "42m", "110m"];
/// Tokens before those that are timed.
const CONTEXTS: [usize; 2] = [0, 512];
/// Tokens that are timed, one by one, in rounds between which bandwidth is measured.
const TOKENS: usize = 48;
const ROUNDS: usize = 8;
/// Sequences that are decoded together.
const TOGETHER: [usize; 2] = [8, 16];
/// Tokens of a prompt, and how often it is taken in.
const PROMPT: usize = 512;
const PROMPTS: usize = 3;

fn main() {
    let dev = &Device::cpu(0).expect("the CPU is always there");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let wanted = |names: &[&str], name: &str| {
        let named: Vec<_> = args.iter().filter(|arg| names.contains(&arg.as_str())).collect();
        named.is_empty() || named.iter().any(|arg| *arg == name)
    };
    println!("{}\n", dev.describe());
    println!("| model | type | context | tokens/s | GB/s of weights | share | and cache |");
    println!("|---|---|---|---|---|---|---|");
    for name in MODELS.into_iter().filter(|name| wanted(&MODELS, name)) {
        let types = [f32::NAME, bf16::NAME];
        if wanted(&types, f32::NAME) {
            rows::<f32>(dev, name);
        }
        if wanted(&types, bf16::NAME) {
            rows::<bf16>(dev, name);
        }
    }
}

fn rows<E: Element<Acc = f32>>(dev: &Device, name: &str) {
    let config = Config::named(name).expect("a model of the list");
    let capacity = config.max_seq_len;
    let model = Llama::<E>::new(dev, &config, capacity);
    let mut weights = Weights::zeros(dev, model.table());
    init::fill(dev, &mut weights, model.table(), 1);
    weights.refresh().expect("the CPU does not fail");
    let mut decoder = Decoder::<E>::new(dev, &model, 1, capacity);
    let feed = |decoder: &mut Decoder<E>, tokens: &[u32]| {
        let start = Instant::now();
        dev.install(|| decoder.feed(dev, &model, weights.view(), &[(0, tokens)]).map(|l| l[0]))
            .expect("as above");
        start.elapsed().as_secs_f64()
    };
    let Device::Cpu(cpu) = dev else { unreachable!("it is one") };
    for context in CONTEXTS.into_iter().filter(|context| context + TOKENS <= capacity) {
        decoder.clear(0);
        feed(&mut decoder, &vec![7; context.max(1)]);
        // In turns, for memory is shared with other machines: what it gives changes by half.
        let (mut ceilings, mut seconds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ceilings.push(read_bandwidth(cpu));
            seconds.extend((0..TOKENS / ROUNDS).map(|i| feed(&mut decoder, &[i as u32])));
        }
        let (ceiling, seconds) = (median(ceilings), median(seconds));
        let weights = (matrices(&config, true) * size_of::<E>()) as f64 / seconds;
        let d = &config.dims;
        let kept = d.L * (context + TOKENS / 2) * 2 * d.G * d.D * size_of::<E>();
        println!(
            "| {name} | {} | {context} | {:.1} | {:.1} of {:.1} | {:.0} % | {:.0} % |",
            E::NAME,
            1.0 / seconds,
            weights / 1e9,
            ceiling / 1e9,
            100.0 * weights / ceiling,
            100.0 * (weights + kept as f64 / seconds) / ceiling,
        );
    }
    TOGETHER.into_iter().for_each(|rows| together::<E>(dev, name, &model, weights.view(), rows));
    let prompt = vec![7; PROMPT.min(capacity)];
    let (mut ceilings, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..PROMPTS {
        ceilings.push(product_flops::<E>(cpu));
        decoder.clear(0);
        seconds.push(feed(&mut decoder, &prompt));
    }
    let (ceiling, seconds) = (median(ceilings), median(seconds));
    let (N, d) = (prompt.len(), &config.dims);
    let flop = 2 * (N * matrices(&config, false) + d.V * d.C + d.L * d.H * d.D * N * (N + 1));
    println!(
        "| {name} | {} | prompt of {N} | {:.0} | {:.1} of {:.1} GFLOP/s | {:.0} % | |",
        E::NAME,
        N as f64 / seconds,
        flop as f64 / seconds / 1e9,
        ceiling / 1e9,
        100.0 * flop as f64 / seconds / ceiling,
    );
}

/// Tokens of sequences of several lengths, one of each at a time, beside the first of them alone, in
/// turns.
fn together<E: Element<Acc = f32>>(
    dev: &Device,
    name: &str,
    model: &Llama<E>,
    w: View<E>,
    rows: usize,
) {
    let capacity = model.config().max_seq_len;
    let mut decoder = Decoder::<E>::new(dev, model, rows, capacity);
    let mut feed = |feeds: &[(usize, &[u32])]| {
        let start = Instant::now();
        dev.install(|| decoder.feed(dev, model, w, feeds).map(|l| l[0])).expect("as above");
        start.elapsed().as_secs_f64()
    };
    let prompt = vec![7; capacity / 2];
    (0..rows).for_each(|slot| _ = feed(&[(slot, &prompt[..1 + slot * 7])]));
    let all: Vec<(usize, &[u32])> = (0..rows).map(|slot| (slot, &prompt[..1])).collect();
    let (mut alone, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..TOKENS / 2 {
        alone.push(feed(&all[..1]));
        seconds.push(feed(&all));
    }
    let (alone, seconds) = (median(alone), median(seconds));
    println!(
        "| {name} | {} | {rows} together | {:.1} | {:.2} times one after the other | | |",
        E::NAME,
        rows as f64 / seconds,
        rows as f64 * alone / seconds,
    );
}

/// Elements of the matrices that a token is multiplied by, with or without the head.
fn matrices(config: &Config, head: bool) -> usize {
    let d = &config.dims;
    d.L * d.C * (d.qkv() + d.attn() + 3 * d.F) + if head { d.V * d.C } else { 0 }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
