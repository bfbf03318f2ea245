//! One whole training step: forward, backward, clipping, AdamW. The sizes are those of the table
//! in the README: untied head, hidden width 8/3 of the width rounded up to 32, 4096 tokens a step.

mod common;

use common::{Bench, Work};
use engine::{Arena, Dims, Element, bf16};
use handgrad::{engine, model, optim};
use model::cache::{Cache, Mode, Scratch};
use model::config::{Config, hidden};
use model::llama::{Batch, Llama};
use model::weights::Weights;
use optim::{AdamW, adamw::Settings, clip};

/// Name, width, layers, heads, vocabulary, context, batch.
const SIZES: [(&str, usize, usize, usize, usize, usize, usize); 4] = [
    ("S15", 288, 6, 6, 4096, 256, 16),
    ("S42", 512, 8, 8, 8192, 512, 8),
    ("S110", 768, 12, 12, 32000, 1024, 4),
    ("Long", 512, 8, 8, 8192, 4096, 1),
];

fn main() {
    let mut bench = Bench::new();
    for size in SIZES {
        run::<f32>(&mut bench, size);
        run::<bf16>(&mut bench, size);
    }
}

fn run<E: Element<Acc = f32>>(
    bench: &mut Bench,
    (name, C, L, H, V, T, B): (&str, usize, usize, usize, usize, usize, usize),
) {
    let dims = Dims { L, C, H, G: H, D: C / H, F: hidden(C, 32), V };
    let config = Config {
        dims,
        rope_theta: 1e4,
        norm_eps: 1e-5,
        tied: false,
        max_seq_len: T,
        bos: None,
        eos: None,
    };
    let (dev, N) = (&bench.dev.clone(), B * T);
    let flop = config.flop_per_token(T) as usize * N;
    let id = format!("step/{name}/cpu/{}/N{N}", E::NAME);
    bench.run(&id, Work::Flop(E::NAME, flop), || {
        let model = Llama::<E>::new(dev, &config, T);
        let mut weights = Weights::<E>::zeros(dev, model.table());
        model::init::fill(dev, weights.master_mut(), model.table(), 1);
        weights.refresh();
        let mut adamw = AdamW::<E>::new(dev, model.table(), Settings::default());
        let mut grads = Arena::<f32>::zeros(dev, model.table());
        let mut cache = Cache::<E>::new(dev, &dims, N, Mode::Linear);
        let mut scratch = Scratch::<E>::new(dev, &dims, N);
        let mut tokens = Skewed { state: 1235, V };
        move || {
            let (tokens_N, targets_N) = tokens.batch(B, T);
            let batch = Batch { tokens_N: &tokens_N, targets_N: &targets_N, T };
            grads.fill_zero();
            dev.install(|| {
                let (w, scale) = (weights.view(), 1.0 / N as f64);
                model.forward(dev, w, batch, &mut cache, &mut scratch);
                model.backward(dev, &mut grads, w, batch, &mut cache, &mut scratch, scale)
            });
            let (_, factor) = clip::by_global_norm(dev, &grads, 1.0);
            adamw.step(dev, weights.both_mut(), &grads, 1e-3, factor);
        }
    });
}

/// Random ids of which low ones are likely, so that the loss can fall: V * u^4.
struct Skewed {
    state: u64,
    V: usize,
}

impl Skewed {
    fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let u = (self.state >> 40) as f64 / (1 << 24) as f64;
        (self.V as f64 * u.powi(4)) as u32
    }

    fn batch(&mut self, B: usize, T: usize) -> (Vec<u32>, Vec<i32>) {
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..B {
            let row: Vec<u32> = (0..=T).map(|_| self.next()).collect();
            tokens.extend(&row[..T]);
            targets.extend(row[1..].iter().map(|&id| id as i32));
        }
        (tokens, targets)
    }
}
