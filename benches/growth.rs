//! How speed grows and falls with the model and with the context: training steps of S15 to S110,
//! and of S42's body on sequences of 256 to 4096, all of 4096 tokens. Shares are of the best row
//! of the same type. `cargo bench --bench growth -- size bf16` prints one of the four tables.

#[path = "common/step.rs"]
mod step;

use engine::{Device, Element, bf16};
use handgrad::engine;
use std::time::{Duration, Instant};
use step::{SIZES, Size, Skewed, Training};

/// Timed steps of a row; fewer if they take longer than `PATIENCE`.
const STEPS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(4);

fn main() {
    let dev = Device::cpu(0).expect("the CPU is always there");
    let [small, medium, large, _] = SIZES;
    let contexts = [256, 512, 1024, 2048, 4096];
    let contexts = contexts.map(|T| Size { name: "S42", T, B: 4096 / T, ..medium });
    let args: Vec<String> = std::env::args().skip(1).collect();
    let without = |other: &str| !args.iter().any(|arg| arg == other);
    println!("{}\n", dev.describe());
    println!("| size | T | type | s/step | tokens/s | MFLOP/token | GFLOP/s | of the best |");
    println!("|---|---|---|---|---|---|---|---|");
    for (sizes, other) in [(&[small, medium, large][..], "context"), (&contexts[..], "size")] {
        if without(other) && without("bf16") {
            table::<f32>(&dev, sizes);
        }
        if without(other) && without("f32") {
            table::<bf16>(&dev, sizes);
        }
    }
}

fn table<E: Element<Acc = f32>>(dev: &Device, sizes: &[Size]) {
    let seconds: Vec<f64> = sizes.iter().map(|size| median_step::<E>(dev, size)).collect();
    let gflops = |i: usize| sizes[i].flop() as f64 / seconds[i] / 1e9;
    let best = (0..sizes.len()).map(gflops).fold(0.0, f64::max);
    for (i, size) in sizes.iter().enumerate() {
        let Size { name, T, .. } = size;
        let (N, share) = (size.tokens(), 100.0 * gflops(i) / best);
        println!(
            "| {name} | {T} | {} | {:.3} | {:.0} | {:.1} | {:.1} | {share:.0} % |",
            E::NAME,
            seconds[i],
            N as f64 / seconds[i],
            (size.flop() / N) as f64 / 1e6,
            gflops(i),
        );
    }
}

/// Seconds of a step, after one that touches all memory for the first time.
fn median_step<E: Element<Acc = f32>>(dev: &Device, size: &Size) -> f64 {
    let (mut training, mut tokens) = (Training::<E>::new(dev, size), Skewed::new(size));
    training.step(&tokens.batch());
    let (begin, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < STEPS && (seconds.is_empty() || begin.elapsed() < PATIENCE) {
        let batch = tokens.batch();
        let start = Instant::now();
        training.step(&batch);
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
